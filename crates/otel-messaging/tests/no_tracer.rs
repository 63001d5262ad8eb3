//! Neither a tracer nor a propagator: W3C's headers stand in for nobody. In a process of its own, where none of both is ever
//! installed globally.

#[allow(dead_code, reason = "the other test binaries use the rest of it")]
mod queue;

use support::heard;

use queue::*;

fn arriving() -> HeaderMap {
    let headers = sent();
    headers.with("baggage", "tenant=7")
}

/// A client that follows the globals and has not looked for a tracer yet.
fn fresh(configure: impl FnOnce(InstrumentationBuilder) -> InstrumentationBuilder) -> Queue {
    let mut queue = Queue::new(configure(Instrumentation::builder()).build());
    queue.messages.push_back((arriving(), "1".to_owned()));
    queue
}

/// Its first message, which is delivered in the hope of a tracer.
fn first(queue: &mut Queue) -> Message {
    let message = queue.pop().unwrap();
    assert!(message.process_span().is_some());
    message
}

/// The span and the baggage of a context.
fn recorded(context: &Context) -> (String, usize) {
    (context.span().span_context().span_id().to_string(), context.baggage().len())
}

#[test]
fn without_a_tracer_nothing_is_written_and_calls_are_the_clients() {
    let said = heard(|| {
        let app = Sdk::new();
        let request = app.app_span("request").with_baggage([KeyValue::new("tenant", "7")]);
        let _current = request.attach();
        let mut queue = fresh(|builder| builder);
        queue.messages.clear();
        queue.push("1").unwrap();
        queue.push("2").unwrap();
        assert!(queue.telemetry.start_operation().is_none());
        let replacing = |builder: InstrumentationBuilder| builder.with_carried_context(CarriedContext::Replace);
        let mut forwarding = fresh(replacing);
        forwarding.messages.clear();
        forwarding.push_with(arriving(), "3").unwrap();
        let headers: Vec<_> =
            queue.messages.into_iter().chain(forwarding.messages).map(|(headers, _)| headers).collect();
        assert_eq!(headers, [HeaderMap::default(), HeaderMap::default(), arriving()]);
        assert_eq!(Queue::bare().create(), HeaderMap::default());
    });
    assert!(!said.contains("messaging.propagator"), "{said}");
}

#[test]
fn without_a_tracer_a_handler_sees_nothing_of_what_was_sent() {
    let nothing = recorded(&Context::new());
    let message = first(&mut fresh(|builder| builder));
    assert_eq!(recorded(&message.otel_context()), nothing);
    message.in_scope(|| assert_eq!(recorded(&Context::current()), nothing));

    let mut queue = fresh(|builder| builder.with_correlation(Correlation::Parent));
    let batch = [first(&mut queue)];
    block_on(process_batch(&batch, || async { assert_eq!(recorded(&Context::current()), nothing) }));
    assert_eq!(recorded(&batch[0].otel_context()), nothing);
}

#[test]
fn without_a_tracer_what_was_current_stays_so_in_a_handler() {
    let app = Sdk::new();
    let loops = app.app_span("loop").with_baggage([KeyValue::new("own", "1"), KeyValue::new("loop", "1")]);
    let _current = loops.clone().attach();
    for correlation in [Correlation::ParentIfNoAmbient, Correlation::Parent, Correlation::Link] {
        let message = first(&mut fresh(|builder| builder.with_correlation(correlation)));
        assert_eq!(recorded(&message.otel_context()), recorded(&loops), "{correlation:?}");
    }
}
