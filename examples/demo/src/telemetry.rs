//! OpenTelemetry of one service, as any service would set it up; nothing here is special to messaging.

use std::{
    env, fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    Context, KeyValue,
    baggage::BaggageExt,
    global,
    propagation::TextMapCompositePropagator,
    trace::{Span as _, TraceContextExt, TracerProvider},
};
use opentelemetry_otlp::{MetricExporter, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{SdkMeterProvider, Temporality},
    propagation::{BaggagePropagator, TraceContextPropagator},
    trace::{SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use tracing::{Event, Subscriber, level_filters::LevelFilter, warn};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::Targets,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::Error;

/// Where the director receives spans and metrics.
pub(crate) const DIRECTOR: &str = "DEMO_DIRECTOR_ENDPOINT";

/// The standard variables by which the same spans and metrics go elsewhere too: to both, or to one of them.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const METRICS_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";

/// How long the last of it may take to be sent.
const PATIENCE: Duration = Duration::from_secs(5);

/// What travels as baggage and is to be seen on every span.
pub(crate) const FROM_BAGGAGE: [&str; 2] = ["user.id", "tenant.id"];

/// The telemetry of one service while it runs.
pub(crate) struct Telemetry {
    tracers: SdkTracerProvider,
    meters: SdkMeterProvider,
    counted: Arc<Counted>,
}

/// How many spans a service began, and how many of them it ended. One that never ends is a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spans {
    pub(crate) started: u64,
    pub(crate) ended: u64,
}

impl Telemetry {
    /// Installs tracer provider, meter provider, propagator and log for this process. The sampler, limits, batching and
    /// intervals are those of the standard `OTEL_*` variables, which the SDK reads itself.
    pub(crate) fn start(service: &'static str) -> Result<Self, Error> {
        global::set_text_map_propagator(TextMapCompositePropagator::new(vec![
            Box::new(TraceContextPropagator::new()),
            Box::new(BaggagePropagator::new()),
        ]));

        let counted = Arc::new(Counted::default());
        let resource = Resource::builder().with_service_name(service).build();
        let mut tracers = SdkTracerProvider::builder()
            .with_resource(resource.clone())
            .with_span_processor(BaggageToAttributes)
            .with_span_processor(Count(counted.clone()));
        let mut meters = SdkMeterProvider::builder().with_resource(resource);
        let spans = || SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        let metrics = || MetricExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        if let Ok(endpoint) = env::var(DIRECTOR) {
            tracers = tracers.with_batch_exporter(spans().with_endpoint(format!("{endpoint}/v1/traces")).build()?);
            // The director adds nothing up: what came last is all there is.
            let metrics = metrics().with_temporality(Temporality::Cumulative);
            meters = meters.with_periodic_exporter(metrics.with_endpoint(format!("{endpoint}/v1/metrics")).build()?);
        }
        if is_set(TRACES_ENDPOINT) || is_set(ENDPOINT) {
            tracers = tracers.with_batch_exporter(spans().build()?);
        }
        if is_set(METRICS_ENDPOINT) || is_set(ENDPOINT) {
            meters = meters.with_periodic_exporter(metrics().build()?);
        }
        let (tracers, meters) = (tracers.build(), meters.build());
        global::set_tracer_provider(tracers.clone());
        global::set_meter_provider(meters.clone());

        let ours = Targets::new().with_target(env!("CARGO_CRATE_NAME"), LevelFilter::TRACE);
        tracing_subscriber::registry()
            .with(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,demo=info")))
            .with(tracing_opentelemetry::layer().with_tracer(tracers.tracer(service)).with_filter(ours))
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(std::io::stderr)
                    .with_ansi(false)
                    .event_format(LineWithTrace),
            )
            .try_init()?;
        Ok(Self { tracers, meters, counted })
    }

    /// Sends what is left, and counts. Comes after the service has drained its consumers and flushed its producers: what
    /// ends later is lost.
    pub(crate) fn shutdown(self) -> Spans {
        let flushed = [self.tracers.force_flush(), self.meters.force_flush()];
        let stopped = [self.tracers.shutdown_with_timeout(PATIENCE), self.meters.shutdown_with_timeout(PATIENCE)];
        for error in flushed.into_iter().chain(stopped).filter_map(Result::err) {
            warn!(%error, "not everything was sent");
        }
        Spans { started: self.counted.started.load(Ordering::SeqCst), ended: self.counted.ended.load(Ordering::SeqCst) }
    }
}

fn is_set(variable: &str) -> bool {
    env::var(variable).is_ok_and(|value| !value.is_empty())
}

/// Who ordered, on every span of the order, whichever service made it.
#[derive(Debug)]
struct BaggageToAttributes;

impl SpanProcessor for BaggageToAttributes {
    fn on_start(&self, span: &mut Span, cx: &Context) {
        for key in FROM_BAGGAGE {
            if let Some(value) = cx.baggage().get(key) {
                span.set_attribute(KeyValue::new(key, value.to_string()));
            }
        }
    }

    fn on_end(&self, _span: SpanData) {}

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Counted {
    started: AtomicU64,
    ended: AtomicU64,
}

/// Counts, so that a span that never ended can be told from one that was never made.
#[derive(Debug)]
struct Count(Arc<Counted>);

impl SpanProcessor for Count {
    fn on_start(&self, _span: &mut Span, _cx: &Context) {
        self.0.started.fetch_add(1, Ordering::SeqCst);
    }

    fn on_end(&self, _span: SpanData) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// A log line that says which trace it belongs to, by the context that is current: in a handler without a `tracing`
/// span of its own that is the message's process span.
struct LineWithTrace;

impl<S, N> FormatEvent<S, N> for LineWithTrace
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, cx: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        SystemTime.format_time(&mut line)?;
        write!(line, " {:<5}", event.metadata().level())?;
        let current = Context::current();
        let span = current.span().span_context().clone();
        if span.is_valid() {
            write!(line, " trace_id={}", span.trace_id())?;
        }
        line.write_char(' ')?;
        cx.field_format().format_fields(line.by_ref(), event)?;
        writeln!(line)
    }
}
