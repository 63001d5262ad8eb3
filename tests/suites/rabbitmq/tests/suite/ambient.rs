//! A span of the application's that is active while a message is received: it ends when the application lets go of it,
//! however long the message is kept.

use std::future::Future;

use futures::poll;
use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, BasicRejectOptions},
};
use opentelemetry::{
    Context, SpanId,
    trace::{FutureExt, TraceContextExt, Tracer},
};
use support::Sdk;

use crate::{
    harness::{Rabbit, named, unique},
    sources::{Source, filled, take},
};

/// Works inside a span whose last handle is dropped then.
async fn call<T>(sdk: &Sdk, work: impl Future<Output = T>) -> T {
    let calling = Context::current_with_span(sdk.tracer().start("caller"));
    work.with_context(calling).await
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

#[tokio::test(flavor = "multi_thread")]
async fn only_a_future_that_was_not_polled_holds_it_until_dropped() {
    let rabbit = Rabbit::confirming().await;
    let (sdk, channel) = (&rabbit.sdk, &rabbit.channel);
    let (empty, nowhere) = (rabbit.queue("empty").await, unique("nowhere"));
    let queue = filled(&rabbit, 4).await;
    let mut messages = Source::Consumer.open(&rabbit, &queue).await.messages;
    let [first, second, third, last] =
        [take(&mut messages).await, take(&mut messages).await, take(&mut messages).await, take(&mut messages).await];
    // More than a socket takes at once.
    let payload = vec![7; 8 << 20];
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    lets_go(sdk, "ack", || first.ack(BasicAckOptions::default())).await;
    lets_go(sdk, "nack", || second.nack(BasicNackOptions::default())).await;
    lets_go(sdk, "reject", || third.reject(BasicRejectOptions::default())).await;
    lets_go(sdk, "ack by tag", || channel.basic_ack(last.delivery_tag, BasicAckOptions::default())).await;
    // lapin or the broker may be done before the first poll is.
    let (mut get_waits, mut publish_waits) = (false, false);
    for _ in 0..10 {
        get_waits |= lets_go(sdk, "get", || channel.basic_get(empty.as_str().into(), BasicGetOptions::default())).await;
        let to = || nowhere.as_str().into();
        let publish = || channel.basic_publish("".into(), to(), options, &payload, properties.clone());
        publish_waits |= lets_go(sdk, "publish", publish).await;
    }
    assert!(get_waits && publish_waits);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirm_does_not_hold_it_kept_or_parked() {
    const PUBLISHES: usize = 20;

    let rabbit = Rabbit::confirming().await;
    let queue = rabbit.queue("orders").await;
    let publish = format!("publish {queue}");
    let (mut kept, mut waiting) = (Vec::new(), 0);
    for number in 1..=PUBLISHES {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let published = call(&rabbit.sdk, async {
            rabbit.channel.basic_publish("".into(), queue.as_str().into(), options, b"1", properties).await
        });
        let confirm = published.await.unwrap();
        match number % 2 {
            0 => kept.push(confirm),
            _ => drop(confirm),
        }
        let spans = rabbit.sdk.spans();
        assert_eq!(named(&spans, "caller").len(), number);
        waiting += number - named(&spans, &publish).len();
    }
    assert!(waiting > 0, "the broker was faster each time");
    for confirm in kept {
        confirm.await.unwrap();
    }
    rabbit.wait_for_confirms(2 * PUBLISHES).await;
}
