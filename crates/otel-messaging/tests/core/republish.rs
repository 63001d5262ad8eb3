//! A message that is sent again.

use crate::queue::*;

/// A retry of the message with this span, which the sender sent.
fn again(process: impl Into<SpanRef>) -> ExpectedSpan {
    push().link(&sender()).link(process)
}

#[test]
fn a_republish_replaces_the_context_and_links_origin_and_failure() {
    let (sdk, mut queue, message) = delivered();
    assert_eq!(message.in_scope(|| Err::<(), _>("declined")), Err("declined"));
    message.republish(|| queue.forward(&message));
    // It ends with the closure.
    queue.push("2").unwrap();
    sdk.assert([push(), process("1").child_of(0).link(0).error("&str", "declined"), push().links([0, 1]), push()]);
    let headers = &queue.messages[0].0;
    assert_eq!(headers.names(), ["traceparent"]);
    assert_eq!(headers.context().unwrap().span_id(), sdk.spans()[2].span_context.span_id());
}

#[test]
fn under_every_policy_for_carried_contexts_a_retrys_is_new() {
    for carried in [CarriedContext::Keep, CarriedContext::Auto, CarriedContext::Replace] {
        let (sdk, mut queue) = configured(|builder| builder.with_carried_context(carried));
        let message = queue.arrive(sent());
        message.fail(&"declined");
        message.republish(|| queue.forward(&message));
        sdk.assert([process("1").child_of(&sender()).link(&sender()).error("&str", "declined"), again(0)]);
        let own = sdk.spans()[1].span_context.span_id();
        assert_eq!(queue.messages[0].0.context().unwrap().span_id(), own, "{carried:?}");
    }
}

#[test]
fn no_header_accumulates_over_a_hundred_rounds() {
    let (sdk, mut queue) = traced();
    queue.push_with(HeaderMap::default().with("colour", "green").with("baggage", "tenant.id=7"), "1").unwrap();
    for round in 0..100 {
        let message = queue.pop().unwrap();
        message.fail(&"declined");
        message.republish(|| queue.forward(&message));
        drop(message);
        assert_eq!(sdk.named("push orders").pop().unwrap().links.len(), 2, "round {round}");
        let (headers, _) = &queue.messages[0];
        assert_eq!(headers.0.len(), 3, "round {round}: {headers:?}");
        assert_eq!((&*headers.0["colour"], &*headers.0["baggage"]), ("green", "tenant.id=7"), "round {round}");
    }
}

#[test]
fn a_republish_has_the_messages_baggage_as_its_handler_changed_it() {
    let (_sdk, mut queue) = traced();
    for headers in [sent(), HeaderMap::default()] {
        let loops = Context::new().with_baggage([KeyValue::new("tenant.id", "8")]).attach();
        let message = queue.arrive(headers.with("baggage", "tenant.id=7"));
        message.in_scope(|| {
            let current = Context::current();
            let _more = current.with_baggage([KeyValue::new("tenant.id", "7"), KeyValue::new("try", "2")]).attach();
            message.republish(|| queue.forward(&message));
        });
        {
            let given = message.otel_context();
            let _given = given.with_baggage([KeyValue::new("tenant.id", "7"), KeyValue::new("try", "2")]).attach();
            message.republish(|| queue.forward(&message));
        }
        message.republish(|| queue.forward(&message));
        drop(loops);
        message.republish(|| queue.forward(&message));
        let baggage = |headers: &HeaderMap| {
            let mut entries: Vec<_> = headers.0["baggage"].split(',').map(str::to_owned).collect();
            entries.sort_unstable();
            entries.join(",")
        };
        let republished: Vec<_> = queue.messages.drain(..).map(|(headers, _)| baggage(&headers)).collect();
        let inside = if message.headers.context().is_some() { "tenant.id=7,try=2" } else { "tenant.id=7" };
        assert_eq!(republished, [inside, inside, "tenant.id=7", "tenant.id=7"], "{:?}", message.headers);
    }
}

#[test]
fn a_message_of_a_batch_links_the_batch_that_failed() {
    let (sdk, mut queue) = traced();
    let messages = [queue.push_and_pop("1")];
    assert_eq!(block_on(process_batch(&messages, || async { Err::<(), _>("no disk") })), Err("no disk"));
    messages[0].republish(|| queue.forward(&messages[0]));
    let batch = process_batch_of(1).message_id("1").link(0).error("&str", "no disk");
    sdk.assert([push(), batch, push().links([0, 1])]);
}

#[test]
fn from_an_untrusted_source_each_is_linked_once() {
    let (sdk, mut queue) = configured(|builder| builder.with_untrusted_source(true));
    let message = queue.arrive(sent().with("tracestate", "theirs=1"));
    message.republish(|| queue.forward(&message));
    drop(message);
    sdk.assert([process("1").link(&sender()), again(0)]);
    // Which span it is, and nothing else that they say.
    assert_eq!(sdk.only("push orders").links[0].span_context.trace_state().header(), "");
}

#[test]
fn a_created_message_that_is_a_retry_links_too_and_its_send_leaves_it() {
    let (sdk, mut queue, message) = delivered();
    let stored = message.republish(|| queue.create());
    queue.push_with(stored.clone(), "1").unwrap();
    assert_eq!(queue.messages[0].0, stored, "kept");
    drop(message);
    let first = process("1").child_of(0).link(0);
    sdk.assert([push(), first, create().links([0, 1]), push().kind(SpanKind::Client).link(2)]);
}

#[test]
fn without_spans_the_context_that_came_is_handed_on() {
    let sdk = Sdk::new();
    let theirs = sent();
    for filtered in [true, false] {
        let builder = sdk.instrumentation_builder();
        let builder = if filtered { builder.with_filter(|_| false) } else { builder.with_spans(false) };
        let mut queue = Queue::new(builder.build());
        let message = queue.arrive(theirs.clone());
        message.republish(|| queue.forward(&message));
        message.in_scope(|| queue.forward(&message));
        message.in_scope(|| queue.push("1")).unwrap();
        assert_eq!(queue.create(), HeaderMap::default(), "nothing is current, nothing is written");
        for (headers, _) in &queue.messages {
            assert_eq!(headers, &theirs);
        }
    }
    assert_eq!(sdk.spans().len(), 0);
    assert!(!opentelemetry::Context::current().has_active_span());
}
