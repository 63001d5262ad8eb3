//! Apache Kafka starts, stops, is killed, comes back with its data, and ends with its value.

mod node;

use std::time::{Duration, Instant};

use brokers::{Kafka, Missing, Source};
use node::Node;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};

const PATIENCE: Duration = Duration::from_secs(30);

fn produce(kafka: &Kafka, payload: &str) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &kafka.bootstrap_servers).create().unwrap();
    producer.send(BaseRecord::<(), str>::to("topic").partition(0).payload(payload)).unwrap();
    producer.flush(PATIENCE).unwrap();
}

/// The payloads of the first `count` records.
fn consume(kafka: &Kafka, count: usize) -> Vec<String> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.bootstrap_servers)
        .set("group.id", "group")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset("topic", 0, Offset::Beginning).unwrap();
    consumer.assign(&from).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut payloads = Vec::new();
    while payloads.len() < count && Instant::now() < deadline {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            payloads.push(message.payload_view::<str>().unwrap().unwrap().to_owned());
        }
    }
    payloads
}

#[test]
fn a_private_node_keeps_its_data_over_stop_and_kill() {
    let mut kafka = Kafka::own().unwrap();
    assert_eq!(kafka.source(), Source::Process);
    let node = Node::kafka(&kafka.bootstrap_servers);
    produce(&kafka, "first");

    kafka.stop();
    assert!(!node.answers());
    kafka.restart().unwrap();
    assert_eq!(consume(&kafka, 1), ["first"]);

    produce(&kafka, "second");
    kafka.kill();
    assert!(!node.answers());
    kafka.restart().unwrap();
    assert_eq!(consume(&kafka, 2), ["first", "second"]);

    // Also while it runs.
    kafka.restart().unwrap();
    assert_eq!(consume(&kafka, 2), ["first", "second"]);
}

#[test]
fn a_topic_is_made_at_first_use_with_three_partitions() {
    let kafka = Kafka::start().unwrap();
    produce(&kafka, "one");
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &kafka.bootstrap_servers).create().unwrap();
    let metadata = consumer.fetch_metadata(Some("topic"), PATIENCE).unwrap();
    assert_eq!(metadata.topics()[0].partitions().len(), 3);
}

#[test]
fn the_mock_needs_nothing_and_its_groups_do_not_wait() {
    let mut kafka = Kafka::mock().unwrap();
    assert_eq!(kafka.source(), Source::Mock);
    produce(&kafka, "first");

    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &kafka.bootstrap_servers)
        .set("group.id", "group")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    consumer.subscribe(&["topic"]).unwrap();
    let start = Instant::now();
    let message = loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(message) => break message.unwrap(),
            None => assert!(start.elapsed() < PATIENCE),
        }
    };
    assert_eq!(message.payload(), Some(&b"first"[..]));
    // librdkafka's own delay is 3 s.
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());

    kafka.stop();
    kafka.restart().unwrap();
    assert_eq!(consume(&kafka, 1), ["first"]);
}

#[test]
fn a_dropped_node_is_gone_also_when_the_reason_is_a_panic() {
    let kafka = Kafka::own().unwrap();
    let node = Node::kafka(&kafka.bootstrap_servers);
    let panicked = std::thread::spawn(move || {
        let _running = kafka;
        panic!("while it holds a node that runs");
    })
    .join();
    assert!(panicked.is_err());
    assert!(!node.answers());
}

#[test]
fn a_given_port_is_used_or_refused() {
    let kafka = Kafka::own().unwrap();
    let port = kafka.bootstrap_servers.rsplit(':').next().unwrap().parse().unwrap();
    assert!(matches!(Kafka::own_at(port), Err(Missing::Machine { .. })));
    let address = kafka.bootstrap_servers.clone();
    drop(kafka);
    let kafka = Kafka::own_at(port).unwrap();
    assert_eq!(kafka.bootstrap_servers, address);
    produce(&kafka, "first");
}

#[test]
fn a_node_that_is_held_is_silent_until_it_goes_on() {
    let kafka = Kafka::own().unwrap();
    let node = Node::kafka(&kafka.bootstrap_servers);
    kafka.pause();
    assert!(node.is_noop(Duration::from_secs(1)));
    kafka.resume();
    assert!(node.answers());
}

#[test]
fn a_node_behind_a_port_sends_clients_there_from_its_second_address() {
    let (kafka, second) = Kafka::own_behind(1).unwrap();
    let sent_to = |address: &str| {
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", address).create().unwrap();
        let metadata = consumer.fetch_metadata(None, PATIENCE).unwrap();
        format!("{}:{}", metadata.brokers()[0].host(), metadata.brokers()[0].port())
    };
    assert_eq!(sent_to(&kafka.bootstrap_servers), kafka.bootstrap_servers);
    assert_eq!(sent_to(&second), "127.0.0.1:1");
}
