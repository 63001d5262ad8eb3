//! The tracer and the instruments of one client: found when a message passes, never frozen as no-ops.

use std::{
    cell::Cell,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Context, InstrumentationScope,
    global::{self, BoxedSpan, BoxedTracer},
    otel_debug, otel_info, otel_warn,
    propagation::{Extractor, Injector},
    trace::{Span, SpanBuilder, SpanContext, TraceContextExt, TraceState, Tracer, TracerProvider},
};

use crate::{
    catch_panic::catch_panic,
    description::context_headers::{ContextHeaders, context_headers},
    propagation::{
        baggage::LeftOut,
        forward::Forward,
        propagator::{Ignored, Propagator, named},
    },
    recording::{
        exceptions::Exceptions,
        instrumentation::{ContextReader, Instrumentation, Meters, Settings, Tracers},
        loops::Loops,
        metrics::Instruments,
    },
};

/// While something real is missing, the globals are looked at once in so many milliseconds.
const LOOK_EVERY: u64 = 1_000;

/// An [`Instrumentation`] at work for one client.
pub(crate) struct Pipeline {
    scope: InstrumentationScope,
    settings: Arc<Settings>,
    tracer: OnceLock<BoxedTracer>,
    instruments: OnceLock<Instruments>,
    pub(crate) exceptions: Option<Box<dyn Exceptions>>,
    pub(crate) loops: Loops,
    propagates: AtomicBool,
    /// It was said that W3C's headers stand in for a propagator.
    noted: AtomicBool,
    /// It was said that baggage is too long.
    noted_baggage: AtomicBool,
    /// Milliseconds since 1970.
    looked: AtomicU64,
}

/// Whether the next span may be started with the global tracer, to find out whether that is a no-op: OpenTelemetry has no other
/// way to ask. A probe that found a no-op is the last for a second. An operation that started no span, as a poll that found no
/// message, has not used its probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TracerProbe {
    Allowed,
    NotNow,
}

impl Pipeline {
    pub(crate) fn new(scope: InstrumentationScope, instrumentation: Instrumentation) -> Self {
        let settings = instrumentation.settings;
        let tracer = match &settings.tracers {
            Tracers::Explicit(make) => catch_panic(|| make(scope.clone())).map_or_else(OnceLock::new, OnceLock::from),
            Tracers::Global | Tracers::Off => OnceLock::new(),
        };
        let instruments = match &settings.meters {
            Meters::Explicit(provider) => catch_panic(|| Instruments::new(&provider.meter_with_scope(scope.clone())))
                .map_or_else(OnceLock::new, OnceLock::from),
            Meters::Global | Meters::Off => OnceLock::new(),
        };
        let exceptions = settings.exceptions.as_ref().and_then(|make| catch_panic(|| make(scope.clone())));
        Self {
            scope,
            settings,
            tracer,
            instruments,
            exceptions,
            loops: Loops::default(),
            propagates: AtomicBool::new(false),
            noted: AtomicBool::new(false),
            noted_baggage: AtomicBool::new(false),
            looked: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    #[inline]
    pub(crate) fn instruments(&self) -> Option<&Instruments> {
        self.instruments.get()
    }

    #[inline]
    fn may_find_tracer(&self) -> bool {
        matches!(self.settings.tracers, Tracers::Global) && self.tracer.get().is_none()
    }

    #[inline]
    fn may_find_meter(&self) -> bool {
        matches!(self.settings.meters, Meters::Global) && self.instruments.get().is_none()
    }

    /// The exits of the hot path: `None` where there is nothing to tell and nothing to carry.
    #[inline]
    pub(crate) fn enter(&self, now: SystemTime) -> Option<TracerProbe> {
        let looks = self.may_find_tracer();
        let probe = if looks { self.look(now) } else { TracerProbe::NotNow };
        if !looks && self.may_find_meter() {
            self.look_for_meter(now);
        }
        let something = probe == TracerProbe::Allowed
            || self.tracer.get().is_some()
            || self.instruments.get().is_some()
            || self.exceptions.is_some()
            || if looks { self.propagates.load(Ordering::Relaxed) } else { self.propagates() };
        something.then_some(probe)
    }

    /// Looks for what is missing, if it is time to.
    fn look(&self, now: SystemTime) -> TracerProbe {
        let millis = since_1970(now);
        // A clock that was set back must not stop the looking.
        if millis.abs_diff(self.looked.load(Ordering::Relaxed)) < LOOK_EVERY {
            return TracerProbe::NotNow;
        }
        self.propagates();
        if self.may_find_meter() {
            self.find_meter();
        }
        if self.may_find_tracer() {
            return TracerProbe::Allowed;
        }
        self.looked.store(millis, Ordering::Relaxed);
        TracerProbe::NotNow
    }

    /// Looks for a meter alone, as all clients do while there is none: the clock was read anyway, and no more is done than
    /// to compare. Each thread looks once in a while; when one of them finds, all do.
    #[inline]
    fn look_for_meter(&self, now: SystemTime) {
        thread_local! {
            /// Between these it is too soon to look again. A clock that was set back is before both.
            static LOOKED: Cell<Option<(SystemTime, SystemTime)>> = const { Cell::new(None) };
        }
        static FOUND: AtomicBool = AtomicBool::new(false);
        let soon = |(from, until)| from <= now && now < until;
        if FOUND.load(Ordering::Relaxed) || !LOOKED.get().is_some_and(soon) {
            LOOKED.set(Some((now, now + Duration::from_millis(LOOK_EVERY))));
            self.find_meter();
            if self.instruments.get().is_some() {
                FOUND.store(true, Ordering::Relaxed);
            }
        }
    }

    /// The no-op provider has no size, and OpenTelemetry has no other way to ask.
    fn find_meter(&self) {
        let provider = global::meter_provider();
        if size_of_val(&*provider) == 0 {
            return;
        }
        if let Some(instruments) = catch_panic(|| Instruments::new(&provider.meter_with_scope(self.scope.clone()))) {
            // Another thread may have been first; both found the same provider.
            let _ = self.instruments.set(instruments);
        }
    }

    /// Whether there is a propagator. Kept once there is one, looked up again while there is none.
    #[inline]
    pub(crate) fn propagates(&self) -> bool {
        self.propagates.load(Ordering::Relaxed) || {
            let found = self.settings.propagator.is_real();
            self.propagates.store(found, Ordering::Relaxed);
            found
        }
    }

    /// Whether there is a real tracer. Only then do W3C's headers stand in for a global propagator that names none.
    #[inline]
    pub(crate) fn has_tracer(&self) -> bool {
        self.tracer.get().is_some()
    }

    /// Whether messages are sent with a context: surely, or if the span that is about to start shows that there is a tracer.
    #[inline]
    pub(crate) fn writes(&self, probe: TracerProbe) -> bool {
        self.propagates() || self.follows_global() && self.may_start(probe)
    }

    /// Whether headers are read in the hope of a tracer: without one they say nothing.
    #[inline]
    pub(crate) fn hopes(&self, probe: TracerProbe) -> bool {
        probe == TracerProbe::Allowed && !self.has_tracer() && self.follows_global() && !self.propagates()
    }

    fn follows_global(&self) -> bool {
        matches!(self.settings.propagator, Propagator::Global)
    }

    /// A message passes: notes once where W3C's headers stand in for a propagator that nobody installed.
    #[inline]
    pub(crate) fn note_stand_in(&self) {
        if !self.propagates.load(Ordering::Relaxed) && self.has_tracer() && self.follows_global() {
            self.note_stand_in_once();
        }
    }

    #[cold]
    fn note_stand_in_once(&self) {
        if self.noted.load(Ordering::Relaxed) || self.propagates() || self.noted.swap(true, Ordering::Relaxed) {
            return;
        }
        catch_panic(|| {
            otel_info!(
                name: "messaging.propagator.default",
                message = "no propagator is installed: W3C trace context and baggage travel in messages. Install one by \
                    opentelemetry::global::set_text_map_propagator, or say Propagation::W3c; Propagation::Off sends none."
            );
        });
    }

    /// Whether there is a tracer, or leave to look for one.
    #[inline]
    pub(crate) fn may_start(&self, probe: TracerProbe) -> bool {
        self.tracer.get().is_some() || probe == TracerProbe::Allowed
    }

    /// Starts a span, or `None` without a real tracer. `builder` is not called then, unless it is being found out.
    #[inline]
    pub(crate) fn start(
        &self,
        probe: TracerProbe,
        parent: &Context,
        builder: impl FnOnce() -> SpanBuilder,
    ) -> Option<BoxedSpan> {
        if let Some(tracer) = self.tracer.get() {
            // That of a provider which was shut down has no spans to give.
            return catch_panic(|| tracer.build_with_context(builder(), parent))
                .filter(|span| span.span_context().is_valid());
        }
        if probe == TracerProbe::NotNow {
            return None;
        }
        let tried = catch_panic(|| {
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
            self.looked.store(since_1970(SystemTime::now()), Ordering::Relaxed);
            return None;
        };
        // Another thread may have been first; both found the same provider.
        let _ = self.tracer.set(tracer);
        self.note_stand_in();
        Some(span)
    }

    /// The span that the headers of a message that came named, or none, to link it. What an untrusted sender may say of a
    /// span is which one it is.
    pub(crate) fn linked(&self, headers: &dyn Extractor, w3c: &ContextHeaders<'_>, probe: TracerProbe) -> SpanContext {
        self.link(&self.extract(Context::new(), headers, w3c, probe))
    }

    /// The same of a message that is about to be sent, and may be forwarded.
    pub(crate) fn carried(&self, headers: &dyn Extractor, probe: TracerProbe) -> (SpanContext, Forward) {
        let (mut forward, or_w3c) = (Forward::default(), self.may_start(probe));
        let headers = (headers, &context_headers(headers));
        let extracted =
            self.settings.propagator.extract(Context::new(), headers, Some(&mut forward), or_w3c, note_ignored);
        (self.link(&extracted), forward)
    }

    fn link(&self, extracted: &Context) -> SpanContext {
        let named = named(extracted).unwrap_or(SpanContext::NONE);
        if !self.settings.untrusted {
            return named;
        }
        let (trace, span) = (named.trace_id(), named.span_id());
        SpanContext::new(trace, span, named.trace_flags(), named.is_remote(), TraceState::NONE)
    }

    /// The context that the application's function finds in a message, as the propagator would have found it. Without a tracer
    /// it is asked only where contexts travel.
    #[cold]
    pub(crate) fn read(
        &self,
        reader: &ContextReader,
        (headers, payload): (Option<&dyn Extractor>, &[u8]),
        probe: TracerProbe,
    ) -> Option<SpanContext> {
        if !self.may_start(probe) && !self.settings.propagator.is_real() {
            return None;
        }
        let read =
            catch_panic(|| reader(headers.unwrap_or(&NoHeaders), payload)).flatten().filter(SpanContext::is_valid)?;
        let state = if self.settings.untrusted { TraceState::NONE } else { read.trace_state().clone() };
        Some(SpanContext::new(read.trace_id(), read.span_id(), read.trace_flags(), true, state))
    }

    /// What the headers say, on top of `context`: the span they name is the context's then. `w3c` are those of them that W3C
    /// has.
    #[inline]
    pub(crate) fn extract(
        &self,
        context: Context,
        headers: &dyn Extractor,
        w3c: &ContextHeaders<'_>,
        probe: TracerProbe,
    ) -> Context {
        self.settings.propagator.extract(context, (headers, w3c), None, self.may_start(probe), note_ignored)
    }

    /// Writes the context of a span into headers, and what else its parent's carries.
    #[inline]
    pub(crate) fn inject(
        &self,
        span: &SpanContext,
        parent: &Context,
        headers: &mut dyn Injector,
        replaces: Option<&mut Forward>,
    ) {
        let left_out = self.settings.propagator.inject(span, parent, headers, replaces, self.has_tracer());
        if left_out == LeftOut(true) && !self.noted_baggage.swap(true, Ordering::Relaxed) {
            catch_panic(|| {
                otel_warn!(
                    name: "messaging.baggage.left_out",
                    message = "baggage is longer than readers have to read by W3C, 8,192 bytes or 64 entries: what is too \
                        much is left out of messages, the longest entries first. This is said once."
                );
            });
        }
    }
}

/// Those of a message that has none.
struct NoHeaders;

impl Extractor for NoHeaders {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }
}

#[cold]
fn note_ignored(ignored: Ignored) {
    catch_panic(|| match ignored {
        Ignored::Traceparent => {
            otel_debug!(name: "messaging.extract.ignored", message = "a message carries a malformed traceparent");
        }
        Ignored::Baggage => {
            otel_debug!(
                name: "messaging.extract.ignored",
                message = "a message carries baggage that cannot be read, or not all of it"
            );
        }
    });
}

/// Ends a span, now unless it is told when.
#[inline]
pub(crate) fn end(span: &mut BoxedSpan, at: Option<SystemTime>) {
    catch_panic(|| match at {
        Some(time) => span.end_with_timestamp(time),
        // What nobody records needs no clock.
        None if !span.is_recording() => span.end_with_timestamp(SystemTime::UNIX_EPOCH),
        None => span.end(),
    });
}

fn since_1970(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs().saturating_mul(1_000).saturating_add(u64::from(since.subsec_millis()))
}
