//! The value a user configures: where telemetry goes and by which rules.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use opentelemetry::{
    InstrumentationScope,
    global::{self, BoxedTracer, ObjectSafeTracer},
    propagation::TextMapPropagator,
    trace::{Span, Tracer, TracerProvider},
};

use crate::{operation::Bound, shield::shield};

/// Where telemetry goes and by which rules. A cheap clone; every wrapper takes one by `with_instrumentation`.
///
/// The default follows OpenTelemetry's globals. They are looked up when a message passes and never frozen as a no-op:
/// while what was found is a no-op, it is looked up again at most once a second, so that a client may be built, and may
/// send, before the SDK is installed.
///
/// ```
/// use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
/// use otel_messaging::{Correlation, Instrumentation};
///
/// let instrumentation = Instrumentation::builder()
///     .tracer_provider(SdkTracerProvider::builder().build())
///     .propagator(TraceContextPropagator::new())
///     .correlation(Correlation::Parent)
///     .build();
/// # let _ = instrumentation;
/// ```
#[derive(Clone)]
pub struct Instrumentation {
    pub(crate) settings: Arc<Settings>,
}

pub(crate) struct Settings {
    pub(crate) tracers: Tracers,
    pub(crate) propagator: Propagator,
    pub(crate) correlation: Correlation,
    pub(crate) carried_context: CarriedContext,
    pub(crate) max_links: usize,
    pub(crate) template: Option<TemplateOf>,
    pub(crate) bound: Bound,
}

type MakeTracer = Box<dyn Fn(InstrumentationScope) -> BoxedTracer + Send + Sync>;
pub(crate) type TemplateOf = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

pub(crate) enum Tracers {
    Global,
    Explicit(MakeTracer),
}

pub(crate) enum Propagator {
    Global,
    Explicit(Box<dyn TextMapPropagator + Send + Sync>),
}

impl Propagator {
    /// Runs `with` on the propagator; `None` where none is installed, or where it panicked.
    pub(crate) fn with<T>(&self, with: impl FnOnce(&dyn TextMapPropagator) -> T) -> Option<T> {
        match self {
            Self::Explicit(propagator) => shield(|| with(&**propagator)),
            Self::Global => {
                // The global takes an FnMut, and calls it once.
                let mut with = Some(with);
                global::get_text_map_propagator(|propagator| {
                    // The no-op propagator extracts the *current* context: it must not be asked.
                    propagator.fields().next()?;
                    // Caught under the global's lock, so that a panic does not poison it for everybody else.
                    with.take().and_then(|with| shield(|| with(propagator)))
                })
            }
        }
    }
}

/// How the process span of a message relates to the context that its sender left in it.
///
/// The creation context is linked in every mode, and baggage arrives in every mode. A batch is never the child of one of
/// its messages.
///
/// Source: "Trace structure" of the messaging spans convention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Correlation {
    /// A child of the span that was active when the message was handed out, else the root of a new trace.
    Link,
    /// As [`Link`](Self::Link) where a span was active, else a child of the creation context. The default: one request,
    /// one trace, in a consumer loop that is not itself inside a span.
    #[default]
    ParentIfNoAmbient,
    /// Always a child of the creation context; a span that was active is linked.
    Parent,
}

/// What to do with a context that a message already carries when it is sent.
///
/// Source: "Context propagation" of the messaging spans convention, which leaves such a context alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CarriedContext {
    /// Kept and linked (a message stored earlier and sent now), unless it is the context of the span that is current
    /// (a hand-written injector) or that of the message being processed (a forward): then replaced and linked.
    #[default]
    Auto,
    /// Always kept and linked.
    Keep,
    /// Always replaced and linked.
    Replace,
}

impl Instrumentation {
    /// Starts from the defaults.
    pub fn builder() -> InstrumentationBuilder {
        InstrumentationBuilder {
            settings: Settings {
                tracers: Tracers::Global,
                propagator: Propagator::Global,
                correlation: Correlation::default(),
                carried_context: CarriedContext::default(),
                max_links: 128,
                template: None,
                bound: Bound::new(1_000),
            },
        }
    }
}

impl Default for Instrumentation {
    /// The one that all wrappers share which were given none.
    fn default() -> Self {
        static SHARED: OnceLock<Instrumentation> = OnceLock::new();
        SHARED.get_or_init(|| Self::builder().build()).clone()
    }
}

impl fmt::Debug for Instrumentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instrumentation")
            .field("explicit_tracer_provider", &matches!(self.settings.tracers, Tracers::Explicit(_)))
            .field("explicit_propagator", &matches!(self.settings.propagator, Propagator::Explicit(_)))
            .field("correlation", &self.settings.correlation)
            .field("carried_context", &self.settings.carried_context)
            .field("max_links", &self.settings.max_links)
            .finish_non_exhaustive()
    }
}

/// Makes an [`Instrumentation`]. What it is told goes before the globals.
#[must_use]
pub struct InstrumentationBuilder {
    settings: Settings,
}

impl InstrumentationBuilder {
    /// Takes spans to this provider. Default: the global one.
    pub fn tracer_provider<P, T, S>(mut self, provider: P) -> Self
    where
        P: TracerProvider<Tracer = T> + Send + Sync + 'static,
        T: Tracer<Span = S> + Send + Sync + 'static,
        S: Span + Send + Sync + 'static,
    {
        self.settings.tracers = Tracers::Explicit(Box::new(move |scope| {
            let tracer: Box<dyn ObjectSafeTracer + Send + Sync> = Box::new(provider.tracer_with_scope(scope));
            BoxedTracer::new(tracer)
        }));
        self
    }

    /// Writes and reads message headers with this propagator. Default: the global one.
    pub fn propagator(mut self, propagator: impl TextMapPropagator + Send + Sync + 'static) -> Self {
        self.settings.propagator = Propagator::Explicit(Box::new(propagator));
        self
    }

    /// Sets how process spans relate to their messages' creation contexts.
    /// Default: [`Correlation::ParentIfNoAmbient`].
    pub fn correlation(mut self, correlation: Correlation) -> Self {
        self.settings.correlation = correlation;
        self
    }

    /// Sets what happens to a context that a message already carries when it is sent.
    /// Default: [`CarriedContext::Auto`].
    pub fn carried_context(mut self, carried_context: CarriedContext) -> Self {
        self.settings.carried_context = carried_context;
        self
    }

    /// Sets how many links one span may have; a batch counts all its messages whatever the number. Default: 128, which
    /// is what the SDK keeps.
    pub fn max_links(mut self, max_links: usize) -> Self {
        self.settings.max_links = max_links;
        self
    }

    /// Maps a destination's name to the pattern that it was made from, for names with a variable part
    /// (`orders.4711` → `orders.{id}`). `None` leaves the name as it is. Asked once for each name that is kept.
    pub fn destination_template(mut self, template: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.settings.template = Some(Box::new(template));
        self
    }

    /// Sets how many distinct destination names may appear in span names; further ones are left out there and stay on
    /// the span as its attribute. Default: 1,000.
    pub fn destination_limit(mut self, limit: usize) -> Self {
        self.settings.bound = Bound::new(limit);
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
        f.debug_struct("InstrumentationBuilder")
            .field("correlation", &self.settings.correlation)
            .field("carried_context", &self.settings.carried_context)
            .finish_non_exhaustive()
    }
}
