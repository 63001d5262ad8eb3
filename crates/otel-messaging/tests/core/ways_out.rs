//! One send without a span or without a context, and handlers that are called inside their span.

use std::cell::Cell;

use otel_messaging::{without_context, without_span};

use crate::queue::*;

#[test]
fn a_send_without_a_context_has_its_span_and_writes_no_header() {
    let (sdk, mut queue) = observed();
    without_context(|| queue.push("1")).unwrap();
    assert_eq!(without_context(|| queue.create()), HeaderMap::default());
    assert_eq!(queue.messages[0].0, HeaderMap::default());
    sdk.assert([push().kind(SpanKind::Client), create()]);
    queue.push("2").unwrap();
    assert!(queue.messages[1].0.0.contains_key("traceparent"), "the next send is as usual");
}

#[test]
fn a_send_without_a_span_carries_the_current_span_and_is_measured() {
    let (sdk, mut queue) = observed();
    let current = sdk.app_span("current");
    let attached = current.clone().attach();
    without_span(|| queue.push("1")).unwrap();
    drop(attached);
    let carried = queue.messages[0].0.context().unwrap();
    assert_eq!(carried.span_id(), current.span().span_context().span_id());
    assert_eq!(sdk.spans().len(), 0, "the current span is open");
    assert!(sdk.measured().contains("messaging.client.sent.messages"));
    current.span().end();
}

#[test]
fn a_handler_is_called_inside_its_span_at_the_first_poll_and_not_before() {
    let (_sdk, mut queue) = observed();
    queue.fill(3);
    let messages = queue.pull();
    let called = Cell::new(0);
    let handler = || {
        called.set(called.get() + 1);
        let has_span = Context::current().has_active_span();
        async move { assert!(has_span) }
    };
    drop(messages[0].process(handler));
    assert_eq!(called.get(), 0, "a future that is not polled calls nothing");
    block_on(messages[0].process(handler));
    block_on(process_batch(&messages[1..], handler));
    assert_eq!(called.get(), 2);
}

#[test]
fn a_handler_that_panics_before_its_future_is_there_fails_the_span() {
    let (sdk, mut queue) = observed();
    let message = queue.push_and_pop("1");
    let panics = || -> std::future::Ready<()> { panic!("a handler's bug") };
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| block_on(message.process(panics))));
    assert!(caught.is_err());
    sdk.assert([push(), process("1").child_of(0).link(0).error("panic", "panicked")]);
}
