//! Commits are spans; storing an offset is none.

use std::time::Duration;

use opentelemetry::{Context, trace::TraceContextExt};
use otel_rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, DefaultConsumerContext, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
    otel::{InstrumentationBuilder, MessageExt, Traced},
    producer::{BaseProducer, BaseRecord, Producer},
};
use support::eventually;

use crate::harness::Test;

/// Sent by the raw client: only what the consumer does is told.
fn test_with_messages(count: usize) -> Test {
    let test = Test::new();
    let producer: rdkafka::producer::BaseProducer = test.config().create().unwrap();
    for _ in 0..count {
        producer.send(BaseRecord::<(), str>::to(&test.topic).payload("four apples")).unwrap();
    }
    rdkafka::producer::Producer::flush(&producer, Duration::from_secs(10)).unwrap();
    test
}

fn consumer(test: &Test) -> BaseConsumer {
    consumer_with(test, test.sdk.instrumentation_builder())
}

fn consumer_with(test: &Test, builder: InstrumentationBuilder) -> BaseConsumer {
    let consumer: BaseConsumer = test.consumer_config().set("enable.auto.offset.store", "false").create().unwrap();
    consumer.subscribe(&[&test.topic]).unwrap();
    consumer.with_instrumentation(builder.build())
}

fn next(consumer: &BaseConsumer) -> BorrowedMessage<'_> {
    let mut message = None;
    eventually("a message", || {
        message = consumer.poll(Duration::from_millis(100)).map(Result::unwrap);
        message.is_some()
    });
    message.unwrap()
}

fn committed(test: &Test) -> Offset {
    let consumer: rdkafka::consumer::BaseConsumer = test.consumer_config().create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition(&test.topic, 0);
    let list = rdkafka::consumer::Consumer::committed_offsets(&consumer, list, Duration::from_secs(10)).unwrap();
    list.elements()[0].offset()
}

const COMMIT_OUTCOME: &str = "  otel_messaging.settlement.outcome = \"commit\"\n";

const COMMITTED: &str = r#"process orders
  kind CONSUMER
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  root
  status unset
  messaging.client.id = "shop"
  messaging.consumer.group.name = "payment"
  messaging.destination.name = "orders"
  messaging.destination.partition.id = "0"
  messaging.kafka.cluster.id = "harbour"
  messaging.kafka.offset = 0
  messaging.operation.name = "process"
  messaging.operation.type = "process"
  messaging.system = "kafka"
  otel_messaging.settlement.outcome = "commit"
commit orders
  kind CLIENT
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  parent process orders
  status unset
  messaging.client.id = "shop"
  messaging.consumer.group.name = "payment"
  messaging.destination.name = "orders"
  messaging.destination.partition.id = "0"
  messaging.kafka.cluster.id = "harbour"
  messaging.kafka.offset = 0
  messaging.operation.name = "commit"
  messaging.operation.type = "settle"
  messaging.system = "kafka"
  otel_messaging.settlement.outcome = "commit"
"#;

#[test]
fn a_message_is_committed_and_waited_for() {
    let test = test_with_messages(1);
    let consumer = consumer(&test);
    let message = next(&consumer);
    consumer.commit_message(&message, CommitMode::Sync).unwrap();
    assert_eq!(committed(&test), Offset::Offset(1));
    drop(message);
    assert_eq!(test.described(2), COMMITTED);
}

#[test]
fn a_message_is_committed_in_the_background() {
    let test = test_with_messages(1);
    let consumer = consumer(&test);
    let message = next(&consumer);
    consumer.commit_message(&message, CommitMode::Async).unwrap();
    drop(message);
    assert_eq!(test.described(2), COMMITTED);
    eventually("the commit", || committed(&test) == Offset::Offset(1));
}

#[tokio::test]
async fn a_stream_consumer_commits_after_the_handler() {
    let test = test_with_messages(1);
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    consumer.subscribe(&[&test.topic]).unwrap();
    let consumer = consumer.with_instrumentation(test.sdk.instrumentation());
    let message = consumer.recv().await.unwrap();
    message.process(|| async {}).await;
    consumer.commit_message(&message, CommitMode::Sync).unwrap();
    // A child of the ended span, which says no more of it.
    let expected = COMMITTED.replacen(COMMIT_OUTCOME, "", 1);
    assert_eq!(test.described(2), expected);
}

#[tokio::test]
async fn a_handler_that_commits_and_then_fails_is_seen_whole() {
    let test = test_with_messages(1);
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    consumer.subscribe(&[&test.topic]).unwrap();
    let consumer = consumer.with_instrumentation(test.sdk.instrumentation());
    let message = consumer.recv().await.unwrap();
    let handler = async {
        consumer.commit_message(&message, CommitMode::Sync).unwrap();
        test.sdk.app_span_in("store", &Context::current()).span().end();
        Err::<(), _>("declined")
    };
    message.process(|| handler).await.unwrap_err();
    drop(message);
    let failed = COMMITTED.replacen("status unset\n", "status error: declined\n  error.type = \"&str\"\n", 1)
        + "store\n  kind INTERNAL\n  scope app\n  parent process orders\n  status unset\n";
    assert_eq!(test.described(3), failed);
    let (process, store) = (test.span("process orders"), test.span("store"));
    assert!(process.end_time >= store.end_time, "it ends with the handler and not with the commit");
}

#[test]
fn committing_a_list_names_no_message() {
    [CommitMode::Sync, CommitMode::Async].into_iter().for_each(a_list_is_committed);
}

fn a_list_is_committed(mode: CommitMode) {
    let test = test_with_messages(1);
    let consumer = consumer(&test);
    let message = next(&consumer);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&test.topic, 0, Offset::Offset(1)).unwrap();
    consumer.commit(&list, mode).unwrap();
    assert_eq!(
        test.described(1),
        r#"commit orders
  kind CLIENT
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  root
  status unset
  messaging.client.id = "shop"
  messaging.consumer.group.name = "payment"
  messaging.destination.name = "orders"
  messaging.destination.partition.id = "0"
  messaging.kafka.cluster.id = "harbour"
  messaging.operation.name = "commit"
  messaging.operation.type = "settle"
  messaging.system = "kafka"
  otel_messaging.settlement.outcome = "commit"
"#
    );
    assert_eq!(message.offset(), 0);
    eventually("the commit", || committed(&test) == Offset::Offset(1));
}

#[test]
fn a_list_of_several_topics_has_no_destination() {
    let test = test_with_messages(1);
    let other = test_with_messages(1);
    let consumer = consumer(&test);
    drop(next(&consumer));
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&test.topic, 0, Offset::Offset(1)).unwrap();
    list.add_partition_offset(&other.topic, 0, Offset::Offset(1)).unwrap();
    // Whether the group may commit for a topic that it has not is the broker's affair.
    let _ = consumer.commit(&list, CommitMode::Sync);
    let span = test.span("commit");
    assert_eq!(support::attribute(&span, "messaging.destination.name"), None);
    assert_eq!(support::attribute(&span, "messaging.destination.partition.id"), None);
}

#[test]
fn storing_offsets_has_no_span_and_committing_the_state_has() {
    [CommitMode::Sync, CommitMode::Async].into_iter().for_each(the_state_is_committed);
}

fn the_state_is_committed(mode: CommitMode) {
    let test = test_with_messages(2);
    let consumer = consumer(&test);
    let message = next(&consumer);
    consumer.store_offset_from_message(&message).unwrap();
    consumer.store_offset(&test.topic, 0, 0).unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&test.topic, 0, Offset::Offset(1)).unwrap();
    consumer.store_offsets(&list).unwrap();
    assert_eq!(test.sdk.described(), "");
    consumer.commit_consumer_state(mode).unwrap();
    assert_eq!(
        test.described(1),
        r#"commit
  kind CLIENT
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  root
  status unset
  messaging.client.id = "shop"
  messaging.consumer.group.name = "payment"
  messaging.kafka.cluster.id = "harbour"
  messaging.operation.name = "commit"
  messaging.operation.type = "settle"
  messaging.system = "kafka"
  otel_messaging.settlement.outcome = "commit"
"#
    );
    eventually("the commit", || committed(&test) == Offset::Offset(1));
}

#[tokio::test]
async fn a_commit_that_finds_no_offset_fails_for_its_caller_alone() {
    let test = test_with_messages(1);
    let base = consumer_with(&test, test.sdk.all_signals_builder());
    no_offset_is_committed(&test, &base);
    // Assigned, and nothing is stored.
    let message = next(&base);
    no_offset_is_committed(&test, &base);
    drop(message);
    drop(base);
    let stream: StreamConsumer = test.consumer_config().create().unwrap();
    no_offset_is_committed(&test, &stream.with_instrumentation(test.sdk.all_signals_builder().build()));
    let process = &COMMITTED[..COMMITTED.find("commit orders").unwrap()];
    assert_eq!(test.described(1), process.replace(COMMIT_OUTCOME, ""));
    assert_eq!(test.sdk.events(), "");
    assert!(!test.measured().contains("commit"), "{}", test.measured());
}

/// By both traits, and every way that names offsets or none.
fn no_offset_is_committed<C>(test: &Test, consumer: &C)
where
    C: Consumer + rdkafka::consumer::Consumer<Traced<DefaultConsumerContext>>,
{
    use rdkafka::consumer::Consumer as Raw;
    const NOTHING: Result<(), KafkaError> = Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset));
    let mut without_offset = TopicPartitionList::new();
    without_offset.add_partition(&test.topic, 0);
    for list in [&TopicPartitionList::new(), &without_offset] {
        assert_eq!(Consumer::commit(consumer, list, CommitMode::Sync), NOTHING);
        assert_eq!(Raw::commit(consumer, list, CommitMode::Sync), NOTHING);
        assert_eq!(Consumer::commit(consumer, list, CommitMode::Async), Ok(()));
        assert_eq!(Raw::commit(consumer, list, CommitMode::Async), Ok(()));
    }
    assert_eq!(Consumer::commit_consumer_state(consumer, CommitMode::Sync), NOTHING);
    assert_eq!(Raw::commit_consumer_state(consumer, CommitMode::Sync), NOTHING);
}

#[test]
fn offsets_are_committed_with_a_transaction_and_have_no_span() {
    let test = test_with_messages(1);
    let consumer = consumer(&test);
    let message = next(&consumer);
    let producer: BaseProducer = test.config().set("transactional.id", &test.topic).create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    producer.init_transactions(Duration::from_secs(20)).unwrap();
    producer.begin_transaction().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(message.topic(), message.partition(), Offset::Offset(1)).unwrap();
    let group = consumer.group_metadata().unwrap();
    producer.send_offsets_to_transaction(&list, &group, Duration::from_secs(20)).unwrap();
    producer.commit_transaction(Duration::from_secs(20)).unwrap();
    eventually("the commit", || committed(&test) == Offset::Offset(1));
    assert_eq!(test.sdk.described(), "");
}

#[test]
fn a_commit_that_fails_says_why_and_settles_nothing() {
    let test = test_with_messages(1);
    let consumer = consumer(&test);
    let message = next(&consumer);
    // Of the same group, but not a member of it.
    let stranger: BaseConsumer = test.consumer_config().create().unwrap();
    let stranger = stranger.with_instrumentation(test.sdk.instrumentation());
    let error = stranger.commit_message(&message, CommitMode::Sync).unwrap_err();
    assert_eq!(error, KafkaError::ConsumerCommit(RDKafkaErrorCode::UnknownMemberId));
    drop(message);
    let expected = COMMITTED.replace(COMMIT_OUTCOME, "").replace(
        "  parent process orders\n  status unset\n",
        "  parent process orders\n  status error: Consumer commit error: UnknownMemberId (Broker: Unknown member)\n  \
         error.type = \"UNKNOWN_MEMBER_ID\"\n",
    );
    // The stranger has seen no message, and has not asked for the cluster.
    let (process, commit) = expected.split_at(expected.find("commit orders").unwrap());
    let commit = commit.replace("  messaging.kafka.cluster.id = \"harbour\"\n", "");
    assert_eq!(test.described(2), format!("{process}{commit}"));
}
