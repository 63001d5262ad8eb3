//! The tracer of one client: found when a message passes, never frozen as a no-op.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use opentelemetry::{
    Context, InstrumentationScope,
    global::{self, BoxedSpan, BoxedTracer},
    otel_debug,
    propagation::Extractor,
    trace::{Span, SpanBuilder, SpanContext, TraceContextExt, Tracer, TracerProvider},
};

use crate::{
    instrumentation::{Instrumentation, Settings, Tracers},
    shield::shield,
};

/// While nothing real is installed, the globals are looked at once in so many milliseconds.
const LOOK_EVERY: u64 = 1_000;

/// The header a malformed value of which is worth a note.
const TRACEPARENT: &str = "traceparent";

/// An [`Instrumentation`] at work for one client.
pub(crate) struct Live {
    scope: InstrumentationScope,
    settings: Arc<Settings>,
    tracer: OnceLock<BoxedTracer>,
    propagates: AtomicBool,
    next_look: AtomicU64,
}

/// Leave to try the global tracer: OpenTelemetry has no way to ask a tracer whether it is a no-op, so the first span it
/// starts has to show. A try that found a no-op is the last for a second; an operation that started no span, as a poll that
/// found no message, was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MayLook(bool);

impl Live {
    pub(crate) fn new(scope: InstrumentationScope, instrumentation: Instrumentation) -> Self {
        let settings = instrumentation.settings;
        let tracer = match &settings.tracers {
            Tracers::Global => OnceLock::new(),
            Tracers::Explicit(make) => OnceLock::from(make(scope.clone())),
        };
        Self { scope, settings, tracer, propagates: AtomicBool::new(false), next_look: AtomicU64::new(0) }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The exits of the hot path: `None` where there is nothing to tell and nothing to carry.
    pub(crate) fn enter(&self) -> Option<MayLook> {
        if Context::is_current_telemetry_suppressed() {
            return None;
        }
        if self.tracer.get().is_some() {
            return Some(MayLook(false));
        }
        if now_millis() < self.next_look.load(Ordering::Relaxed) {
            return self.propagates.load(Ordering::Relaxed).then_some(MayLook(false));
        }
        self.propagates();
        Some(MayLook(true))
    }

    /// Whether there is a propagator. Kept once there is one, looked up again while there is none.
    pub(crate) fn propagates(&self) -> bool {
        self.propagates.load(Ordering::Relaxed) || {
            let found = self.settings.propagator.with(|_| ()).is_some();
            self.propagates.store(found, Ordering::Relaxed);
            found
        }
    }

    /// Starts a span, or `None` without a real tracer. `builder` is not called then, unless it is being found out.
    pub(crate) fn start(
        &self,
        may_look: MayLook,
        parent: &Context,
        builder: impl FnOnce() -> SpanBuilder,
    ) -> Option<BoxedSpan> {
        if let Some(tracer) = self.tracer.get() {
            return shield(|| tracer.build_with_context(builder(), parent));
        }
        if may_look == MayLook(false) {
            return None;
        }
        let tried = shield(|| {
            let tracer = global::tracer_provider().tracer_with_scope(self.scope.clone());
            let span = tracer.build_with_context(builder(), parent);
            (tracer, span)
        });
        // A no-op tracer hands the parent's context on; a real one makes a new span id, sampled or not.
        let is_real = |span: &BoxedSpan| {
            let made = span.span_context();
            made.is_valid() && made.span_id() != parent.span().span_context().span_id()
        };
        let Some((tracer, span)) = tried.filter(|(_, span)| is_real(span)) else {
            self.next_look.store(now_millis() + LOOK_EVERY, Ordering::Relaxed);
            return None;
        };
        // Another thread may have been first; both found the same provider.
        let _ = self.tracer.set(tracer);
        Some(span)
    }

    /// What the headers say, on top of `context`; and the span they named, or none.
    pub(crate) fn extract(&self, mut context: Context, headers: &dyn Extractor) -> (Context, SpanContext) {
        let mut creation = SpanContext::NONE;
        self.settings.propagator.with(|propagator| {
            let extracted = propagator.extract_with_context(&context, headers);
            let found = extracted.span();
            let found = found.span_context();
            if found.is_valid() && found.is_remote() {
                creation = found.clone();
            } else if propagator.fields().any(|field| field == TRACEPARENT) && headers.get(TRACEPARENT).is_some() {
                otel_debug!(name: "messaging.extract.ignored", message = "a message carries a malformed traceparent");
            }
            context = extracted;
        });
        (context, creation)
    }
}

/// Milliseconds since the first call in this process; never 0, so that the first look is due at once.
fn now_millis() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed().as_millis();
    u64::try_from(elapsed).unwrap_or(u64::MAX - LOOK_EVERY).saturating_add(1)
}
