//! How long a message waits for its handler: no part of its process span.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime},
};

use futures::stream;
use opentelemetry::Value;

use crate::queue::*;

/// Longer than what a span tells.
const WAIT: Duration = Duration::from_millis(20);

fn popped(sdk: &Sdk, messages: usize) -> (Queue, Vec<Message>) {
    let mut queue = Queue::new(sdk.all_signals_builder().build());
    queue.fill(messages);
    let messages = queue.pop_all();
    (queue, messages)
}

fn waited(attributes: &[KeyValue]) -> Option<f64> {
    match attributes.iter().find(|one| one.key.as_str() == extension::WAIT_TIME)?.value {
        Value::F64(seconds) => Some(seconds),
        ref other => panic!("{other:?} is no number"),
    }
}

fn waits(sdk: &Sdk) -> (u64, f64) {
    sdk.histogram(extension::WAIT_TIME)
}

fn processed(sdk: &Sdk) -> Vec<SpanData> {
    sdk.named("process orders")
}

#[test]
fn span_and_measurement_begin_with_the_handler_and_have_the_wait() {
    let handlers: [fn(&Message); 2] =
        [|message| block_on(message.process(|| async {})), |message| message.in_scope(|| ())];
    for handle in handlers {
        let sdk = Sdk::new();
        let before = SystemTime::now();
        let (_queue, messages) = popped(&sdk, 1);
        let delivered_at = SystemTime::now();
        thread::sleep(WAIT);
        let started = SystemTime::now();
        handle(&messages[0]);
        let span = &sdk.only("process orders");
        assert!(span.start_time >= started, "it begins with the handler");
        let wait = waited(&span.attributes).expect("it waited");
        let (shortest, longest) = (started.duration_since(delivered_at), span.start_time.duration_since(before));
        assert!(wait >= shortest.unwrap().as_secs_f64() && wait <= longest.unwrap().as_secs_f64(), "{wait}");
        assert_eq!(waits(&sdk), (1, wait));
        let took = span.end_time.duration_since(span.start_time).unwrap().as_secs_f64();
        assert_eq!(sdk.histogram(metric::PROCESS_DURATION), (1, took), "the measurement begins with the handler too");
    }
}

#[test]
fn a_second_handler_changes_nothing() {
    let sdk = Sdk::new();
    let (_queue, messages) = popped(&sdk, 1);
    messages[0].in_scope(|| ());
    let first = processed(&sdk);
    thread::sleep(WAIT);
    messages[0].in_scope(|| ());
    assert_eq!(waits(&sdk).0, 1);
    assert_eq!(processed(&sdk).len(), 1);
    assert_eq!(processed(&sdk)[0].start_time, first[0].start_time);
}

#[test]
fn a_wait_of_less_than_a_millisecond_is_measured_and_not_on_the_span() {
    // A busy machine may make it longer: then the span tells.
    let sdk = Sdk::new();
    let (_queue, messages) = popped(&sdk, 50);
    messages.iter().for_each(|message| message.in_scope(|| ()));
    let recorded = processed(&sdk).iter().filter_map(|span| waited(&span.attributes)).collect::<Vec<_>>();
    assert!(recorded.iter().all(|wait| *wait >= 0.001), "{recorded:?}");
    assert_eq!(waits(&sdk).0, 50);
    let longer = waits(&sdk).1;
    assert!(longer >= recorded.iter().sum(), "{longer} s in all, of which the spans tell {recorded:?}");
}

#[test]
fn where_the_stream_calls_the_handler_the_delivery_is_its_start() {
    let (sdk, mut queue) = observed();
    queue.fill(3);
    let messages = stream::poll_fn(|_| queue.pop().into());
    block_on(messages.process_each(2, async |_| tokio::task::yield_now().await));
    assert_eq!(processed(&sdk).len(), 3);
    assert!(processed(&sdk).iter().all(|span| waited(&span.attributes).is_none()));
    assert_eq!(waits(&sdk).0, 0);
}

#[test]
fn a_span_that_something_needed_before_begins_with_the_delivery() {
    let needs: [fn(&mut Queue) -> Message; 3] = [
        |queue| {
            let message = queue.pop().unwrap();
            let _given_away = message.otel_context();
            message
        },
        |queue| {
            let message = queue.pop().unwrap();
            message.ack();
            message
        },
        |queue| sequential_blocking(|| queue.pop().unwrap()),
    ];
    for need in needs {
        let (sdk, mut queue) = observed();
        queue.push("1").unwrap();
        let message = need(&mut queue);
        let delivered_at = SystemTime::now();
        thread::sleep(WAIT);
        message.in_scope(|| ());
        let span = &sdk.only("process orders");
        assert!(span.start_time <= delivered_at);
        assert_eq!((waited(&span.attributes), waits(&sdk).0), (None, 0));
    }
}

#[test]
fn a_message_that_nobody_handles_begins_with_the_delivery() {
    let sdk = Sdk::new();
    let (_queue, messages) = popped(&sdk, 1);
    let delivered_at = SystemTime::now();
    thread::sleep(WAIT);
    drop(messages);
    let span = &sdk.only("process orders");
    assert!(span.start_time <= delivered_at && span.end_time >= delivered_at + WAIT);
    assert_eq!((waited(&span.attributes), waits(&sdk).0), (None, 0));
}

#[test]
fn each_message_of_a_batch_says_on_its_link_how_long_it_waited() {
    let (sdk, mut queue) = observed();
    queue.fill(2);
    let mut messages = vec![queue.pop().unwrap()];
    thread::sleep(WAIT);
    messages.push(queue.pop().unwrap());
    thread::sleep(WAIT);
    block_on(process_batch(&messages, || async {}));
    let batch = &sdk.only("process orders");
    assert_eq!(waited(&batch.attributes), None, "they are the messages' own");
    let recorded: Vec<_> = batch.links.iter().map(|link| waited(&link.attributes).unwrap()).collect();
    assert!(
        recorded[0] >= 2.0 * WAIT.as_secs_f64() && recorded[1] >= WAIT.as_secs_f64() && recorded[0] > recorded[1],
        "{recorded:?}"
    );
    let (count, seconds) = waits(&sdk);
    assert_eq!(count, 2);
    assert!((seconds - recorded.iter().sum::<f64>()).abs() < 1e-9, "{seconds}");
}

#[test]
fn samplers_see_the_wait_and_what_they_drop_is_measured() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = asked.clone();
    let sdk = Sdk::with_sampler(Samples(move |_: &str, _: &SpanKind, attributes: &[KeyValue], links: &[Link]| {
        let links = links.iter().flat_map(|link| waited(&link.attributes));
        notes.lock().unwrap().extend(waited(attributes).into_iter().chain(links));
        (SamplingDecision::Drop, TraceState::NONE)
    }));
    let (_queue, messages) = popped(&sdk, 3);
    thread::sleep(WAIT);
    messages[0].in_scope(|| ());
    block_on(process_batch(&messages[1..], || async {}));
    let seen = asked.lock().unwrap().clone();
    assert_eq!(seen.len(), 3, "one on a span, two on links: {seen:?}");
    assert_eq!(waits(&sdk).0, 3);
    assert!(sdk.spans().is_empty());
    // Without any tracer too.
    let out = Sdk::with_sampler(Sampler::AlwaysOff);
    let mut queue = Queue::new(out.all_signals_builder().with_spans(false).build());
    queue.push("1").unwrap();
    queue.pop().unwrap().in_scope(|| ());
    assert_eq!(waits(&out).0, 1);
}
