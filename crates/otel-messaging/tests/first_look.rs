//! An operation without a span does not use up the look at the globals: one test, in a process of its own, because it
//! installs them.

#[allow(dead_code, reason = "the other test binaries use the rest of it")]
mod queue;

use opentelemetry::global;
use support::w3c;

use queue::*;

#[test]
fn the_first_message_has_its_spans_after_polls_that_found_none() {
    let sdk = Sdk::new();
    global::set_tracer_provider(sdk.provider());
    global::set_text_map_propagator(w3c());
    let (mut producer, mut consumer) = (Queue::bare(), Queue::bare());
    for _ in 0..3 {
        assert!(consumer.telemetry.start_operation().is_some());
    }
    producer.push("1").unwrap();
    consumer.messages.append(&mut producer.messages);
    consumer.pop().unwrap().in_scope(|| ());
    let names: Vec<_> = sdk.spans().into_iter().map(|span| span.name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}
