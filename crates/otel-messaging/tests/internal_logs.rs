//! What is said through the logs of OpenTelemetry's own components: the warning about a span that is held open around a
//! consumer's loop, the note on a context that is none. In a process of its own, because others say something too.

#![cfg(feature = "internal-logs")]

#[allow(dead_code, reason = "the other test binaries use the rest of it")]
mod queue;

use opentelemetry::global;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use otel_messaging::AutoCorrelation;
use tracing::{Event, Subscriber, subscriber::with_default};
use tracing_subscriber::{
    Layer,
    layer::{self, SubscriberExt},
    registry,
};

use queue::*;

/// What a client says meanwhile under this name.
fn said(
    name: &str,
    configure: impl FnOnce(InstrumentationBuilder) -> InstrumentationBuilder,
    work: impl FnOnce(&Sdk, &mut Queue),
) -> Vec<String> {
    let heard = support::heard(|| {
        let sdk = Sdk::new();
        let mut queue = Queue::new(configure(sdk.instrumentation_builder()).build());
        work(&sdk, &mut queue);
    });
    heard.lines().filter(|line| line.contains(name)).map(str::to_owned).collect()
}

/// What it is warned of.
fn warnings(
    configure: impl FnOnce(InstrumentationBuilder) -> InstrumentationBuilder,
    work: impl FnOnce(&Sdk, &mut Queue),
) -> Vec<String> {
    said("messaging.consumer.ambient_span", configure, work)
}

/// Takes one message inside a span.
fn take(queue: &mut Queue, destination: &str, inside: &Context) -> Message {
    let _attached = inside.clone().attach();
    let headers = sent();
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
    let warned = warnings(|builder| builder, in_one_span(5));
    let [warning] = &warned[..] else { panic!("{warned:#?}") };
    assert!(warning.contains("WARN otel-messaging:") && warning.contains("Correlation::Parent"), "{warning}");
    assert_eq!(warnings(|b| b.with_correlation(Correlation::Link), in_one_span(2)).len(), 1, "it grows the same way");
    let unseen = |sdk: &Sdk, queue: &mut Queue| {
        let held = sdk.app_span("loop");
        (0..2).for_each(|_| drop(take(queue, "orders", &held)));
    };
    assert_eq!(warnings(|builder| builder, unseen).len(), 1, "messages that nobody looks at");

    // No span grows.
    assert_eq!(warnings(|b| b.with_correlation(Correlation::Parent), in_one_span(2)), [""; 0]);
    assert_eq!(
        warnings(|b| b.with_correlation(Correlation::Auto(AutoCorrelation::default())), in_one_span(2)),
        [""; 0]
    );
    assert_eq!(warnings(|b| b.with_filter(|_| false), in_one_span(2)), [""; 0]);
    assert_eq!(warnings(|b| b.with_spans(false), in_one_span(2)), [""; 0]);
}

#[test]
fn a_request_that_takes_a_message_is_no_loop() {
    // One request after the other.
    let requests = |sdk: &Sdk, queue: &mut Queue| (0..3).for_each(|_| in_one_span(1)(sdk, queue));
    assert_eq!(warnings(|builder| builder, requests), [""; 0]);
    let of_two_consumers = |sdk: &Sdk, queue: &mut Queue| {
        let request = sdk.app_span("request");
        for destination in ["orders", "refunds"] {
            take(queue, destination, &request).in_scope(|| ());
        }
    };
    assert_eq!(warnings(|builder| builder, of_two_consumers), [""; 0]);
}

#[test]
fn two_loops_in_turns_are_two() {
    let in_turns = |sdk: &Sdk, queue: &mut Queue| {
        let loops = [sdk.app_span("one"), sdk.app_span("other")];
        for _ in 0..2 {
            loops.iter().for_each(|held| take(queue, "orders", held).in_scope(|| ()));
        }
    };
    assert_eq!(warnings(|builder| builder, in_turns).len(), 1);
}

#[test]
fn messages_of_a_batch_are_no_children_of_the_loop() {
    let in_batches = |sdk: &Sdk, queue: &mut Queue| {
        let held = sdk.app_span("loop");
        for _ in 0..2 {
            let batch = [take(queue, "orders", &held), take(queue, "orders", &held)];
            block_on(process_batch(&batch, || async {}));
        }
        assert_eq!(sdk.spans().len(), 2, "one for each batch");
    };
    assert_eq!(warnings(|builder| builder, in_batches), [""; 0]);
}

#[test]
fn a_malformed_context_is_logged_and_the_message_arrives() {
    global::set_text_map_propagator(TraceContextPropagator::new());
    let notes = |(name, value): (&str, &str), configure: fn(InstrumentationBuilder) -> InstrumentationBuilder| {
        let take_one = |_: &Sdk, queue: &mut Queue| {
            queue.messages.push_back((HeaderMap::default().with(name, value), "1".to_owned()));
            assert!(queue.pop().is_some());
        };
        said("messaging.extract.ignored", configure, take_one).len()
    };
    let ways: [fn(InstrumentationBuilder) -> InstrumentationBuilder; 3] =
        [|b| b.with_propagation(Propagation::W3c), |b| b.with_propagation(Propagation::Global), |given| given];
    for way in ways {
        assert_eq!(notes(("traceparent", "00-zz-zz-01"), way), 1);
        assert_eq!(notes(("traceparent", SENT), way), 0);
        assert_eq!(notes(("tracestate", "a=1"), way), 0, "none is there");
    }
}

#[test]
fn baggage_that_cannot_be_read_is_noted_and_the_message_arrives() {
    global::set_text_map_propagator(TraceContextPropagator::new());
    let notes = |baggage: &str, configure: fn(InstrumentationBuilder) -> InstrumentationBuilder| {
        let take_one = |_: &Sdk, queue: &mut Queue| {
            queue.messages.push_back((HeaderMap::default().with("baggage", baggage), "1".to_owned()));
            assert!(queue.pop().is_some());
        };
        said("messaging.extract.ignored", configure, take_one)
    };
    let many = |count: usize| (0..count).map(|number| format!("{number}=1")).collect::<Vec<_>>().join(",");
    let ways: [fn(InstrumentationBuilder) -> InstrumentationBuilder; 2] =
        [|b| b.with_propagation(Propagation::W3c), |given| given];
    for way in ways {
        for cannot in [many(65), format!("a={}", "x".repeat(8_191))] {
            let noted = notes(&cannot, way);
            assert!(matches!(&noted[..], [note] if note.contains("DEBUG") && note.contains("baggage")), "{noted:?}");
        }
        for can in [many(64), format!("a={}", "x".repeat(8_190)), "a=1, b=2;c".to_owned()] {
            assert_eq!(notes(&can, way), [""; 0]);
        }
    }
    // What one entry says, ours notes; others note theirs.
    for cannot in ["a=1,b", "a=%ff", "b\"=1", "a=1;%ff"] {
        assert_eq!(notes(cannot, ways[0]).len(), 1, "{cannot}");
    }
    assert_eq!(notes("a=1,,b=2,", ways[0]), [""; 0]);
    let long = many(65);
    assert_eq!(notes(&long, |builder| builder.with_propagation(Propagation::Global)), [""; 0], "it reads no baggage");
    assert_eq!(notes(&long, |builder| builder.with_propagation(Propagation::Off)), [""; 0]);
}

#[test]
fn baggage_that_is_left_out_is_noted_once() {
    let send = |_: &Sdk, queue: &mut Queue| {
        let entries = ["one", "other"].map(|name| KeyValue::new(name, ",".repeat(1_500)));
        for (baggage, left) in [(&entries[..], 1), (&entries[..1], 1), (&entries, 1)] {
            let _current = Context::new().with_baggage(baggage.to_vec()).attach();
            queue.push("1").unwrap();
            let written = &queue.messages.pop_front().unwrap().0.0["baggage"];
            assert_eq!(written.split(',').count(), left);
        }
    };
    let ways: [fn(InstrumentationBuilder) -> InstrumentationBuilder; 2] =
        [|b| b.with_propagation(Propagation::W3c), |given| given];
    for way in ways {
        let noted = said("messaging.baggage.left_out", way, send);
        assert!(matches!(&noted[..], [note] if note.contains("WARN otel-messaging:")), "{noted:?}");
    }
    let short = |_: &Sdk, queue: &mut Queue| {
        let _current = Context::new().with_baggage([KeyValue::new("one", "1")]).attach();
        queue.push("1").unwrap();
    };
    assert_eq!(said("messaging.baggage.left_out", ways[0], short), [""; 0]);
}

/// Where the logs go is full, and says so in the worst way.
struct Panics;

impl<S: Subscriber> Layer<S> for Panics {
    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        assert_ne!(event.metadata().target(), "otel-messaging", "a layer's bug");
    }
}

#[test]
fn a_log_that_panics_loses_no_message() {
    with_default(registry().with(Panics), || {
        let (sdk, mut queue) = configured(|builder| builder.with_propagation(Propagation::W3c));
        queue.messages.push_back((HeaderMap::default().with("traceparent", "00-zz-zz-01"), "1".to_owned()));
        assert!(queue.pop().is_some());
        in_one_span(3)(&sdk, &mut queue);
        assert_eq!(sdk.spans().len(), 5, "four messages, and the span around three of them");
    });
}
