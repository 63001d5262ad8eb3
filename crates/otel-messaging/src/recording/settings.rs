//! The settings of an [`Instrumentation`](crate::Instrumentation).

use std::{borrow::Cow, fmt, sync::Arc};

use opentelemetry::{
    InstrumentationScope, global::BoxedTracer, metrics::MeterProvider, propagation::Extractor, trace::SpanContext,
};

use crate::{
    description::{
        attributes::Attributes,
        destination_limit::DestinationLimit,
        operation::Operation,
        policy::{CarriedContext, Correlation},
    },
    propagation::propagator::Propagation,
    recording::{capture::Capture, exceptions::Exceptions},
};

#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) tracers: Tracers,
    pub(crate) spans: bool,
    pub(crate) meters: Meters,
    pub(crate) metrics: bool,
    pub(crate) exceptions: Option<MakeExceptions>,
    pub(crate) propagator: Propagation,
    pub(crate) correlation: Correlation,
    pub(crate) untrusted: bool,
    pub(crate) context_reader: Option<ContextReader>,
    pub(crate) carried_context: CarriedContext,
    pub(crate) max_links: usize,
    pub(crate) template: Option<TemplateOf>,
    pub(crate) destination_limit: Arc<DestinationLimit>,
    pub(crate) filter: Option<Filter>,
    pub(crate) hook: Option<Hook>,
    pub(crate) error_type: Option<ErrorTypeOf>,
    pub(crate) capture: Capture,
    pub(crate) capture_key: bool,
    pub(crate) capture_sizes: bool,
    pub(crate) receive_spans: bool,
    pub(crate) metric_partition: bool,
    pub(crate) auto_commit_spans: bool,
}

type MakeTracer = Arc<dyn Fn(InstrumentationScope) -> BoxedTracer + Send + Sync>;
type MakeExceptions = Arc<dyn Fn(InstrumentationScope) -> Box<dyn Exceptions> + Send + Sync>;
pub(crate) type ContextReader = Arc<dyn Fn(&dyn Extractor, &[u8]) -> Option<SpanContext> + Send + Sync>;
type TemplateOf = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;
type Filter = Arc<dyn Fn(&Operation) -> bool + Send + Sync>;
type Hook = Arc<dyn Fn(&Operation, &mut Attributes) + Send + Sync>;
type ErrorTypeOf = Arc<dyn Fn(&'static str, &dyn fmt::Display) -> Option<Cow<'static, str>> + Send + Sync>;

#[derive(Clone)]
pub(crate) enum Tracers {
    Global,
    Explicit(MakeTracer),
}

#[derive(Clone)]
pub(crate) enum Meters {
    Global,
    Explicit(Arc<dyn MeterProvider + Send + Sync>),
}

impl Settings {
    pub(crate) fn fmt_as(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("explicit_tracer_provider", &matches!(self.tracers, Tracers::Explicit(_)))
            .field("explicit_meter_provider", &matches!(self.meters, Meters::Explicit(_)))
            .field("explicit_propagator", &matches!(self.propagator, Propagation::Custom(_)))
            .field("correlation", &self.correlation)
            .field("carried_context", &self.carried_context)
            .field("max_links", &self.max_links)
            .finish_non_exhaustive()
    }
}
