//! A span of the application that is active while a message is received ends when the application drops it, however long the
//! message is kept.

use std::{future::Future, pin::pin};

use futures::{StreamExt, poll};
use opentelemetry::{
    Context, SpanId,
    trace::{FutureExt, TraceContextExt, Tracer},
};
use otel_messaging::{MessageExt, process_batch, sequential};
use support::Sdk;

use crate::{Broker, PLAIN, Raw, Received, WAYS, current, ids, named, processed, take, turn};

/// Works inside a span whose last handle is dropped then.
async fn call<T>(sdk: &Sdk, work: impl Future<Output = T>) -> T {
    work.with_context(calling(sdk)).await
}

fn calling(sdk: &Sdk) -> Context {
    Context::current_with_span(sdk.tracer().start("caller"))
}

/// The application's spans that have ended.
fn callers(sdk: &Sdk) -> Vec<SpanId> {
    ids(&named(sdk, "caller"))
}

/// An opened source.
struct Case<'a, B: Broker> {
    sdk: &'a Sdk,
    broker: &'a B,
    source: B::Source,
    /// Whether a message has a span of its own.
    has_span: bool,
    destination: String,
}

/// Each way to receive, with and without a process span.
async fn each<B: Broker>(check: impl AsyncFn(Case<'_, B>)) {
    for (has_span, way) in WAYS {
        let sdk = Sdk::new();
        let broker = B::connect(&way(sdk.all_signals_builder()).build()).await;
        for &source in B::SOURCES {
            let destination = broker.destination().await;
            check(Case { sdk: &sdk, broker: &broker, source, has_span, destination }).await;
            sdk.forget();
        }
    }
}

const MESSAGES: [Raw<'static>; 3] = [PLAIN; 3];

pub async fn it_ends_when_its_owner_drops_it_and_not_with_a_message<B: Broker>() {
    each(async |Case::<B> { sdk, broker, source, has_span, destination }| {
        let first_call = calling(sdk);
        let receiver = broker.open(source, &destination, &MESSAGES[..2]).with_context(first_call.clone()).await;
        let (mut messages, unprocessed) = async {
            let mut messages = B::messages(&receiver);
            let first = take::<B>(&mut messages).await;
            (messages, first)
        }
        .with_context(first_call)
        .await;
        assert_eq!(callers(sdk).len(), 1, "{source:?}: the message is not processed");
        let processed_message = call(sdk, take::<B>(&mut messages)).await;
        let [_, around] = callers(sdk)[..] else { panic!("{source:?}: {}", sdk.described()) };
        let inside = async {
            turn().await;
            Some(current())
        };
        let inside = processed_message.process(|| inside).await.unwrap();
        processed_message.settle().await;
        let given_away = processed_message.otel_context();
        assert_eq!(callers(sdk).len(), 2, "{source:?}: the message is processed, settled and kept");

        // The client calls a delegate outside of all spans.
        let around = if B::is_asked(source) { around } else { SpanId::INVALID };
        match (has_span, &processed(sdk, &destination)[..]) {
            (true, [process]) => {
                assert_eq!((process.span_context.span_id(), process.parent_span_id), (inside, around), "{source:?}");
            }
            (false, []) => assert_eq!(inside, around, "{source:?}"),
            _ => panic!("{source:?}, {has_span}: {}", sdk.described()),
        }
        drop((messages, unprocessed, processed_message, given_away));
        assert_eq!(callers(sdk).len(), 2);
    })
    .await;
}

pub async fn neither_a_claimed_batch_nor_a_message_in_hand_holds_it<B: Broker>() {
    each(async |Case::<B> { sdk, broker, source, destination, .. }| {
        if !B::is_asked(source) {
            return;
        }
        let receiver = broker.open(source, &destination, &MESSAGES).await;
        let mut messages = B::messages(&receiver);
        let both = [take::<B>(&mut messages).await, take::<B>(&mut messages).await];
        let batch = sdk.tracer().in_span("caller", |_| process_batch(&both, turn));
        assert_eq!(callers(sdk).len(), 1, "{source:?}: the batch is claimed");
        batch.await;
        sequential(async {
            let _in_hand = call(sdk, take::<B>(&mut messages)).await;
            turn().await;
            assert_eq!(callers(sdk).len(), 2, "{source:?}: a message is in hand");
        })
        .await;
    })
    .await;
}

pub async fn a_stream_that_waits_does_not_hold_it<B: Broker>() {
    each(async |Case::<B> { sdk, broker, source, destination, .. }| {
        if !B::waits(source) || B::blocks(source) {
            return;
        }
        let receiver = broker.open(source, &destination, &MESSAGES[..1]).await;
        let mut messages = B::messages(&receiver);
        let _kept = take::<B>(&mut messages).await;
        sdk.forget();
        let mut next = pin!(messages.next());
        assert!(call(sdk, async { poll!(next.as_mut()).is_pending() }).await, "{source:?}");
        assert_eq!(callers(sdk).len(), 1, "{source:?}");
    })
    .await;
}
