//! Beside `tracing`, which lapin itself uses. In a process of its own: its I/O threads know only the global subscriber.

#[path = "suite/harness.rs"]
#[allow(dead_code, reason = "it serves other tests too")]
mod harness;
#[path = "suite/sources.rs"]
#[allow(dead_code, reason = "it serves other tests too")]
mod sources;

use every_broker::tracing::installed;
use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use opentelemetry::{Context, SpanId};
use opentelemetry_sdk::trace::SpanData;
use otel_lapin::{Channel, Consumer, message::DeliveryResult};
use support::{Sdk, describe, eventually};
use tracing::info_span;

use crate::harness::Rabbit;

const ORDERS: usize = 3;

async fn publish(channel: &Channel, queue: &str) {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    channel.basic_publish("".into(), queue.into(), options, b"1", properties).await.unwrap().await.unwrap();
}

/// A consumer whose messages lapin has already.
async fn prefetched(channel: &Channel, queue: &str) -> Consumer {
    for _ in 0..ORDERS {
        publish(channel, queue).await;
    }
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel.basic_consume(queue.into(), "".into(), options, arguments).await.unwrap();
    // The queue answers after it has delivered.
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap();
    consumer
}

fn set_delegate(consumer: &Consumer) {
    consumer.set_delegate(|order: DeliveryResult| async move {
        info_span!("pack").in_scope(|| ());
        order.unwrap().unwrap().ack(BasicAckOptions::default()).await.unwrap();
    });
}

/// Each message of the queue is its sender's child, and around the work that its handler did.
fn assert_senders_children(sdk: &Sdk, queue: &str) {
    let done = |spans: &[SpanData]| spans.iter().filter(|span| span.name == format!("process {queue}")).count();
    eventually("all are handled", || done(&sdk.spans()) == ORDERS);
    let spans = &sdk.spans()[..];
    let named = |name: String| spans.iter().filter(move |span| span.name == name);
    let parents = |name: String| named(name).map(|span| span.parent_span_id).collect::<Vec<_>>();
    let ids = |name: String| named(name).map(|span| span.span_context.span_id()).collect::<Vec<_>>();
    let (senders, process) = (format!("publish {queue}"), format!("process {queue}"));
    assert_eq!(parents(senders.clone()), [SpanId::INVALID; ORDERS]);
    assert_eq!(parents(process.clone()), ids(senders), "{}", describe(spans));
    for id in ids(process) {
        let mut children: Vec<_> =
            spans.iter().filter(|span| span.parent_span_id == id).map(|span| span.name.as_ref()).collect();
        children.sort_unstable();
        assert_eq!(children, [&format!("ack {queue}"), "pack"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegate_is_called_inside_no_span_but_its_messages() {
    let sdk = installed();
    let rabbit = Rabbit::with(sdk.clone(), sdk.instrumentation()).await;
    let channel = rabbit.channel.clone();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let [late, in_span, suppressed] =
        [rabbit.queue("late").await, rabbit.queue("in-span").await, rabbit.queue("suppressed").await];

    // lapin's I/O thread calls it, inside a span of lapin's that never ends.
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel.basic_consume(late.as_str().into(), "".into(), options, arguments).await.unwrap();
    set_delegate(&consumer);
    for _ in 0..ORDERS {
        publish(&channel, &late).await;
    }
    assert_senders_children(&sdk, &late);
    // Who sets the delegate calls it, with what lapin has already.
    let consumer = prefetched(&channel, &in_span).await;
    info_span!("startup").in_scope(|| set_delegate(&consumer));
    assert_senders_children(&sdk, &in_span);
    let consumer = prefetched(&channel, &suppressed).await;
    {
        let _suppressed = otel_messaging::suppress_messaging(&Context::current()).attach();
        set_delegate(&consumer);
    }
    assert_senders_children(&sdk, &suppressed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_closed_while_its_message_is_kept_is_its_parent() {
    every_broker::tracing::a_span_closed_while_its_message_is_kept_is_its_parent::<Rabbit>().await;
}
