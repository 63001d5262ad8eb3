//! Every way to receive: the whole span, and the message as it was sent.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use futures::StreamExt;
use opentelemetry::trace::TraceContextExt;
use otel_rdkafka::{
    ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance, StreamConsumer},
    error::KafkaError,
    message::{BorrowedMessage, Header, OwnedHeaders},
    otel::{MessageExt, process_batch, sequential, sequential_blocking},
    producer::{BaseProducer, BaseRecord, Producer},
};
use support::eventually;

use crate::harness::{Test, headers, traceparent};

const RECEIVED: &str = r#"send orders
  kind PRODUCER
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  root
  status unset
  messaging.client.id = "shop"
  messaging.destination.name = "orders"
  messaging.destination.partition.id = "0"
  messaging.kafka.cluster.id = "harbour"
  messaging.kafka.offset = 0
  messaging.operation.name = "send"
  messaging.operation.type = "send"
  messaging.system = "kafka"
process orders
  kind CONSUMER
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  parent send orders
  link send orders
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
"#;

/// Sends messages, and waits for their spans.
fn sent(test: &Test, payloads: &[&str]) {
    let producer: BaseProducer = test.config().create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    for payload in payloads {
        let record = BaseRecord::to(&test.topic)
            .key("4711")
            .payload(*payload)
            .headers(OwnedHeaders::new().insert(Header { key: "tenant", value: Some("blue") }));
        producer.send(record).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
}

fn base_consumer(test: &Test) -> BaseConsumer {
    let consumer: BaseConsumer = test.consumer_config().create().unwrap();
    consumer.subscribe(&[&test.topic]).unwrap();
    consumer.with_instrumentation(test.sdk.instrumentation())
}

fn stream_consumer(test: &Test) -> StreamConsumer {
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    consumer.subscribe(&[&test.topic]).unwrap();
    consumer.with_instrumentation(test.sdk.instrumentation())
}

fn next(consumer: &BaseConsumer<impl ConsumerContext>) -> BorrowedMessage<'_> {
    let mut message = None;
    eventually("a message", || {
        message = consumer.poll(Duration::from_millis(100)).map(Result::unwrap);
        message.is_some()
    });
    message.unwrap()
}

/// The message is the one sent, with all of its headers as they arrived.
fn assert_is_what_was_sent(test: &Test, message: &BorrowedMessage<'_>) {
    assert_eq!(message.payload(), Some(&b"four apples"[..]));
    assert_eq!(message.payload_view::<str>(), Some(Ok("four apples")));
    assert_eq!((message.payload_len(), message.key_len()), (11, 4));
    assert_eq!(message.key(), Some(&b"4711"[..]));
    assert_eq!((message.topic(), message.partition(), message.offset()), (&*test.topic, 0, 0));
    let expected =
        [("tenant".to_owned(), "blue".to_owned()), ("traceparent".to_owned(), traceparent(&test.span("send orders")))];
    assert_eq!(headers(message), expected);
}

#[test]
fn poll_delivers() {
    let test = Test::new();
    sent(&test, &["four apples"]);
    let consumer = base_consumer(&test);
    let message = next(&consumer);
    assert_is_what_was_sent(&test, &message);
    assert_eq!(test.sdk.spans().len(), 1, "the process span is open");
    drop(message);
    assert_eq!(test.described(2), RECEIVED);
}

#[test]
fn a_process_span_starts_when_the_message_is_delivered() {
    let test = Test::new();
    let consumer: BaseConsumer = test.consumer_config().create().unwrap();
    let consumer = consumer.with_instrumentation(test.sdk.instrumentation());
    consumer.assign(&first_of_partition(&test)).unwrap();
    let polling = AtomicBool::new(false);
    let sent_at = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            eventually("the poll", || polling.load(Ordering::Acquire));
            let producer: rdkafka::producer::BaseProducer = test.config().create().unwrap();
            let sent_at = SystemTime::now();
            producer.send(BaseRecord::<(), str>::to(&test.topic).payload("four apples")).unwrap();
            rdkafka::producer::Producer::flush(&producer, Duration::from_secs(10)).unwrap();
            sent_at
        });
        polling.store(true, Ordering::Release);
        drop(consumer.poll(None).unwrap().unwrap());
        sender.join().unwrap()
    });
    assert!(test.sdk.wait_for(1)[0].start_time >= sent_at, "not when the poll began");
}

#[test]
fn an_empty_poll_has_no_span() {
    let test = Test::new();
    let consumer = base_consumer(&test);
    assert!(consumer.poll(Duration::from_millis(300)).is_none());
    drop(consumer);
    assert_eq!(test.sdk.described(), "");
}

#[test]
fn iter_delivers() {
    let test = Test::new();
    sent(&test, &["four apples"]);
    let consumer = base_consumer(&test);
    let message = consumer.iter().next().unwrap().unwrap();
    assert_is_what_was_sent(&test, &message);
    drop(message);
    assert_eq!(test.described(2), RECEIVED);
    sent(&test, &["five pears"]);
    let message = (&consumer).into_iter().next().unwrap();
    assert_eq!(message.unwrap().payload(), Some(&b"five pears"[..]));
    assert_eq!(test.sdk.wait_for(4).len(), 4);
}

#[tokio::test]
async fn recv_delivers() {
    let test = Test::new();
    sent(&test, &["four apples"]);
    let consumer = stream_consumer(&test);
    let message = consumer.recv().await.unwrap();
    assert_is_what_was_sent(&test, &message);
    assert_eq!(test.sdk.spans().len(), 1, "the process span is open");
    drop(message);
    assert_eq!(test.described(2), RECEIVED);
}

#[tokio::test]
async fn stream_delivers() {
    let test = Test::new();
    sent(&test, &["four apples"]);
    let consumer = stream_consumer(&test);
    let message = consumer.stream().next().await.unwrap().unwrap();
    assert_is_what_was_sent(&test, &message);
    drop(message);
    assert_eq!(test.described(2), RECEIVED);
}

fn first_of_partition(test: &Test) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&test.topic, 0, Offset::Beginning).unwrap();
    list
}

#[test]
fn a_partition_queue_delivers() {
    let test = Test::new();
    sent(&test, &["four apples"]);
    let consumer: BaseConsumer = test.consumer_config().create().unwrap();
    let consumer = Arc::new(consumer.with_instrumentation(test.sdk.instrumentation()));
    consumer.assign(&first_of_partition(&test)).unwrap();
    let queue = consumer.split_partition_queue(&test.topic, 0).unwrap();
    assert!(consumer.split_partition_queue("a\0b", 0).is_none());
    let mut found = None;
    eventually("a message", || {
        assert!(consumer.poll(Duration::ZERO).is_none());
        found = queue.poll(Duration::from_millis(100)).map(Result::unwrap);
        found.is_some()
    });
    assert_is_what_was_sent(&test, found.as_ref().unwrap());
    drop(found);
    assert_eq!(test.described(2), RECEIVED);
    // The queue keeps the consumer alive, and the last of both frees it.
    assert_eq!(Arc::strong_count(&consumer), 2);
    drop(queue);
    assert_eq!(Arc::strong_count(&consumer), 1);
}

#[tokio::test]
async fn a_stream_partition_queue_delivers() {
    let test = Test::new();
    sent(&test, &["four apples"]);
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    let consumer = Arc::new(consumer.with_instrumentation(test.sdk.instrumentation()));
    consumer.assign(&first_of_partition(&test)).unwrap();
    let queue = consumer.split_partition_queue(&test.topic, 0).unwrap();
    let events = tokio::spawn({
        let consumer = consumer.clone();
        async move {
            let nothing = consumer.recv().await;
            panic!("{nothing:?} on the main queue");
        }
    });
    let message = queue.recv().await.unwrap();
    assert_is_what_was_sent(&test, &message);
    drop(message);
    events.abort();
    assert!(events.await.unwrap_err().is_cancelled());
    assert_eq!(test.described(2), RECEIVED);
    drop(queue);
    eventually("the queue lets go", || Arc::strong_count(&consumer) == 1);
}

#[test]
fn a_tombstone_is_one() {
    let test = Test::new();
    let producer: rdkafka::producer::BaseProducer = test.config().create().unwrap();
    producer.send(BaseRecord::<str, ()>::to(&test.topic).key("4711")).unwrap();
    rdkafka::producer::Producer::flush(&producer, Duration::from_secs(10)).unwrap();
    let consumer = base_consumer(&test);
    drop(next(&consumer));
    assert_eq!(
        test.described(1),
        r#"process orders
  kind CONSUMER
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  root
  status unset
  messaging.client.id = "shop"
  messaging.consumer.group.name = "payment"
  messaging.destination.name = "orders"
  messaging.destination.partition.id = "0"
  messaging.kafka.cluster.id = "harbour"
  messaging.kafka.message.tombstone = true
  messaging.kafka.offset = 0
  messaging.operation.name = "process"
  messaging.operation.type = "process"
  messaging.system = "kafka"
"#
    );
}

#[test]
fn a_detached_message_carries_the_span_on() {
    let test = Test::new();
    sent(&test, &["four apples"]);
    let consumer = base_consumer(&test);
    let message = next(&consumer);
    let detached = message.detach();
    let copy = detached.clone();
    assert_eq!((detached.payload(), detached.key()), (message.payload(), message.key()));
    assert_eq!(headers(&detached), headers(&message));
    drop(message);
    drop(consumer);
    drop(detached.set_topic("elsewhere".to_owned()).set_payload(None).replace_headers(None));
    assert_eq!(test.sdk.spans().len(), 1, "a copy still carries the span");
    drop(copy);
    assert_eq!(test.described(2), RECEIVED);
}

#[tokio::test]
async fn a_handlers_error_is_the_process_spans() {
    let test = Test::new();
    sent(&test, &["four apples"]);
    let consumer = stream_consumer(&test);
    let message = consumer.recv().await.unwrap();
    let process = message.otel_context().span().span_context().span_id();
    let outcome = message
        .process(|| async {
            assert_eq!(opentelemetry::Context::current().span().span_context().span_id(), process);
            "four".parse::<u8>()
        })
        .await;
    assert!(outcome.is_err());
    assert_eq!(
        test.described(2),
        RECEIVED.replace(
            "  link send orders\n  status unset\n",
            "  link send orders\n  status error: invalid digit found in string\n  \
             error.type = \"core::num::error::ParseIntError\"\n"
        )
    );
}

#[tokio::test]
async fn a_batch_is_one_span_with_links() {
    let test = Test::new();
    sent(&test, &["one", "two", "three"]);
    let consumer = stream_consumer(&test);
    let messages: Vec<_> = consumer.stream().take(3).map(Result::unwrap).collect().await;
    process_batch(&messages, || async {}).await;
    drop(messages);
    let spans = test.sdk.wait_for(4);
    assert_eq!(spans.len(), 4);
    assert_eq!(
        test.named(&spans[3..])
            .replace(&spans[0].span_context.span_id().to_string(), "FIRST")
            .replace(&spans[1].span_context.span_id().to_string(), "SECOND")
            .replace(&spans[2].span_context.span_id().to_string(), "THIRD"),
        r#"process orders
  kind CONSUMER
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  root
  link FIRST {messaging.kafka.offset = 0}
  link SECOND {messaging.kafka.offset = 1}
  link THIRD {messaging.kafka.offset = 2}
  status unset
  messaging.batch.message_count = 3
  messaging.client.id = "shop"
  messaging.consumer.group.name = "payment"
  messaging.destination.name = "orders"
  messaging.destination.partition.id = "0"
  messaging.kafka.cluster.id = "harbour"
  messaging.operation.name = "process"
  messaging.operation.type = "process"
  messaging.system = "kafka"
"#
    );
}

/// A loop in which each message is worked on before the next is asked for.
#[tokio::test]
async fn in_a_sequential_loop_the_message_in_hand_is_current() {
    let test = Test::new();
    sent(&test, &["one", "two"]);
    let consumer = stream_consumer(&test);
    sequential(async {
        let mut stream = consumer.stream();
        for _ in 0..2 {
            let message = stream.next().await.unwrap().unwrap();
            let current = opentelemetry::Context::current().span().span_context().span_id();
            assert_eq!(current, message.otel_context().span().span_context().span_id());
        }
    })
    .await;
    let spans = test.sdk.wait_for(4);
    assert_eq!(spans.len(), 4);
    // The second is a child of its own sender, not of the first message.
    assert_eq!(spans[3].parent_span_id, spans[1].span_context.span_id());
}

#[test]
fn in_a_blocking_loop_the_message_in_hand_is_current() {
    let test = Test::new();
    sent(&test, &["one", "two"]);
    let consumer = base_consumer(&test);
    sequential_blocking(|| {
        for message in consumer.iter().take(2) {
            let message = message.unwrap();
            let current = opentelemetry::Context::current().span().span_context().span_id();
            assert_eq!(current, message.otel_context().span().span_context().span_id());
        }
    });
    let spans = test.sdk.wait_for(4);
    assert_eq!(spans[3].parent_span_id, spans[1].span_context.span_id());
}

#[test]
fn the_end_of_a_partition_is_no_failure() {
    let test = Test::new();
    let consumer: BaseConsumer = test.consumer_config().set("enable.partition.eof", "true").create().unwrap();
    let consumer = consumer.with_instrumentation(test.sdk.instrumentation());
    consumer.assign(&first_of_partition(&test)).unwrap();
    let mut end = None;
    eventually("the end of the partition", || {
        end = consumer.poll(Duration::from_millis(100));
        end.is_some()
    });
    assert_eq!(end.unwrap().unwrap_err(), KafkaError::PartitionEOF(0));
    assert_eq!(test.sdk.described(), "");
}

/// A context of the user's own, whose callbacks get the wrapped consumer.
#[derive(Clone, Default)]
struct Watching(Arc<Mutex<Vec<String>>>);

impl ClientContext for Watching {}

impl ConsumerContext for Watching {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let before = consumer.assignment().unwrap().count();
        assert!(Arc::ptr_eq(&consumer.context().0, &self.0));
        self.0.lock().unwrap().push(format!("pre {} {}", kind(rebalance), before));
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let after = consumer.assignment().unwrap().count();
        self.0.lock().unwrap().push(format!("post {} {}", kind(rebalance), after));
    }
}

fn kind(rebalance: &Rebalance<'_>) -> &'static str {
    match rebalance {
        Rebalance::Assign(_) => "assign",
        Rebalance::Revoke(_) => "revoke",
        Rebalance::Error(_) => "error",
    }
}

fn rebalances(protocol: &str) {
    let test = Test::new();
    sent(&test, &["four apples"]);
    let context = Watching::default();
    let consumer: BaseConsumer<Watching> = test
        .consumer_config()
        .set("partition.assignment.strategy", protocol)
        .create_with_context(context.clone())
        .unwrap();
    let consumer = consumer.with_instrumentation(test.sdk.instrumentation());
    consumer.subscribe(&[&test.topic]).unwrap();
    drop(next(&consumer));
    consumer.unsubscribe();
    eventually("the revocation", || {
        assert!(consumer.poll(Duration::from_millis(50)).is_none());
        context.0.lock().unwrap().len() == 4
    });
    assert_eq!(*context.0.lock().unwrap(), ["pre assign 0", "post assign 1", "pre revoke 1", "post revoke 0"]);
    drop(consumer);
    assert_eq!(test.described(2), RECEIVED);
}

#[test]
fn the_default_rebalance_assigns_and_revokes_eagerly() {
    rebalances("range");
}

#[test]
fn the_default_rebalance_assigns_and_revokes_cooperatively() {
    rebalances("cooperative-sticky");
}
