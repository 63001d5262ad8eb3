use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use futures::{FutureExt, future};
use opentelemetry::{
    Context,
    trace::{Status, TraceContextExt, Tracer},
};
use opentelemetry_sdk::trace::Sampler;
use otel_messaging::{
    Instrumentation, MessageExt, Propagation, ReceivedMessage,
    adapter::{ClientSpan, Destination, Settlement},
    semconv::{attribute, extension},
};
use support::{Sdk, attribute as value_of};

use crate::{
    block_on,
    queue::{HeaderMap, PULL, Queue},
};

#[derive(Debug)]
struct Declined;

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the card was declined")
    }
}

#[test]
fn outside_a_span_a_message_is_a_linked_child_of_its_send() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push("1").unwrap();
    assert_eq!(queue.pop().unwrap().id, "1");
    assert_eq!(
        sdk.described(),
        "\
push orders
  kind PRODUCER
  scope queue-adapter https://opentelemetry.io/schemas/1.44.0
  root
  status unset
  messaging.destination.name = \"orders\"
  messaging.operation.name = \"push\"
  messaging.operation.type = \"send\"
  messaging.system = \"queue\"
process orders
  kind CONSUMER
  scope queue-adapter https://opentelemetry.io/schemas/1.44.0
  parent push orders
  link push orders
  status unset
  messaging.destination.name = \"orders\"
  messaging.message.id = \"1\"
  messaging.operation.name = \"process\"
  messaging.operation.type = \"process\"
  messaging.system = \"queue\"
"
    );
}

#[test]
fn a_handler_runs_inside_the_span_and_ends_it() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push("1").unwrap();
    let message = queue.pop().unwrap();
    let tracer = sdk.tracer();
    block_on(message.process(|| async { drop(tracer.start("work")) }));
    assert_eq!(sdk.spans().len(), 3, "the span ended before the message was dropped");
    drop(message);
    let spans = sdk.spans();
    assert_eq!(spans.len(), 3);
    assert_eq!(spans[2].name, "work");
    assert_eq!(spans[2].parent_span_id, spans[1].span_context.span_id());
    assert!(!Context::current().has_active_span());
}

#[test]
fn a_handler_s_error_is_the_span_s_and_comes_back_unchanged() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    for id in ["1", "2", "3"] {
        queue.push(id).unwrap();
    }
    let declined: Result<(), _> = block_on(queue.pop().unwrap().process(|| async { Err(Declined) }));
    assert!(matches!(declined, Err(Declined)));
    let declined: Result<(), _> = queue.pop().unwrap().in_scope(|| Err(Declined));
    assert!(matches!(declined, Err(Declined)));
    queue.pop().unwrap().fail(&Declined);
    for span in &sdk.spans()[3..] {
        assert_eq!(span.status, Status::error("the card was declined"));
        assert_eq!(value_of(span, attribute::ERROR_TYPE).unwrap().as_str(), std::any::type_name::<Declined>());
    }
    assert_eq!(sdk.spans().len(), 6);
}

#[test]
fn a_span_ends_once_whatever_is_called_after() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push("1").unwrap();
    let message = queue.pop().unwrap();
    let copy = message.clone();
    message.end();
    message.fail(&Declined);
    message.in_scope(|| ());
    drop((message, copy));
    let spans = sdk.spans();
    assert_eq!(spans.len(), 2);
    assert_eq!(spans[1].status, Status::Unset);
}

#[test]
fn a_loop_that_breaks_off_leaves_no_span_open() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push("1").unwrap();
    queue.push("2").unwrap();
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
    let spans = sdk.spans();
    assert_eq!(spans.len(), 4, "{}", sdk.described());
    // What nobody reported is no error.
    assert!(spans.iter().all(|span| span.status == Status::Unset));
    assert!(spans[2].end_time <= spans[3].start_time, "the first ended at its drop, not with the loop");
}

#[test]
fn an_empty_poll_has_no_span_and_none_starts_before_its_message() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation_builder().with_receive_spans(true).build());
    let polled = queue.telemetry.start_operation().expect("there is a tracer");
    assert!(queue.pop().is_none());
    assert_eq!(sdk.spans().len(), 0);
    queue.push("1").unwrap();
    let message = queue.pop().unwrap();
    let operation = queue.telemetry.operation(PULL, &["orders"], || Destination::named("orders"));
    queue.telemetry.polled(polled, &operation, message.process_span().unwrap(), |_| ());
    drop(message);
    let spans = sdk.spans();
    let [pull, push, process] = &spans[..] else { panic!("{}", sdk.described()) };
    assert_eq!((&*pull.name, &*push.name, &*process.name), ("pull orders", "push orders", "process orders"));
    assert!(process.start_time >= push.end_time, "the process span waits for the message");
    assert_eq!(pull.links[0].span_context.span_id(), push.span_context.span_id());
}

#[test]
fn a_span_lives_as_long_as_the_last_part_of_its_message() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push("1").unwrap();
    let message = queue.pop().unwrap();
    let part = message.clone();
    drop(message);
    assert_eq!(sdk.spans().len(), 1);
    drop(part);
    assert_eq!(sdk.spans().len(), 2);
}

#[test]
fn a_panic_is_an_error_of_the_span_wherever_it_happens() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    for id in ["1", "2", "3"] {
        queue.push(id).unwrap();
    }
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
    for span in &sdk.spans()[3..] {
        assert_eq!(value_of(span, attribute::ERROR_TYPE).unwrap().as_str(), "panic");
    }
    assert_eq!(sdk.spans().len(), 6);
}

#[test]
fn a_cancelled_handler_leaves_the_span_to_the_message() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push("1").unwrap();
    let message = queue.pop().unwrap();
    let mut handler = Box::pin(message.process(future::pending::<()>));
    assert!(block_on(future::poll_immediate(&mut handler)).is_none());
    drop(handler);
    assert_eq!(sdk.spans().len(), 1);
    block_on(message.process(|| async {}));
    assert_eq!(sdk.spans().len(), 2);
}

#[test]
fn a_settlement_is_a_child_noted_on_the_span_and_does_not_end_it() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push("1").unwrap();
    let message = queue.pop().unwrap();
    message.ack();
    message.settle(Settlement::AlreadySettled);
    assert_eq!(sdk.spans().len(), 3, "acknowledge, then work: the process span is still open");
    drop(message);
    let spans = sdk.spans();
    let [_, process, ack, again] = &spans[..] else { panic!("{}", sdk.described()) };
    let outcome = |span| value_of(span, extension::SETTLEMENT_OUTCOME).map(|value| value.as_str().into_owned());
    assert_eq!(outcome(process).as_deref(), Some("ack"));
    assert_eq!(outcome(ack).as_deref(), Some("ack"));
    assert_eq!(outcome(again).as_deref(), Some("already_settled"));
    for settle in [ack, again] {
        assert_eq!(settle.name, "ack orders");
        assert_eq!(settle.parent_span_id, process.span_context.span_id());
        assert_eq!(settle.span_context.trace_id(), process.span_context.trace_id());
    }
}

#[test]
fn what_became_of_a_message_is_what_the_first_settlement_that_counts_says() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push("1").unwrap();
    let message = queue.pop().unwrap();
    // Two at a time: the second is told at once that it came second.
    let first = message.begin_settle().unwrap();
    message.settle(Settlement::AlreadySettled);
    first.settled(Settlement::Ack);
    drop(message);
    let process = sdk.spans().into_iter().find(|span| span.name == "process orders").unwrap();
    assert_eq!(value_of(&process, extension::SETTLEMENT_OUTCOME).unwrap().as_str(), "ack");
}

#[test]
fn a_message_whose_settlement_has_no_known_outcome_is_not_called_dropped() {
    for recorded in [ClientSpan::outcome_unknown as fn(ClientSpan), drop] {
        let sdk = Sdk::new();
        let mut queue = Queue::new(sdk.all_signals_builder().build());
        queue.push("1").unwrap();
        let message = queue.pop_as("orders", |arrival| arrival.awaits_settlement(true)).unwrap();
        recorded(message.begin_settle().unwrap());
        drop(message);
        let spans = sdk.spans();
        let [_, process, ack] = &spans[..] else { panic!("{}", sdk.described()) };
        assert_eq!(value_of(ack, extension::DELIVERY_OUTCOME_UNKNOWN), Some(&true.into()));
        assert_eq!(value_of(process, extension::SETTLEMENT_OUTCOME), None);
        assert!(!sdk.measured().contains("otel_messaging.deliveries"), "{}", sdk.measured());
    }
}

#[test]
fn after_the_sdk_s_end_the_context_that_came_is_handed_on() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push("1").unwrap();
    let headers = queue.messages[0].0.clone();
    sdk.provider().shutdown().unwrap();
    let message = queue.pop().unwrap();
    message.in_scope(|| queue.push("2")).unwrap();
    assert_eq!(queue.messages[0].0, headers);
}

#[test]
fn a_settlement_after_the_end_is_a_child_of_the_ended_span() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push("1").unwrap();
    let message = queue.pop().unwrap();
    block_on(message.process(|| async {}));
    message.ack();
    let spans = sdk.spans();
    let [_, process, ack] = &spans[..] else { panic!("{}", sdk.described()) };
    assert_eq!(ack.parent_span_id, process.span_context.span_id());
    assert_eq!(value_of(process, extension::SETTLEMENT_OUTCOME), None);
}

#[test]
fn a_sampled_out_trace_stays_sampled_out_and_whole() {
    let sdk = Sdk::with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)));
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push("1").unwrap();
    let message = queue.pop().unwrap();
    message.in_scope(|| queue.push("2")).unwrap();
    message.ack();
    let trace_id = |headers: &HeaderMap| headers.0["traceparent"][3..35].to_owned();
    assert_eq!(trace_id(&queue.messages[0].0), trace_id(&message.headers));
    assert_eq!(sdk.spans().len(), 0);
}

#[test]
fn a_malformed_context_is_ignored_and_the_message_is_a_root() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    let long = "0".repeat(65_536);
    for value in ["", "00", "00-zz-zz-01", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", &long] {
        queue.messages.push_back((HeaderMap::default().with("traceparent", value), "1".to_owned()));
        assert_eq!(queue.pop().unwrap().headers.0["traceparent"], value);
    }
    for span in sdk.spans() {
        assert_eq!(span.parent_span_id, opentelemetry::SpanId::INVALID);
        assert_eq!(span.links.len(), 0);
    }
    assert_eq!(sdk.spans().len(), 5);
}

#[test]
fn a_context_that_is_not_the_message_s_is_never_its_creation_context() {
    let sdk = Sdk::new();
    let remote = HeaderMap::default().with("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let remote = opentelemetry::propagation::TextMapPropagator::extract(&support::w3c(), &remote);
    {
        // What a server without a tracer of its own has current.
        let _ambient = remote.attach();
        let mut queue = Queue::new(sdk.instrumentation());
        queue.messages.push_back((HeaderMap::default(), "1".to_owned()));
        drop(queue.pop());
    }
    {
        // The no-op propagator extracts what is current.
        let _ambient = sdk.app_span("loop").attach();
        let no_op = opentelemetry::trace::noop::NoopTextMapPropagator::new();
        let mut queue = Queue::new(
            Instrumentation::builder()
                .with_tracer_provider(sdk.provider())
                .with_propagation(Propagation::custom(no_op))
                .build(),
        );
        queue.messages.push_back((HeaderMap::default(), "1".to_owned()));
        drop(queue.pop());
    }
    let spans = sdk.spans();
    let processed: Vec<_> = spans.iter().filter(|span| span.name == "process orders").collect();
    assert_eq!(processed.len(), 2);
    assert!(processed.iter().all(|span| span.links.is_empty()), "{}", sdk.described());
}
