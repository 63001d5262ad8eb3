//! The application's own span, active when a message is received: it ends when the application lets go of it, and a message
//! that is kept names it.

use futures::FutureExt;
use opentelemetry::trace::{FutureExt as _, mark_span_as_active};

use crate::queue::*;

fn queue(sdk: &Sdk, configure: impl FnOnce(InstrumentationBuilder) -> InstrumentationBuilder) -> Queue {
    let mut queue = Queue::new(configure(sdk.instrumentation_builder()).build());
    queue.messages.extend(["1", "2"].map(|id| (sent().with("baggage", "tenant=blue"), id.to_owned())));
    queue
}

/// Takes a message inside a span whose only handle is dropped at once.
fn fetch(sdk: &Sdk, queue: &mut Queue) -> Message {
    sdk.tracer().in_span("fetch", |_| queue.pop().unwrap())
}

fn ended(sdk: &Sdk, name: &str) -> usize {
    sdk.named(name).len()
}

fn current() -> SpanId {
    Context::current().span().span_context().span_id()
}

/// With a span for each message, or without.
const WAYS: [fn(InstrumentationBuilder) -> InstrumentationBuilder; 3] =
    [|builder| builder, off, |builder| builder.with_spans(false)];

fn off(builder: InstrumentationBuilder) -> InstrumentationBuilder {
    builder.with_filter(|operation| operation.name() == "push")
}

#[test]
fn it_ends_when_its_owner_lets_go_of_it_and_not_with_the_message() {
    for correlation in [Correlation::ParentIfNoAmbient, Correlation::Link, Correlation::Parent] {
        let sdk = Sdk::new();
        let mut queue = queue(&sdk, |builder| builder.with_correlation(correlation));
        let unprocessed = fetch(&sdk, &mut queue);
        assert_eq!(ended(&sdk, "fetch"), 1, "{correlation:?}: nobody has looked at the message");
        let processed = fetch(&sdk, &mut queue);
        block_on(processed.process(|| async { yield_now().await }));
        processed.ack();
        assert_eq!(ended(&sdk, "fetch"), 2, "{correlation:?}: it was processed");
        let kept = processed.otel_context();
        assert_eq!(ended(&sdk, "fetch"), 2);
        drop((unprocessed, processed, kept));
    }
}

#[test]
fn it_is_the_parent_all_the_same_and_what_its_context_had_stays() {
    let (sdk, mut queue) = traced();
    queue.messages.push_back((HeaderMap::default(), "1".to_owned()));
    let outer = Context::new().with_baggage([KeyValue::new("tenant", "green")]);
    let attached = outer.attach();
    let message = fetch(&sdk, &mut queue);
    drop(attached);
    message.in_scope(|| assert_eq!(Context::current().baggage().get("tenant").unwrap().as_str(), "green"));
    sdk.assert([app("fetch"), process("1").child_of("fetch")]);
}

#[test]
fn a_message_without_a_span_of_its_own_does_not_hold_it() {
    for way in &WAYS[1..] {
        let sdk = Sdk::new();
        let mut queue = queue(&sdk, way);
        let messages = [fetch(&sdk, &mut queue), fetch(&sdk, &mut queue)];
        assert_eq!(ended(&sdk, "fetch"), 2);
        let fetched = sdk.spans().iter().map(|span| span.span_context.span_id()).collect::<Vec<_>>();
        // Its name is what the handler works in.
        let inside = [0, 1].map(|at| messages[at].in_scope(|| Some(current())).unwrap());
        assert_eq!(inside[..], fetched[..]);
        let kept = messages[0].otel_context();
        block_on(process_batch(&messages, || async { yield_now().await }));
        assert_eq!(ended(&sdk, "fetch"), 2);
        drop(kept);
    }
}

#[test]
fn a_handler_without_a_span_works_in_the_live_span() {
    let sdk = Sdk::new();
    let mut queue = queue(&sdk, off);
    sdk.tracer().in_span("request", |_| {
        let message = queue.pop().unwrap();
        message.in_scope(|| {
            let current = Context::current();
            current.span().set_attribute(KeyValue::new("team", "inside"));
            assert_eq!(current.baggage().get("tenant").unwrap().as_str(), "blue", "the message's baggage is there");
        });
        // Elsewhere the message only names it.
        let elsewhere = std::thread::spawn(move || {
            message.in_scope(|| Context::current().span().set_attribute(KeyValue::new("team", "elsewhere")));
        });
        elsewhere.join().unwrap();
    });
    sdk.assert([app("request").attribute("team", "inside")]);
}

#[test]
fn a_handler_without_any_span_has_what_was_in_the_context_at_the_delivery() {
    let (_sdk, mut queue) = configured(|builder| builder.with_spans(false));
    queue.messages.push_back((HeaderMap::default(), "1".to_owned()));
    let outer = Context::new().with_value("request 17").attach();
    let message = queue.pop().unwrap();
    drop(outer);
    message.in_scope(|| assert_eq!(Context::current().get::<&str>(), Some(&"request 17")));
}

#[test]
fn a_batch_does_not_hold_the_span_that_it_was_claimed_in() {
    for way in WAYS {
        let sdk = Sdk::new();
        let mut queue = queue(&sdk, way);
        let messages = [queue.pop().unwrap(), queue.pop().unwrap()];
        let tracer = sdk.tracer();
        let batch = tracer.in_span("claim", |_| process_batch(&messages, || async {}));
        assert_eq!(ended(&sdk, "claim"), 1);
        block_on(batch);
        drop(messages);
        assert_eq!(ended(&sdk, "claim"), 1);
    }
}

#[test]
fn a_loop_with_a_message_in_hand_does_not_hold_it() {
    for way in WAYS {
        let sdk = Sdk::new();
        let mut taken = queue(&sdk, way);
        sequential_blocking(|| {
            let _in_hand = fetch(&sdk, &mut taken);
            assert_eq!(ended(&sdk, "fetch"), 1, "in the closure form");
        });
        let tracer = sdk.tracer();
        block_on(sequential(async {
            let fetching = Context::current_with_span(tracer.start("fetch"));
            let _in_hand = async { taken.pop().unwrap() }.with_context(fetching).await;
            yield_now().await;
            assert_eq!(ended(&sdk, "fetch"), 2, "in the future");
        }));
    }
}

#[test]
fn a_loop_inside_a_span_keeps_that_very_span_current_for_messages_without_one() {
    let sdk = Sdk::new();
    let mut queue = queue(&sdk, off);
    let active = mark_span_as_active(sdk.tracer().start("loop"));
    sequential_blocking(|| {
        let _in_hand = queue.pop();
        Context::current().span().set_attribute(KeyValue::new("team", "in hand"));
        assert_eq!(Context::current().baggage().get("tenant").unwrap().as_str(), "blue");
    });
    drop(active);
    sdk.assert([app("loop").attribute("team", "in hand")]);
}

#[test]
fn only_an_operation_that_was_not_polled_may_hold_it() {
    let (sdk, queue) = traced();
    let wait = sdk.tracer().in_span("start", |_| {
        let start = queue.start();
        async move {
            let start = start.release_parent();
            yield_now().await;
            drop(start);
        }
    });
    assert_eq!(ended(&sdk, "start"), 0, "it was never polled");
    let mut wait = Box::pin(wait);
    assert!(block_on(async { (&mut wait).now_or_never().is_none() }));
    assert_eq!(ended(&sdk, "start"), 1);
}
