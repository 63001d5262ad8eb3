//! What several threads do to one message, and to one client, at once. `make races` runs it under ThreadSanitizer.

#[allow(dead_code, reason = "the other test binaries use the rest of it")]
mod queue;

use std::{
    collections::{BTreeSet, HashSet},
    sync::Barrier,
    thread,
};

use opentelemetry::global;
use support::{eventually, w3c};

use queue::*;

const THREADS: usize = 4;

/// Runs each in a thread of its own, all from the same moment on.
fn at_once(works: impl IntoIterator<Item = impl FnOnce() + Send>) {
    let works: Vec<_> = works.into_iter().collect();
    let start = &Barrier::new(works.len());
    thread::scope(|scope| {
        for work in works {
            scope.spawn(move || {
                start.wait();
                work();
            });
        }
    });
}

/// The same client in another thread.
fn same_client(queue: &Queue) -> Queue {
    Queue { telemetry: queue.telemetry.clone(), ..Queue::bare() }
}

fn process(message: Message) {
    block_on(message.process(|| async {}));
}

#[test]
fn a_message_ends_once_whatever_is_done_to_it_at_once() {
    const MESSAGES: usize = 1_000;
    let (sdk, mut queue) = observed();
    let works: [fn(Message); 6] = [
        process,
        |message| message.in_scope(|| ()),
        |message| message.ack(),
        |message| drop(message.otel_context()),
        |message| message.process_span().unwrap().fail("declined", "the handler declined"),
        drop,
    ];
    for _ in 0..MESSAGES {
        queue.push("1").unwrap();
        let message = queue.pop_as("orders", |arrival| arrival.awaits_settlement(true)).unwrap();
        let parts = works.map(|_| message.clone());
        // The last of the others drops it.
        drop(message);
        at_once(works.into_iter().zip(parts).map(|(work, part)| move || work(part)));
    }

    let spans = sdk.spans();
    let of = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let (pushed, processed) = (of("push orders"), of("process orders"));
    assert_eq!(
        (pushed.len(), processed.len(), of("ack orders").len(), spans.len()),
        (MESSAGES, MESSAGES, MESSAGES, 3 * MESSAGES)
    );
    let traces = |spans: &[&SpanData]| spans.iter().map(|span| span.span_context.trace_id()).collect::<HashSet<_>>();
    assert_eq!(traces(&processed), traces(&pushed));

    // The span, its measurement and its event agree on who ended it.
    let failed = processed.iter().filter(|span| span.status != Status::Unset).count();
    assert_eq!(sdk.events().lines().count(), failed);
    assert_eq!(sdk.histogram("messaging.process.duration").0 as usize, MESSAGES);
    let measured = sdk.measured();
    let settled: Vec<_> = measured.lines().filter(|line| line.starts_with("otel_messaging.deliveries")).collect();
    assert!(matches!(&settled[..], [all] if all.ends_with(&format!("outcome = \"ack\"}} {MESSAGES}"))), "{measured}");
}

#[test]
fn threads_that_meet_a_destination_at_once_share_its_series_and_the_bound() {
    const DESTINATIONS: [&str; 4] = ["a", "b", "c", "d"];
    const CLIENTS: usize = 100;
    let sdk = Sdk::new();
    for _ in 0..CLIENTS {
        sdk.forget();
        let client = Queue::new(sdk.all_signals_builder().with_destination_limit(2).build());
        at_once((0..THREADS).map(|_| {
            let mut queue = same_client(&client);
            move || {
                for destination in DESTINATIONS {
                    queue.push_to(destination, HeaderMap::default(), "1", |_| ()).unwrap();
                    queue.pop_from(destination).unwrap().in_scope(|| ());
                }
            }
        }));
        let spans = sdk.spans();
        assert_eq!(spans.len(), 2 * THREADS * DESTINATIONS.len());
        let sends = spans.iter().map(|span| &*span.name).filter(|name| name.starts_with("push"));
        let mut names: Vec<_> = sends.collect();
        names.sort_unstable();
        // Two of four, and which is a matter of who came first; but those for all threads.
        let shown: BTreeSet<_> = names.iter().copied().collect();
        assert_eq!((shown.len(), shown.contains("push")), (3, true), "{names:?}");
        for name in &shown {
            let expected = if *name == "push" { 2 * THREADS } else { THREADS };
            assert_eq!(names.iter().filter(|other| *other == name).count(), expected, "{names:?}");
        }
    }
    for measured in ["messaging.client.operation.duration", "messaging.process.duration"] {
        assert_eq!(sdk.histogram(measured).0 as usize, CLIENTS * THREADS * DESTINATIONS.len(), "{measured}");
    }
}

#[test]
fn an_sdk_that_comes_late_is_found_by_every_thread() {
    let client = Queue::bare();
    let sdk = Sdk::new();
    let install = || {
        global::set_tracer_provider(sdk.provider());
        global::set_text_map_propagator(w3c());
    };
    let finds = || {
        let mut queue = same_client(&client);
        eventually("a message carries a context", || {
            queue.push("1").unwrap();
            queue.messages.pop_front().unwrap().0.0.contains_key("traceparent")
        });
    };
    let works: [&(dyn Fn() + Sync); THREADS + 1] = [&install, &finds, &finds, &finds, &finds];
    at_once(works);
    assert!(sdk.spans().len() >= THREADS);
}
