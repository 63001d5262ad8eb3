//! One trace across Kafka, RabbitMQ and NATS JetStream, with `tracing` spans nested inside.

use std::{
    collections::{BTreeSet, HashMap},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt};
use opentelemetry::trace::{SpanId, TracerProvider};
use opentelemetry_sdk::trace::{Sampler, SpanData};
use otel_async_nats::jetstream::{self, consumer::pull};
use otel_lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use otel_messaging::MessageExt;
use otel_rdkafka::{
    Message,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    config::ClientConfig,
    consumer::{CommitMode, Consumer, StreamConsumer},
    producer::{FutureProducer, FutureRecord},
};
use support::{Sdk, describe};
use tokio::time::timeout;
use tracing::{Instrument, info_span, instrument::WithSubscriber};
use tracing_subscriber::layer::SubscriberExt;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The hops of one order, each the child of the one before.
const HOPS: [&str; 10] =
    ["request", "send", "process", "charge", "publish", "process", "pack", "publish", "process", "notify"];

/// Three brokers, one client of each on either side.
struct Pipeline {
    producer: FutureProducer,
    consumer: StreamConsumer,
    channel: otel_lapin::Channel,
    deliveries: otel_lapin::Consumer,
    context: jetstream::Context,
    notifications: pull::Stream,
    topic: String,
    queue: String,
    subject: String,
    _connection: Connection,
    _brokers: (brokers::Kafka, brokers::RabbitMq, brokers::Nats),
}

impl Pipeline {
    async fn start(sdk: &Sdk) -> Result<Self, Failure> {
        static RUN: AtomicU32 = AtomicU32::new(0);
        let run = format!("pipeline-{}-{}", process::id(), RUN.fetch_add(1, Ordering::Relaxed));
        let brokers = (brokers::Kafka::start()?, brokers::RabbitMq::start()?, brokers::Nats::start()?);

        let topic = format!("{run}-orders");
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &brokers.0.bootstrap_servers);
        let admin: AdminClient<_> = config.create()?;
        let created = [NewTopic::new(&topic, 1, TopicReplication::Fixed(1))];
        admin.create_topics(&created, &AdminOptions::new()).await?;
        let producer: FutureProducer = config.create()?;
        let producer = producer.with_instrumentation(sdk.instrumentation());
        let consumer: StreamConsumer =
            config.clone().set("group.id", &run).set("auto.offset.reset", "earliest").create()?;
        let consumer = consumer.with_instrumentation(sdk.instrumentation());
        consumer.subscribe(&[&topic])?;

        let queue = format!("{run}-shipping");
        let connection = Connection::connect(&brokers.1.uri, ConnectionProperties::default())
            .await?
            .with_instrumentation(sdk.instrumentation());
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let options = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await?;
        let deliveries = channel
            .basic_consume(queue.as_str().into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await?;

        let subject = format!("{run}.notifications");
        let client = otel_async_nats::connect(&brokers.2.url).await?.with_instrumentation(sdk.instrumentation());
        let context = jetstream::new(client);
        let stream = context
            .create_stream(jetstream::stream::Config {
                name: run.clone(),
                subjects: vec![subject.clone()],
                ..Default::default()
            })
            .await?;
        let notifications = stream
            .create_consumer(pull::Config { durable_name: Some("notify".into()), ..Default::default() })
            .await?
            .messages()
            .await?;
        Ok(Self {
            producer,
            consumer,
            channel,
            deliveries,
            context,
            notifications,
            topic,
            queue,
            subject,
            _connection: connection,
            _brokers: brokers,
        })
    }

    /// One order through all three. Each hop works as a service would: business spans through `tracing`, inside `process`.
    async fn order(&mut self, id: &str) -> Result<(), Failure> {
        async {
            let record = FutureRecord::to(&self.topic).key(id).payload(id);
            self.producer.send(record, Duration::from_secs(30)).await.map_err(|(error, _)| error)
        }
        .instrument(info_span!("request"))
        .await?;

        let message = self.consumer.recv().await?;
        assert_eq!(message.payload(), Some(id.as_bytes()));
        let publish = async {
            let confirm = self.channel.basic_publish(
                "".into(),
                self.queue.as_str().into(),
                BasicPublishOptions::default(),
                id.as_bytes(),
                BasicProperties::default(),
            );
            confirm.await?.await
        };
        message.process(|| async { publish.instrument(info_span!("charge")).await }).await?;
        self.consumer.commit_message(&message, CommitMode::Sync)?;
        drop(message);

        let delivery = self.deliveries.next().await.ok_or("the consumer ended")??;
        assert_eq!(delivery.data, id.as_bytes());
        let publish = async {
            let acknowledged = self.context.publish(self.subject.clone(), id.to_owned().into()).await?;
            acknowledged.await
        };
        delivery.process(|| async { publish.instrument(info_span!("pack")).await }).await?;
        delivery.ack(BasicAckOptions::default()).await?;
        drop(delivery);

        let notification = self.notifications.try_next().await?.ok_or("the consumer ended")?;
        assert_eq!(&notification.payload[..], id.as_bytes());
        notification.process(|| async { info_span!("notify").in_scope(|| ()) }).await;
        notification.ack().await?;
        Ok(())
    }
}

/// Runs orders through the pipeline, with `tracing` taken to the same SDK.
async fn run(sdk: &Sdk, orders: usize) -> Vec<SpanData> {
    let layer = tracing_opentelemetry::layer().with_tracer(sdk.provider().tracer("app"));
    let work = async {
        let mut pipeline = Pipeline::start(sdk).await.expect("three brokers");
        for order in 0..orders {
            let id = format!("order-{order}");
            timeout(Duration::from_secs(60), pipeline.order(&id)).await.expect("in time").expect("every hop");
        }
    };
    work.with_subscriber(tracing_subscriber::registry().with(layer)).await;
    sdk.spans()
}

/// The chain of first words of span names from the root to the last hop, for the spans of one trace.
fn chain(spans: &[SpanData]) -> Vec<String> {
    let mut parent = SpanId::INVALID;
    let mut names = Vec::new();
    // A hop's own children besides the next hop are settlements, which have none.
    while let Some(next) = spans
        .iter()
        .filter(|span| span.parent_span_id == parent)
        .find(|span| !span.name.starts_with("ack") && !span.name.starts_with("commit"))
    {
        names.push(next.name.split(' ').next().unwrap_or_default().to_owned());
        parent = next.span_context.span_id();
    }
    names
}

#[tokio::test]
async fn an_order_is_one_trace_through_three_brokers() {
    let sdk = Sdk::new();
    let spans = run(&sdk, 1).await;
    let text = describe(&spans);
    let trace = spans[0].span_context.trace_id();
    assert!(spans.iter().all(|span| span.span_context.trace_id() == trace), "more than one trace:\n{text}");
    assert_eq!(chain(&spans), HOPS, "{text}");

    let settled: Vec<_> = spans
        .iter()
        .filter(|span| span.name.starts_with("ack") || span.name.starts_with("commit"))
        .map(|settle| {
            let parent = spans.iter().find(|span| span.span_context.span_id() == settle.parent_span_id);
            parent.expect("a settle span has its process span").name.split(' ').next().unwrap_or_default().to_owned()
        })
        .collect();
    assert_eq!(settled, ["process"; 3], "{text}");
    assert_eq!(spans.len(), HOPS.len() + 3, "{text}");

    let systems: BTreeSet<_> = spans
        .iter()
        .filter_map(|span| support::attribute(span, "messaging.system"))
        .map(|system| system.as_str().into_owned())
        .collect();
    assert_eq!(systems.into_iter().collect::<Vec<_>>(), ["kafka", "nats", "rabbitmq"]);

    for process in spans.iter().filter(|span| span.name.starts_with("process")) {
        assert_eq!(process.links.len(), 1, "{text}");
        assert_eq!(process.links[0].span_context.span_id(), process.parent_span_id, "{text}");
    }
}

#[tokio::test]
async fn a_trace_is_whole_or_absent_when_one_in_ten_is_sampled() {
    const ORDERS: usize = 200;
    let sdk = Sdk::with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(0.1))));
    let spans = run(&sdk, ORDERS).await;
    let mut traces: HashMap<_, Vec<SpanData>> = HashMap::new();
    for span in spans {
        traces.entry(span.span_context.trace_id()).or_default().push(span);
    }
    for spans in traces.values() {
        assert_eq!(chain(spans), HOPS, "{}", describe(spans));
        assert_eq!(spans.len(), HOPS.len() + 3, "{}", describe(spans));
    }
    // All or none would be a sampler that was not asked: 0.9^200 is below one in a thousand million.
    assert!(!traces.is_empty() && traces.len() < ORDERS, "{} of {ORDERS} traces", traces.len());
}
