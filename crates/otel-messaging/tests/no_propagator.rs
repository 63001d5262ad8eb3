//! A global tracer and no propagator: W3C's headers travel, and somebody has to say so. One test, in a process of its own,
//! because it installs the globals and the log as a service does.

#![cfg(feature = "internal-logs")]

#[allow(dead_code, reason = "the other test binaries use the rest of it")]
mod queue;

use std::{io, mem, sync::Mutex};

use opentelemetry::global;
use support::heard;
use tracing::subscriber::with_default;

use queue::*;

const NOTE: &str = "messaging.propagator.default";

/// Where the service's log goes.
struct Log;

static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What it says since it was last asked.
fn logged() -> String {
    String::from_utf8(mem::take(&mut *LOGGED.lock().unwrap())).unwrap()
}

/// Writes a trace's id into a header of its own and reads it from there.
fn own() -> Functions {
    Functions::named(&["x-own"])
        .inject(|context, headers| headers.set("x-own", context.span().span_context().trace_id().to_string()))
        .extract(|context, headers| {
            context.with_baggage(headers.get("x-own").map(|own| KeyValue::new("own", own.to_owned())))
        })
}

/// What is sent inside a request with baggage.
fn sent(sdk: &Sdk, queue: &mut Queue) -> HeaderMap {
    let request = sdk.app_span("request").with_baggage([KeyValue::new("tenant", "7")]);
    let _current = request.attach();
    queue.push("1").unwrap();
    queue.messages.back().unwrap().0.clone()
}

/// How often it was noted by a client with such an instrumentation that sent and received three messages.
fn notes(configure: fn(InstrumentationBuilder) -> InstrumentationBuilder) -> usize {
    let heard = heard(|| {
        let mut queue = Queue::new(configure(Instrumentation::builder()).build());
        (0..3).for_each(|_| queue.push("1").unwrap());
        while let Some(message) = queue.pop() {
            message.in_scope(|| ());
        }
    });
    heard.lines().filter(|line| line.contains(NOTE)).count()
}

#[test]
fn without_a_propagator_w3c_s_headers_travel_and_the_first_message_says_so() {
    tracing_subscriber::fmt().with_writer(|| Log).with_ansi(false).init();
    let sdk = Sdk::new();

    // Delivered before the SDK is installed, and processed after.
    let mut early = Queue::bare();
    let sender = queue::sent();
    early.messages.push_back((sender.with("baggage", "tenant=6"), "0".to_owned()));
    let message = early.pop().unwrap();
    assert_eq!(logged(), "");
    global::set_tracer_provider(sdk.provider());
    message.in_scope(|| assert_eq!(Context::current().baggage().get("tenant"), Some(&"6".into())));
    assert_eq!(sdk.spans()[0].parent_span_id.to_string(), "00f067aa0ba902b7");
    assert_eq!(logged().lines().filter(|line| line.contains(NOTE)).count(), 1);
    sdk.forget();

    // The very first message, of a client that does not know yet that the tracer is real.
    let mut queue = Queue::bare();
    let headers = sent(&sdk, &mut queue);
    let said = logged();
    let [line] = said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
    assert!(
        line.contains(" INFO otel-messaging: ") && line.contains(NOTE) && line.contains("Propagation::Off"),
        "{line}"
    );
    let push = &sdk.only("push orders");
    assert_eq!(push.span_kind, SpanKind::Producer);
    let traceparent = format!("00-{}-{}-01", push.span_context.trace_id(), push.span_context.span_id());
    assert_eq!(headers, HeaderMap::default().with("traceparent", &traceparent).with("baggage", "tenant=7"));

    // The consumer is another client: it reads them at once, and notes once for itself.
    let mut consumer = Queue::bare();
    for _ in 0..2 {
        sent(&sdk, &mut queue);
    }
    consumer.messages = mem::take(&mut queue.messages);
    while let Some(message) = consumer.pop() {
        message.in_scope(|| assert_eq!(Context::current().baggage().get("tenant"), Some(&"7".into())));
    }
    let spans = sdk.spans();
    let processed: Vec<_> = spans.iter().filter(|span| span.name == "process orders").collect();
    assert_eq!(processed.len(), 3);
    for process in processed {
        let sender = spans.iter().find(|span| span.span_context.span_id() == process.parent_span_id);
        assert_eq!(sender.map(|span| &*span.name), Some("push orders"));
        assert_eq!(
            process.links.iter().map(|link| link.span_context.span_id()).collect::<Vec<_>>(),
            [process.parent_span_id]
        );
    }
    assert_eq!(logged().lines().filter(|line| line.contains(NOTE)).count(), 1);

    // A message that is made now and sent later, by a filter of logs that says so.
    let filtered = tracing_subscriber::fmt().with_env_filter("info").with_writer(|| Log).with_ansi(false).finish();
    with_default(filtered, || assert_eq!(Queue::bare().create().names(), ["traceparent"]));
    assert!(logged().contains(NOTE));

    // Whose spans go somewhere of their own.
    let explicit = heard(|| {
        let mut queue = Queue::new(Instrumentation::builder().with_tracer_provider(sdk.provider()).build());
        assert_eq!(sent(&sdk, &mut queue).names(), ["baggage", "traceparent"]);
    });
    assert_eq!(explicit.lines().filter(|line| line.contains(NOTE)).count(), 1, "{explicit}");
    let explicit = heard(|| {
        let mut queue = Queue::new(Instrumentation::builder().with_tracer_provider(sdk.provider()).build());
        queue.messages.push_back((headers.clone(), "1".to_owned()));
        assert_eq!(
            queue.pop().unwrap().process_span().unwrap().creation().unwrap().span_id(),
            push.span_context.span_id()
        );
    });
    assert_eq!(explicit.lines().filter(|line| line.contains(NOTE)).count(), 1, "{explicit}");

    assert_eq!(notes(|builder| builder), 1);
    assert_eq!(notes(|builder| builder.with_propagation(Propagation::W3c)), 0);
    assert_eq!(notes(|builder| builder.with_propagation(Propagation::Off)), 0, "it is meant so");
    assert_eq!(notes(|builder| builder.with_propagation(Propagation::custom(own()))), 0);
    assert_eq!(notes(|builder| builder.with_spans(false)), 0);
    for quiet in
        [Instrumentation::builder().with_propagation(Propagation::Off), Instrumentation::builder().with_spans(false)]
    {
        let mut queue = Queue::new(quiet.build());
        assert_eq!(sent(&sdk, &mut queue), HeaderMap::default());
        queue.messages = [(headers.clone(), "1".to_owned())].into();
        queue.pop().unwrap().in_scope(|| {
            let current = Context::current();
            assert!(current.baggage().is_empty());
            assert_ne!(current.span().span_context().trace_id(), push.span_context.trace_id());
        });
    }
    let off: Vec<_> = sdk.spans().into_iter().filter(|span| span.name == "push orders").collect();
    assert_eq!(off.last().unwrap().span_kind, SpanKind::Client);

    // What a filter keeps quiet hands contexts on all the same.
    let filtered = Instrumentation::builder().with_tracer_provider(sdk.provider()).with_filter(|_| false).build();
    assert_eq!(sent(&sdk, &mut Queue::new(filtered)).names(), ["baggage", "traceparent"]);

    // One that is installed later takes over at the next message, both ways.
    logged();
    global::set_text_map_propagator(own());
    assert_eq!(sent(&sdk, &mut queue).names(), ["x-own"]);
    let with_both = headers.clone().with("x-own", "theirs");
    consumer.messages.push_back((with_both, "1".to_owned()));
    let message = consumer.pop().unwrap();
    assert_eq!(message.process_span().unwrap().creation(), None);
    assert_eq!(message.otel_context().baggage().get("own"), Some(&"theirs".into()));
    assert_eq!(notes(|builder| builder), 0);
    assert_eq!(logged(), "");
}
