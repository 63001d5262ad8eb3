//! Beside `tracing` and tracing-opentelemetry, whose spans close while a message that was received inside them is kept. In a
//! process of its own: the subscriber is the process's.

#[path = "suite/harness.rs"]
#[allow(dead_code, reason = "it serves other tests too")]
mod harness;
#[path = "suite/sources.rs"]
#[allow(dead_code, reason = "it serves other tests too")]
mod sources;

use std::{thread, time::Duration};

use every_broker::tracing::installed;
use otel_rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::OwnedMessage,
    otel::{MessageExt, sequential_blocking},
};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use support::DEADLINE;
use tracing::info_span;

use crate::harness::Test;

#[tokio::test(flavor = "multi_thread")]
async fn a_span_closed_while_its_message_is_kept_is_its_parent() {
    every_broker::tracing::a_span_closed_while_its_message_is_kept_is_its_parent::<sources::Kafka>().await;
}

/// In hand in a loop that blocks, and on a thread that has no span.
#[test]
fn a_message_is_the_parent_of_its_work_on_any_thread() {
    let test = Test::with_sdk(installed());
    let raw: BaseProducer = test.config().create().unwrap();
    raw.send(BaseRecord::<(), str>::to(&test.topic).payload("1")).unwrap();
    raw.flush(Duration::from_secs(10)).unwrap();
    let consumer: BaseConsumer = test.consumer_config().create().unwrap();
    let mut partition = TopicPartitionList::new();
    partition.add_partition_offset(&test.topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&partition).unwrap();
    let consumer = consumer.with_instrumentation(test.sdk.instrumentation());
    let own = |name: &str| format!("{name} {}", test.topic);
    sequential_blocking(|| {
        let fetch = info_span!("fetch", otel.name = own("fetch"));
        let message = fetch.in_scope(|| consumer.poll(DEADLINE).unwrap().unwrap());
        drop(fetch);
        message.in_scope(|| info_span!("pack", otel.name = own("pack")).in_scope(|| ()));
        let detached: OwnedMessage = message.detach();
        drop(message);
        let note = || info_span!("note", otel.name = own("note")).in_scope(|| ());
        thread::scope(|scope| _ = scope.spawn(|| detached.in_scope(note)));
    });
    let [fetch, process, pack, note] =
        ["fetch", "process", "pack", "note"].map(|name| test.span(&format!("{name} orders")));
    assert_eq!(process.parent_span_id, fetch.span_context.span_id());
    assert_eq!([pack.parent_span_id, note.parent_span_id], [process.span_context.span_id(); 2]);
}
