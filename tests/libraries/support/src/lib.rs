//! What every test needs: a real SDK with its spans in memory, and whole spans as text to compare.

use std::{
    collections::BTreeSet,
    fmt::Write,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use conventions::Convention;
use opentelemetry::{
    Context, InstrumentationScope, KeyValue, SpanId, Value,
    global::BoxedTracer,
    propagation::TextMapCompositePropagator,
    trace::{SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_sdk::{
    metrics::{SdkMeterProvider, data::ResourceMetrics},
    propagation::{BaggagePropagator, TraceContextPropagator},
    trace::{InMemorySpanExporter, Sampler, SdkTracerProvider, ShouldSample, SpanData},
};
use otel_messaging::{Instrumentation, InstrumentationBuilder, Propagation, semconv::extension};

use crate::signals::Signals;

pub mod contexts;
pub mod correlation;

mod cargo;
mod counting;
mod heard;
mod signals;

pub use crate::{
    cargo::cargo,
    counting::Counting,
    heard::{Heard, heard},
};

/// How long a test waits for what must happen.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Providers of a test's own, so that tests of one process do not see each other's spans.
///
/// When the last clone is dropped, all that was recorded is checked, whether the test looked at it or not.
#[derive(Debug, Clone)]
pub struct Sdk(Arc<Recorded>);

#[derive(Debug)]
struct Recorded {
    provider: SdkTracerProvider,
    exporter: InMemorySpanExporter,
    signals: Signals,
}

impl Sdk {
    /// Samples everything.
    #[must_use]
    pub fn new() -> Self {
        Self::with_sampler(Sampler::AlwaysOn)
    }

    /// Samples as told.
    #[must_use]
    pub fn with_sampler(sampler: impl ShouldSample + 'static) -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider =
            SdkTracerProvider::builder().with_sampler(sampler).with_simple_exporter(exporter.clone()).build();
        Self(Arc::new(Recorded { provider, exporter, signals: Signals::new() }))
    }

    /// An instrumentation that reports spans, metrics and events here, and speaks W3C trace context and baggage; to be
    /// configured further.
    pub fn all_signals_builder(&self) -> InstrumentationBuilder {
        self.0.signals.given_to(self.instrumentation_builder())
    }

    /// The meter provider, to install globally.
    #[must_use]
    pub fn meter_provider(&self) -> SdkMeterProvider {
        self.0.signals.meters.clone()
    }

    /// What was measured so far, one line for each series: name, unit, attributes, and the count.
    #[must_use]
    pub fn measured(&self) -> String {
        self.0.signals.measured()
    }

    /// What was measured so far, as the SDK has it.
    #[must_use]
    pub fn metrics(&self) -> Option<ResourceMetrics> {
        self.0.signals.metrics()
    }

    /// How often a histogram has measured something so far, and the sum of it.
    #[must_use]
    pub fn histogram(&self, name: &str) -> (u64, f64) {
        self.0.signals.histogram(name)
    }

    /// All that was recorded so far, as it is: to look for what must be nowhere in it.
    #[must_use]
    pub fn everything(&self) -> String {
        format!("{:?}{}", self.spans(), self.0.signals.everything())
    }

    /// The events so far, one line each: severity, name, the span it belongs to, attributes.
    #[must_use]
    pub fn events(&self) -> String {
        self.0.signals.events(&self.spans())
    }

    /// The provider, to install globally.
    #[must_use]
    pub fn provider(&self) -> SdkTracerProvider {
        self.0.provider.clone()
    }

    /// An instrumentation that reports here and speaks W3C trace context and baggage.
    #[must_use]
    pub fn instrumentation(&self) -> Instrumentation {
        self.instrumentation_builder().build()
    }

    /// The same, to be configured further.
    pub fn instrumentation_builder(&self) -> InstrumentationBuilder {
        Instrumentation::builder()
            .with_tracer_provider(self.0.provider.clone())
            .with_propagation(Propagation::custom(w3c()))
    }

    /// Starts a span of the application's own and gives the context that holds it. End it with `cx.span().end()`.
    #[must_use]
    pub fn app_span(&self, name: &'static str) -> Context {
        self.app_span_in(name, &Context::new())
    }

    /// The same as a child.
    #[must_use]
    pub fn app_span_in(&self, name: &'static str, parent: &Context) -> Context {
        let tracer = self.0.provider.tracer("app");
        parent.with_span(tracer.start_with_context(name, parent))
    }

    /// A tracer of the application's own.
    #[must_use]
    pub fn tracer(&self) -> BoxedTracer {
        BoxedTracer::new(Box::new(self.0.provider.tracer_with_scope(InstrumentationScope::builder("app").build())))
    }

    /// All spans that have ended, by start time; each is checked for what holds of every span.
    #[must_use]
    pub fn spans(&self) -> Vec<SpanData> {
        self.0.spans()
    }

    /// Forgets the spans that have ended, once they are checked.
    pub fn forget(&self) {
        let _ = self.spans();
        self.0.exporter.reset();
    }

    /// Waits until so many spans have ended, and gives all of them.
    ///
    /// # Panics
    ///
    /// When they do not come in time.
    #[must_use]
    pub fn wait_for(&self, count: usize) -> Vec<SpanData> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let spans = self.spans();
            if spans.len() >= count {
                return spans;
            }
            assert!(Instant::now() < deadline, "{} of {count} spans:\n{}", spans.len(), describe(&spans));
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// All spans that have ended, as text; see [`describe`].
    #[must_use]
    pub fn described(&self) -> String {
        describe(&self.spans())
    }
}

impl Default for Sdk {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorded {
    fn spans(&self) -> Vec<SpanData> {
        let mut spans = self.exporter.get_finished_spans().expect("the exporter answers");
        spans.sort_by_key(|span| span.start_time);
        spans.iter().for_each(check);
        spans
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // Reading is checking.
        if !thread::panicking() {
            self.spans();
            self.signals.measured();
            self.signals.events(&[]);
        }
    }
}

/// W3C trace context and baggage.
#[must_use]
pub fn w3c() -> TextMapCompositePropagator {
    TextMapCompositePropagator::new(vec![Box::new(TraceContextPropagator::new()), Box::new(BaggagePropagator::new())])
}

/// What holds of every span, whatever the test: for tests that export spans themselves.
///
/// # Panics
///
/// When it does not hold.
pub fn check(span: &SpanData) {
    assert!(span.start_time <= span.end_time, "{} ends before it starts", span.name);
    assert_ne!(span.status, Status::Ok, "{} claims success, which the convention leaves unset", span.name);
    let keys: BTreeSet<_> = span.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(keys.len(), span.attributes.len(), "{} has an attribute twice: {:?}", span.name, span.attributes);
    if span.attributes.iter().any(|attribute| attribute.key.as_str().starts_with("messaging.")) {
        let failed = matches!(span.status, Status::Error { .. });
        assert_eq!(keys.contains("error.type"), failed, "{}: error.type and the status disagree", span.name);
        let linked = span.links.iter().flat_map(|link| &link.attributes).map(|attribute| attribute.key.as_str());
        keys.into_iter().chain(linked).for_each(|key| known(&span.name, key));
    }
}

/// What the hooks of tests add.
const OF_HOOKS: [&str; 1] = ["team"];

/// One of the registries knows an attribute.
///
/// # Panics
///
/// When none does.
pub(crate) fn known(of: &str, attribute: &str) {
    if !OF_HOOKS.contains(&attribute)
        && let Err(unknown) = Convention::get().knows(attribute)
    {
        panic!("{of}: {unknown}");
    }
}

/// Spans as text, one block each, by start time: everything a span has but its ids and times. Parents and links are
/// named after the spans they point to; those that are not among `spans` by their id.
///
/// ```text
/// send orders
///   kind PRODUCER
///   scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
///   parent request
///   link import {messaging.message.id="17"}
///   status unset
///   messaging.system = "kafka"
/// ```
#[must_use]
pub fn describe(spans: &[SpanData]) -> String {
    let mut text = String::new();
    for span in spans {
        let _ = writeln!(text, "{}", span.name);
        let _ = writeln!(text, "  kind {}", kind(&span.span_kind));
        let scope = &span.instrumentation_scope;
        let _ = writeln!(
            text,
            "  scope {}{}",
            scope.name(),
            scope.schema_url().map(|url| format!(" {url}")).unwrap_or_default()
        );
        if span.parent_span_id == SpanId::INVALID {
            let _ = writeln!(text, "  root");
        } else {
            let same_trace = spans.iter().filter(|other| other.span_context.trace_id() == span.span_context.trace_id());
            let parent = same_trace.clone().find(|other| other.span_context.span_id() == span.parent_span_id);
            let _ = match parent {
                Some(parent) => writeln!(text, "  parent {}", parent.name),
                None => writeln!(text, "  parent {}", span.parent_span_id),
            };
        }
        for link in span.links.iter() {
            let _ = write!(text, "  link {}", name_of(&link.span_context, spans));
            let own = attributes(&link.attributes);
            if !own.is_empty() {
                let _ = write!(text, " {{{}}}", own.join(", "));
            }
            text.push('\n');
        }
        let _ = match &span.status {
            Status::Unset => writeln!(text, "  status unset"),
            Status::Ok => writeln!(text, "  status ok"),
            Status::Error { description } => writeln!(text, "  status error: {description}"),
        };
        for attribute in attributes(&span.attributes) {
            let _ = writeln!(text, "  {attribute}");
        }
    }
    text
}

fn kind(kind: &SpanKind) -> &'static str {
    match kind {
        SpanKind::Client => "CLIENT",
        SpanKind::Server => "SERVER",
        SpanKind::Producer => "PRODUCER",
        SpanKind::Consumer => "CONSUMER",
        SpanKind::Internal => "INTERNAL",
    }
}

pub(crate) fn name_of(context: &SpanContext, spans: &[SpanData]) -> String {
    spans
        .iter()
        .find(|span| {
            span.span_context.span_id() == context.span_id() && span.span_context.trace_id() == context.trace_id()
        })
        .map_or_else(|| context.span_id().to_string(), |span| span.name.to_string())
}

/// Times are none of what a test compares.
pub(crate) fn attributes<'a>(attributes: impl IntoIterator<Item = &'a KeyValue>) -> Vec<String> {
    let mut lines: Vec<_> = attributes
        .into_iter()
        .filter(|attribute| attribute.key.as_str() != extension::WAIT_TIME)
        .map(|attribute| match &attribute.value {
            Value::String(text) => format!("{} = {:?}", attribute.key, text.as_str()),
            value => format!("{} = {value}", attribute.key),
        })
        .collect();
    lines.sort();
    lines
}

/// The value of an attribute.
#[must_use]
pub fn attribute<'a>(span: &'a SpanData, key: &str) -> Option<&'a Value> {
    span.attributes.iter().find(|attribute| attribute.key.as_str() == key).map(|attribute| &attribute.value)
}

/// Polls until the condition holds.
///
/// # Panics
///
/// When it does not hold in time.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The value of an attribute of a link, as text.
#[must_use]
pub fn link_attribute(link: &opentelemetry::trace::Link, key: &str) -> Option<String> {
    link.attributes.iter().find(|attribute| attribute.key.as_str() == key).map(|attribute| attribute.value.to_string())
}

#[cfg(test)]
mod tests {
    use opentelemetry::{logs::*, metrics::MeterProvider};

    use super::*;

    fn emits_span(key: &'static str) {
        let sdk = Sdk::new();
        let tracer = sdk.tracer();
        let attributes = [KeyValue::new("messaging.system", "queue"), KeyValue::new(key, 1)];
        drop(tracer.span_builder("push orders").with_attributes(attributes).start(&tracer));
    }

    fn emits_metric(key: &'static str) {
        let sdk = Sdk::new();
        let counter = sdk.meter_provider().meter("queue").u64_counter("messaging.client.sent.messages").build();
        counter.add(1, &[KeyValue::new(key, 1)]);
    }

    fn emits_event(key: &'static str) {
        let sdk = Sdk::new();
        let logger = sdk.0.signals.loggers.logger("queue");
        let mut record = logger.create_log_record();
        record.set_event_name("messaging.process.exception");
        record.add_attribute(key, 1);
        logger.emit(record);
    }

    #[test]
    fn what_no_registry_knows_is_found_though_nobody_reads() {
        for emits in [emits_span, emits_metric, emits_event] {
            emits("messaging.message.id");
            let unread = std::panic::catch_unwind(|| emits("messaging.colour"));
            let message = *unread.unwrap_err().downcast::<String>().unwrap();
            assert!(message.contains("neither registry knows `messaging.colour`"), "{message}");
        }
    }
}
