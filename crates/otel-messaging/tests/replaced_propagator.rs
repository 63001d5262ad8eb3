//! The propagator that is installed globally does the work, whichever it is at the time: one test, in a process of its own.

#![allow(deprecated, reason = "zipkin's exporter is, of which this is the propagator")]

#[allow(dead_code, reason = "another test binary uses the rest of it")]
mod queue;

use std::cell::RefCell;

use opentelemetry::{global, propagation::text_map_propagator::FieldIter};
use opentelemetry_zipkin::Propagator as Zipkin;
use support::w3c;

use queue::*;

#[derive(Debug)]
struct Nameless;

impl TextMapPropagator for Nameless {
    fn inject_context(&self, _: &Context, _: &mut dyn Injector) {
        panic!("a propagator's bug");
    }

    fn extract_with_context(&self, _: &Context, _: &dyn Extractor) -> Context {
        panic!("a propagator's bug");
    }

    fn fields(&self) -> FieldIter<'_> {
        panic!("a propagator's bug");
    }
}

#[test]
fn what_is_installed_does_the_work_also_when_it_replaces_another() {
    let sdk = Sdk::new();
    let builder =
        Instrumentation::builder().with_tracer_provider(sdk.provider()).with_carried_context(CarriedContext::Replace);
    let queue = RefCell::new(Queue::new(builder.build()));
    let sent_with = |headers: HeaderMap| -> HeaderMap {
        let mut queue = queue.borrow_mut();
        queue.push_with(headers, "1").unwrap();
        queue.messages.pop_front().unwrap().0
    };
    let sent = || sent_with(HeaderMap::default());
    let names = |headers: &HeaderMap| headers.0.keys().cloned().collect::<Vec<_>>();

    global::set_text_map_propagator(w3c());
    assert_eq!(names(&sent()), ["traceparent"]);
    {
        let _baggage = Context::new().with_baggage([opentelemetry::KeyValue::new("tenant", "7")]).attach();
        let headers = sent();
        assert_eq!(names(&headers), ["baggage", "traceparent"]);
        assert_eq!(headers.0["baggage"], "tenant=7");
    }
    {
        // What everybody can read of it, whichever propagator writes it.
        let entries = [("long", ",".repeat(2_700)), ("short", ",".repeat(30)), ("other", ",".repeat(60))];
        let entries = entries.map(|(name, value)| opentelemetry::KeyValue::new(name, value));
        let _baggage = Context::new().with_baggage(entries).attach();
        let headers = sent();
        assert_eq!(names(&headers), ["baggage", "traceparent"]);
        let mut entries: Vec<_> = headers.0["baggage"].split(',').collect();
        entries.sort_unstable();
        assert_eq!(entries, [format!("other={}", "%2C".repeat(60)), format!("short={}", "%2C".repeat(30))]);
    }
    // Writes the trace's id into a header of its own.
    let own = Functions::named(&["x-own"]).inject(|context, headers| {
        headers.set("x-own", context.span().span_context().trace_id().to_string());
    });
    global::set_text_map_propagator(own);
    assert_eq!(names(&sent()), ["x-own"]);
    global::set_text_map_propagator(w3c());
    assert_eq!(names(&sent()), ["traceparent"]);
    // One that reads a header which it does not name.
    global::set_text_map_propagator(Zipkin::new());
    let b3 = HeaderMap::default().with("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1");
    assert_eq!(names(&sent_with(b3)), ["x-b3-sampled", "x-b3-spanid", "x-b3-traceid"]);
    // One that cannot even name its headers costs the message its context, and nothing else.
    global::set_text_map_propagator(Nameless);
    assert_eq!(names(&sent()), [""; 0]);
}
