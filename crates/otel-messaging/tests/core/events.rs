//! Log events for what failed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::queue::*;

/// One failure of each operation.
fn fail_everything(queue: &mut Queue) {
    queue.begin_push().fail("nack", "the broker refused");
    let receive = queue.telemetry.receive(queue.start(), &queue.operation(PULL), std::iter::empty(), |_| ());
    receive.fail("not-found", "no such queue");
    let message = queue.push_and_pop("1");
    message.fail(&"declined");
    message.begin_settle().unwrap().fail("closed", "it is closed");
    let message = queue.push_and_pop("2");
    let boom = || -> () { panic!("a bug of the handler's") };
    assert!(catch_unwind(AssertUnwindSafe(|| message.in_scope(boom))).is_err());
}

fn expected(spans: bool) -> String {
    [
        ("WARN", "send", "push orders", "the broker refused", "nack"),
        ("WARN", "receive", "pull orders", "no such queue", "not-found"),
        ("ERROR", "process", "process orders", "declined", "&str"),
        ("WARN", "settle", "ack orders", "it is closed", "closed"),
        ("ERROR", "process", "process orders", "panicked", "panic"),
    ]
    .map(|(severity, operation, span, message, kind)| {
        let span = if spans { span } else { "no span" };
        let text = |text: &str| format!("String(Owned({text:?}))");
        let (message, kind) = (text(message), text(kind));
        format!(
            "{severity} messaging.{operation}.exception in {span} exception.message={message} exception.type={kind}\n"
        )
    })
    .concat()
}

#[test]
fn each_failure_is_an_event_of_its_span() {
    let sdk = Sdk::new();
    fail_everything(&mut Queue::new(sdk.all_signals_builder().build()));
    assert_eq!(sdk.events(), expected(true));
}

#[test]
fn failures_are_events_without_spans_and_metrics_too() {
    let sdk = Sdk::new();
    fail_everything(&mut Queue::new(sdk.all_signals_builder().with_spans(false).with_metrics(false).build()));
    assert_eq!(sdk.events(), expected(false));
    assert_eq!(sdk.spans().len(), 0);
    let out = Sdk::with_sampler(Sampler::AlwaysOff);
    fail_everything(&mut Queue::new(out.all_signals_builder().build()));
    assert_eq!(out.events().lines().count(), 5, "sampled out: {}", out.events());
}

#[test]
fn there_are_none_without_a_logger_provider_and_none_for_what_went_well() {
    let sdk = Sdk::new();
    fail_everything(&mut Queue::new(sdk.instrumentation()));
    assert_eq!(sdk.events(), "");
    let mut queue = Queue::new(sdk.all_signals_builder().build());
    queue.push("1").unwrap();
    let _stored = queue.create();
    let message = &queue.pull()[0];
    message.in_scope(|| Ok::<_, String>(())).unwrap();
    message.ack();
    assert_eq!(sdk.events(), "");
}

#[test]
fn a_message_that_goes_in_a_panic_is_an_event_without_a_span_too() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.all_signals_builder().with_spans(false).build());
    let message = queue.push_and_pop("1");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _message = message;
        panic!("a handler's bug");
    }));
    assert!(panicked.is_err());
    let events = sdk.events();
    assert_eq!(events.lines().count(), 1, "{events}");
    assert!(events.contains("messaging.process.exception") && events.contains("panic"), "{events}");
}
