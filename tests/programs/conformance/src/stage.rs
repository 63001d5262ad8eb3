//! What one scenario performs on: its broker's address, names of its own, and an SDK of its own that exports over OTLP.

use std::{
    env,
    fmt::Write as _,
    fs::OpenOptions,
    future::Future,
    io::Write as _,
    process,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapCompositePropagator},
    trace::{TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_otlp::{ExporterBuildError, LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::SdkLoggerProvider,
    metrics::SdkMeterProvider,
    propagation::{BaggagePropagator, TraceContextPropagator},
    trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use otel_messaging::{Instrumentation, InstrumentationBuilder, Propagation, parse_traceparent, suppress_messaging};

/// The resource attributes that name the scenario: its broker, and its own name.
pub(crate) const SUITE: &str = "test.suite.name";
pub(crate) const CASE: &str = "test.case.name";

/// The scope of spans that are the application's own.
pub(crate) const APPLICATION: &str = "app";

/// Where to write how many links and which attributes each span had at its start, a line each: for the check, which cannot
/// see it in what is exported.
pub(crate) const STARTS: &str = "CONFORMANCE_STARTS";

/// Where it is exported to, by what OpenTelemetry's specification calls it.
const ENDPOINTS: [&str; 4] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
];

/// How it is exported, by what OpenTelemetry's specification calls it.
pub(crate) const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
pub(crate) const GRPC: &str = "grpc";
pub(crate) const HTTP: &str = "http/protobuf";

/// Why nothing can be exported as the environment says.
pub(crate) fn cannot_export(of: impl Fn(&str) -> Option<String>) -> Option<String> {
    let to_nowhere = ENDPOINTS.into_iter().find_map(|name| {
        let endpoint = of(name)?;
        let secure = endpoint.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
        secure.then(|| format!("{name} is {endpoint}: this program speaks no TLS. Name one that begins with http://."))
    });
    let unknown = || {
        let protocol = of(PROTOCOL).filter(|protocol| ![GRPC, HTTP].contains(&protocol.as_str()))?;
        Some(format!("{PROTOCOL} is {protocol}: this program speaks {GRPC} and {HTTP}."))
    };
    to_nowhere.or_else(unknown)
}

/// For spans, metrics and log records, by the protocol that the environment names.
fn exporters() -> Result<(SpanExporter, MetricExporter, LogExporter), ExporterBuildError> {
    if env::var(PROTOCOL).is_ok_and(|protocol| protocol == GRPC) {
        return Ok((
            SpanExporter::builder().with_tonic().build()?,
            MetricExporter::builder().with_tonic().build()?,
            LogExporter::builder().with_tonic().build()?,
        ));
    }
    let http = Protocol::HttpBinary;
    Ok((
        SpanExporter::builder().with_http().with_protocol(http).build()?,
        MetricExporter::builder().with_http().with_protocol(http).build()?,
        LogExporter::builder().with_http().with_protocol(http).build()?,
    ))
}

/// How long what must happen may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// One scenario's own.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) address: Arc<str>,
    number: usize,
    tracers: SdkTracerProvider,
    unsampled: SdkTracerProvider,
    meters: SdkMeterProvider,
    loggers: SdkLoggerProvider,
    starts: Arc<Starts>,
}

impl Stage {
    /// # Panics
    ///
    /// When no exporter can be made.
    pub(crate) fn new(broker: &str, scenario: &str, address: String) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let resource = Resource::builder()
            .with_service_name("conformance")
            .with_attribute(KeyValue::new(SUITE, broker.to_owned()))
            .with_attribute(KeyValue::new(CASE, scenario.to_owned()))
            .build();
        let starts = Arc::new(Starts::default());
        let (spans, metrics, logs) = exporters().expect("exporters");
        Self {
            address: address.into(),
            number: COUNT.fetch_add(1, Ordering::Relaxed),
            tracers: SdkTracerProvider::builder()
                .with_resource(resource.clone())
                .with_span_processor(AtStart(starts.clone()))
                .with_batch_exporter(spans)
                .build(),
            unsampled: SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOff).build(),
            meters: SdkMeterProvider::builder().with_resource(resource.clone()).with_periodic_exporter(metrics).build(),
            loggers: SdkLoggerProvider::builder().with_resource(resource).with_batch_exporter(logs).build(),
            starts,
        }
    }

    /// A name that no other scenario has.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{name}--{}-{}", process::id(), self.number)
    }

    /// Such a name as programs make up for one use.
    pub(crate) fn uuid(&self) -> String {
        format!("{:08x}-0000-4000-8000-{:012x}", process::id(), self.number)
    }

    /// All signals, W3C trace context and baggage, and the defaults.
    pub(crate) fn instrumentation(&self) -> Instrumentation {
        self.builder().build()
    }

    /// The same, to be configured further.
    pub(crate) fn builder(&self) -> InstrumentationBuilder {
        let propagators = TextMapCompositePropagator::new(vec![
            Box::new(TraceContextPropagator::new()),
            Box::new(BaggagePropagator::new()),
        ]);
        Instrumentation::builder()
            .with_tracer_provider(self.tracers.clone())
            .with_meter_provider(self.meters.clone())
            .with_logger_provider(self.loggers.clone())
            .with_propagation(Propagation::custom(propagators))
    }

    /// Without events for failures.
    pub(crate) fn without_logger(&self) -> InstrumentationBuilder {
        Instrumentation::builder()
            .with_tracer_provider(self.tracers.clone())
            .with_meter_provider(self.meters.clone())
            .with_propagation(Propagation::W3c)
    }

    /// Where a sampler takes nothing.
    pub(crate) fn sampled_out(&self) -> InstrumentationBuilder {
        self.builder().with_tracer_provider(self.unsampled.clone())
    }

    /// All signals, and a function that reads what [`App::sends_otherwise`] leaves in a message.
    pub(crate) fn reading(&self) -> Instrumentation {
        let reads = |headers: &dyn Extractor, _: &[u8]| parse_traceparent(headers.get("ce_traceparent")?);
        self.builder().with_context_reader(reads).build()
    }

    /// A span of the application, which ends when the value is dropped.
    pub(crate) fn app(&self, name: &'static str) -> App {
        let parent = Context::new();
        App(parent.with_span(self.tracers.tracer(APPLICATION).start_with_context(name, &parent)))
    }

    /// Waits until so many spans of ours have ended, and sends everything; whether all of it arrived.
    pub(crate) async fn close(self, spans: usize) -> bool {
        let deadline = Instant::now() + DEADLINE;
        while self.starts.ended.load(Ordering::SeqCst) < spans && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let closed = tokio::task::spawn_blocking(move || {
            self.starts.write();
            let closed = [self.tracers.shutdown(), self.meters.shutdown(), self.loggers.shutdown()];
            closed.iter().flat_map(|closed| closed.as_ref().err()).for_each(|error| eprintln!("not exported: {error}"));
            closed.iter().all(Result::is_ok)
        });
        closed.await.unwrap_or(false)
    }
}

/// The application's own span.
pub(crate) struct App(pub(crate) Context);

impl App {
    /// Runs the synchronous part of a call inside the span.
    pub(crate) fn calls<T>(&self, call: impl FnOnce() -> T) -> T {
        let _attached = self.0.clone().attach();
        call()
    }

    /// Runs the synchronous part of a send that emits nothing. The send writes the span's context to the header
    /// `ce_traceparent`, which no propagator reads.
    pub(crate) fn sends_otherwise<T>(&self, send: impl FnOnce(&str) -> T) -> T {
        let span = self.0.span().span_context().clone();
        let _attached = suppress_messaging(&Context::new()).attach();
        send(&format!("00-{}-{}-01", span.trace_id(), span.span_id()))
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.0.span().end();
    }
}

/// Polls until there is something.
///
/// # Panics
///
/// When there is nothing in time.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(mut poll: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = poll().await {
            return found;
        }
        assert!(Instant::now() < deadline, "it never comes");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What spans had at their start, and how many have ended.
#[derive(Debug, Default)]
struct Starts {
    lines: Mutex<String>,
    ended: AtomicUsize,
}

impl Starts {
    fn write(&self) {
        let Some(path) = env::var_os(STARTS) else { return };
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let file = OpenOptions::new().create(true).append(true).open(path);
        if let Err(error) = file.and_then(|mut file| file.write_all(lines.as_bytes())) {
            eprintln!("the starts cannot be written: {error}");
        }
    }
}

#[derive(Debug)]
struct AtStart(Arc<Starts>);

impl SpanProcessor for AtStart {
    fn on_start(&self, span: &mut Span, _cx: &Context) {
        let Some(span) = span.exported_data() else { return };
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = write!(lines, "{} {}", span.span_context.span_id(), span.links.len());
        for attribute in &span.attributes {
            let _ = write!(lines, " {}", attribute.key);
        }
        lines.push('\n');
    }

    fn on_end(&self, span: SpanData) {
        if span.instrumentation_scope.name() != APPLICATION {
            self.0.ended.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_with_tls_is_refused() {
        let named = |wanted: &'static str, endpoint: &'static str| {
            cannot_export(move |name| (name == wanted).then(|| endpoint.to_owned()))
        };
        assert_eq!(named("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"), None);
        assert_eq!(named("OTHER", "https://127.0.0.1:4318"), None);
        let refused = named("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:4318").unwrap();
        assert!(refused.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT is https://127.0.0.1:4318: "), "{refused}");
        assert!(named("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "HTTPS://logs").is_some());
    }

    #[test]
    fn a_protocol_that_is_not_spoken_is_refused() {
        let named = |protocol: &'static str| cannot_export(move |name| (name == PROTOCOL).then(|| protocol.to_owned()));
        assert_eq!((named("grpc"), named("http/protobuf")), (None, None));
        let refused = named("http/json").unwrap();
        assert_eq!(refused, "OTEL_EXPORTER_OTLP_PROTOCOL is http/json: this program speaks grpc and http/protobuf.");
    }
}
