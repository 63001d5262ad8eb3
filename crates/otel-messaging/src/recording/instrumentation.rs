//! The configuration of telemetry by a user.

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

/// The configuration of a client's telemetry: its destinations and its rules. A clone is cheap. Every wrapper takes an
/// `Instrumentation` by `with_instrumentation`.
///
/// The default follows OpenTelemetry's globals. While a global is a no-op, it is looked up again at most once a second. So a
/// client may be built, and may send, before the SDK is installed. Without a global propagator, contexts travel by W3C: see
/// [`Propagation::Global`].
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
    /// Creates a builder with the defaults.
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

    /// Creates a builder with this configuration, for example for a consumer with a policy of its own. Both instrumentations
    /// share the limit on destination names.
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
    /// Returns the instrumentation that all wrappers share by default.
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

/// Builds an [`Instrumentation`]. The builder's providers take precedence over the globals.
#[must_use]
pub struct InstrumentationBuilder {
    settings: Settings,
}

/// The destinations of telemetry.
impl InstrumentationBuilder {
    /// Sends spans to this provider. Default: the global provider.
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

    /// Whether spans are recorded. Without spans, metrics are recorded, and contexts travel by a given or an installed
    /// propagator. Default: yes.
    pub fn with_spans(mut self, spans: bool) -> Self {
        self.settings.spans = spans;
        self
    }

    /// Sends metrics to this provider. Default: the global provider.
    pub fn with_meter_provider(mut self, provider: impl MeterProvider + Send + Sync + 'static) -> Self {
        self.settings.meters = Meters::Explicit(Arc::new(provider));
        self
    }

    /// Whether metrics are recorded. Default: yes.
    pub fn with_metrics(mut self, metrics: bool) -> Self {
        self.settings.metrics = metrics;
        self
    }

    /// Sends an event for each failure to this provider: `messaging.{send,receive,process,settle}.exception`. A create operation
    /// cannot fail, because it sends no request. Default: no events, because OpenTelemetry for Rust has no global logger
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

/// The rules for contexts.
impl InstrumentationBuilder {
    /// Sets how process spans relate to their messages' creation contexts. Default: [`Correlation::ParentIfNoAmbient`].
    pub fn with_correlation(mut self, correlation: Correlation) -> Self {
        self.settings.correlation = correlation;
        self
    }

    /// Whether messages come from senders that are not trusted with this service's traces. If so, their contexts are only linked,
    /// without `tracestate`, and their baggage is dropped. Default: no.
    pub fn with_untrusted_source(mut self, untrusted: bool) -> Self {
        self.settings.untrusted = untrusted;
        self
    }

    /// Sets a function that finds the context of a received message if the propagator finds none, for senders that use a format
    /// of their own. The function takes the message's headers and payload. `None` means that there is no context. Default: no
    /// function.
    ///
    /// The core treats the result as the sender's context, like a context that the propagator has found:
    /// [`with_correlation`](Self::with_correlation) and [`with_untrusted_source`](Self::with_untrusted_source) apply to it. The
    /// result has no baggage. A forwarded message keeps the headers that the function reads, and the context of the forwarded
    /// message is the one that the propagator writes. The function also reads the reply to a NATS request, whose context is
    /// linked.
    ///
    /// Headers are looked up by name. Of several values, the function gets the last. Case is ignored if the broker's header names
    /// have no fixed case. The payload is empty if the message has none. The function borrows headers and payload, and neither is
    /// recorded. The function runs where the client delivers the message, for each message without a context, so it must not
    /// block. If the function panics, the message has no context.
    ///
    /// A reader for a `traceparent` that Kafka Connect has quoted, and for that of a CloudEvent:
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

    /// Sets the treatment of a context that a message already carries when it is sent. Default: [`CarriedContext::Auto`].
    pub fn with_carried_context(mut self, carried_context: CarriedContext) -> Self {
        self.settings.carried_context = carried_context;
        self
    }

    /// Sets the maximum number of links of one span. A batch counts all its messages, also beyond this number. Default: 128,
    /// which is the SDK's limit.
    pub fn with_max_links(mut self, max_links: usize) -> Self {
        self.settings.max_links = max_links;
        self
    }
}

/// The names of destinations, and the filter of operations.
impl InstrumentationBuilder {
    /// Maps a destination's name to the pattern that the name was made from, for names with a variable part (`orders.4711` →
    /// `orders.{id}`). `None` leaves the name as it is. The core calls `template` once for each cached name.
    pub fn with_destination_template(
        mut self,
        template: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.settings.template = Some(Arc::new(template));
        self
    }

    /// Sets the maximum number of distinct destination names in span names and metrics. Span names and metrics omit further
    /// names, and names longer than 1,024 bytes; the span attribute keeps them. Default: 1,000.
    ///
    /// The limit bounds the number of series in a metrics backend. A metric has at most
    ///
    /// > (limit + 1) × operations × (1 + error types) × servers × groups
    ///
    /// series. `operations` are the adapter's operation names that the metric measures (`publish` and `request`, `ack` and
    /// `nack`). `error types` are those of the broker and of the handlers. `servers` are the brokers with a known address.
    /// `groups` are the consumer groups or subscriptions. `otel_messaging.deliveries` has a series for each outcome instead of
    /// each error type, `otel_messaging.queue_time` for each clock. For example, a producer that cannot fail and sends to 100,000
    /// names has 1,001 series.
    ///
    /// A name with a template does not count towards the limit, but its template does. A temporary destination does not count
    /// either; the reply address of the message being processed is one. The SDK has a limit of its own: 2,000 series for each
    /// instrument, unless a view sets another limit.
    pub fn with_destination_limit(mut self, limit: usize) -> Self {
        self.settings.destination_limit = Arc::new(DestinationLimit::new(limit));
        self
    }

    /// Records only operations for which `wanted` returns true. Other operations have no spans and no metrics, and their messages
    /// carry the current context. The core calls `wanted` once for each operation of each cached destination. Default: all
    /// operations are recorded.
    pub fn with_filter(mut self, wanted: impl Fn(&Operation) -> bool + Send + Sync + 'static) -> Self {
        self.settings.filter = Some(Arc::new(wanted));
        self
    }
}

/// Telemetry that is recorded on request. All of it is off by default.
impl InstrumentationBuilder {
    /// Sets a function that may add attributes to each span: at the span's start, or at the delivery for the process span of a
    /// message. An added attribute replaces an earlier attribute with the same key. Metrics do not have added attributes. The
    /// function must not block, because it runs where the client sends and delivers.
    pub fn with_operation_hook(mut self, hook: impl Fn(&Operation, &mut Attributes) + Send + Sync + 'static) -> Self {
        self.settings.hook = Some(Arc::new(hook));
        self
    }

    /// Sets a function that names a handler's error. It takes the name of the error's type and the error. `None` leaves the
    /// type's name. The result becomes `error.type`, on metrics too, so use few fixed names.
    pub fn with_error_type(
        mut self,
        name: impl Fn(&'static str, &dyn fmt::Display) -> Option<Cow<'static, str>> + Send + Sync + 'static,
    ) -> Self {
        self.settings.error_type = Some(Arc::new(name));
        self
    }

    /// Sets headers whose names match one of these patterns on send and process spans, as `otel_messaging.header.{name}`. A `*`
    /// stands for any text, and case is ignored. Headers that carry contexts are never captured, nor are headers whose names are
    /// longer than 256 bytes. At most 32 headers of a message are captured, out of the first 256 that match, and at most 32
    /// values of each.
    pub fn with_captured_headers<P: Into<Box<str>>>(mut self, patterns: impl IntoIterator<Item = P>) -> Self {
        self.settings.capture.headers = patterns.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the maximum size of a captured value of a header or a key, in bytes of UTF-8. Longer values are truncated. Default:
    /// 256.
    pub fn with_capture_limit(mut self, bytes: usize) -> Self {
        self.settings.capture.value_limit = Some(bytes);
        self
    }

    /// Sets a function that changes captured values before they are truncated and recorded. It takes the name and the value of a
    /// header; `None` hides the value. The name of a captured key is `messaging.kafka.message.key`. If the function panics, the
    /// value is not recorded.
    pub fn with_redaction(mut self, redact: impl Fn(&str, &str) -> Option<String> + Send + Sync + 'static) -> Self {
        let redact: Arc<Redact> = Arc::new(redact);
        self.settings.capture.redact = Some(redact);
        self
    }

    /// Whether Kafka message keys that are UTF-8 become `messaging.kafka.message.key`, within the rules of
    /// [`with_redaction`](Self::with_redaction) and [`with_capture_limit`](Self::with_capture_limit). Default: no, although the
    /// convention recommends the attribute, because keys are often personal data.
    pub fn with_kafka_captured_key(mut self, capture: bool) -> Self {
        self.settings.capture_key = capture;
        self
    }

    /// Whether `messaging.message.body.size` is recorded. Default: no.
    pub fn with_captured_sizes(mut self, capture: bool) -> Self {
        self.settings.capture_sizes = capture;
        self
    }

    /// Whether each poll that returns a message has a receive span beside the message's process span. Each message of a Kafka or
    /// JetStream pull stream is polled; a message that a broker pushes is not. Default: no, although the convention says SHOULD,
    /// because both spans record the same delivery. A fetch, a get and a failed poll always have a receive span.
    pub fn with_receive_spans(mut self, spans: bool) -> Self {
        self.settings.receive_spans = spans;
        self
    }

    /// Whether metrics have the partition. Default: no, although the convention recommends the attribute, because each partition
    /// is a series of its own.
    pub fn with_metric_partition(mut self, partition: bool) -> Self {
        self.settings.metric_partition = partition;
        self
    }

    /// Whether automatic commits of Kafka consumers have settle spans. Default: no. A failed automatic commit always has a span.
    pub fn with_kafka_auto_commit_spans(mut self, spans: bool) -> Self {
        self.settings.auto_commit_spans = spans;
        self
    }

    /// Builds the [`Instrumentation`].
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
