//! A message that carries a context already when it is sent.

use opentelemetry::trace::{SpanKind, TraceContextExt};
use otel_messaging::{CarriedContext, MessageExt, sequential_blocking};
use support::Sdk;

use crate::queue::{HeaderMap, Queue};

const FOREIGN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn stored() -> HeaderMap {
    HeaderMap::default().with("traceparent", FOREIGN).with("tracestate", "vendor=1")
}

#[test]
fn of_a_stored_message_is_kept_and_linked() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push_with(stored(), "1").unwrap();
    assert_eq!(queue.messages[0].0, stored());
    let spans = sdk.spans();
    assert_eq!(spans[0].span_kind, SpanKind::Client);
    assert_eq!(spans[0].links[0].span_context.span_id().to_string(), "00f067aa0ba902b7");
}

#[test]
fn that_a_hand_written_injector_took_from_the_current_span_is_replaced_and_linked() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    let request = sdk.app_span("request");
    let _current = request.clone().attach();
    let current = request.span().span_context().clone();
    let by_hand = format!("00-{}-{}-01", current.trace_id(), current.span_id());
    queue.push_with(stored().with("traceparent", &by_hand).with("baggage", "stale=1"), "1").unwrap();

    let spans = sdk.spans();
    assert_eq!(spans[0].span_kind, SpanKind::Producer);
    assert_eq!(spans[0].links[0].span_context.span_id(), current.span_id());
    let headers = &queue.messages[0].0.0;
    assert!(headers["traceparent"].contains(&spans[0].span_context.span_id().to_string()));
    assert_eq!(headers.len(), 1, "a part of the old context outlived its traceparent: {headers:?}");
}

#[test]
fn of_the_message_being_processed_is_replaced_and_linked() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push("1").unwrap();
    let sent = queue.messages[0].0.clone();
    let message = queue.pop().unwrap();
    message.in_scope(|| queue.push_with(message.headers.clone(), "2")).unwrap();

    assert_ne!(queue.messages[0].0, sent);
    let spans = sdk.spans();
    let [first, process, forward] = &spans[..] else { panic!("{}", sdk.described()) };
    assert_eq!(forward.span_kind, SpanKind::Producer);
    assert_eq!(forward.parent_span_id, process.span_context.span_id());
    assert_eq!(forward.links[0].span_context.span_id(), first.span_context.span_id());
}

#[test]
fn of_the_message_being_processed_is_known_wherever_its_context_goes() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push("1").unwrap();
    let message = queue.pop().unwrap();
    let context = message.otel_context();
    let mut queue = std::thread::spawn(move || {
        let message = message;
        let _attached = context.attach();
        queue.push_with(message.headers.clone(), "2").unwrap();
        queue
    })
    .join()
    .unwrap();
    let (forwarded, _) = queue.messages.pop_front().unwrap();
    let text = sdk.described();
    assert!(text.contains("push orders\n  kind PRODUCER\n  scope queue-adapter https://opentelemetry.io/schemas/1.44.0\n  parent process orders\n  link push orders"), "{text}");
    // Outside it is a stored message again.
    queue.push_with(forwarded.clone(), "3").unwrap();
    assert_eq!(queue.messages[0].0, forwarded);
}

#[test]
fn of_the_message_a_loop_has_in_hand_is_replaced() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push("1").unwrap();
    let sent = queue.messages[0].0.clone();
    sequential_blocking(|| {
        let message = queue.pop().unwrap();
        queue.push_with(message.headers.clone(), "2").unwrap();
        assert_ne!(queue.messages[0].0, sent);
        drop(message);
        queue.push_with(sent.clone(), "3").unwrap();
        assert_eq!(queue.messages[1].0, sent);
    });
}

#[test]
fn a_forward_is_known_after_its_loop_asks_for_another_message() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push("1").unwrap();
    let sent = queue.messages[0].0.clone();
    let message = queue.pop().unwrap();
    let in_hand = sequential_blocking(|| {
        queue.push("2").unwrap();
        let in_hand = queue.pop().unwrap();
        message.in_scope(|| {
            // The loop's message is not in hand any more, though it was taken in hand outside of this.
            assert!(queue.pop().is_none());
            queue.push_with(message.headers.clone(), "3").unwrap();
        });
        in_hand.headers.clone()
    });
    assert_ne!(queue.messages[0].0, sent);
    // Nothing of the loop is left on the thread.
    queue.push_with(in_hand.clone(), "4").unwrap();
    assert_eq!(queue.messages[1].0, in_hand);
}

#[test]
fn can_be_kept_always() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation_builder().with_carried_context(CarriedContext::Keep).build());
    queue.push("1").unwrap();
    let sent = queue.messages[0].0.clone();
    let message = queue.pop().unwrap();
    message.in_scope(|| queue.push_with(message.headers.clone(), "2")).unwrap();
    assert_eq!(queue.messages[0].0, sent);
}

#[test]
fn can_be_replaced_always() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation_builder().with_carried_context(CarriedContext::Replace).build());
    queue.push_with(stored(), "1").unwrap();
    let spans = sdk.spans();
    assert!(queue.messages[0].0.0["traceparent"].contains(&spans[0].span_context.span_id().to_string()));
    assert_eq!(spans[0].links[0].span_context.span_id().to_string(), "00f067aa0ba902b7");
}

#[test]
fn that_is_malformed_is_replaced_and_not_linked() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push_with(HeaderMap::default().with("traceparent", "00-zz"), "1").unwrap();
    let spans = sdk.spans();
    assert_eq!(spans[0].links.len(), 0);
    assert!(queue.messages[0].0.0["traceparent"].contains(&spans[0].span_context.span_id().to_string()));
}
