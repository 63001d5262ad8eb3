//! What the process-wide globals decide: one test, in a process of its own, because it walks through their states.

#[allow(dead_code, reason = "the other test binary uses the rest of it")]
mod queue;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use opentelemetry::{
    InstrumentationScope, global,
    trace::{
        TracerProvider,
        noop::{NoopTracer, NoopTracerProvider},
    },
};
use support::{eventually, w3c};

use queue::*;

/// Counts how often it is asked for a tracer.
#[derive(Debug, Clone, Default)]
struct NoOps(Arc<AtomicU64>);

impl TracerProvider for NoOps {
    type Tracer = NoopTracer;

    fn tracer_with_scope(&self, scope: InstrumentationScope) -> NoopTracer {
        self.0.fetch_add(1, Ordering::Relaxed);
        NoopTracerProvider::new().tracer_with_scope(scope)
    }
}

#[test]
fn a_client_follows_the_globals_as_they_come() {
    let mut queue = Queue::bare();

    // How a meter provider that does nothing is known: OpenTelemetry has no way to ask it.
    assert_eq!(size_of_val(&*global::meter_provider()), 0);

    // Nothing installed: the first operation may find out, those after it in the same second need not.
    queue.push("1").unwrap();
    assert!(queue.telemetry.start_operation().is_none());
    assert_eq!(queue.messages.pop_front(), Some((HeaderMap::default(), "1".to_owned())));

    // A propagator alone: contexts pass through, from one message to the next.
    global::set_text_map_propagator(w3c());
    eventually("the propagator is found", || queue.telemetry.start_operation().is_some());
    queue.messages.push_back((sent(), "2".to_owned()));
    let message = queue.pop().unwrap();
    message.in_scope(|| queue.push("3")).unwrap();
    assert_eq!(queue.messages.pop_front().unwrap().0.0["traceparent"], SENT);
    message.ack();
    drop(message);

    // A provider of no-ops is a no-op too, and is not asked for every message.
    let provider = NoOps::default();
    global::set_tracer_provider(provider.clone());
    let started = Instant::now();
    for _ in 0..1_000 {
        queue.push("1").unwrap();
    }
    let looks = provider.0.load(Ordering::Relaxed);
    assert!(looks <= started.elapsed().as_secs() + 1, "looked {looks} times");
    queue.messages.clear();

    // The SDK comes late, after the client has sent: found within a second or so, and kept.
    let sdk = Sdk::new();
    global::set_tracer_provider(sdk.provider());
    eventually("the SDK is found", || {
        queue.push("4").unwrap();
        thread::sleep(Duration::from_millis(20));
        !sdk.spans().is_empty()
    });
    let before = sdk.spans().len();
    queue.push("5").unwrap();
    assert_eq!(sdk.spans().len(), before + 1);

    // The meter comes later still.
    assert_eq!(sdk.measured(), "");
    global::set_meter_provider(sdk.meter_provider());
    eventually("the meter is found", || {
        queue.push("5").unwrap();
        thread::sleep(Duration::from_millis(20));
        sdk.measured().contains("messaging.client.sent.messages")
    });
    queue.messages.clear();
    let before = sdk.spans().len();

    // Suppressed: the raw call.
    {
        let _suppressed = sdk.app_span("request").with_telemetry_suppressed().attach();
        assert!(queue.telemetry.start_operation().is_none());
        queue.messages.clear();
        queue.push("6").unwrap();
        assert_eq!(queue.messages[0].0, HeaderMap::default());
        let message = queue.pop().unwrap();
        message.in_scope(|| ());
        message.ack();
    }
    let own = sdk.spans().into_iter().filter(|span| span.name != "request").count();
    assert_eq!(own, before);
}
