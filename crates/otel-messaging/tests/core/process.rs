use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use futures::{FutureExt, future};
use otel_messaging::adapter::ClientSpan;

use crate::queue::*;

#[derive(Debug)]
struct Declined;

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the card was declined")
    }
}

#[test]
fn outside_a_span_a_message_is_a_linked_child_of_its_send() {
    let (sdk, _, message) = delivered();
    assert_eq!(message.id, "1");
    drop(message);
    sdk.assert([push(), process("1").child_of(0).link(0)]);
}

#[test]
fn a_handler_runs_inside_the_span_and_ends_it() {
    let (sdk, _, message) = delivered();
    let tracer = sdk.tracer();
    block_on(message.process(|| async { drop(tracer.start("work")) }));
    // The span ended before the message was dropped.
    let expected = || [push(), process("1").child_of(0).link(0), app("work").child_of(1)];
    sdk.assert(expected());
    drop(message);
    sdk.assert(expected());
    assert!(!Context::current().has_active_span());
}

#[test]
fn a_handler_s_error_is_the_span_s_and_comes_back_unchanged() {
    let (sdk, mut queue) = traced();
    queue.fill(3);
    let declined: Result<(), _> = block_on(queue.pop().unwrap().process(|| async { Err(Declined) }));
    assert!(matches!(declined, Err(Declined)));
    let declined: Result<(), _> = queue.pop().unwrap().in_scope(|| Err(Declined));
    assert!(matches!(declined, Err(Declined)));
    queue.pop().unwrap().fail(&Declined);
    let declined = std::any::type_name::<Declined>();
    let failed = |at: usize, of| process(of).child_of(at).link(at).error(declined, "the card was declined");
    sdk.assert([push(), push(), push(), failed(0, "1"), failed(1, "2"), failed(2, "3")]);
}

#[test]
fn a_span_ends_once_whatever_is_called_after() {
    let (sdk, _, message) = delivered();
    let copy = message.clone();
    message.end();
    message.fail(&Declined);
    message.in_scope(|| ());
    drop((message, copy));
    sdk.assert([push(), process("1").child_of(0).link(0)]);
}

#[test]
fn a_loop_that_breaks_off_leaves_no_span_open() {
    let (sdk, mut queue) = traced();
    queue.fill(2);
    let first_of = |queue: &mut Queue| -> Result<String, String> {
        while let Some(message) = queue.pop() {
            if message.id == "1" {
                continue;
            }
            return Err(message.id.clone());
        }
        Ok(String::new())
    };
    assert_eq!(first_of(&mut queue), Err("2".to_owned()));
    // What was not reported is no error.
    sdk.assert([push(), push(), process("1").child_of(0).link(0), process("2").child_of(1).link(1)]);
    let spans = sdk.spans();
    assert!(spans[2].end_time <= spans[3].start_time, "the first ended at its drop, not with the loop");
}

#[test]
fn an_empty_poll_has_no_span_and_none_starts_before_its_message() {
    let (sdk, mut queue) = configured(|builder| builder.with_receive_spans(true));
    let polled = queue.telemetry.start_operation().expect("there is a tracer");
    assert!(queue.pop().is_none());
    assert_eq!(sdk.spans().len(), 0);
    let message = queue.push_and_pop("1");
    let operation = queue.operation(PULL);
    queue.telemetry.polled(polled, &operation, message.process_span().unwrap(), |_| ());
    drop(message);
    sdk.assert([pull().link("push orders"), push(), process("1").child_of(1).link(1)]);
    let spans = sdk.spans();
    assert!(spans[2].start_time >= spans[1].end_time, "the process span waits for the message");
}

#[test]
fn a_span_lives_as_long_as_the_last_part_of_its_message() {
    let (sdk, _, message) = delivered();
    let part = message.clone();
    drop(message);
    assert_eq!(sdk.spans().len(), 1);
    drop(part);
    assert_eq!(sdk.spans().len(), 2);
}

#[test]
fn a_panic_is_an_error_of_the_span_wherever_it_happens() {
    let (sdk, mut queue) = traced();
    queue.fill(3);
    let boom = || -> () { panic!("a bug of the handler's") };
    let kept = [queue.pop().unwrap(), queue.pop().unwrap()];
    assert!(catch_unwind(AssertUnwindSafe(|| kept[0].in_scope(boom))).is_err());
    assert!(block_on(AssertUnwindSafe(kept[1].process(|| async { boom() })).catch_unwind()).is_err());
    let dropped = queue.pop().unwrap();
    let unwound = catch_unwind(AssertUnwindSafe(move || {
        let _message = dropped;
        boom();
    }));
    assert!(unwound.is_err());
    assert!(!Context::current().has_active_span());
    let panicked = |at: usize, of| process(of).child_of(at).link(at).error("panic", "panicked");
    sdk.assert([push(), push(), push(), panicked(0, "1"), panicked(1, "2"), panicked(2, "3")]);
}

#[test]
fn a_cancelled_handler_leaves_the_span_to_the_message() {
    let (sdk, _, message) = delivered();
    let mut handler = Box::pin(message.process(future::pending::<()>));
    assert!(block_on(future::poll_immediate(&mut handler)).is_none());
    drop(handler);
    assert_eq!(sdk.spans().len(), 1);
    block_on(message.process(|| async {}));
    assert_eq!(sdk.spans().len(), 2);
}

#[test]
fn a_settlement_is_a_child_noted_on_the_span_and_does_not_end_it() {
    let (sdk, _, message) = delivered();
    message.ack();
    message.settle(Settlement::AlreadySettled);
    assert_eq!(sdk.spans().len(), 3, "acknowledge, then work: the process span is still open");
    drop(message);
    let processed = process("1").child_of(0).link(0).settled("ack");
    sdk.assert([push(), processed, ack("ack").child_of(1), ack("already_settled").child_of(1)]);
}

#[test]
fn what_became_of_a_message_is_what_the_first_settlement_that_counts_says() {
    let (sdk, _, message) = delivered();
    // Two at a time: the answer to the second comes first, and says that it came second.
    let first = message.begin_settle().unwrap();
    message.settle(Settlement::AlreadySettled);
    first.settled(Settlement::Ack);
    drop(message);
    sdk.assert_contains(process("1").child_of(0).link(0).settled("ack"));
}

#[test]
fn a_message_whose_settlement_has_no_known_outcome_is_not_called_dropped() {
    for recorded in [ClientSpan::outcome_unknown as fn(ClientSpan), drop] {
        let (sdk, mut queue) = observed();
        queue.push("1").unwrap();
        let message = queue.pop_as("orders", |arrival| arrival.awaits_settlement(true)).unwrap();
        recorded(message.begin_settle().unwrap());
        drop(message);
        let settling =
            ack("").without(extension::SETTLEMENT_OUTCOME).attribute(extension::DELIVERY_OUTCOME_UNKNOWN, true);
        sdk.assert([push(), process("1").child_of(0).link(0), settling.child_of(1)]);
        assert!(!sdk.measured().contains("otel_messaging.deliveries"), "{}", sdk.measured());
    }
}

#[test]
fn after_the_sdk_s_end_the_context_that_came_is_handed_on() {
    let (sdk, mut queue) = traced();
    queue.push("1").unwrap();
    let headers = queue.messages[0].0.clone();
    sdk.provider().shutdown().unwrap();
    let message = queue.pop().unwrap();
    message.in_scope(|| queue.push("2")).unwrap();
    assert_eq!(queue.messages[0].0, headers);
}

#[test]
fn a_settlement_after_the_end_is_a_child_of_the_ended_span() {
    let (sdk, _, message) = delivered();
    block_on(message.process(|| async {}));
    message.ack();
    sdk.assert([push(), process("1").child_of(0).link(0), ack("ack").child_of(1)]);
}

#[test]
fn a_sampled_out_trace_stays_sampled_out_and_whole() {
    let sdk = Sdk::with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)));
    let mut queue = Queue::new(sdk.instrumentation());
    let message = queue.push_and_pop("1");
    message.in_scope(|| queue.push("2")).unwrap();
    message.ack();
    let trace_id = |headers: &HeaderMap| headers.0["traceparent"][3..35].to_owned();
    assert_eq!(trace_id(&queue.messages[0].0), trace_id(&message.headers));
    assert_eq!(sdk.spans().len(), 0);
}

#[test]
fn a_malformed_context_is_ignored_and_the_message_is_a_root() {
    let (sdk, mut queue) = traced();
    let long = "0".repeat(65_536);
    for value in ["", "00", "00-zz-zz-01", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", &long] {
        let message = queue.arrive(HeaderMap::default().with("traceparent", value));
        assert_eq!(message.headers.0["traceparent"], value);
    }
    sdk.assert(vec![process("1"); 5]);
}

#[test]
fn a_context_that_is_not_the_message_s_is_never_its_creation_context() {
    let sdk = Sdk::new();
    // What a server without a tracer of its own has current.
    let remote = TextMapPropagator::extract(&support::w3c(), &sent()).attach();
    drop(Queue::new(sdk.instrumentation()).arrive(HeaderMap::default()));
    drop(remote);
    // The no-op propagator extracts what is current.
    let around = sdk.app_span("loop");
    let _ambient = around.clone().attach();
    let no_op = Propagation::custom(opentelemetry::trace::noop::NoopTextMapPropagator::new());
    drop(Queue::new(sdk.instrumentation_builder().with_propagation(no_op).build()).arrive(HeaderMap::default()));
    sdk.assert([process("1").child_of(&sender()), process("1").child_of(&around)]);
}
