//! What becomes of the spans: how many started and ended, and what each send's span says.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use opentelemetry::{
    Context, SpanId,
    trace::{Status, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use otel_messaging::{
    Instrumentation, Propagation,
    semconv::{attribute, extension},
};
use tokio::{task::spawn_blocking, time::sleep};

use crate::exporter::Exporter;

/// What the span of a send says of its outcome.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// The status is unset.
    Succeeded,
    /// The status is an error, with this description.
    Failed(String),
    /// The status is unset, and `otel_messaging.delivery.outcome_unknown` is true.
    Unknown,
    /// Status, `error.type` and `otel_messaging.delivery.outcome_unknown` contradict each other.
    Contradicts(String),
}

/// Counts the spans of a provider, and keeps what those of sends say, where that is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spans(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    started: AtomicU64,
    ended: AtomicU64,
    /// By the application's span around the send.
    outcomes: Option<Mutex<HashMap<SpanId, Vec<Outcome>>>>,
}

impl Spans {
    pub(crate) fn with_outcomes() -> Self {
        Self(Arc::new(Counts { outcomes: Some(Mutex::default()), ..Counts::default() }))
    }

    pub(crate) fn started(&self) -> u64 {
        self.0.started.load(Relaxed)
    }

    pub(crate) fn ended(&self) -> u64 {
        self.0.ended.load(Relaxed)
    }

    pub(crate) fn open(&self) -> u64 {
        self.started().saturating_sub(self.ended())
    }

    /// What the spans of sends say that the application made inside of this span.
    pub(crate) fn outcomes(&self, around: SpanId) -> Vec<Outcome> {
        self.kept().and_then(|mut kept| kept.remove(&around)).unwrap_or_default()
    }

    fn kept(&self) -> Option<MutexGuard<'_, HashMap<SpanId, Vec<Outcome>>>> {
        self.0.outcomes.as_ref().map(|kept| kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl SpanProcessor for Spans {
    fn on_start(&self, _span: &mut Span, _cx: &Context) {
        self.0.started.fetch_add(1, Relaxed);
    }

    fn on_end(&self, span: SpanData) {
        let value = |key| span.attributes.iter().find(|one| one.key.as_str() == key).map(|one| one.value.to_string());
        if let Some(mut kept) = self.kept()
            && value(attribute::MESSAGING_OPERATION_TYPE).as_deref() == Some("send")
        {
            let unknown = value(extension::DELIVERY_OUTCOME_UNKNOWN).as_deref() == Some("true");
            let outcome = match (&span.status, value(attribute::ERROR_TYPE), unknown) {
                (Status::Unset, None, false) => Outcome::Succeeded,
                (Status::Unset, None, true) => Outcome::Unknown,
                (Status::Error { description }, Some(_), false) => Outcome::Failed(description.to_string()),
                contradiction => Outcome::Contradicts(format!("{contradiction:?}")),
            };
            kept.entry(span.parent_span_id).or_default().push(outcome);
        }
        // Last, so that what is counted can be read.
        self.0.ended.fetch_add(1, Relaxed);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// What a service of this side has of OpenTelemetry: nothing, with the raw client.
#[derive(Clone)]
pub(crate) struct Sdk {
    pub(crate) spans: Spans,
    installed: Option<(SdkTracerProvider, SdkTracer)>,
    handed: Arc<AtomicU64>,
    panics: Arc<AtomicU64>,
}

impl Sdk {
    pub(crate) fn none() -> Self {
        Self { spans: Spans::default(), installed: None, handed: Arc::default(), panics: Arc::default() }
    }

    pub(crate) fn new(spans: Spans, exporter: Exporter) -> Self {
        let (handed, panics) = (Arc::default(), Arc::default());
        let provider = exporter.provider(spans.clone(), Arc::clone(&handed), Arc::clone(&panics));
        let tracer = provider.tracer("app");
        Self { spans, installed: Some((provider, tracer)), handed, panics }
    }

    pub(crate) fn instrumentation(&self) -> Instrumentation {
        match &self.installed {
            Some((provider, _)) => Instrumentation::builder()
                .with_tracer_provider(provider.clone())
                .with_propagation(Propagation::custom(TraceContextPropagator::new()))
                .build(),
            None => Instrumentation::default(),
        }
    }

    /// A span of the application's own, which ends with the last clone of what is given back.
    pub(crate) fn app_span(&self) -> Context {
        match &self.installed {
            Some((_, tracer)) => Context::new().with_span(tracer.start_with_context("order", &Context::new())),
            None => Context::new(),
        }
    }

    /// How many spans came as far as the exporter.
    pub(crate) fn handed(&self) -> u64 {
        self.handed.load(Relaxed)
    }

    /// At how many ends of spans a processor panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Relaxed)
    }

    /// Waits until no span is open, and no longer than this.
    pub(crate) async fn drained(&self, at_most: Duration) {
        let start = Instant::now();
        while self.spans.open() > 0 && start.elapsed() < at_most {
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn shut_down(&self) {
        if let Some((provider, _)) = self.installed.clone() {
            // What it says is the exporter's trouble.
            let _ = spawn_blocking(move || provider.shutdown()).await;
        }
    }
}
