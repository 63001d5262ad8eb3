//! A context that the application's function reads, on every way of receiving.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt};
use opentelemetry::{propagation::Extractor, trace::SpanContext};
use otel_rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, StreamConsumer},
    message::{Header, OwnedHeaders},
    otel::{Incoming, Instrumentation, MessageExt, ReceivedMessage, parse_traceparent, raw},
    producer::{FutureProducer, FutureRecord},
};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use support::eventually;

use crate::harness::{Test, headers, traceparent};

const OF_HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OF_PAYLOAD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn read(headers: &dyn Extractor, payload: &[u8]) -> Option<SpanContext> {
    parse_traceparent(headers.get("ce_traceparent").or(str::from_utf8(payload).ok())?)
}

fn instrumentation(test: &Test) -> Instrumentation {
    test.sdk.all_signals_builder().with_context_reader(read).build()
}

/// Three messages by the raw client: one with the context in a header, one with it in the payload and without headers, and one
/// that has neither payload nor context.
fn test_with_messages() -> Test {
    let test = Test::new();
    let producer: BaseProducer = test.config().create().unwrap();
    let record = || BaseRecord::<(), str>::to(&test.topic);
    let header = OwnedHeaders::new().insert(Header { key: "ce_traceparent", value: Some(OF_HEADER) });
    for record in [record().payload("four apples").headers(header), record().payload(OF_PAYLOAD), record()] {
        producer.send(record).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
    test
}

/// All three have been received and let go of.
fn assert_read(test: &Test, more: &str) {
    let process = |relation: &str, offset: usize, tombstone: &str| {
        format!(
            r#"process orders
  kind CONSUMER
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
{relation}
  status unset
  messaging.client.id = "shop"
  messaging.consumer.group.name = "payment"
  messaging.destination.name = "orders"
  messaging.destination.partition.id = "0"
{more}{tombstone}  messaging.kafka.offset = {offset}
  messaging.operation.name = "process"
  messaging.operation.type = "process"
  messaging.system = "kafka"
"#
        )
    };
    let of = |span: &str| format!("  parent {span}\n  link {span}");
    let expected = process(&of("00f067aa0ba902b7"), 0, "")
        + &process(&of("b7ad6b7169203331"), 1, "")
        + &process("  root", 2, "  messaging.kafka.message.tombstone = true\n");
    assert_eq!(test.described(3), expected);
    let everything = test.sdk.everything() + &test.sdk.events();
    assert!(!everything.contains("four apples") && !everything.contains(OF_PAYLOAD), "a payload is told to nobody");
}

const OF_CLUSTER: &str = "  messaging.kafka.cluster.id = \"harbour\"\n";

fn partition(test: &Test) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&test.topic, 0, Offset::Beginning).unwrap();
    list
}

fn base_consumer(test: &Test) -> BaseConsumer {
    let consumer: BaseConsumer = test.consumer_config().create().unwrap();
    consumer.assign(&partition(test)).unwrap();
    consumer.with_instrumentation(instrumentation(test))
}

fn stream_consumer(test: &Test) -> StreamConsumer {
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    consumer.assign(&partition(test)).unwrap();
    consumer.with_instrumentation(instrumentation(test))
}

#[test]
fn poll_reads_it() {
    let test = test_with_messages();
    let consumer = base_consumer(&test);
    for _ in 0..3 {
        eventually("a message", || consumer.poll(Duration::from_millis(100)).is_some_and(|message| message.is_ok()));
    }
    assert_read(&test, OF_CLUSTER);
}

#[test]
fn iter_reads_it() {
    let test = test_with_messages();
    base_consumer(&test).iter().take(3).for_each(|message| drop(message.unwrap()));
    assert_read(&test, OF_CLUSTER);
}

#[test]
fn a_partition_queue_reads_it() {
    let test = test_with_messages();
    let consumer = Arc::new(base_consumer(&test));
    let queue = consumer.split_partition_queue(&test.topic, 0).unwrap();
    for _ in 0..3 {
        eventually("a message", || {
            assert!(consumer.poll(Duration::ZERO).is_none());
            queue.poll(Duration::from_millis(100)).is_some_and(|message| message.is_ok())
        });
    }
    assert_read(&test, OF_CLUSTER);
}

#[tokio::test]
async fn recv_reads_it() {
    let test = test_with_messages();
    let consumer = stream_consumer(&test);
    for _ in 0..3 {
        drop(consumer.recv().await.unwrap());
    }
    assert_read(&test, OF_CLUSTER);
}

#[tokio::test]
async fn stream_reads_it() {
    let test = test_with_messages();
    stream_consumer(&test).stream().take(3).try_for_each(async |_| Ok(())).await.unwrap();
    assert_read(&test, OF_CLUSTER);
}

#[tokio::test]
async fn a_stream_partition_queue_reads_it() {
    let test = test_with_messages();
    let consumer = Arc::new(stream_consumer(&test));
    let queue = consumer.split_partition_queue(&test.topic, 0).unwrap();
    let events = tokio::spawn({
        let consumer = consumer.clone();
        async move { panic!("{:?} on the main queue", consumer.recv().await) }
    });
    queue.stream().take(3).try_for_each(async |_| Ok(())).await.unwrap();
    events.abort();
    assert_read(&test, OF_CLUSTER);
}

#[tokio::test]
async fn incoming_reads_it() {
    let test = test_with_messages();
    let theirs: raw::consumer::StreamConsumer = test.consumer_config().create().unwrap();
    raw::consumer::Consumer::assign(&theirs, &partition(&test)).unwrap();
    let incoming = Incoming::of(&theirs).with_instrumentation(instrumentation(&test));
    drop(incoming.message(theirs.recv().await.unwrap()));
    drop(incoming.owned_message(theirs.recv().await.unwrap().detach()));
    let rest = incoming.stream(theirs.stream());
    drop(Box::pin(rest).next().await.unwrap().unwrap());
    assert_read(&test, "");
}

#[tokio::test]
async fn a_forward_keeps_the_header_and_is_a_new_message() {
    let test = test_with_messages();
    let target = Test::with_sdk(test.sdk.clone());
    let producer: FutureProducer = target.config().create().unwrap();
    let producer = producer.with_instrumentation(instrumentation(&target));
    let consumer = stream_consumer(&test);
    let message = consumer.recv().await.unwrap();
    let forward = async {
        let headers = message.headers().map(otel_rdkafka::message::BorrowedHeaders::detach);
        let record: FutureRecord<'_, (), [u8]> =
            FutureRecord { headers, ..FutureRecord::to(&target.topic).payload(message.payload().unwrap()) };
        producer.send(record, Duration::from_secs(5)).await.map_err(|(error, _)| error)
    };
    message.process(|| forward).await.unwrap();
    drop(message);
    let sent = target.span("send orders");
    assert_eq!(sent.parent_span_id, test.span("process orders").span_context.span_id());
    assert!(sent.links.is_empty(), "what was read is no context that it carries when it is sent");
    let expected = [("ce_traceparent", OF_HEADER), ("traceparent", &traceparent(&sent))];
    let arrived = &target.on_the_wire(1)[0];
    assert_eq!(headers(arrived), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let next = stream_consumer(&target);
    let received = next.recv().await.unwrap();
    let creation = received.process_span().unwrap().creation().unwrap();
    assert_eq!(creation.span_id(), sent.span_context.span_id());
}
