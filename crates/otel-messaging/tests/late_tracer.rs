//! A meter without a tracer, both global: one test, in a process of its own, because it installs them.

#[allow(dead_code, reason = "the other test binaries use the rest of it")]
mod queue;

use opentelemetry::global;
use support::{eventually, w3c};

use queue::*;

#[test]
fn a_meter_measures_at_once_and_a_late_tracer_is_found() {
    let sdk = Sdk::new();
    global::set_meter_provider(sdk.meter_provider());
    let mut queue = Queue::bare();
    for _ in 0..3 {
        queue.push("1").unwrap();
        queue.pop().unwrap().ack();
    }
    let measured = sdk.measured();
    assert_eq!(measured.lines().filter(|line| line.ends_with(" 3")).count(), measured.lines().count(), "{measured}");
    assert_eq!(measured.lines().count(), 6, "{measured}");
    queue.push("1").unwrap();
    assert_eq!(queue.messages.pop_front().unwrap().0, HeaderMap::default(), "there is nothing to write");

    global::set_text_map_propagator(w3c());
    global::set_tracer_provider(sdk.provider());
    eventually("the tracer is found", || {
        queue.push("1").unwrap();
        !sdk.spans().is_empty()
    });
    assert!(queue.messages.back().unwrap().0.0.contains_key("traceparent"));

    // Headers of the propagator that is installed are never captured, also by a client that does not use it.
    global::set_text_map_propagator(Functions::named(&["x-vendor"]));
    let builder = sdk.instrumentation_builder().with_propagation(Propagation::Off).with_captured_headers(["*"]);
    let mut queue = Queue::new(builder.build());
    let headers = HeaderMap::default().with("X-Vendor", "secret").with("x-tenant", "7");
    queue.push_with(headers, "vendor").unwrap();
    let text = sdk.described();
    assert!(text.contains("otel_messaging.header.x-tenant") && !text.contains("secret"), "{text}");
}
