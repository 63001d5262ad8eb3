//! Filters, hooks, names for errors, and operations that somebody else tells of.

use std::{
    borrow::Cow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use otel_messaging::suppress_messaging;

use crate::queue::*;

#[test]
fn a_filter_turns_operations_off_for_all_signals_and_hands_contexts_on() {
    let sdk = Sdk::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let asked_of = asked.clone();
    let builder = sdk.all_signals_builder().with_filter(move |operation| {
        asked_of.fetch_add(1, Ordering::Relaxed);
        operation.destination() != Some("secrets")
    });
    let hooked = Arc::new(AtomicUsize::new(0));
    let hooked_of = hooked.clone();
    let builder = builder.with_captured_headers(["*"]).with_operation_hook(move |_, _| {
        hooked_of.fetch_add(1, Ordering::Relaxed);
    });
    let mut queue = Queue::new(builder.build());
    let request = sdk.app_span("request");
    let _current = request.clone().attach();
    for _ in 0..3 {
        queue.push_to("secrets", HeaderMap::default(), "1", |_| ()).unwrap();
    }
    queue.capacity = 3;
    queue.push_to("secrets", HeaderMap::default(), "1", |_| ()).unwrap_err();
    let current = request.span().span_context().span_id().to_string();
    assert!(queue.messages[0].0.0["traceparent"].contains(&current), "the caller's context goes on");
    let message = queue.pop_as("secrets", |a| a.awaits_settlement(true)).unwrap();
    assert_eq!(message.in_scope(|| Err::<(), _>("declined")), Err("declined"));
    drop(message);
    drop(queue.pop_from("secrets"));
    block_on(process_batch(&[queue.pop_from("secrets").unwrap()], || async {}));
    assert_eq!((sdk.spans().len(), sdk.measured(), sdk.events()), (0, String::new(), String::new()));
    assert_eq!(hooked.load(Ordering::Relaxed), 0, "a hook sees what is told of");
    assert_eq!(asked.load(Ordering::Relaxed), 2, "once for each operation on a destination");
}

#[test]
fn a_batch_tells_of_the_messages_that_a_filter_leaves() {
    let sdk = Sdk::new();
    let builder = sdk.all_signals_builder().with_filter(|operation| operation.destination() != Some("secrets"));
    let mut queue = Queue::new(builder.build());
    for destination in ["secrets", "orders", "orders"] {
        queue.push_to(destination, HeaderMap::default(), "1", |_| ()).unwrap();
    }
    let messages = ["secrets", "orders", "orders"].map(|destination| queue.pop_from(destination).unwrap());
    block_on(process_batch(&messages, || async {}));
    sdk.assert([push(), push(), process_batch_of(2).message_id("1").links([0, 1])]);
}

#[test]
fn a_hook_sees_each_operation_and_its_attributes_are_on_the_span() {
    let sdk = Sdk::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = seen.clone();
    let builder = sdk.all_signals_builder().with_operation_hook(move |operation, attributes| {
        let destination = operation.destination().unwrap_or("-");
        notes.lock().unwrap().push(format!("{} {} {destination}", operation.system(), operation.name()));
        attributes.set("team", "checkout");
        if operation.kind() == OperationType::Process {
            attributes.set("messaging.message.id", "hidden");
        }
    });
    let mut queue = Queue::new(builder.build());
    let _stored = queue.create();
    queue.push("1").unwrap();
    queue.pull()[0].ack();
    assert_eq!(
        *seen.lock().unwrap(),
        ["queue create orders", "queue push orders", "queue process orders", "queue pull orders", "queue ack orders"]
    );
    // The hook's id replaces the message's.
    let processed = process("hidden").child_of("push orders").link("push orders").settled("ack");
    let pulled = pull().message_id("hidden").link("push orders").batch_of(1);
    for expected in [create(), push(), pulled, ack("ack").child_of("process orders"), processed] {
        sdk.assert_contains(expected.attribute("team", "checkout"));
    }
    assert_eq!(sdk.spans().len(), 5);
    assert!(!sdk.measured().contains("checkout"), "metrics stay as they are");
}

#[test]
fn a_user_names_the_errors_of_handlers() {
    let sdk = Sdk::new();
    let builder = sdk.all_signals_builder().with_error_type(|type_name, error| {
        assert_eq!(type_name, "&str");
        (error.to_string() == "declined").then_some(Cow::Borrowed("declined_card"))
    });
    let mut queue = Queue::new(builder.build());
    queue.fill(4);
    queue.pop().unwrap().fail(&"declined");
    assert_eq!(queue.pop().unwrap().in_scope(|| Err::<(), _>("declined")), Err("declined"));
    assert_eq!(
        block_on(process_batch(&[queue.pop().unwrap()], || async { Err::<(), _>("declined") })),
        Err("declined")
    );
    queue.pop().unwrap().fail(&"no disk");
    let declined = |at: usize, of| process(of).child_of(at).link(at).error("declined_card", "declined");
    let batch = process_batch_of(1).message_id("3").link(2).error("declined_card", "declined");
    let other = process("4").child_of(3).link(3).error("&str", "no disk");
    sdk.assert([push(), push(), push(), push(), declined(0, "1"), declined(1, "2"), batch, other]);
    let measured = sdk.measured();
    assert!(measured.contains(r#"{error.type = "declined_card", messaging.destination.name = "orders""#), "{measured}");
    assert_eq!(sdk.events().matches("exception.type=String(Owned(\"declined_card\"))").count(), 3, "{}", sdk.events());
}

#[test]
fn what_somebody_else_tells_of_is_left_alone() {
    let (sdk, mut queue) = observed();
    let request = sdk.app_span("request");
    for outer in [suppress_messaging(&request), request.clone().with_telemetry_suppressed()] {
        let _outer = outer.attach();
        assert!(queue.telemetry.start_operation().is_none());
        queue.push("1").unwrap();
        assert_eq!(queue.create(), HeaderMap::default());
        assert_eq!(queue.messages[0].0, HeaderMap::default());
        let message = queue.pop().unwrap();
        assert!(message.process_span().is_none());
        // Spans of the application's own go on, in what is current.
        let current = Context::current().span().span_context().clone();
        message.in_scope(|| assert_eq!(Context::current().span().span_context(), &current));
        assert_eq!(message.otel_context().span().span_context(), &current);
        message.republish(|| message.ack());
        message.end();
        message.fail(&"declined");
    }
    assert!(queue.telemetry.start_operation().is_some(), "only there");
    assert_eq!((sdk.spans().len(), sdk.measured(), sdk.events()), (0, String::new(), String::new()));
}

#[test]
fn suppression_inside_a_handler_spares_what_is_done_there_and_no_more() {
    let (sdk, mut queue) = traced();
    let message = queue.arrive(sent());
    message.in_scope(|| {
        {
            let _outer = suppress_messaging(&Context::current()).attach();
            queue.push("told elsewhere").unwrap();
        }
        queue.forward(&message);
    });
    message.settle(Settlement::Nack);
    drop(message);
    assert_eq!(sdk.names(), ["process orders", "push orders", "ack orders"]);
    assert_ne!(queue.messages[1].0.0["traceparent"], SENT, "the forward is still known as one");
}

#[test]
fn each_client_has_its_own_rules() {
    let (first, second) = (Sdk::new(), Sdk::new());
    let shared = first.instrumentation_builder().build();
    let consumer = shared.to_builder().with_tracer_provider(second.provider()).with_max_links(0).build();
    let (mut one, mut other) = (Queue::new(shared), Queue::new(consumer));
    one.push("1").unwrap();
    other.push("1").unwrap();
    assert_eq!((first.spans().len(), second.spans().len()), (1, 1));
    block_on(process_batch(&[other.pop().unwrap()], || async {}));
    block_on(process_batch(&[one.pop().unwrap()], || async {}));
    assert_eq!((first.spans()[1].links.len(), second.spans()[1].links.len()), (1, 0));
}
