//! What every test needs: a real SDK with its spans in memory, whose recording is held against both registries, and whole spans
//! to compare: by [`span`], or as text by [`describe`].

use std::{
    collections::BTreeSet,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use conventions::Convention;
use opentelemetry::{
    Context, InstrumentationScope, Value,
    global::BoxedTracer,
    propagation::TextMapCompositePropagator,
    trace::{Status, TracerProvider},
};
use opentelemetry_sdk::{
    metrics::{SdkMeterProvider, data::ResourceMetrics},
    propagation::{BaggagePropagator, TraceContextPropagator},
    trace::{SdkTracerProvider, ShouldSample, SpanData},
};
use otel_messaging::{Instrumentation, InstrumentationBuilder, Propagation};

pub mod contexts;
pub mod correlation;

mod cargo;
mod counting;
mod heard;
mod signals;

pub use otel_messaging_testing::{ExpectedSpan, Recorder, Series, SpanRef, Spans, describe, span};

pub use crate::{
    cargo::cargo,
    counting::Counting,
    heard::{Heard, heard},
};

/// How long a test waits for what must happen.
pub const DEADLINE: Duration = Recorder::DEADLINE;

/// Providers of a test's own, so that tests of one process do not see each other's spans.
///
/// When the last clone is dropped, all that was recorded is checked, whether the test looked at it or not.
#[derive(Debug, Clone)]
pub struct Sdk(Arc<Checked>);

#[derive(Debug)]
struct Checked(Recorder);

impl Sdk {
    /// Samples everything.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Checked(Recorder::new())))
    }

    /// Samples as told.
    #[must_use]
    pub fn with_sampler(sampler: impl ShouldSample + 'static) -> Self {
        Self(Arc::new(Checked(Recorder::with_sampler(sampler))))
    }

    /// An instrumentation that reports spans, metrics and events here, and speaks W3C trace context and baggage; to be
    /// configured further.
    pub fn all_signals_builder(&self) -> InstrumentationBuilder {
        self.0.0.instrumentation_builder().with_propagation(Propagation::custom(w3c()))
    }

    /// The meter provider, to install globally.
    #[must_use]
    pub fn meter_provider(&self) -> SdkMeterProvider {
        self.0.0.meter_provider()
    }

    /// What was measured so far, one line for each series: name, unit, attributes, and the count.
    #[must_use]
    pub fn measured(&self) -> String {
        signals::measured(&self.0.0)
    }

    /// The same, as values.
    #[must_use]
    pub fn series(&self) -> Vec<Series> {
        self.0.0.series()
    }

    /// What was measured so far, as the SDK has it.
    #[must_use]
    pub fn metrics(&self) -> Option<ResourceMetrics> {
        self.0.0.metrics()
    }

    /// How often a histogram has measured something so far, and the sum of it.
    #[must_use]
    pub fn histogram(&self, name: &str) -> (u64, f64) {
        let named = self.series().into_iter().filter(|series| series.name == name);
        named.fold((0, 0.0), |(count, sum), series| (count + series.count, sum + series.sum))
    }

    /// All that was recorded so far, as it is: to look for what must be nowhere in it.
    #[must_use]
    pub fn everything(&self) -> String {
        format!("{:?}{:?}{:?}", self.spans(), self.metrics(), self.0.0.logs())
    }

    /// The events so far, one line each: severity, name, the span it belongs to, attributes.
    #[must_use]
    pub fn events(&self) -> String {
        signals::events(&self.0.0)
    }

    /// The provider, to install globally.
    #[must_use]
    pub fn provider(&self) -> SdkTracerProvider {
        self.0.0.tracer_provider()
    }

    /// An instrumentation that reports here and speaks W3C trace context and baggage.
    #[must_use]
    pub fn instrumentation(&self) -> Instrumentation {
        self.instrumentation_builder().build()
    }

    /// The same, to be configured further.
    pub fn instrumentation_builder(&self) -> InstrumentationBuilder {
        Instrumentation::builder().with_tracer_provider(self.provider()).with_propagation(Propagation::custom(w3c()))
    }

    /// Starts a span of the application's own and gives the context that holds it. End it with `cx.span().end()`.
    #[must_use]
    pub fn app_span(&self, name: &'static str) -> Context {
        self.0.0.start_span(name)
    }

    /// The same as a child.
    #[must_use]
    pub fn app_span_in(&self, name: &'static str, parent: &Context) -> Context {
        self.0.0.start_span_in(name, parent)
    }

    /// A tracer of the application's own.
    #[must_use]
    pub fn tracer(&self) -> BoxedTracer {
        BoxedTracer::new(Box::new(self.provider().tracer_with_scope(InstrumentationScope::builder("app").build())))
    }

    /// All spans that have ended, by start time; each is checked for what holds of every span.
    #[must_use]
    pub fn spans(&self) -> Vec<SpanData> {
        self.recorded().into_iter().collect()
    }

    /// The same, with what the library for tests can say of them.
    #[must_use]
    pub fn recorded(&self) -> Spans {
        let spans = self.0.0.spans();
        spans.iter().for_each(check);
        spans
    }

    /// All spans that have ended are these, whole; see [`Spans::assert`].
    ///
    /// # Panics
    ///
    /// When they are others.
    #[track_caller]
    pub fn assert(&self, expected: impl IntoIterator<Item = ExpectedSpan>) {
        self.recorded().assert(expected);
    }

    /// One of the spans that have ended is this one, whole; see [`Spans::assert_contains`].
    ///
    /// # Panics
    ///
    /// When none is.
    #[track_caller]
    pub fn assert_contains(&self, expected: ExpectedSpan) {
        self.recorded().assert_contains(expected);
    }

    /// The one span of this name; see [`Spans::only`].
    ///
    /// # Panics
    ///
    /// When there is none, or more than one.
    #[must_use]
    #[track_caller]
    pub fn only(&self, name: &str) -> SpanData {
        self.recorded().only(name).clone()
    }

    /// The spans of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<SpanData> {
        self.recorded().named(name).cloned().collect()
    }

    /// The names of all spans that have ended.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.recorded().names().into_iter().map(str::to_owned).collect()
    }

    /// Forgets the spans that have ended, once they are checked.
    pub fn forget(&self) {
        let _ = self.spans();
        self.0.0.forget_spans();
    }

    /// Waits until so many spans have ended, and gives all of them.
    ///
    /// # Panics
    ///
    /// When they do not come in time.
    #[must_use]
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<SpanData> {
        let _ = self.0.0.wait_for(count);
        self.spans()
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

impl Drop for Checked {
    fn drop(&mut self) {
        // Reading is checking.
        if !thread::panicking() {
            self.0.spans().iter().for_each(check);
            signals::measured(&self.0);
            signals::events(&self.0);
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
    use opentelemetry::{KeyValue, logs::*, metrics::MeterProvider, trace::Tracer};

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
        let logger = sdk.0.0.logger_provider().logger("queue");
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
