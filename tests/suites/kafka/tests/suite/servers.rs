//! The broker that a message was fetched from is told where statistics say where it is.

use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};

use futures::{
    StreamExt,
    future::{Either, join, select},
};
use otel_rdkafka::{
    ClientConfig, ClientContext, Message, Offset, Statistics, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, StreamConsumer},
    message::{BorrowedMessage, Header, OwnedHeaders},
    mocking::MockCluster,
    otel::{InstrumentationBuilder, process_batch},
    producer::DefaultProducerContext,
};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use support::{Sdk, attribute, describe, eventually};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Two brokers, each the leader of one partition of the topic.
struct Cluster {
    mock: MockCluster<'static, DefaultProducerContext>,
    sdk: Sdk,
}

/// Tells of reports that tell of both brokers.
struct Reports(UnboundedSender<()>);

impl ClientContext for Reports {
    fn stats(&self, statistics: Statistics) {
        if statistics.brokers.values().filter(|broker| broker.nodeid >= 0).count() == 2 {
            // The test may have heard enough.
            let _ = self.0.send(());
        }
    }
}

impl ConsumerContext for Reports {}

fn both_partitions(offset: Offset) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in 0..2 {
        list.add_partition_offset("orders", partition, offset).unwrap();
    }
    list
}

impl Cluster {
    fn new() -> Self {
        let mock = MockCluster::new(2).unwrap();
        mock.create_topic("orders", 2, 1).unwrap();
        mock.partition_leader("orders", 0, Some(1)).unwrap();
        mock.partition_leader("orders", 1, Some(2)).unwrap();
        Self { mock, sdk: Sdk::new() }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.mock.bootstrap_servers()).set("client.id", "shop");
        config
    }

    fn builder(&self) -> InstrumentationBuilder {
        self.sdk.all_signals_builder().with_receive_spans(true)
    }

    /// A consumer of both partitions, and the reports to it.
    fn consumer<T>(&self, settings: &[(&str, &str)]) -> (T, UnboundedReceiver<()>)
    where
        T: FromClientConfigAndContext<Reports> + Consumer<Reports>,
    {
        let mut config = self.config();
        config.set("group.id", "payment").set("enable.auto.commit", "false");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        let (recorded, reports) = unbounded_channel();
        let consumer: T = config.create_with_context(Reports(recorded)).unwrap();
        consumer.assign(&both_partitions(Offset::Beginning)).unwrap();
        (consumer, reports)
    }

    fn base_consumer(&self, settings: &[(&str, &str)]) -> BaseConsumer<Reports> {
        let (consumer, mut reports) = self.consumer::<BaseConsumer<Reports>>(settings);
        let consumer = consumer.with_instrumentation(self.builder().build());
        eventually("a report", || {
            assert!(consumer.poll(Duration::from_millis(50)).is_none());
            reports.try_recv().is_ok()
        });
        consumer
    }

    async fn stream_consumer(&self) -> StreamConsumer<Reports> {
        let (consumer, mut reports) = self.consumer::<StreamConsumer<Reports>>(REPORTING);
        let consumer = consumer.with_instrumentation(self.builder().build());
        // Reports are served by who polls the consumer.
        match select(pin!(consumer.recv()), pin!(reports.recv())).await {
            Either::Left((polled, _)) => panic!("{polled:?} before anything was sent"),
            Either::Right((report, _)) => report.unwrap(),
        }
        consumer
    }

    /// One message into each partition, by the raw client.
    fn send(&self) {
        self.send_with(|_| OwnedHeaders::new());
    }

    fn send_with(&self, headers: impl Fn(i32) -> OwnedHeaders) {
        let producer: BaseProducer = self.config().create().unwrap();
        for partition in 0..2 {
            let record: BaseRecord<'_, (), str> = BaseRecord::to("orders").partition(partition).payload("four apples");
            producer.send(record.headers(headers(partition))).unwrap();
        }
        producer.flush(Duration::from_secs(10)).unwrap();
    }

    /// Spans as text, by partition and name; the leaders' ports are `FIRST` and `SECOND`, the cluster is `harbour`.
    fn described(&self, count: usize) -> String {
        let mut spans = self.sdk.wait_for(count);
        let partition = |span: &_| attribute(span, "messaging.destination.partition.id").map(ToString::to_string);
        spans.sort_by_key(|span| (partition(span), span.name.clone()));
        let recorded = spans.iter().find_map(|span| attribute(span, "messaging.kafka.cluster.id"));
        self.plain(&describe(&spans)).replace(&recorded.unwrap().to_string(), "harbour")
    }

    fn measured(&self) -> BTreeSet<String> {
        self.plain(&self.sdk.measured()).lines().map(str::to_owned).collect()
    }

    fn plain(&self, text: &str) -> String {
        let servers = self.mock.bootstrap_servers();
        let ports = servers.split(',').map(|server| server.rsplit_once(':').unwrap().1);
        ports.zip(["FIRST", "SECOND"]).fold(text.to_owned(), |text, (port, name)| {
            text.replace(&format!("port = {port}"), &format!("port = {name}"))
        })
    }

    /// Both messages have come and gone, and what is told of each says where it came from.
    fn assert_both_are_recorded(&self) {
        let of = |partition, port, text: &str| text.replace("PARTITION", partition).replace("PORT", port);
        let both = |text| of("0", "FIRST", text) + &of("1", "SECOND", text);
        assert_eq!(self.described(4), both(SPANS));
        assert_eq!(self.measured(), both(MEASURED).lines().map(str::to_owned).collect());
    }
}

const REPORTING: &[(&str, &str)] = &[("statistics.interval.ms", "50")];

/// Of a message: its poll, and its process span, which has no peer in the convention.
const SPANS: &str = r#"poll orders
  kind CLIENT
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  root
  status unset
  messaging.client.id = "shop"
  messaging.consumer.group.name = "payment"
  messaging.destination.name = "orders"
  messaging.destination.partition.id = "PARTITION"
  messaging.kafka.cluster.id = "harbour"
  messaging.kafka.offset = 0
  messaging.operation.name = "poll"
  messaging.operation.type = "receive"
  messaging.system = "kafka"
  network.peer.address = "127.0.0.1"
  network.peer.port = PORT
  server.address = "127.0.0.1"
  server.port = PORT
process orders
  kind CONSUMER
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  root
  status unset
  messaging.client.id = "shop"
  messaging.consumer.group.name = "payment"
  messaging.destination.name = "orders"
  messaging.destination.partition.id = "PARTITION"
  messaging.kafka.cluster.id = "harbour"
  messaging.kafka.offset = 0
  messaging.operation.name = "process"
  messaging.operation.type = "process"
  messaging.system = "kafka"
  server.address = "127.0.0.1"
  server.port = PORT
"#;

const MEASURED: &str = r#"messaging.client.consumed.messages [{message}] {messaging.consumer.group.name = "payment", messaging.destination.name = "orders", messaging.operation.name = "poll", messaging.system = "kafka", server.address = "127.0.0.1", server.port = PORT} 1
messaging.client.operation.duration [s] {messaging.consumer.group.name = "payment", messaging.destination.name = "orders", messaging.operation.name = "poll", messaging.operation.type = "receive", messaging.system = "kafka", server.address = "127.0.0.1", server.port = PORT} 1
messaging.process.duration [s] {messaging.consumer.group.name = "payment", messaging.destination.name = "orders", messaging.operation.name = "process", messaging.system = "kafka", server.address = "127.0.0.1", server.port = PORT} 1
otel_messaging.queue_time [s] {messaging.consumer.group.name = "payment", messaging.destination.name = "orders", messaging.operation.name = "poll", messaging.system = "kafka", otel_messaging.clock = "create_time", server.address = "127.0.0.1", server.port = PORT} 1
"#;

fn next(consumer: &BaseConsumer<Reports>) -> BorrowedMessage<'_> {
    let mut message = None;
    eventually("a message", || {
        message = consumer.poll(Duration::from_millis(100)).map(Result::unwrap);
        message.is_some()
    });
    message.unwrap()
}

#[test]
fn poll_records_the_broker_of_a_message() {
    let cluster = Cluster::new();
    let consumer = cluster.base_consumer(REPORTING);
    cluster.send();
    (0..2).for_each(|_| drop(next(&consumer)));
    cluster.assert_both_are_recorded();
}

#[test]
fn iter_records_the_broker_of_a_message() {
    let cluster = Cluster::new();
    let consumer = cluster.base_consumer(REPORTING);
    cluster.send();
    consumer.iter().take(2).for_each(|message| drop(message.unwrap()));
    cluster.assert_both_are_recorded();
}

#[test]
fn a_partition_queue_records_the_broker_of_a_message() {
    let cluster = Cluster::new();
    let consumer = Arc::new(cluster.base_consumer(REPORTING));
    let queues = [0, 1].map(|partition| consumer.split_partition_queue("orders", partition).unwrap());
    cluster.send();
    for queue in &queues {
        eventually("a message", || {
            assert!(consumer.poll(Duration::ZERO).is_none());
            queue.poll(Duration::from_millis(100)).is_some_and(|message| message.is_ok())
        });
    }
    cluster.assert_both_are_recorded();
}

#[tokio::test]
async fn recv_records_the_broker_of_a_message() {
    let cluster = Cluster::new();
    let consumer = cluster.stream_consumer().await;
    cluster.send();
    for _ in 0..2 {
        drop(consumer.recv().await.unwrap());
    }
    cluster.assert_both_are_recorded();
}

#[tokio::test]
async fn stream_records_the_broker_of_a_message() {
    let cluster = Cluster::new();
    let consumer = cluster.stream_consumer().await;
    cluster.send();
    consumer.stream().take(2).for_each(async |message| drop(message.unwrap())).await;
    cluster.assert_both_are_recorded();
}

#[tokio::test]
async fn a_stream_partition_queue_records_the_broker_of_a_message() {
    let cluster = Cluster::new();
    let consumer = Arc::new(cluster.stream_consumer().await);
    let [one, two] = [0, 1].map(|partition| consumer.split_partition_queue("orders", partition).unwrap());
    cluster.send();
    let (one, two) = join(one.recv(), two.recv()).await;
    drop((one.unwrap(), two.unwrap()));
    cluster.assert_both_are_recorded();
}

#[tokio::test]
async fn a_batch_of_messages_of_several_brokers_has_each_on_its_link() {
    let cluster = Cluster::new();
    let consumer = cluster.base_consumer(REPORTING);
    cluster.send_with(|partition| {
        let traceparent = format!("00-0123456789abcdef0123456789abcdef-000000000000000{}-01", partition + 1);
        OwnedHeaders::new().insert(Header { key: "traceparent", value: Some(&traceparent) })
    });
    let mut messages = [next(&consumer), next(&consumer)];
    messages.sort_by_key(Message::partition);
    process_batch(&messages, || async {}).await;
    drop(messages);
    let described = cluster.described(3);
    let batch = &described[described.find("process orders").unwrap()..];
    let batch = &batch[..batch[1..].find("poll orders").map_or(batch.len(), |at| at + 1)];
    assert_eq!(
        batch,
        r#"process orders
  kind CONSUMER
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  root
  link 0000000000000001 {messaging.destination.partition.id = "0", server.port = FIRST}
  link 0000000000000002 {messaging.destination.partition.id = "1", server.port = SECOND}
  status unset
  messaging.batch.message_count = 2
  messaging.client.id = "shop"
  messaging.consumer.group.name = "payment"
  messaging.destination.name = "orders"
  messaging.kafka.cluster.id = "harbour"
  messaging.kafka.offset = 0
  messaging.operation.name = "process"
  messaging.operation.type = "process"
  messaging.system = "kafka"
  server.address = "127.0.0.1"
"#
    );
}

/// A coordinator may have moved since the last report; of a poll that failed nobody knows what it asked.
#[test]
fn a_commit_and_a_poll_that_fails_record_no_broker() {
    let cluster = Cluster::new();
    let consumer = cluster.base_consumer(&[REPORTING[0], ("auto.offset.reset", "error")]);
    cluster.send();
    let messages = [next(&consumer), next(&consumer)];
    for mode in [CommitMode::Sync, CommitMode::Async] {
        consumer.commit_message(&messages[0], mode).unwrap();
        consumer.commit(&both_partitions(Offset::Offset(1)), mode).unwrap();
    }
    drop(messages);
    consumer.assign(&both_partitions(Offset::Offset(1_000))).unwrap();
    eventually("an error", || consumer.poll(Duration::from_millis(100)).is_some_and(|polled| polled.is_err()));
    let spans = cluster.sdk.wait_for(9);
    let recorded: Vec<_> = spans.iter().filter(|span| span.name.starts_with("commit") || span.name == "poll").collect();
    assert_eq!(recorded.len(), 5, "{}", describe(&spans));
    for span in recorded {
        let keys = ["server.address", "server.port", "network.peer.address", "network.peer.port"];
        assert_eq!(keys.map(|key| attribute(span, key)), [None; 4], "{}", span.name);
    }
    let measured = cluster.measured();
    let of = |line: &&String| line.contains(r#"name = "commit""#) || line.contains("_AUTO_OFFSET_RESET");
    let of: Vec<_> = measured.iter().filter(of).collect();
    assert_eq!((of.len(), of.iter().any(|line| line.contains("server"))), (3, false), "{of:#?}");
}

#[test]
fn without_statistics_no_broker_is_recorded() {
    let cluster = Cluster::new();
    let (consumer, _) = cluster.consumer::<BaseConsumer<Reports>>(&[]);
    let consumer = consumer.with_instrumentation(cluster.builder().build());
    cluster.send();
    (0..2).for_each(|_| drop(next(&consumer)));
    let text = cluster.described(4) + &cluster.sdk.measured();
    assert!(!text.contains("server.") && !text.contains("network."), "{text}");
}
