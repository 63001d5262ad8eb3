//! The value a user configures: where telemetry goes and by which rules.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

use opentelemetry::{
    global::{BoxedTracer, ObjectSafeTracer},
    logs::{Logger, LoggerProvider},
    metrics::MeterProvider,
    propagation::Extractor,
    trace::{Span, SpanContext, Tracer, TracerProvider},
};

use crate::{
    catch_panic::unwind_safe,
    description::{
        attributes::Attributes,
        destination_limit::DestinationLimit,
        operation::Operation,
        policy::{CarriedContext, Correlation},
    },
    propagation::propagator::Propagation,
    recording::{
        capture::{Capture, Redact},
        settings::{Meters, Settings, Tracers},
    },
};

/// Where telemetry goes and by which rules. A cheap clone; every wrapper takes one by `with_instrumentation`.
///
/// The default follows OpenTelemetry's globals. A no-op is never kept: while a global is a no-op, it is looked up again at most
/// once a second, so that a client may be built, and may send, before the SDK is installed. Without a global propagator contexts
/// travel by W3C: see [`Propagation::Global`].
///
/// ```
/// use opentelemetry_sdk::trace::SdkTracerProvider;
/// use otel_messaging::{Correlation, Instrumentation, Propagation};
///
/// let instrumentation = Instrumentation::builder()
///     .with_tracer_provider(SdkTracerProvider::builder().build())
///     .with_propagation(Propagation::W3c)
///     .with_correlation(Correlation::Parent)
///     .build();
/// # let _ = instrumentation;
/// ```
#[derive(Clone)]
pub struct Instrumentation {
    pub(crate) settings: Arc<Settings>,
}

impl Instrumentation {
    /// Starts from the defaults.
    pub fn builder() -> InstrumentationBuilder {
        InstrumentationBuilder {
            settings: Settings {
                tracers: Tracers::Global,
                spans: true,
                meters: Meters::Global,
                metrics: true,
                exceptions: None,
                propagator: Propagation::Global,
                correlation: Correlation::default(),
                untrusted: false,
                context_reader: None,
                carried_context: CarriedContext::default(),
                max_links: 128,
                template: None,
                destination_limit: Arc::new(DestinationLimit::new(1_000)),
                filter: None,
                hook: None,
                error_type: None,
                capture: Capture::default(),
                capture_key: false,
                capture_sizes: false,
                receive_spans: false,
                metric_partition: false,
                auto_commit_spans: false,
            },
        }
    }

    /// Starts from this one: for a consumer with a policy of its own. What is shared stays shared, the bound on
    /// destination names too.
    ///
    /// ```
    /// use otel_messaging::{Correlation, Instrumentation};
    ///
    /// let instrumentation = Instrumentation::default();
    /// let replay = instrumentation.to_builder().with_correlation(Correlation::Link).build();
    /// # let _ = replay;
    /// ```
    pub fn to_builder(&self) -> InstrumentationBuilder {
        InstrumentationBuilder { settings: (*self.settings).clone() }
    }
}

impl Default for Instrumentation {
    /// The one that all wrappers share which were given none.
    fn default() -> Self {
        static SHARED: OnceLock<Instrumentation> = OnceLock::new();
        SHARED.get_or_init(|| Self::builder().build()).clone()
    }
}

unwind_safe!(Instrumentation);

impl fmt::Debug for Instrumentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt_as("Instrumentation", f)
    }
}

/// Makes an [`Instrumentation`]. Its providers take precedence over the globals.
#[must_use]
pub struct InstrumentationBuilder {
    settings: Settings,
}

/// Where telemetry goes.
impl InstrumentationBuilder {
    /// Takes spans to this provider. Default: the global one.
    pub fn with_tracer_provider<P, T, S>(mut self, provider: P) -> Self
    where
        P: TracerProvider<Tracer = T> + Send + Sync + 'static,
        T: Tracer<Span = S> + Send + Sync + 'static,
        S: Span + Send + Sync + 'static,
    {
        self.settings.tracers = Tracers::Explicit(Arc::new(move |scope| {
            let tracer: Box<dyn ObjectSafeTracer + Send + Sync> = Box::new(provider.tracer_with_scope(scope));
            BoxedTracer::new(tracer)
        }));
        self
    }

    /// Whether spans are recorded. Without spans, contexts still travel by a propagator that is given or installed, and metrics
    /// are recorded. Default: yes.
    pub fn with_spans(mut self, spans: bool) -> Self {
        self.settings.spans = spans;
        self
    }

    /// Takes metrics to this provider. Default: the global one.
    pub fn with_meter_provider(mut self, provider: impl MeterProvider + Send + Sync + 'static) -> Self {
        self.settings.meters = Meters::Explicit(Arc::new(provider));
        self
    }

    /// Whether metrics are recorded. Default: yes.
    pub fn with_metrics(mut self, metrics: bool) -> Self {
        self.settings.metrics = metrics;
        self
    }

    /// Takes an event for each failure to this provider: `messaging.{send,receive,process,settle}.exception`. A message that
    /// is only created asks nobody and cannot fail. Default: none, because OpenTelemetry for Rust has no global logger
    /// provider.
    ///
    /// Source: "Exceptions" of the messaging convention.
    pub fn with_logger_provider<P, L>(mut self, provider: P) -> Self
    where
        P: LoggerProvider<Logger = L> + Send + Sync + 'static,
        L: Logger + Send + Sync + 'static,
    {
        self.settings.exceptions = Some(Arc::new(move |scope| Box::new(provider.logger_with_scope(scope))));
        self
    }

    /// Sets how contexts travel in message headers. Default: [`Propagation::Global`].
    pub fn with_propagation(mut self, propagation: Propagation) -> Self {
        self.settings.propagator = propagation;
        self
    }
}

/// By which rules contexts are related.
impl InstrumentationBuilder {
    /// Sets how process spans relate to their messages' creation contexts.
    /// Default: [`Correlation::ParentIfNoAmbient`].
    pub fn with_correlation(mut self, correlation: Correlation) -> Self {
        self.settings.correlation = correlation;
        self
    }

    /// Whether messages come from senders that are not trusted with this service's traces: their contexts are only linked,
    /// without `tracestate`, and their baggage is dropped. Default: no.
    pub fn with_untrusted_source(mut self, untrusted: bool) -> Self {
        self.settings.untrusted = untrusted;
        self
    }

    /// Finds the context of a message that is received where the propagator finds none: given the message's headers and its
    /// payload, for senders that have a form of their own. `None` says that there is none. Default: none.
    ///
    /// It is the context of the sender then, as one that the propagator has found:
    /// [`with_correlation`](Self::with_correlation) and [`with_untrusted_source`](Self::with_untrusted_source) hold for it. It brings no baggage. A
    /// header that it reads is one of the application's: a message that is sent on keeps it, and the context of that message is
    /// the one that the propagator wrote. The reply to a NATS request is read too, and linked.
    ///
    /// Headers are found by name, the last of several, in any letter case where the broker's names have no fixed one; the
    /// payload is empty where there is none. The function borrows both, and nothing of them is recorded. It runs where the
    /// client delivers the message, for each message without a context: it must not block. What it panics at has no context.
    ///
    /// A `traceparent` that Kafka Connect has quoted, and one of a CloudEvent:
    ///
    /// ```
    /// use otel_messaging::{Instrumentation, parse_traceparent};
    ///
    /// let instrumentation = Instrumentation::builder()
    ///     .with_context_reader(|headers, _payload| {
    ///         let traceparent = headers.get("traceparent").or_else(|| headers.get("ce_traceparent"))?;
    ///         parse_traceparent(traceparent.trim_matches('"'))
    ///     })
    ///     .build();
    /// # let _ = instrumentation;
    /// ```
    pub fn with_context_reader(
        mut self,
        read: impl Fn(&dyn Extractor, &[u8]) -> Option<SpanContext> + Send + Sync + 'static,
    ) -> Self {
        self.settings.context_reader = Some(Arc::new(read));
        self
    }

    /// Sets what happens to a context that a message already carries when it is sent.
    /// Default: [`CarriedContext::Auto`].
    pub fn with_carried_context(mut self, carried_context: CarriedContext) -> Self {
        self.settings.carried_context = carried_context;
        self
    }

    /// Sets how many links one span may have; a batch counts all its messages whatever the number. Default: 128, which
    /// is what the SDK keeps.
    pub fn with_max_links(mut self, max_links: usize) -> Self {
        self.settings.max_links = max_links;
        self
    }
}

/// How destinations are named, and which operations are recorded.
impl InstrumentationBuilder {
    /// Maps a destination's name to the pattern that it was made from, for names with a variable part
    /// (`orders.4711` → `orders.{id}`). `None` leaves the name as it is. Asked once for each name that is kept.
    pub fn with_destination_template(
        mut self,
        template: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.settings.template = Some(Arc::new(template));
        self
    }

    /// Sets how many distinct destination names may appear in span names and metrics; further ones, and those longer than
    /// 1,024 bytes, are left out there and stay on the span as its attribute. Default: 1,000.
    ///
    /// It bounds what a metrics backend has to keep, whatever names arrive. A metric has at most
    ///
    /// > (limit + 1) × operations × (1 + error types) × servers × groups
    ///
    /// series: `operations` are the names that the client's adapter has for what the metric measures (`publish` and
    /// `request`, `ack` and `nack`), `error types` those of the broker and of the handlers, `servers` the brokers whose address
    /// is known, `groups` the consumer groups or subscriptions. `otel_messaging.deliveries` has a series for each outcome
    /// instead of each error type, `otel_messaging.queue_time` one for each clock. One producer that cannot fail, of 100,000
    /// names: 1,001 series. A name with a template takes no place, its template does; nor does a temporary destination, as the
    /// address that answers to the message being processed go to. The SDK has a limit of its own behind
    /// this: 2,000 series for each instrument unless a view says otherwise.
    pub fn with_destination_limit(mut self, limit: usize) -> Self {
        self.settings.destination_limit = Arc::new(DestinationLimit::new(limit));
        self
    }

    /// Tells only of operations for which `wanted` says so; of others there are no spans and no metrics, and contexts are
    /// handed on. Asked once for each operation on a destination that is kept. Default: all.
    pub fn with_filter(mut self, wanted: impl Fn(&Operation) -> bool + Send + Sync + 'static) -> Self {
        self.settings.filter = Some(Arc::new(wanted));
        self
    }
}

/// What is recorded on request. All of it is off by default.
impl InstrumentationBuilder {
    /// Sees each operation when its span starts, for a message when it is delivered, and may add attributes; one that is
    /// there already is replaced, on the span, not on metrics. It must not block: it runs where the client does.
    pub fn with_operation_hook(mut self, hook: impl Fn(&Operation, &mut Attributes) + Send + Sync + 'static) -> Self {
        self.settings.hook = Some(Arc::new(hook));
        self
    }

    /// Names a handler's error, given its type's name and itself; `None` leaves the type's name. The names become
    /// `error.type`, on metrics too: a few fixed ones.
    pub fn with_error_type(
        mut self,
        name: impl Fn(&'static str, &dyn fmt::Display) -> Option<Cow<'static, str>> + Send + Sync + 'static,
    ) -> Self {
        self.settings.error_type = Some(Arc::new(name));
        self
    }

    /// Puts headers whose names match one of these patterns on send and process spans, as
    /// `otel_messaging.header.{name}`. A `*` stands for any text, and case does not matter. Headers that carry contexts are
    /// never among them, nor names longer than 256 bytes. At most 32 headers of a message, of the first 256 that match, and 32
    /// values of each.
    pub fn with_captured_headers<P: Into<Box<str>>>(mut self, patterns: impl IntoIterator<Item = P>) -> Self {
        self.settings.capture.headers = patterns.into_iter().map(Into::into).collect();
        self
    }

    /// Sets how much of a captured header's value, or of a captured key, is shown, in bytes of UTF-8. Default: 256.
    pub fn with_capture_limit(mut self, bytes: usize) -> Self {
        self.settings.capture.value_limit = Some(bytes);
        self
    }

    /// Changes the values of captured headers, given name and value, before they are shown and cut; `None` hides one. A
    /// captured key comes under the name `messaging.kafka.message.key`. What the function panics at is not shown.
    pub fn with_redaction(mut self, redact: impl Fn(&str, &str) -> Option<String> + Send + Sync + 'static) -> Self {
        let redact: Arc<Redact> = Arc::new(redact);
        self.settings.capture.redact = Some(redact);
        self
    }

    /// Whether Kafka message keys that are UTF-8 become `messaging.kafka.message.key`, as far as
    /// [`with_redaction`](Self::with_redaction) and [`with_capture_limit`](Self::with_capture_limit) let them. Default: no, although the convention
    /// recommends it, because keys are often personal data.
    pub fn with_kafka_captured_key(mut self, capture: bool) -> Self {
        self.settings.capture_key = capture;
        self
    }

    /// Whether `messaging.message.body.size` is recorded. Default: no.
    pub fn with_captured_sizes(mut self, capture: bool) -> Self {
        self.settings.capture_sizes = capture;
        self
    }

    /// Whether each poll that brings a message has a receive span beside the message's process span; each message of a Kafka
    /// or JetStream pull stream was polled for, one that a broker pushes was not. Default: no, although the convention says
    /// SHOULD, because both stand for the same hand-over. A fetch or get always has one, and so has what failed.
    pub fn with_receive_spans(mut self, spans: bool) -> Self {
        self.settings.receive_spans = spans;
        self
    }

    /// Whether metrics have the partition. Default: no, although the convention recommends it, because each partition
    /// is a series.
    pub fn with_metric_partition(mut self, partition: bool) -> Self {
        self.settings.metric_partition = partition;
        self
    }

    /// Whether automatic commits of Kafka consumers have settle spans. Default: no; one that fails always has.
    pub fn with_kafka_auto_commit_spans(mut self, spans: bool) -> Self {
        self.settings.auto_commit_spans = spans;
        self
    }

    /// Makes the value.
    #[must_use]
    pub fn build(self) -> Instrumentation {
        Instrumentation { settings: Arc::new(self.settings) }
    }
}

impl fmt::Debug for InstrumentationBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt_as("InstrumentationBuilder", f)
    }
}
