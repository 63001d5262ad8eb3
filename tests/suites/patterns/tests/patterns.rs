//! The patterns do what they do on the raw clients, and make spans. OpenTelemetry is installed once for the process, as
//! applications do it, so each test looks at the spans of its own destinations.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use brokers::{Kafka, Nats, RabbitMq};
use futures::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use opentelemetry::global;
use opentelemetry_sdk::trace::SpanData;
use pattern_tests::{
    generic,
    objects::{self, Outlet},
    pool::Pool,
    spawned,
};
use rdkafka::{
    Message,
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer, DefaultConsumerContext, StreamConsumer},
    message::OwnedMessage,
    producer::{BaseProducer, BaseRecord, DefaultProducerContext, FutureProducer, FutureRecord},
};
use support::{Sdk, eventually, w3c};

fn sdk() -> &'static Sdk {
    static SDK: OnceLock<Sdk> = OnceLock::new();
    SDK.get_or_init(|| {
        let sdk = Sdk::new();
        global::set_tracer_provider(sdk.provider());
        global::set_text_map_propagator(w3c());
        sdk
    })
}

fn unique(name: &str) -> String {
    format!("{name}-{}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos())
}

/// Waits for so many spans about a destination, and gives them by start time.
fn spans_about(destination: &str, count: usize) -> Vec<SpanData> {
    let mut spans = Vec::new();
    eventually("spans", || {
        spans = sdk().spans();
        spans.retain(|span| span.name.contains(destination));
        spans.len() >= count
    });
    assert_eq!(spans.len(), count, "{}", support::describe(&spans));
    spans
}

fn names(spans: &[SpanData]) -> Vec<String> {
    spans.iter().map(|span| span.name.to_string()).collect()
}

/// A process span is the child of one of the sends, and each send has one.
fn assert_each_processed(sends: &[SpanData], processed: &[SpanData]) {
    let ids = |spans: &[SpanData]| spans.iter().map(|span| span.span_context.span_id()).collect::<HashSet<_>>();
    let parents: HashSet<_> = processed.iter().map(|span| span.parent_span_id).collect();
    assert_eq!(parents, ids(sends));
    assert_eq!(processed.len(), sends.len());
}

#[test]
fn functions_over_rdkafkas_traits() {
    sdk();
    let kafka = Kafka::start().unwrap();
    let topic = unique("generic");
    let producer: BaseProducer = generic::connect(
        &kafka.bootstrap_servers,
        &[("transactional.id", &topic), ("linger.ms", "0")],
        DefaultProducerContext,
    )
    .unwrap();
    let consumer: BaseConsumer = generic::connect(
        &kafka.bootstrap_servers,
        &[
            ("group.id", &topic),
            ("auto.offset.reset", "earliest"),
            ("allow.auto.create.topics", "true"),
            ("topic.metadata.refresh.interval.ms", "200"),
        ],
        DefaultConsumerContext,
    )
    .unwrap();

    generic::in_transaction(&producer, |producer| {
        for payload in ["four apples", "five pears"] {
            let record = BaseRecord::<(), _>::to(&topic).payload(payload).partition(0);
            producer.send(record).map_err(|(error, _record)| error)?;
        }
        Ok(())
    })
    .unwrap();

    consumer.subscribe(&[&topic]).unwrap();
    let mut first = None;
    eventually("a message", || {
        first = consumer.poll(Duration::from_millis(100)).and_then(Result::ok).map(|message| message.detach());
        first.is_some()
    });
    assert_eq!(first.as_ref().and_then(OwnedMessage::payload), Some(&b"four apples"[..]));
    // The other message, and the end of the transaction.
    assert_eq!(generic::lag(&consumer, Duration::from_secs(20)).unwrap(), 2);

    drop(first);
    let spans = spans_about(&topic, 3);
    let send = format!("send {topic}");
    assert_eq!(names(&spans), [&*send, &*send, &*format!("process {topic}")]);
}

#[tokio::test]
async fn a_detached_message_in_a_spawned_task() {
    sdk();
    let kafka = Kafka::start().unwrap();
    let topic = unique("spawned");
    let producer: FutureProducer = generic::connect(&kafka.bootstrap_servers, &[], DefaultClientContext).unwrap();
    let consumer: StreamConsumer = generic::connect(
        &kafka.bootstrap_servers,
        &[
            ("group.id", &topic),
            ("auto.offset.reset", "earliest"),
            ("allow.auto.create.topics", "true"),
            ("topic.metadata.refresh.interval.ms", "200"),
        ],
        DefaultConsumerContext,
    )
    .unwrap();
    for payload in ["four apples", "five pears", "six plums"] {
        producer.send(FutureRecord::<(), _>::to(&topic).payload(payload), Duration::from_secs(20)).await.unwrap();
    }
    consumer.subscribe(&[&topic]).unwrap();

    let tasks = spawned::spawn_each(&consumer, 3, |message| async move {
        tokio::task::yield_now().await;
        String::from_utf8_lossy(message.payload().unwrap()).into_owned()
    });
    let tasks = tokio::time::timeout(support::DEADLINE, tasks).await.unwrap().unwrap();
    // What the messages belong to is gone before they are.
    drop(consumer);
    let mut handled = BTreeSet::new();
    for task in tasks {
        handled.insert(task.await.unwrap());
    }
    assert_eq!(handled, ["five pears", "four apples", "six plums"].map(str::to_owned).into());

    let spans = spans_about(&topic, 6);
    assert_each_processed(&spans[..3], &spans[3..]);
}

#[tokio::test]
async fn a_pool_of_channels() {
    sdk();
    let broker = RabbitMq::start().unwrap();
    let pool = Pool::connect(&broker.uri).await.unwrap();
    let queue = unique("pool");
    {
        let (one, two) = (pool.get().await.unwrap(), pool.get().await.unwrap());
        one.queue_declare(
            (&*queue).into(),
            QueueDeclareOptions { auto_delete: true, ..Default::default() },
            Default::default(),
        )
        .await
        .unwrap();
        for channel in [&one, &two] {
            let options = BasicPublishOptions::default();
            let confirm =
                channel.basic_publish("".into(), (&*queue).into(), options, b"four apples", Default::default());
            assert!(confirm.await.unwrap().await.unwrap().is_ack());
        }
        assert_eq!(pool.idle_channels(), 0);
    }
    assert_eq!(pool.idle_channels(), 2);

    let channel = pool.get().await.unwrap();
    assert_eq!(pool.idle_channels(), 1);
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut consumer = channel.basic_consume((&*queue).into(), "".into(), options, Default::default()).await.unwrap();
    for _ in 0..2 {
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!(delivery.data, b"four apples");
    }

    let spans = spans_about(&queue, 4);
    assert_each_processed(&spans[..2], &spans[2..]);
}

#[tokio::test]
async fn one_interface_over_three_clients() {
    sdk();
    let (kafka, rabbitmq, nats) = (Kafka::start().unwrap(), RabbitMq::start().unwrap(), Nats::start().unwrap());
    let destination = unique("objects");

    let producer = generic::connect(&kafka.bootstrap_servers, &[], DefaultClientContext).unwrap();
    let pool = Pool::connect(&rabbitmq.uri).await.unwrap();
    let channel = pool.get().await.unwrap();
    let options = QueueDeclareOptions { auto_delete: true, ..Default::default() };
    channel.queue_declare((&*destination).into(), options, Default::default()).await.unwrap();
    let client = async_nats::connect(&nats.url).await.unwrap();
    let mut subscriber = client.subscribe(destination.clone()).await.unwrap();

    let outlets: [Arc<dyn Outlet>; 3] =
        [Arc::new(objects::Kafka(producer)), Arc::new(channel.clone()), Arc::new(objects::Nats(client))];
    objects::send_to_all(&outlets, &destination, b"four apples").await.unwrap();

    let message = subscriber.next().await.unwrap();
    assert_eq!(&message.payload[..], b"four apples");
    drop(message);
    let spans = spans_about(&destination, 4);
    let scopes: BTreeSet<_> = spans
        .iter()
        .filter(|span| span.name.starts_with("send") || span.name.starts_with("publish"))
        .map(|span| span.instrumentation_scope.name())
        .collect();
    assert_eq!(scopes, ["otel-async-nats", "otel-lapin", "otel-rdkafka"].into());
}
