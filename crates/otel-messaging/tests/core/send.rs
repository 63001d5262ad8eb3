use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{Sender, channel},
    thread,
    time::SystemTime,
};

use otel_messaging::adapter::{HeaderBudget, Headers};

use crate::queue::*;

#[test]
fn a_send_has_its_calls_parent_and_its_context_travels() {
    let (sdk, mut queue) = traced();
    let request = sdk.app_span("request");
    {
        let _current = request.clone().with_baggage([KeyValue::new("tenant.id", "7")]).attach();
        queue.push_with(HeaderMap::default().with("colour", "green"), "1").unwrap();
    }
    request.span().end();
    sdk.assert([app("request"), push().child_of("request")]);
    let span = &sdk.spans()[1].span_context;
    let expected = HeaderMap::default()
        .with("colour", "green")
        .with("baggage", "tenant.id=7")
        .with("traceparent", &format!("00-{}-{}-01", span.trace_id(), span.span_id()));
    assert_eq!(queue.messages[0], (expected, "1".to_owned()));
}

#[test]
fn a_refused_send_says_so_and_only_then() {
    let (sdk, mut queue) = traced();
    queue.capacity = 1;
    queue.push("1").unwrap();
    assert_eq!(queue.push("2"), Err("the queue is full"));
    sdk.assert([push(), push().error("queue_full", "the queue is full")]);
}

#[test]
fn a_send_whose_context_the_message_cannot_carry_is_a_client_span() {
    let (sdk, queue) = traced();
    queue.begin_push().succeed();

    let mut queue = Queue::new(sdk.instrumentation_builder().with_propagation(Propagation::Off).build());
    queue.push("1").unwrap();
    assert_eq!(queue.messages[0].0, HeaderMap::default());
    sdk.assert(vec![push().kind(SpanKind::Client); 2]);
}

/// Headers of a message that takes only so much.
struct Narrow(HeaderMap, HeaderBudget);

impl Injector for Narrow {
    fn set(&mut self, key: &str, value: String) {
        self.0.set(key, value);
    }
}

impl Extractor for Narrow {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys()
    }
}

impl Headers for Narrow {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn header_budget(&self) -> HeaderBudget {
        self.1
    }
}

/// Sends a message with room for so many bytes in headers, each of which takes five beside; what is in its headers then.
fn sent_with_room(sdk: &Sdk, bytes: usize) -> Vec<String> {
    let queue = Queue::new(sdk.instrumentation());
    let mut headers = Narrow(HeaderMap::default(), HeaderBudget::new(bytes, 5));
    queue.telemetry.send(queue.start(), &queue.operation(PUSH), Some(&mut headers), |_| ()).succeed();
    headers.0.0.into_keys().collect()
}

#[test]
fn a_context_is_written_where_there_is_room_to_the_byte() {
    let sdk = Sdk::new();
    let headers = sent().with("tracestate", "vendor=1,other=22");
    let request = sdk.app_span_in("request", &TextMapPropagator::extract(&support::w3c(), &headers));
    let _current = request.clone().with_baggage([KeyValue::new("tenant.id", "7")]).attach();
    let needed = [("traceparent", 55), ("tracestate", "vendor=1,other=22".len()), ("baggage", "tenant.id=7".len())];
    let needed = needed.iter().map(|(name, value)| name.len() + value + 5).sum::<usize>();
    assert_eq!(sent_with_room(&sdk, needed), ["baggage", "traceparent", "tracestate"]);
    assert_eq!(sent_with_room(&sdk, needed - 1), [""; 0]);
    sdk.assert([push(), push().kind(SpanKind::Client)].map(|push| push.child_of(&request)));
}

#[test]
fn baggage_that_is_cut_is_measured_as_it_is_written() {
    let sdk = Sdk::new();
    let entries = [("long", ",".repeat(2_729)), ("short", "1".to_owned())];
    let baggage = entries.map(|(name, value)| opentelemetry::KeyValue::new(name, value));
    let _current = Context::new().with_baggage(baggage).attach();
    let needed = "traceparent".len() + 55 + 5 + "baggage".len() + "short=1".len() + 5;
    assert_eq!(sent_with_room(&sdk, needed), ["baggage", "traceparent"]);
    assert_eq!(sent_with_room(&sdk, needed - 1), [""; 0]);
    sdk.assert([push(), push().kind(SpanKind::Client)]);
}

#[test]
fn baggage_of_any_propagator_is_cut_also_in_a_message_that_is_sent_later() {
    // Writes what it likes, by a name that it writes otherwise.
    let lavish = Functions::named(&[]).inject(|_, headers| {
        headers.set("Baggage", format!("a={},b=2", "x".repeat(9_000)));
        headers.set("x-own", "x".repeat(9_000));
    });
    let (_sdk, mut queue) = configured(|builder| builder.with_propagation(Propagation::custom(lavish)));
    queue.push("1").unwrap();
    let expected = HeaderMap::default().with("Baggage", "b=2").with("x-own", &"x".repeat(9_000));
    assert_eq!([&queue.messages[0].0, &queue.create()], [&expected; 2]);
}

#[test]
fn what_a_sampler_adds_does_not_make_a_message_too_large() {
    // As those do that sample by probability.
    let state = TraceState::from_key_value([("ot", "th:8")]).unwrap();
    let sampler =
        move |_: &str, _: &SpanKind, _: &[KeyValue], _: &[Link]| (SamplingDecision::RecordAndSample, state.clone());
    let sdk = Sdk::with_sampler(Samples(sampler));
    let traceparent = "traceparent".len() + 55 + 5;
    assert_eq!(sent_with_room(&sdk, traceparent), [""; 0]);
    let tracestate = "tracestate".len() + "ot=th:8".len() + 5;
    assert_eq!(sent_with_room(&sdk, traceparent + tracestate), ["traceparent", "tracestate"]);
}

#[test]
fn a_sampled_out_send_still_carries_its_context_unsampled() {
    let sdk = Sdk::with_sampler(Sampler::AlwaysOff);
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push("1").unwrap();
    let traceparent = &queue.messages[0].0.0["traceparent"];
    assert!(traceparent.ends_with("-00"), "{traceparent}");
    assert_eq!(sdk.spans().len(), 0);
}

#[test]
fn a_span_dropped_without_a_report_ends_once_with_its_outcome_unknown() {
    let (sdk, queue) = traced();
    drop(queue.begin_push());
    sdk.assert([push().kind(SpanKind::Client).attribute(extension::DELIVERY_OUTCOME_UNKNOWN, true)]);
}

#[test]
fn a_span_dropped_in_a_panic_is_an_error() {
    let (sdk, queue) = traced();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _span = queue.begin_push();
        panic!("a client's bug");
    }));
    assert!(unwound.is_err());
    sdk.assert([push().kind(SpanKind::Client).error("panic", "panicked")]);
}

#[test]
fn a_span_starts_at_the_call_and_not_when_it_is_made() {
    let (sdk, queue) = traced();
    let start = queue.start();
    let after_the_call = SystemTime::now();
    while SystemTime::now() <= after_the_call {}
    let operation = queue.operation(PUSH);
    queue.telemetry.send(start.clone(), &operation, None, |_| ()).succeed();
    drop(queue.telemetry.deliver(start, operation, Arrival::new(queue.source, None), |_| ()));
    for span in sdk.spans() {
        assert!(span.start_time <= after_the_call, "{} started late", span.name);
    }
    assert_eq!(sdk.spans().len(), 2);
}

#[test]
fn a_span_ends_when_its_adapter_says_it_did() {
    let (sdk, queue) = traced();
    let span = queue.begin_push();
    let answered = SystemTime::now();
    span.ended_at(answered).succeed();
    assert_eq!(sdk.spans()[0].end_time, answered);
}

#[test]
fn a_reply_is_linked_and_is_no_parent() {
    let (sdk, queue) = traced();
    let mut span = queue.begin_push();
    let [valid, malformed] = [sent(), HeaderMap::default().with("traceparent", "malformed")];
    let without = HeaderMap::default();
    for headers in [Some(&valid), Some(&malformed), Some(&without), None] {
        queue.telemetry.link_reply(&mut span, headers.map(|headers| headers as _), b"");
    }
    span.succeed();
    sdk.assert([push().kind(SpanKind::Client).link(&sender())]);
}

#[test]
fn a_send_while_its_thread_ends_succeeds_unrecorded() {
    /// A buffer that is flushed when its thread ends.
    struct Flushes(Queue, Sender<Result<(), &'static str>>);

    impl Drop for Flushes {
        fn drop(&mut self) {
            let _ = self.1.send(self.0.push("1"));
        }
    }

    thread_local! {
        static BUFFER: RefCell<Option<Flushes>> = const { RefCell::new(None) };
    }
    let (sdk, queue) = traced();
    let (sender, sent) = channel();
    let ended = thread::spawn(move || {
        // What a thread had first goes last: OpenTelemetry's current context is gone by then.
        BUFFER.set(Some(Flushes(queue, sender)));
        drop(Context::current());
    });
    ended.join().unwrap();
    assert_eq!(sent.recv(), Ok(Ok(())));
    assert_eq!(sdk.spans().len(), 0);
}
