//! One whole send and receive on librdkafka's mock cluster, by every pointer that the adapter gives to librdkafka and takes back.
//! `make memcheck` runs it under valgrind, which looks for what is lost when the process ends: so it is a process of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry_sdk::trace::Sampler;
use otel_rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, Headers, OwnedHeaders},
    mocking::MockCluster,
    otel::{Instrumentation, MessageExt},
    producer::{BaseProducer, BaseRecord, DeliveryResult, FutureProducer, FutureRecord, Producer, ProducerContext},
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use support::{DEADLINE, Sdk, eventually};
use tokio::time::timeout;

const TOPIC: &str = "orders";

/// Counts reports and rebalances, and looks at each as an application does.
#[derive(Clone, Default)]
struct Seen {
    delivered: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    rebalances: Arc<AtomicUsize>,
}

impl ClientContext for Seen {}

impl ProducerContext for Seen {
    /// On the heap, so that it is seen to be lost.
    type DeliveryOpaque = Box<String>;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: Box<String>) {
        assert_eq!(*opaque, "the user's");
        let (message, count) = match result {
            Ok(message) => (message, &self.delivered),
            Err((_, message)) => (message, &self.failed),
        };
        assert_eq!(header_names(message.headers().unwrap()), ["tenant"]);
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl ConsumerContext for Seen {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        assert!(consumer.context().rebalances.fetch_add(1, Ordering::Relaxed) < 10);
    }
}

fn header_names(headers: &impl Headers) -> Vec<String> {
    headers.iter().map(|header| header.key.to_owned()).collect()
}

fn own_headers() -> OwnedHeaders {
    OwnedHeaders::new().insert(Header { key: "tenant", value: Some("blue") })
}

fn config(cluster: &str, group: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster).set("linger.ms", "0").set("group.id", group);
    config.set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    config
}

/// What travels to librdkafka differs by what is recorded of a message: a box, a mark, or the user's own pointer.
async fn there_and_back(instrumentation: Instrumentation, header_names_there: &[&str]) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 1, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    let seen = Seen::default();

    // A report that succeeds and one that fails, to a future and to a callback.
    let refuse = || {
        cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    };
    let future: FutureProducer = config(&servers, "").create().unwrap();
    let future = future.with_instrumentation(instrumentation.clone());
    let record = || FutureRecord::<str, str>::to(TOPIC).key("4711").payload("four apples").headers(own_headers());
    assert_eq!(future.send(record(), DEADLINE).await.unwrap().offset, 0);
    refuse();
    let (error, message) = future.send(record(), DEADLINE).await.unwrap_err();
    assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::TopicAuthorizationFailed));
    assert_eq!(header_names(message.headers().unwrap()), ["tenant"]);

    let base: BaseProducer<Seen> = config(&servers, "").create_with_context(seen.clone()).unwrap();
    let base = base.with_instrumentation(instrumentation.clone());
    let opaque = || Box::new("the user's".to_owned());
    let record = || {
        BaseRecord::<str, str, _>::with_opaque_to(TOPIC, opaque()).key("4711").payload("five").headers(own_headers())
    };
    base.send(record()).unwrap();
    base.flush(DEADLINE).unwrap();
    refuse();
    base.send(record()).unwrap();
    base.flush(DEADLINE).unwrap();
    assert_eq!((seen.delivered.load(Ordering::Relaxed), seen.failed.load(Ordering::Relaxed)), (1, 1));
    // One that librdkafka does not take, and one that it holds when its producer goes.
    let too_large = "x".repeat(2_000_000);
    let (_, refused) = base.send(record().payload(&too_large)).unwrap_err();
    assert_eq!(header_names(&refused.headers.unwrap()), ["tenant"]);
    let held: BaseProducer<Seen> =
        config(&servers, "").set("linger.ms", "60000").create_with_context(seen.clone()).unwrap();
    let held = held.with_instrumentation(instrumentation.clone());
    held.send(record()).unwrap();
    drop(held);
    assert_eq!((seen.delivered.load(Ordering::Relaxed), seen.failed.load(Ordering::Relaxed)), (1, 2));

    // A group's stream.
    let stream: StreamConsumer<Seen> = config(&servers, "group").create_with_context(seen.clone()).unwrap();
    let stream = stream.with_instrumentation(instrumentation.clone());
    stream.subscribe(&[TOPIC]).unwrap();
    let mut detached = Vec::new();
    for payload in ["four apples", "five"] {
        let message = timeout(DEADLINE, stream.recv()).await.unwrap().unwrap();
        assert_eq!((message.key(), message.payload()), (Some(&b"4711"[..]), Some(payload.as_bytes())));
        assert_eq!(header_names(message.headers().unwrap()), header_names_there);
        message.process(|| async {}).await;
        stream.commit_message(&message, CommitMode::Sync).unwrap();
        detached.push(message.detach());
    }
    drop(stream);
    assert_eq!(detached[1].payload(), Some(&b"five"[..]));
    assert_ne!(seen.rebalances.load(Ordering::Relaxed), 0);

    // The queue of one partition.
    let consumer: BaseConsumer = config(&servers, "queue").create().unwrap();
    let consumer = Arc::new(consumer.with_instrumentation(instrumentation));
    let mut partition = TopicPartitionList::new();
    partition.add_partition_offset(TOPIC, 0, Offset::Beginning).unwrap();
    consumer.assign(&partition).unwrap();
    let queue = consumer.split_partition_queue(TOPIC, 0).unwrap();
    let mut message = None;
    eventually("a message", || {
        assert!(consumer.poll(Duration::ZERO).is_none());
        message = queue.poll(Duration::from_millis(100)).transpose().unwrap();
        message.is_some()
    });
    message.unwrap().in_scope(|| ());
}

#[tokio::test]
async fn what_goes_to_librdkafka_comes_back_and_nothing_is_lost() {
    let recorded = Sdk::new();
    there_and_back(recorded.instrumentation(), &["tenant", "traceparent"]).await;
    let mut names: Vec<_> = recorded.spans().into_iter().map(|span| span.name).collect();
    names.sort();
    let (commits, processed, sent) = (["commit orders"; 2], ["process orders"; 3], ["send orders"; 6]);
    assert_eq!(names, [&commits[..], &processed, &sent].concat());

    let sampled_out = Sdk::with_sampler(Sampler::AlwaysOff);
    there_and_back(sampled_out.instrumentation(), &["tenant", "traceparent"]).await;
    assert_eq!(sampled_out.spans().len(), 0);

    // Nothing is recorded.
    there_and_back(Instrumentation::builder().with_spans(false).build(), &["tenant"]).await;
}
