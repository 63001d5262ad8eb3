//! Beside `tracing`, which lapin itself uses. In a process of its own: its I/O threads know only the global subscriber.

#[path = "suite/harness.rs"]
#[allow(dead_code, reason = "it serves other tests too")]
mod harness;
#[path = "suite/sources.rs"]
#[allow(dead_code, reason = "it serves other tests too")]
mod sources;

use std::sync::OnceLock;

use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use opentelemetry::{
    Context, SpanId,
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_sdk::trace::SpanData;
use otel_lapin::{
    Channel, Consumer,
    message::DeliveryResult,
    otel::{InstrumentationBuilder, MessageExt, OperationType},
};
use support::{Sdk, describe, eventually};
use tokio::task::yield_now;
use tracing::{Instrument, info_span};
use tracing_subscriber::layer::SubscriberExt;

use crate::{
    harness::{Rabbit, named},
    sources::{ALL, Source, filled, take},
};

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

/// The SDK of this process's subscriber.
fn installed() -> Sdk {
    static SDK: OnceLock<Sdk> = OnceLock::new();
    let install = || {
        let sdk = Sdk::new();
        let layer = tracing_opentelemetry::layer().with_tracer(sdk.provider().tracer("app"));
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
        sdk
    };
    SDK.get_or_init(install).clone()
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

type Configure = fn(InstrumentationBuilder) -> InstrumentationBuilder;

/// Whether a message has a span of its own, and how that is said.
const WAYS: [(bool, Configure); 3] = [
    (true, |builder| builder),
    (false, |builder| builder.with_filter(|operation| operation.kind() == OperationType::Send)),
    (false, |builder| builder.with_spans(false)),
];

fn current() -> SpanId {
    Context::current().span().span_context().span_id()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_closed_while_its_message_is_kept_is_its_parent() {
    let sdk = installed();
    for (has_span, way) in WAYS {
        let rabbit = Rabbit::with(sdk.clone(), way(sdk.instrumentation_builder()).build()).await;
        let onward = Rabbit::with(sdk.clone(), sdk.instrumentation()).await;
        for source in ALL {
            let (queue, to) = (filled(&rabbit, 2).await, rabbit.queue("onward").await);
            let [fetch, again] = [format!("fetch {queue}"), format!("fetch {queue} again")];
            let (mut messages, kept) = async {
                let mut messages = source.open(&rabbit, &queue).await.messages;
                let first = take(&mut messages).await;
                (messages, first)
            }
            .instrument(info_span!("fetch", otel.name = fetch))
            .await;
            assert_eq!(named(&sdk.spans(), &fetch).len(), 1, "{source:?}: it has closed");
            let message = take(&mut messages).instrument(info_span!("fetch", otel.name = again)).await;
            let of_message = message.process(|| async {
                yield_now().await;
                onward.publish(&to, &message.data, BasicProperties::default()).await;
                info_span!("pack", otel.name = format!("pack {queue}")).in_scope(|| ());
                Some(current())
            });
            let of_message = of_message.await.unwrap();
            assert!(message.ack(BasicAckOptions::default()).await.unwrap());
            let given_away = message.otel_context();
            let later = || info_span!("pack", otel.name = format!("pack {queue} later")).in_scope(|| Some(current()));
            let inside_later = kept.in_scope(later).unwrap();
            drop((kept, message, given_away, messages));

            let spans = sdk.spans();
            let parents =
                |name: String| named(&spans, &name).iter().map(|span| span.parent_span_id).collect::<Vec<_>>();
            let id = |name: &str| named(&spans, name)[0].span_context.span_id();
            // A delegate is called by lapin, inside nobody's span.
            let delegated = source == Source::Delegate;
            let around = [&fetch, &again].map(|name| if delegated { SpanId::INVALID } else { id(name) });
            let case = format!("{source:?}, {has_span}: {}", describe(&spans));
            assert_eq!(inside_later, id(&format!("pack {queue} later")), "{case}");
            let handlers = [parents(format!("pack {queue} later")), vec![of_message]].concat();
            if has_span {
                let mut process = named(&spans, &format!("process {queue}"));
                process.sort_by_key(|span| handlers.iter().position(|id| *id == span.span_context.span_id()));
                assert_eq!(process.iter().map(|span| span.span_context.span_id()).collect::<Vec<_>>(), handlers);
                assert_eq!(process.iter().map(|span| span.parent_span_id).collect::<Vec<_>>(), around, "{case}");
            } else {
                assert_eq!(handlers, around, "{case}");
            }
            for name in [format!("pack {queue}"), format!("publish {to}")] {
                assert_eq!(parents(name), [of_message], "{case}");
            }
            let acks = parents(format!("ack {queue}"));
            assert_eq!(acks, has_span.then_some(of_message).into_iter().collect::<Vec<_>>(), "{case}");
        }
    }
}
