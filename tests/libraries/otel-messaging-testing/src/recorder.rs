use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use opentelemetry::{
    Context,
    trace::{TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_sdk::{
    logs::{InMemoryLogExporter, SdkLoggerProvider, in_memory_exporter::LogDataWithResource},
    metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider, data::ResourceMetrics},
    trace::{InMemorySpanExporter, Sampler, SdkTracerProvider, ShouldSample},
};
use otel_messaging::{Instrumentation, InstrumentationBuilder, Propagation};

use crate::{Series, Spans, series};

/// OpenTelemetry's SDK with its own providers, which keeps all telemetry in memory. Clones share one recording.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Providers>);

#[derive(Debug)]
struct Providers {
    tracers: SdkTracerProvider,
    spans: InMemorySpanExporter,
    meters: SdkMeterProvider,
    metrics: InMemoryMetricExporter,
    loggers: SdkLoggerProvider,
    logs: InMemoryLogExporter,
}

impl Recorder {
    /// How long [`wait_for`](Self::wait_for) waits: 30 seconds.
    pub const DEADLINE: Duration = Duration::from_secs(30);

    /// Records every span.
    #[must_use]
    pub fn new() -> Self {
        Self::with_sampler(Sampler::AlwaysOn)
    }

    /// Records the spans that this sampler takes.
    #[must_use]
    pub fn with_sampler(sampler: impl ShouldSample + 'static) -> Self {
        let (spans, metrics, logs) = <(InMemorySpanExporter, InMemoryMetricExporter, InMemoryLogExporter)>::default();
        // Metrics are collected when a test asks for them.
        let reader = PeriodicReader::builder(metrics.clone()).with_interval(Duration::from_secs(86_400)).build();
        Self(Arc::new(Providers {
            tracers: SdkTracerProvider::builder().with_sampler(sampler).with_simple_exporter(spans.clone()).build(),
            spans,
            meters: SdkMeterProvider::builder().with_reader(reader).build(),
            metrics,
            loggers: SdkLoggerProvider::builder().with_simple_exporter(logs.clone()).build(),
            logs,
        }))
    }

    /// An instrumentation that reports spans, metrics and events here, and writes and reads W3C's headers.
    #[must_use]
    pub fn instrumentation(&self) -> Instrumentation {
        self.instrumentation_builder().build()
    }

    /// The builder of [`instrumentation`](Self::instrumentation), for more settings.
    pub fn instrumentation_builder(&self) -> InstrumentationBuilder {
        Instrumentation::builder()
            .with_tracer_provider(self.tracer_provider())
            .with_meter_provider(self.meter_provider())
            .with_logger_provider(self.logger_provider())
            .with_propagation(Propagation::W3c)
    }

    /// The provider of tracers, for spans of the application.
    #[must_use]
    pub fn tracer_provider(&self) -> SdkTracerProvider {
        self.0.tracers.clone()
    }

    /// The provider of meters.
    #[must_use]
    pub fn meter_provider(&self) -> SdkMeterProvider {
        self.0.meters.clone()
    }

    /// The provider of loggers.
    #[must_use]
    pub fn logger_provider(&self) -> SdkLoggerProvider {
        self.0.loggers.clone()
    }

    /// A context with a new root span of the test: to attach, or to inject into a message. The span ends when the last clone of
    /// the context is dropped, or by `context.span().end()`.
    #[must_use]
    pub fn start_span(&self, name: &'static str) -> Context {
        self.start_span_in(name, &Context::new())
    }

    /// The same, as a child of the span in this context.
    #[must_use]
    pub fn start_span_in(&self, name: &'static str, parent: &Context) -> Context {
        parent.with_span(self.0.tracers.tracer("app").start_with_context(name, parent))
    }

    /// All spans that have ended, by start time.
    ///
    /// # Panics
    ///
    /// When the exporter was poisoned by a panic.
    #[must_use]
    pub fn spans(&self) -> Spans {
        Spans::new(self.0.spans.get_finished_spans().expect("the exporter answers"))
    }

    /// Waits until so many spans have ended, and returns all: for spans that end on another thread.
    ///
    /// # Panics
    ///
    /// When they have not ended after [`DEADLINE`](Self::DEADLINE).
    #[must_use]
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Spans {
        let deadline = Instant::now() + Self::DEADLINE;
        loop {
            let spans = self.spans();
            if spans.len() >= count {
                return spans;
            }
            assert!(Instant::now() < deadline, "{} of {count} spans:\n{spans}", spans.len());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Drops the spans that have ended.
    pub fn forget_spans(&self) {
        self.0.spans.reset();
    }

    /// The series of all metrics so far, sorted by metric and attributes.
    #[must_use]
    pub fn series(&self) -> Vec<Series> {
        self.metrics().as_ref().map(series::of).unwrap_or_default()
    }

    /// All metrics so far, as the SDK exports them.
    ///
    /// # Panics
    ///
    /// When the exporter was poisoned by a panic.
    #[must_use]
    pub fn metrics(&self) -> Option<ResourceMetrics> {
        self.0.metrics.reset();
        self.0.meters.force_flush().expect("metrics are collected");
        self.0.metrics.get_finished_metrics().expect("the exporter answers").pop()
    }

    /// All log records so far: the events of failed operations.
    ///
    /// # Panics
    ///
    /// When the exporter was poisoned by a panic.
    #[must_use]
    pub fn logs(&self) -> Vec<LogDataWithResource> {
        self.0.logs.get_emitted_logs().expect("the exporter answers")
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}
