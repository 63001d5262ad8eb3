//! A message that carries a context already when it is sent.

use crate::queue::*;

fn stored() -> HeaderMap {
    sent().with("tracestate", "vendor=1")
}

/// The context of the first message in the queue.
fn written(queue: &Queue) -> SpanContext {
    queue.messages[0].0.context().expect("it carries one")
}

#[test]
fn of_a_stored_message_is_kept_and_linked() {
    let (sdk, mut queue) = traced();
    queue.push_with(stored(), "1").unwrap();
    assert_eq!(queue.messages[0].0, stored());
    sdk.assert([push().kind(SpanKind::Client).link(&sender())]);
}

#[test]
fn that_a_hand_written_injector_took_from_the_current_span_is_replaced_and_linked() {
    let (sdk, mut queue) = traced();
    let request = sdk.app_span("request");
    let _current = request.clone().attach();
    let current = request.span().span_context().clone();
    let by_hand = format!("00-{}-{}-01", current.trace_id(), current.span_id());
    queue.push_with(stored().with("traceparent", &by_hand).with("baggage", "stale=1"), "1").unwrap();
    sdk.assert([push().child_of(&request).link(&request)]);
    // No part of the old context outlives its traceparent.
    assert_eq!(queue.messages[0].0.names(), ["traceparent"]);
    assert_eq!(written(&queue).span_id(), sdk.spans()[0].span_context.span_id());
}

#[test]
fn of_the_message_being_processed_is_replaced_and_linked() {
    let (sdk, mut queue, message) = delivered();
    message.in_scope(|| queue.forward(&message));
    assert_ne!(queue.messages[0].0, message.headers);
    sdk.assert([push(), process("1").child_of(0).link(0), push().child_of(1).link(0)]);
}

#[test]
fn of_the_message_being_processed_is_known_wherever_its_context_goes() {
    let (sdk, mut queue, message) = delivered();
    let context = message.otel_context();
    let mut queue = std::thread::spawn(move || {
        let message = message;
        let _attached = context.attach();
        queue.forward(&message);
        queue
    })
    .join()
    .unwrap();
    let (forwarded, _) = queue.messages.pop_front().unwrap();
    sdk.assert([push(), process("1").child_of(0).link(0), push().child_of(1).link(0)]);
    // Outside it is a stored message again.
    queue.push_with(forwarded.clone(), "3").unwrap();
    assert_eq!(queue.messages[0].0, forwarded);
}

#[test]
fn of_the_message_a_loop_has_in_hand_is_replaced() {
    let (_sdk, mut queue) = traced();
    queue.push("1").unwrap();
    let sent = queue.messages[0].0.clone();
    sequential_blocking(|| {
        let message = queue.pop().unwrap();
        queue.forward(&message);
        assert_ne!(queue.messages[0].0, sent);
        drop(message);
        queue.push_with(sent.clone(), "3").unwrap();
        assert_eq!(queue.messages[1].0, sent);
    });
}

#[test]
fn a_forward_is_known_after_its_loop_asks_for_another_message() {
    let (_sdk, mut queue, message) = delivered();
    let in_hand = sequential_blocking(|| {
        queue.push("2").unwrap();
        let in_hand = queue.pop().unwrap();
        message.in_scope(|| {
            // The loop's message is not in hand any more, though it was taken in hand outside of this.
            assert!(queue.pop().is_none());
            queue.forward(&message);
        });
        in_hand.headers.clone()
    });
    assert_ne!(queue.messages[0].0, message.headers);
    // Nothing of the loop is left on the thread.
    queue.push_with(in_hand.clone(), "4").unwrap();
    assert_eq!(queue.messages[1].0, in_hand);
}

#[test]
fn can_be_kept_always() {
    let (_sdk, mut queue) = configured(|builder| builder.with_carried_context(CarriedContext::Keep));
    let message = queue.push_and_pop("1");
    message.in_scope(|| queue.forward(&message));
    assert_eq!(queue.messages[0].0, message.headers);
}

#[test]
fn can_be_replaced_always() {
    let (sdk, mut queue) = configured(|builder| builder.with_carried_context(CarriedContext::Replace));
    queue.push_with(stored(), "1").unwrap();
    sdk.assert([push().link(&sender())]);
    assert_eq!(written(&queue).span_id(), sdk.spans()[0].span_context.span_id());
}

#[test]
fn that_is_malformed_is_replaced_and_not_linked() {
    let (sdk, mut queue) = traced();
    queue.push_with(HeaderMap::default().with("traceparent", "00-zz"), "1").unwrap();
    sdk.assert([push()]);
    assert_eq!(written(&queue).span_id(), sdk.spans()[0].span_context.span_id());
}
