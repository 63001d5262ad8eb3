//! Beside `tracing`, which async-nats itself uses. In a process of its own, as the subscriber is everybody's: the client's tasks
//! know no other.

#[path = "suite/harness.rs"]
#[allow(dead_code, reason = "it serves other tests too")]
mod harness;
#[path = "suite/sources.rs"]
#[allow(dead_code, reason = "it serves other tests too")]
mod sources;

use harness::*;
use opentelemetry::{
    Context, SpanId,
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_sdk::trace::SpanData;
use otel_async_nats::otel::{InstrumentationBuilder, MessageExt, OperationType};
use support::{Sdk, describe};
use tokio::task::yield_now;
use tracing::{Instrument, info_span};
use tracing_subscriber::layer::SubscriberExt;

use crate::sources::{ALL, Opened, take};

type Configure = fn(InstrumentationBuilder) -> InstrumentationBuilder;

/// Whether a message has a span of its own, and how that is said.
const WAYS: [(bool, Configure); 3] = [
    (true, |builder| builder),
    (false, |builder| builder.with_filter(|operation| operation.kind() == OperationType::Send)),
    (false, |builder| builder.with_spans(false)),
];

fn named<'a>(spans: &'a [SpanData], name: &str) -> Vec<&'a SpanData> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn current() -> SpanId {
    Context::current().span().span_context().span_id()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_closed_while_its_message_is_kept_is_its_parent() {
    let sdk = Sdk::new();
    let layer = tracing_opentelemetry::layer().with_tracer(sdk.provider().tracer("app"));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
    let onward = connect(&sdk).await;
    for (has_span, way) in WAYS {
        let instrumentation = way(sdk.instrumentation_builder()).build();
        let client = connect_with(instrumentation.clone()).await;
        for source in ALL {
            sdk.forget();
            let to = unique("onward");
            let opened = async {
                let Opened { mut messages, subject, .. } = source.open(&client, 2, &instrumentation).await;
                let first = take(&mut messages).await;
                (messages, subject, first)
            };
            let (mut messages, subject, kept) = opened.instrument(info_span!("caller")).await;
            assert_eq!(named(&sdk.spans(), "caller").len(), 1, "{source:?}: it has closed");
            let message = take(&mut messages).instrument(info_span!("second caller")).await;
            let of_message = message.process(|| async {
                yield_now().await;
                onward.publish(to.clone(), "1".into()).await.unwrap();
                info_span!("pack").in_scope(|| ());
                Some(current())
            });
            let of_message = of_message.await.unwrap();
            message.settle().await;
            let given_away = message.otel_context();
            let inside_later = kept.in_scope(|| info_span!("later").in_scope(|| Some(current()))).unwrap();
            drop((kept, message, given_away, messages));

            let spans = sdk.spans();
            let parents = |name: &str| named(&spans, name).iter().map(|span| span.parent_span_id).collect::<Vec<_>>();
            let ids =
                |name: &str| named(&spans, name).iter().map(|span| span.span_context.span_id()).collect::<Vec<_>>();
            let case = format!("{source:?}, {has_span}: {}", describe(&spans));
            assert_eq!(ids("later"), [inside_later], "{case}");
            let (handlers, around) =
                ([parents("later"), vec![of_message]].concat(), [ids("caller"), ids("second caller")].concat());
            if has_span {
                let mut process = named(&spans, &format!("process {subject}"));
                process.sort_by_key(|span| handlers.iter().position(|id| *id == span.span_context.span_id()));
                let (own, of): (Vec<_>, Vec<_>) =
                    process.iter().map(|span| (span.span_context.span_id(), span.parent_span_id)).unzip();
                assert_eq!((own, of), (handlers, around), "{case}");
            } else {
                assert_eq!(handlers, around, "{case}");
            }
            for name in ["pack".to_owned(), format!("publish {to}")] {
                assert_eq!(parents(&name), [of_message], "{case}");
            }
            let settled = [parents(&format!("ack {subject}")), parents("respond")].concat();
            assert!(!has_span || settled.len() == usize::from(source.settles()), "{case}");
            assert!(settled.iter().all(|parent| *parent == of_message), "{case}");
        }
    }
}
