//! What is installed in the process.

use std::{fmt, str::FromStr, time::Duration};

use opentelemetry::{
    Context, global,
    propagation::{Extractor, TextMapPropagator},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use otel_messaging::{Instrumentation, Propagation};

use crate::peer::TRACEPARENT;

/// OpenTelemetry's globals are the process's, so each mode has a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The SDK samples everything; ended spans are dropped by a processor that does nothing.
    Recorded,
    /// As `Recorded`, and ours writes and reads contexts by `Propagation::W3c`.
    RecordedW3c,
    /// The SDK samples nothing; contexts are propagated.
    SampledOut,
    /// As `SampledOut`, and ours writes and reads contexts by `Propagation::W3c`.
    SampledOutW3c,
    /// Neither an SDK nor a propagator.
    NoSdk,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Recorded, Self::RecordedW3c, Self::SampledOut, Self::SampledOutW3c, Self::NoSdk];

    /// Installs it, for the rest of the process.
    pub fn install(self) {
        let sampler = match self {
            Self::Recorded | Self::RecordedW3c => Sampler::AlwaysOn,
            Self::SampledOut | Self::SampledOutW3c => Sampler::AlwaysOff,
            Self::NoSdk => return,
        };
        let provider = SdkTracerProvider::builder().with_sampler(sampler).with_span_processor(Nowhere).build();
        global::set_tracer_provider(provider);
        global::set_text_map_propagator(TraceContextPropagator::new());
    }

    /// What ours is given.
    pub(crate) fn instrumentation(self) -> Instrumentation {
        match self {
            Self::RecordedW3c | Self::SampledOutW3c => {
                Instrumentation::builder().with_propagation(Propagation::W3c).build()
            }
            Self::Recorded | Self::SampledOut | Self::NoSdk => Instrumentation::default(),
        }
    }

    /// The context of a request that came from another process: messages are sent while one is handled.
    pub(crate) fn request(self) -> Context {
        match self {
            Self::NoSdk => Context::new(),
            _ => TraceContextPropagator::new().extract_with_context(&Context::new(), &Upstream),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Recorded => "recorded",
            Self::RecordedW3c => "recorded, W3c",
            Self::SampledOut => "sampled out",
            Self::SampledOutW3c => "sampled out, W3c",
            Self::NoSdk => "no SDK",
        })
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let mode = Self::ALL.into_iter().find(|mode| mode.to_string() == name);
        mode.ok_or_else(|| format!("no mode is called {name}"))
    }
}

#[derive(Debug)]
struct Nowhere;

impl SpanProcessor for Nowhere {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, _: SpanData) {}

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

struct Upstream;

impl Extractor for Upstream {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(TRACEPARENT)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}
