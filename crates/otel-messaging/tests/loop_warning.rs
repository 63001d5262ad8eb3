//! The warning about a span that is held open around a consumer's loop. In a process of its own, because it listens to
//! what OpenTelemetry's components say of themselves.

#![cfg(feature = "internal-logs")]

#[allow(dead_code, reason = "the other test binaries use the rest of it")]
mod queue;

use opentelemetry::Context;
use otel_messaging::{Auto, Correlation, InstrumentationBuilder, MessageExt, process_batch};
use support::Sdk;

use crate::queue::{HeaderMap, Message, Queue};

/// What a client is warned of meanwhile.
fn warnings(
    configure: impl FnOnce(InstrumentationBuilder) -> InstrumentationBuilder,
    work: impl FnOnce(&Sdk, &mut Queue),
) -> Vec<String> {
    let heard = support::heard(|| {
        let sdk = Sdk::new();
        let mut queue = Queue::new(configure(sdk.instrumentation_builder()).build());
        work(&sdk, &mut queue);
    });
    heard.lines().filter(|line| line.contains("messaging.consumer.ambient_span")).map(str::to_owned).collect()
}

/// More than a request takes.
const MANY: usize = 251;

/// Takes one message inside a span.
fn take(queue: &mut Queue, destination: &str, inside: &Context) -> Message {
    let _attached = inside.clone().attach();
    let headers = HeaderMap::default().with("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    queue.messages.push_back((headers, "1".to_owned()));
    queue.pop_as(destination, |arrival| arrival.redelivered(true)).unwrap()
}

/// A loop inside one span.
fn in_one_span(messages: usize) -> impl FnOnce(&Sdk, &mut Queue) {
    move |sdk, queue| {
        let held = sdk.app_span("loop");
        (0..messages).for_each(|_| take(queue, "orders", &held).in_scope(|| ()));
    }
}

#[test]
fn a_span_around_a_loop_is_named_once_with_the_remedy() {
    let warned = warnings(|builder| builder, in_one_span(2 * MANY));
    let [warning] = &warned[..] else { panic!("{warned:#?}") };
    assert!(warning.contains("WARN otel-messaging:") && warning.contains("Correlation::Parent"), "{warning}");
    assert_eq!(warnings(|b| b.correlation(Correlation::Link), in_one_span(MANY)).len(), 1, "it grows the same way");
    let unseen = |sdk: &Sdk, queue: &mut Queue| {
        let held = sdk.app_span("loop");
        (0..MANY).for_each(|_| drop(take(queue, "orders", &held)));
    };
    assert_eq!(warnings(|builder| builder, unseen).len(), 1, "messages that nobody looks at");

    // No span grows.
    assert_eq!(warnings(|b| b.correlation(Correlation::Parent), in_one_span(MANY)), [""; 0]);
    assert_eq!(warnings(|b| b.correlation(Correlation::Auto(Auto::default())), in_one_span(MANY)), [""; 0]);
    assert_eq!(warnings(|b| b.filter(|_| false), in_one_span(MANY)), [""; 0]);
    assert_eq!(warnings(|b| b.without_spans(), in_one_span(MANY)), [""; 0]);
}

#[test]
fn a_request_that_takes_some_messages_is_no_loop() {
    assert_eq!(warnings(|builder| builder, in_one_span(2)), [""; 0]);
    // As many as a fetch brings, and one request after the other.
    let requests = |sdk: &Sdk, queue: &mut Queue| {
        for _ in 0..3 {
            in_one_span(MANY - 1)(sdk, queue);
        }
    };
    assert_eq!(warnings(|builder| builder, requests), [""; 0]);
    let of_two_consumers = |sdk: &Sdk, queue: &mut Queue| {
        let request = sdk.app_span("request");
        for destination in ["orders", "refunds"] {
            (0..MANY - 1).for_each(|_| take(queue, destination, &request).in_scope(|| ()));
        }
    };
    assert_eq!(warnings(|builder| builder, of_two_consumers), [""; 0]);
}

#[test]
fn two_loops_in_turns_are_two() {
    let in_turns = |sdk: &Sdk, queue: &mut Queue| {
        let loops = [sdk.app_span("one"), sdk.app_span("other")];
        for _ in 0..MANY {
            loops.iter().for_each(|held| take(queue, "orders", held).in_scope(|| ()));
        }
    };
    assert_eq!(warnings(|builder| builder, in_turns).len(), 1);
}

#[test]
fn messages_of_a_batch_are_no_children_of_the_loop() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let in_batches = |sdk: &Sdk, queue: &mut Queue| {
        let held = sdk.app_span("loop");
        for _ in 0..MANY {
            let batch = [take(queue, "orders", &held), take(queue, "orders", &held)];
            runtime.block_on(process_batch(&batch, async {}));
        }
        assert_eq!(sdk.spans().len(), MANY, "one for each batch");
    };
    assert_eq!(warnings(|builder| builder, in_batches), [""; 0]);
}
