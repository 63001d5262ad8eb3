//! Futures that are dropped: exactly one span, or none.

use std::time::Duration;

use futures::{FutureExt, future::pending, poll};
use otel_rdkafka::{
    Message,
    consumer::{Consumer, StreamConsumer},
    otel::MessageExt,
    producer::{BaseRecord, FutureProducer, FutureRecord, Producer},
};

use crate::harness::Test;

fn producer(test: &Test) -> FutureProducer {
    let producer: FutureProducer = test.config().create().unwrap();
    producer.with_instrumentation(test.sdk.instrumentation())
}

fn record(test: &Test) -> FutureRecord<'_, (), str> {
    FutureRecord::to(&test.topic).payload("four apples")
}

const DELIVERED: &str = r#"send orders
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
"#;

#[tokio::test]
async fn a_send_that_is_never_polled_sends_nothing_and_has_no_span() {
    let test = Test::new();
    let producer = producer(&test);
    drop(producer.send(record(&test), Duration::from_secs(5)));
    assert_eq!(producer.in_flight_count(), 0);
    // The next one is the first of the topic.
    producer.send(record(&test), Duration::from_secs(5)).await.unwrap();
    assert_eq!(test.described(1), DELIVERED);
}

#[tokio::test]
async fn a_send_dropped_after_its_first_poll_is_delivered_and_recorded() {
    let test = Test::new();
    let producer = producer(&test);
    {
        let mut send = Box::pin(producer.send(record(&test), Duration::from_secs(5)));
        assert!(poll!(&mut send).is_pending());
    }
    assert_eq!(test.described(1), DELIVERED);
    producer.flush(Duration::from_secs(10)).unwrap();
    assert_eq!(test.sdk.spans().len(), 1);
}

#[tokio::test]
async fn a_delivery_future_dropped_before_the_answer_changes_nothing() {
    let test = Test::new();
    let producer = producer(&test);
    drop(producer.send_result(record(&test)).unwrap());
    assert_eq!(test.described(1), DELIVERED);
}

#[tokio::test]
async fn a_delivery_future_dropped_after_the_answer_changes_nothing() {
    let test = Test::new();
    let producer = producer(&test);
    let future = producer.send_result(record(&test)).unwrap();
    assert_eq!(test.described(1), DELIVERED);
    drop(future);
    assert_eq!(test.sdk.spans().len(), 1);
}

#[tokio::test]
async fn a_send_dropped_while_the_queue_is_full_was_refused() {
    let test = Test::new();
    let config = test.config().set("queue.buffering.max.messages", "1").set("linger.ms", "60000").clone();
    let producer: FutureProducer = config.create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    let first = producer.send_result(record(&test)).unwrap();
    {
        let mut second = Box::pin(producer.send(record(&test), Duration::from_secs(60)));
        assert!(poll!(&mut second).is_pending());
    }
    let spans = test.sdk.wait_for(1);
    assert_eq!(
        test.named(&spans),
        r#"send orders
  kind PRODUCER
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  root
  status error: Message production error: QueueFull (Local: Queue full)
  error.type = "_QUEUE_FULL"
  messaging.client.id = "shop"
  messaging.destination.name = "orders"
  messaging.operation.name = "send"
  messaging.operation.type = "send"
  messaging.system = "kafka"
"#
    );
    producer.flush(Duration::from_secs(10)).unwrap();
    first.await.unwrap().unwrap();
    assert_eq!(test.sdk.wait_for(2).len(), 2);
    assert_eq!(test.on_the_wire(1).len(), 1);
}

#[tokio::test]
async fn a_receive_that_is_dropped_loses_no_message_and_has_no_span() {
    let test = Test::new();
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    consumer.subscribe(&[&test.topic]).unwrap();
    let consumer = consumer.with_instrumentation(test.sdk.instrumentation());
    assert!(consumer.recv().now_or_never().is_none());
    assert!(tokio::time::timeout(Duration::from_millis(200), consumer.recv()).await.is_err());
    assert_eq!(test.sdk.described(), "");
    let raw: rdkafka::producer::BaseProducer = test.config().create().unwrap();
    raw.send(BaseRecord::<(), str>::to(&test.topic).payload("four apples")).unwrap();
    rdkafka::producer::Producer::flush(&raw, Duration::from_secs(10)).unwrap();
    let message = consumer.recv().await.unwrap();
    assert_eq!(message.offset(), 0);
    // A handler that is given up ends nothing: the message is still at hand.
    assert!(message.process(pending::<()>).now_or_never().is_none());
    assert_eq!(test.sdk.described(), "");
    drop(message);
    assert_eq!(test.sdk.wait_for(1).len(), 1);
}
