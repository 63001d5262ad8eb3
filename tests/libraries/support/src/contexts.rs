//! Contexts as applications have them, for properties of what is written into messages.

use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId,
    baggage::BaggageExt,
    propagation::TextMapPropagator,
    trace::{SpanContext, TraceContextExt, TraceState},
};
use proptest::{collection::vec, prelude::*};

use crate::w3c;

/// Any context to send in: with a span in it, a `tracestate` up to the longest one, and baggage up to more than is written.
pub fn context() -> impl Strategy<Value = Context> {
    let states = vec("[a-z]{1,256}", 0..=32);
    let baggage = vec("[a-zA-Z0-9]{0,900}", 0..=12);
    let few = (vec("[a-z]{1,9}", 0..=2), vec("[a-zA-Z0-9]{0,9}", 0..=2));
    prop_oneof![(states, baggage), few].prop_map(|(states, baggage)| {
        with(states.into_iter().enumerate().map(|(at, value)| (format!("k{at}"), value)), baggage)
    })
}

/// The longest context that is written: 32 entries of 513 bytes in its `tracestate`, and baggage of 8,191 bytes.
#[must_use]
pub fn longest() -> Context {
    with((0..32).map(|at| (format!("{at:k>256}"), "v".repeat(256))), (0..8).map(|_| "w".repeat(1_020)))
}

fn with(state: impl Iterator<Item = (String, String)>, baggage: impl IntoIterator<Item = String>) -> Context {
    let state = TraceState::from_key_value(state).expect("a trace state");
    let (trace, span) = (TraceId::from(7), SpanId::from(7));
    let span = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, state);
    let baggage = baggage.into_iter().enumerate().map(|(at, value)| KeyValue::new(format!("b{at}"), value));
    Context::new().with_remote_span_context(span).with_baggage(baggage)
}

/// The headers that a child of its span writes, by their lengths: without a bound on baggage, so that there may be less.
#[must_use]
pub fn headers_of(context: &Context) -> Vec<(String, usize)> {
    let mut headers = std::collections::HashMap::new();
    w3c().inject_context(context, &mut headers);
    let written = headers.into_iter().filter(|(_, value): &(String, String)| !value.is_empty());
    written.map(|(name, value)| (name, value.len())).collect()
}
