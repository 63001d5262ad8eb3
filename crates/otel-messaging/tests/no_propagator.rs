//! A tracer and no propagator: traces end at each queue, and somebody has to say so. In a process of its own, where none is
//! ever installed globally.

#![cfg(feature = "internal-logs")]

#[allow(dead_code, reason = "the other test binaries use the rest of it")]
mod queue;

use otel_messaging::{Instrumentation, InstrumentationBuilder, Propagation};
use support::Sdk;

use crate::queue::Queue;

#[test]
fn sends_that_carry_no_context_for_want_of_a_propagator_are_warned_of_once() {
    let warnings = |configure: fn(InstrumentationBuilder) -> InstrumentationBuilder| {
        let heard = support::heard(|| {
            let sdk = Sdk::new();
            let builder = Instrumentation::builder().tracer_provider(sdk.provider());
            let mut queue = Queue::new(configure(builder).build());
            (0..3).for_each(|_| queue.push("1").unwrap());
            while queue.pop().is_some() {}
        });
        heard.lines().filter(|line| line.contains("messaging.propagator.missing")).count()
    };
    assert_eq!(warnings(|builder| builder), 1);
    assert_eq!(warnings(|builder| builder.propagation(Propagation::W3c)), 0);
    assert_eq!(warnings(|builder| builder.propagation(Propagation::Off)), 0, "it is meant so");
    assert_eq!(warnings(|builder| builder.without_spans()), 0);
}
