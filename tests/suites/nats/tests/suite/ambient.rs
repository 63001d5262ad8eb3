//! A span of the application's that is active while a message is received: it ends when the application lets go of it,
//! however long the message is kept.

use std::future::Future;

use futures::{FutureExt as _, poll};
use opentelemetry::{
    Context, SpanId,
    trace::{FutureExt, TraceContextExt, Tracer},
};
use opentelemetry_sdk::trace::SpanData;
use otel_async_nats::{
    ConnectOptions,
    jetstream::{self, AckKind},
};
use support::Sdk;

use crate::{
    connect, durable, next, server,
    sources::{Opened, Source, Taken, take},
    stream_of, unique,
};

/// Works inside a span whose last handle is dropped then.
async fn call<T>(sdk: &Sdk, work: impl Future<Output = T>) -> T {
    let calling = Context::current_with_span(sdk.tracer().start("caller"));
    work.with_context(calling).await
}

fn named<'a>(spans: &'a [SpanData], name: &str) -> Vec<&'a SpanData> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// The spans of the application's that have ended.
fn callers(sdk: &Sdk) -> Vec<SpanId> {
    named(&sdk.spans(), "caller").iter().map(|span| span.span_context.span_id()).collect()
}

/// Calls something inside a span, twice; says whether it waits after its first poll.
async fn lets_go<F: Future>(sdk: &Sdk, what: &str, operation: impl Fn() -> F) -> bool {
    let inside = || sdk.tracer().in_span("caller", |_| Box::pin(operation()));
    drop(inside());
    assert_eq!(callers(sdk).len(), 1, "{what}: it was never polled, and is gone");
    let mut polled = inside();
    let waits = poll!(&mut polled).is_pending();
    assert_eq!(callers(sdk).len(), 2, "{what}: it was polled, and is kept");
    drop(polled);
    sdk.forget();
    waits
}

#[tokio::test]
async fn only_a_future_that_was_not_polled_holds_it_until_dropped() {
    let sdk = Sdk::new();
    let options = ConnectOptions::new().client_capacity(1).with_instrumentation(sdk.instrumentation());
    let client = options.connect(&server().url).await.unwrap();
    let context = jetstream::new(client.clone());
    let (stream, name) = stream_of(&context).await;
    let consumer = durable(&stream, "packing").await;
    let silent = unique("silent");
    let _silent = client.get_ref().subscribe(silent.clone()).await.unwrap();
    client.flush().await.unwrap();
    let payload = || "1".into();
    assert!(lets_go(&sdk, "request", || client.request(silent.clone(), payload())).await);
    let fetch = || async { next(&mut consumer.batch().messages().await.unwrap()).await };
    assert!(lets_go(&sdk, "batch", fetch).await);
    let instrumentation = sdk.instrumentation();
    let Opened { mut messages, .. } = Source::Endpoint.open(&client, 1, &instrumentation).await;
    let Taken::Request(request) = take(&mut messages).await else { panic!("no request") };
    let Opened { mut messages, .. } = Source::Pull.open(&client, 1, &instrumentation).await;
    let Taken::Stored(message) = take(&mut messages).await else { panic!("no stored message") };
    sdk.forget();
    assert!(lets_go(&sdk, "double_ack", || message.double_ack()).await);

    // The connection's task does not run while nothing here waits, so there is no room for what follows.
    let full = async || {
        while client.get_ref().publish(unique("elsewhere"), payload()).now_or_never().is_some() {}
    };
    full().await;
    assert!(lets_go(&sdk, "publish", || client.publish(silent.clone(), payload())).await);
    assert!(
        lets_go(&sdk, "publish_with_reply", || client.publish_with_reply(silent.clone(), "unanswered", payload()))
            .await
    );
    assert!(lets_go(&sdk, "a stored publish", || context.publish(format!("{name}.paid"), payload())).await);
    assert!(lets_go(&sdk, "ack", || message.ack()).await);
    assert!(lets_go(&sdk, "nak", || message.ack_with(AckKind::Nak(None))).await);
    assert!(lets_go(&sdk, "respond", || request.respond(Ok(payload()))).await);
}

#[tokio::test]
async fn an_acknowledgement_does_not_hold_it_before_and_while_it_is_awaited() {
    let sdk = Sdk::new();
    let context = jetstream::new(connect(&sdk).await);
    let (_stream, name) = stream_of(&context).await;
    let published = call(&sdk, async { context.publish(format!("{name}.paid"), "1".into()).await }).await;
    assert_eq!(callers(&sdk).len(), 1, "the application does not await it");
    let mut acknowledged = published.unwrap().into_future();
    let awaited = call(&sdk, async { poll!(&mut acknowledged).is_pending() }).await;
    assert_eq!((callers(&sdk).len(), awaited), (2, true));
    acknowledged.await.unwrap();
    assert_eq!(sdk.spans().len(), 3);
}
