//! What goes wrong: the client's own error comes back unchanged, and the span tells it.

use std::{
    pin::pin,
    time::{Duration, Instant, SystemTime},
};

use futures::poll;
use opentelemetry::trace::SpanKind;
use otel_rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer},
};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use support::{Sdk, attribute, eventually};

use crate::harness::{Test, headers};

const PATIENCE: Duration = Duration::from_secs(20);

fn future_producer(test: &Test, config: &ClientConfig) -> FutureProducer {
    let producer: FutureProducer = config.create().unwrap();
    producer.with_instrumentation(test.sdk.instrumentation())
}

pub(crate) fn failed(kind: &str, status: &str, error_type: &str, more: &str) -> String {
    format!(
        r#"send orders
  kind {kind}
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  root
  status error: {status}
  error.type = "{error_type}"
  messaging.client.id = "shop"
  messaging.destination.name = "orders"
{more}  messaging.operation.name = "send"
  messaging.operation.type = "send"
  messaging.system = "kafka"
"#
    )
}

#[tokio::test]
async fn a_broker_that_cannot_be_reached() {
    let test = Test::new();
    // A port that is closed: bound, never listened on.
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = test.config().set("bootstrap.servers", closed.to_string()).set("message.timeout.ms", "300").clone();
    let producer = future_producer(&test, &config);
    let record = FutureRecord::to(&test.topic)
        .key("4711")
        .payload("four apples")
        .headers(OwnedHeaders::new().insert(Header { key: "tenant", value: Some("blue") }));
    let (error, message) = producer.send(record, PATIENCE).await.unwrap_err();
    assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut));
    assert_eq!((message.payload(), message.key()), (Some(&b"four apples"[..]), Some(&b"4711"[..])));
    assert_eq!(headers(&message), [("tenant".to_owned(), "blue".to_owned())]);
    let status = "Message production error: MessageTimedOut (Local: Message timed out)";
    assert_eq!(test.described(1), failed("PRODUCER", status, "_MSG_TIMED_OUT", ""));
}

#[tokio::test]
async fn a_topic_whose_name_no_broker_takes() {
    let test = Test::new();
    let producer = future_producer(&test, &test.config());
    let record: FutureRecord<'_, (), str> = FutureRecord::to("no/such topic").payload("x");
    let (error, _) = producer.send(record, PATIENCE).await.unwrap_err();
    assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::InvalidTopic));
    let status = "Message production error: InvalidTopic (Broker: Invalid topic)";
    let expected = failed("PRODUCER", status, "INVALID_TOPIC_EXCEPTION", "");
    assert_eq!(test.described(1), expected.replace("orders", "no/such topic"));
    // One that cannot be written down at all is refused at once.
    let record: FutureRecord<'_, (), str> = FutureRecord::to("a\0b").payload("x");
    let (error, record) = producer.send_result(record).unwrap_err();
    assert!(matches!(error, KafkaError::Nul(_)));
    assert!(record.headers.is_none());
    assert_eq!(attribute(&test.sdk.wait_for(2)[1], "error.type").unwrap().as_str(), "_INVALID_ARG");
}

#[test]
fn a_partition_that_is_not_there() {
    let test = Test::new();
    let producer: BaseProducer = test.config().create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    // Known by then, so it is refused at once.
    producer.send(BaseRecord::<(), str>::to(&test.topic).payload("x")).unwrap();
    producer.flush(PATIENCE).unwrap();
    let (error, _) = producer.send(BaseRecord::<(), str>::to(&test.topic).payload("x").partition(99)).unwrap_err();
    assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::UnknownPartition));
    let status = "Message production error: UnknownPartition (Local: Unknown partition)";
    let more = "  messaging.destination.partition.id = \"99\"\n  messaging.kafka.cluster.id = \"harbour\"\n";
    assert_eq!(test.named(&test.sdk.wait_for(2)[1..]), failed("PRODUCER", status, "_UNKNOWN_PARTITION", more));
}

#[tokio::test]
async fn a_message_too_large_for_the_client() {
    let test = Test::new();
    let producer = future_producer(&test, &test.config());
    let payload = vec![b'x'; 1_000_001];
    let record: FutureRecord<'_, (), [u8]> = FutureRecord::to(&test.topic).payload(&payload);
    let (error, message) = producer.send(record, PATIENCE).await.unwrap_err();
    assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge));
    assert_eq!(message.payload().map(<[u8]>::len), Some(payload.len()));
    assert!(message.headers().is_none());
    let status = "Message production error: MessageSizeTooLarge (Broker: Message size too large)";
    // Nothing was injected, so it could not have been a PRODUCER.
    assert_eq!(test.described(1), failed("CLIENT", status, "MESSAGE_TOO_LARGE", ""));
}

#[tokio::test]
async fn a_message_too_large_for_the_topic_fails_with_the_brokers_answer() {
    let test = Test::with_topic(Sdk::new(), &[("max.message.bytes", "1000")]);
    let producer = future_producer(&test, &test.config());
    let payload = "x".repeat(2_000);
    let record: FutureRecord<'_, (), str> = FutureRecord::to(&test.topic).payload(&payload);
    let (error, message) = producer.send(record, PATIENCE).await.unwrap_err();
    assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge));
    assert!(message.headers().is_none());
    let status = "Message production error: MessageSizeTooLarge (Broker: Message size too large)";
    let more = "  messaging.destination.partition.id = \"0\"\n";
    assert_eq!(test.described(1), failed("PRODUCER", status, "MESSAGE_TOO_LARGE", more));
}

/// librdkafka numbers the messages of a batch even where it has no offset to begin with.
#[test]
fn a_batch_has_offsets_unless_it_is_refused() {
    let test = Test::new();
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic(&test.topic, 1, 1).unwrap();
    let mut config = test.config();
    config.set("bootstrap.servers", mock.bootstrap_servers()).set("linger.ms", "60000");
    let producer: BaseProducer = config.create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    let spans_of_a_batch = || {
        for _ in 0..3 {
            producer.send(BaseRecord::<(), str>::to(&test.topic).payload("x")).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        let spans = test.sdk.spans();
        spans[spans.len() - 3..].to_vec()
    };
    let taken = spans_of_a_batch();
    let recorded = |key| taken.iter().map(|span| attribute(span, key).unwrap().to_string()).collect::<Vec<_>>();
    assert_eq!(recorded("messaging.kafka.offset"), ["0", "1", "2"]);
    let cluster = &recorded("messaging.kafka.cluster.id")[0];
    mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    let refused = test.named(&spans_of_a_batch()).replace(cluster, "mock");
    let status = "Message production error: TopicAuthorizationFailed (Broker: Topic authorization failed)";
    let more = "  messaging.destination.partition.id = \"0\"\n  messaging.kafka.cluster.id = \"mock\"\n";
    assert_eq!(refused, failed("PRODUCER", status, "TOPIC_AUTHORIZATION_FAILED", more).repeat(3));
}

/// The largest payload that the raw client takes, under a limit.
fn largest(limit: usize, accepts: impl Fn(usize) -> bool) -> usize {
    let largest = (0..limit).rev().find(|&size| accepts(size)).unwrap();
    assert!(largest > limit - 100);
    largest
}

#[tokio::test]
async fn a_message_too_large_only_by_our_header_goes_without_it() {
    let test = Test::new();
    let config = test.config().set("message.max.bytes", "2000").clone();
    let producer = future_producer(&test, &config);
    let raw: rdkafka::producer::BaseProducer = config.clone().set("bootstrap.servers", "127.0.0.1:1").create().unwrap();
    let payload = |size| "x".repeat(size);
    let largest = largest(2_000, |size| raw.send(BaseRecord::<(), str>::to("nowhere").payload(&payload(size))).is_ok());
    let mut kinds = Vec::new();
    // A context takes 76 bytes here, and the batch around the message 61, which the broker counts.
    for less in [0, 130, 140, 200] {
        let payload = payload(largest - less);
        let record: FutureRecord<'_, (), str> = FutureRecord::to(&test.topic).payload(&payload);
        producer.send(record, PATIENCE).await.unwrap();
        kinds.push(test.sdk.wait_for(kinds.len() + 1).pop().unwrap().span_kind);
    }
    assert_eq!(kinds, [SpanKind::Client, SpanKind::Client, SpanKind::Producer, SpanKind::Producer]);
    let wire = test.on_the_wire(4);
    let counts: Vec<_> = wire.iter().map(|message| headers(message).len()).collect();
    assert_eq!(counts, [0, 0, 1, 1]);
    let sizes: Vec<_> = wire.iter().map(|message| message.payload().unwrap().len()).collect();
    assert_eq!(sizes, [largest, largest - 130, largest - 140, largest - 200]);
}

#[test]
fn near_the_limit_the_users_headers_count() {
    let test = Test::new();
    let producer: BaseProducer = test.config().set("message.max.bytes", "2000").create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    let value = "x".repeat(1_940);
    let own = || OwnedHeaders::new().insert(Header { key: "large", value: Some(&value) });
    producer.send(BaseRecord::<(), str>::to(&test.topic).payload("x").headers(own())).unwrap();
    producer.flush(PATIENCE).unwrap();
    assert_eq!(headers(&test.on_the_wire(1)[0]), [("large".to_owned(), value.clone())]);
    assert!(test.described(1).contains("kind CLIENT"));
}

#[test]
fn a_full_queue() {
    let test = Test::new();
    let config = test.config().set("queue.buffering.max.messages", "1").set("linger.ms", "60000").clone();
    let producer = future_producer(&test, &config);
    let record = || FutureRecord::<(), str>::to(&test.topic).payload("x");
    let first = producer.send_result(record()).unwrap();
    let (error, record) = producer.send_result(record()).unwrap_err();
    assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
    assert!(record.headers.is_none());
    let status = "Message production error: QueueFull (Local: Queue full)";
    assert_eq!(test.described(1), failed("PRODUCER", status, "_QUEUE_FULL", ""));
    drop(first);
}

#[tokio::test]
async fn a_queue_without_room_in_time_is_one_span_and_gives_the_message_back() {
    let test = Test::new();
    let config = test.config().set("queue.buffering.max.messages", "1").set("linger.ms", "60000").clone();
    let producer = future_producer(&test, &config);
    let first = producer.send_result(FutureRecord::<(), str>::to(&test.topic).payload("x")).unwrap();
    let record = FutureRecord::to(&test.topic)
        .key("4711")
        .payload("four apples")
        .partition(0)
        .timestamp(1_700_000_000_000)
        .headers(OwnedHeaders::new().insert(Header { key: "tenant", value: Some("blue") }));
    let called = Instant::now();
    let (error, message) = producer.send(record, Duration::from_millis(150)).await.unwrap_err();
    assert!(called.elapsed() >= Duration::from_millis(150));
    assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
    assert_eq!((message.payload(), message.key()), (Some(&b"four apples"[..]), Some(&b"4711"[..])));
    assert_eq!((message.topic(), message.partition()), (&*test.topic, 0));
    assert_eq!(message.timestamp().to_millis(), Some(1_700_000_000_000));
    assert_eq!(headers(&message), [("tenant".to_owned(), "blue".to_owned())]);
    let status = "Message production error: QueueFull (Local: Queue full)";
    let more = "  messaging.destination.partition.id = \"0\"\n";
    assert_eq!(test.described(1), failed("PRODUCER", status, "_QUEUE_FULL", more));
    drop(first);
}

#[tokio::test]
async fn a_queue_with_room_in_time_is_one_span() {
    let test = Test::new();
    let config = test.config().set("queue.buffering.max.messages", "1").set("linger.ms", "60000").clone();
    let producer = future_producer(&test, &config);
    let record = || FutureRecord::<(), str>::to(&test.topic).payload("x");
    let first = producer.send_result(record()).unwrap();
    let mut second = pin!(producer.send(record(), PATIENCE));
    // The first one stays until somebody flushes.
    assert!(poll!(&mut second).is_pending());
    let flushing = producer.clone();
    tokio::task::spawn_blocking(move || flushing.flush(PATIENCE)).await.unwrap().unwrap();
    first.await.unwrap().unwrap();
    // Now there is room; the second one is in the queue after its next try, and stays there likewise.
    while producer.in_flight_count() == 0 {
        assert!(poll!(&mut second).is_pending());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let flushing = producer.clone();
    tokio::task::spawn_blocking(move || flushing.flush(PATIENCE)).await.unwrap().unwrap();
    assert_eq!(second.await.unwrap().offset, 1);
    let spans = test.sdk.wait_for(2);
    assert_eq!(spans.len(), 2);
    // It waited for the first, and says so.
    let took = spans[1].end_time.duration_since(spans[1].start_time).unwrap();
    assert!(took > Duration::from_millis(100), "{took:?}");
    let wire = test.on_the_wire(2);
    assert_eq!(headers(&wire[1]).len(), 1, "one header after several tries");
}

#[test]
fn a_message_outside_of_a_transaction() {
    let test = Test::new();
    let producer: BaseProducer = test.config().set("transactional.id", &test.topic).create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    let (error, _) = producer.send(BaseRecord::<(), str>::to(&test.topic).payload("x")).unwrap_err();
    assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::State));
    let status = "Message production error: State (Local: Erroneous state)";
    assert_eq!(test.described(1), failed("PRODUCER", status, "_STATE", ""));
}

const POLL_FAILED: &str = r#"poll
  kind CLIENT
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  root
  status error: Message consumption error: UnknownTopicOrPartition (Broker: Unknown topic or partition)
  error.type = "UNKNOWN_TOPIC_OR_PARTITION"
  messaging.client.id = "shop"
  messaging.consumer.group.name = "payment"
  messaging.operation.name = "poll"
  messaging.operation.type = "receive"
  messaging.system = "kafka"
"#;

#[test]
fn a_topic_that_is_not_there_to_poll() {
    let test = Test::new();
    let consumer: BaseConsumer = test.consumer_config().create().unwrap();
    let consumer = consumer.with_instrumentation(test.sdk.instrumentation());
    consumer.subscribe(&[&format!("{}-not-there", test.topic)]).unwrap();
    let (mut error, mut called) = (None, SystemTime::now());
    eventually("an error", || {
        called = SystemTime::now();
        error = consumer.poll(PATIENCE);
        error.is_some()
    });
    let expected = KafkaError::MessageConsumption(RDKafkaErrorCode::UnknownTopicOrPartition);
    assert_eq!(error.unwrap().unwrap_err(), expected);
    drop(consumer);
    assert_eq!(test.described(1), POLL_FAILED);
    let span = test.span("poll");
    let late = span.start_time.duration_since(called).unwrap();
    assert!(late < span.end_time.duration_since(span.start_time).unwrap(), "it began with the wait");
}

#[tokio::test]
async fn a_topic_that_is_not_there_to_stream() {
    let test = Test::new();
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    let consumer = consumer.with_instrumentation(test.sdk.instrumentation());
    consumer.subscribe(&[&format!("{}-not-there", test.topic)]).unwrap();
    let mut receive = Box::pin(consumer.recv());
    assert!(poll!(&mut receive).is_pending());
    let waiting = SystemTime::now();
    let error = receive.await.unwrap_err();
    assert_eq!(error, KafkaError::MessageConsumption(RDKafkaErrorCode::UnknownTopicOrPartition));
    assert_eq!(test.described(1), POLL_FAILED);
    assert!(test.span("poll").start_time <= waiting, "it began with the wait");
}

#[test]
fn an_offset_that_is_not_there() {
    let test = Test::new();
    let consumer: BaseConsumer = test.consumer_config().set("auto.offset.reset", "error").create().unwrap();
    let consumer = consumer.with_instrumentation(test.sdk.instrumentation());
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&test.topic, 0, Offset::Offset(99)).unwrap();
    consumer.assign(&list).unwrap();
    let mut error = None;
    eventually("an error", || {
        error = consumer.poll(Duration::from_millis(100));
        error.is_some()
    });
    let expected = KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset);
    assert_eq!(error.unwrap().unwrap_err(), expected);
    assert_eq!(attribute(&test.span("poll"), "error.type").unwrap().as_str(), "_AUTO_OFFSET_RESET");
}

/// rdkafka ends a poll when it has called the application back, whatever time is left.
#[test]
fn a_poll_ends_with_a_rebalance() {
    let test = Test::new();
    let consumer: BaseConsumer = test.consumer_config().create().unwrap();
    let mut consumer = consumer.with_instrumentation(test.sdk.instrumentation());
    let (seen, recorded) = std::sync::mpsc::channel();
    consumer.set_nonempty_callback(move || _ = seen.send(()));
    consumer.subscribe(&[&test.topic]).unwrap();
    let enough = Duration::from_secs(600);
    let called = Instant::now();
    while consumer.assignment().unwrap().count() == 0 {
        recorded.recv_timeout(PATIENCE).unwrap();
        // What there is to hear of is there before the call.
        assert!(consumer.poll(enough).is_none());
    }
    assert!(called.elapsed() < enough);
}

/// A broker has no reason to refuse, so the mock is told to.
#[test]
fn an_automatic_commit_that_fails() {
    let test = Test::new();
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic(&test.topic, 1, 1).unwrap();
    let mut config = test.consumer_config();
    config
        .set("bootstrap.servers", mock.bootstrap_servers())
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "50");
    let producer: rdkafka::producer::BaseProducer = config.create().unwrap();
    producer.send(BaseRecord::<(), str>::to(&test.topic).payload("x")).unwrap();
    rdkafka::producer::Producer::flush(&producer, PATIENCE).unwrap();

    let consumer: BaseConsumer = config.create().unwrap();
    let consumer = consumer.with_instrumentation(test.sdk.instrumentation());
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&test.topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    mock.request_errors(RDKafkaApiKey::OffsetCommit, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED]);
    eventually("the commit", || {
        drop(consumer.poll(Duration::from_millis(50)).map(Result::unwrap));
        test.sdk.spans().len() == 2
    });
    let expected = r#"commit orders
  kind CLIENT
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  root
  status error: Consumer commit error: GroupAuthorizationFailed (Broker: Group authorization failed)
  error.type = "GROUP_AUTHORIZATION_FAILED"
  messaging.client.id = "shop"
  messaging.consumer.group.name = "payment"
  messaging.destination.name = "orders"
  messaging.destination.partition.id = "0"
  messaging.kafka.cluster.id = "mock"
  messaging.operation.name = "commit"
  messaging.operation.type = "settle"
  messaging.system = "kafka"
"#;
    let span = test.span("commit orders");
    let cluster = attribute(&span, "messaging.kafka.cluster.id").unwrap().to_string();
    assert_eq!(test.named(&[span]).replace(&cluster, "mock"), expected);
}
