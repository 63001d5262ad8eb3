//! Whatever of somebody else's panics, the message goes through and arrives, and no thread unwinds.

use std::{
    borrow::Cow,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, mpsc::channel},
    thread,
    time::Duration,
};

use opentelemetry::{
    InstrumentationScope,
    logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity},
    metrics::{Meter, MeterProvider},
    propagation::text_map_propagator::FieldIter,
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    logs::{SdkLogRecord, SdkLoggerProvider},
    trace::{SamplingResult, SdkTracerProvider, ShouldSample, Span, SpanExporter, SpanProcessor},
};
use support::{DEADLINE, w3c};

use crate::queue::*;

/// One for every trait of OpenTelemetry's that somebody may implement.
#[derive(Debug, Clone, Copy)]
struct Panics {
    on_start: bool,
}

impl SpanProcessor for Panics {
    fn on_start(&self, _: &mut Span, _: &Context) {
        assert!(!self.on_start, "a processor's bug");
    }

    fn on_end(&self, _: SpanData) {
        // Not both: the SDK ends a span that it could not start while it unwinds, and nobody can catch that.
        assert!(self.on_start, "a processor's bug");
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl SpanExporter for Panics {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        panic!("an exporter's bug");
    }
}

impl ShouldSample for Panics {
    fn should_sample(
        &self,
        _: Option<&Context>,
        _: TraceId,
        _: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        panic!("a sampler's bug");
    }
}

impl TextMapPropagator for Panics {
    fn inject_context(&self, _: &Context, _: &mut dyn Injector) {
        panic!("a propagator's bug");
    }

    fn extract_with_context(&self, _: &Context, _: &dyn Extractor) -> Context {
        panic!("a propagator's bug");
    }

    fn fields(&self) -> FieldIter<'_> {
        // A propagator that names its headers is asked for more than that.
        static FIELDS: std::sync::LazyLock<[String; 1]> = std::sync::LazyLock::new(|| ["x-vendor".to_owned()]);
        assert!(self.on_start, "a propagator's bug");
        FieldIter::new(&*FIELDS)
    }
}

impl MeterProvider for Panics {
    fn meter_with_scope(&self, _: InstrumentationScope) -> Meter {
        panic!("a meter provider's bug");
    }
}

impl LoggerProvider for Panics {
    type Logger = Self;

    fn logger_with_scope(&self, _: InstrumentationScope) -> Self {
        assert!(!self.on_start, "a logger provider's bug");
        *self
    }
}

impl Logger for Panics {
    type LogRecord = SdkLogRecord;

    fn create_log_record(&self) -> SdkLogRecord {
        let provider = SdkLoggerProvider::builder().build();
        let mut record = provider.logger("a logger's").create_log_record();
        record.set_body(AnyValue::from("a logger's"));
        record
    }

    fn emit(&self, _: SdkLogRecord) {
        panic!("a logger's bug");
    }

    fn event_enabled(&self, _: Severity, _: &str, _: Option<&str>) -> bool {
        true
    }
}

struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("an error's bug")
    }
}

/// Everything a message goes through, and that it does.
fn goes_through(what: &str, builder: InstrumentationBuilder) {
    let mut queue = Queue::new(builder.with_captured_headers(["*"]).build());
    let headers = || HeaderMap::default().with("colour", "green");
    for id in ["1", "2", "3"] {
        queue.push_with(headers(), id).unwrap_or_else(|full| panic!("{what}: {full}"));
    }
    let own = queue.messages.iter().map(|(headers, id)| (headers.0["colour"].as_str(), id.as_str()));
    assert_eq!(own.collect::<Vec<_>>(), [("green", "1"), ("green", "2"), ("green", "3")], "{what}");
    assert!(queue.create().0.len() <= 3, "{what}");

    let message = queue.pop_as("orders", |a| a.awaits_settlement(true)).unwrap();
    assert_eq!(message.in_scope(|| Ok::<_, String>(message.id.clone())).unwrap(), "1", "{what}");
    message.republish(|| queue.push_with(message.headers.clone(), "4")).unwrap();
    message.ack();
    drop(message);
    let failed = queue.pop_as("orders", |a| a.awaits_settlement(true)).unwrap();
    assert!(block_on(failed.process(|| async { Err::<(), _>(Unspeakable) })).is_err(), "{what}");
    drop(failed);
    let batch = [queue.pop().unwrap(), queue.pop().unwrap()];
    assert_eq!(block_on(process_batch(&batch, || async { Err::<(), _>("no disk") })), Err("no disk"), "{what}");
    assert_eq!(batch.each_ref().map(|message| &*message.id), ["3", "4"], "{what}");
    queue.capacity = 0;
    assert_eq!(queue.push("5"), Err("the queue is full"), "{what}");

    // In a drop that is part of an unwinding a second panic would abort the process.
    let operation = queue.telemetry.operation(PUSH, &[], || Destination::named("orders"));
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _span =
            queue.telemetry.start_operation().map(|start| queue.telemetry.send(start, &operation, None, |_| ()));
        let _batch = batch;
        panic!("a client's bug");
    }));
    assert!(unwound.is_err());
}

#[test]
fn no_message_is_lost_and_no_thread_unwinds() {
    let provider = SdkTracerProvider::builder;
    let traced = |provider: SdkTracerProvider| Instrumentation::builder().with_tracer_provider(provider);
    for on_start in [false, true] {
        let panics = Panics { on_start };
        goes_through(
            "processor",
            traced(provider().with_span_processor(panics).build()).with_propagation(Propagation::custom(w3c())),
        );
        let sdk = Sdk::new();
        goes_through("propagator", sdk.instrumentation_builder().with_propagation(Propagation::custom(panics)));
        // One that does not say which headers are its own may own any.
        assert_eq!(sdk.described().contains("green"), on_start, "{}", sdk.described());
        goes_through("logger", Sdk::new().instrumentation_builder().with_logger_provider(panics));
    }
    let panics = Panics { on_start: true };
    goes_through(
        "exporter",
        traced(provider().with_simple_exporter(panics).build()).with_propagation(Propagation::custom(w3c())),
    );
    goes_through(
        "sampler",
        traced(provider().with_sampler(panics).build()).with_propagation(Propagation::custom(w3c())),
    );
    goes_through("meter provider", Sdk::new().instrumentation_builder().with_meter_provider(panics));
}

#[test]
fn a_panicking_user_function_costs_only_its_own_result() {
    let kept = |what: &str, configure: fn(InstrumentationBuilder) -> InstrumentationBuilder| {
        let sdk = Sdk::new();
        goes_through(what, configure(sdk.all_signals_builder()));
        let text = sdk.described();
        assert_eq!(text.matches("push orders\n  kind").count(), 6, "{what}: {text}");
        assert_eq!(sdk.events().lines().count(), 4, "{what}: {}", sdk.events());
        assert!(sdk.measured().contains("messaging.process.duration"), "{what}");
        text
    };
    kept("hook", |b| b.with_operation_hook(|_, _| panic!("a hook's bug")));
    kept("filter", |b| b.with_filter(|_| panic!("a filter's bug")));
    kept("template", |b| b.with_destination_template(|_| panic!("a template's bug")));
    let text =
        kept("error type", |b| b.with_error_type(|_, _| -> Option<Cow<'static, str>> { panic!("a namer's bug") }));
    assert!(text.contains("error.type = \"&str\""), "the type's name stands in: {text}");
    let text = kept("redactor", |b| b.with_redaction(|_, _| panic!("a redactor's bug")));
    assert!(!text.contains("green"), "what could not be redacted is not shown: {text}");
}

#[test]
fn what_a_span_s_start_calls_may_ask_for_its_message() {
    // A sampler that enriches spans by the message in hand, whose span it may be that begins.
    let in_hand = Arc::new(Mutex::new(None::<Message>));
    let asked = in_hand.clone();
    let sdk = Sdk::with_sampler(Samples(move |_: &str, _: &SpanKind, _: &[KeyValue], _: &[Link]| {
        let asked = asked.lock().unwrap().take();
        if let Some(message) = asked {
            message.in_scope(|| ());
            assert_eq!(message.otel_context().baggage().len(), 1);
            message.process_span().unwrap().settled(Settlement::Ack);
            block_on(process_batch(&[message], || async {}));
        }
        (SamplingDecision::RecordAndSample, TraceState::NONE)
    }));
    let mut queue = Queue::new(sdk.instrumentation());
    let (done, ended) = channel();
    // What waits for itself waits for ever.
    let worker = thread::spawn(move || {
        let message = queue.arrive(HeaderMap::default().with("baggage", "tenant.id=7"));
        *in_hand.lock().unwrap() = Some(message.clone());
        assert!(message.otel_context().span().is_recording());
        drop(message);
        done.send(()).unwrap();
    });
    ended.recv_timeout(DEADLINE).expect("no thread hangs");
    worker.join().unwrap();
    assert_eq!(sdk.names(), ["process orders", "process orders"], "the batch's, and the message's own");
}
