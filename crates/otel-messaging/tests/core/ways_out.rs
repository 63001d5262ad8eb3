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
    let kinds: Vec<_> = sdk.spans().iter().map(|span| (span.name.to_string(), span.span_kind.clone())).collect();
    assert_eq!(kinds[0], ("push orders".to_owned(), opentelemetry::trace::SpanKind::Client));
    assert_eq!(kinds.len(), 2);
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
    let id = current.span().span_context().span_id().to_string();
    assert!(queue.messages[0].0.0["traceparent"].contains(&id), "{:?}", queue.messages[0].0);
    assert_eq!(sdk.spans().len(), 0, "the current span is open");
    assert!(sdk.measured().contains("messaging.client.sent.messages"));
    current.span().end();
}

#[test]
fn a_handler_is_called_inside_its_span_at_the_first_poll_and_not_before() {
    let (sdk, mut queue) = observed();
    (1..4).for_each(|id| queue.push(&id.to_string()).unwrap());
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
    assert_eq!(support::attribute(&sdk.spans()[1], "error.type").unwrap().as_str(), "panic");
}
