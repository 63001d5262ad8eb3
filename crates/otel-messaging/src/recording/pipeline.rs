//! The tracer, instruments, propagator and settings of one client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use opentelemetry::{
    Context, InstrumentationScope,
    global::BoxedSpan,
    otel_debug, otel_info, otel_warn,
    propagation::{Extractor, Injector},
    trace::{SpanBuilder, SpanContext, TraceState},
};

use crate::{
    catch_panic::catch_panic,
    description::context_headers::{ContextHeaders, context_headers},
    propagation::{
        baggage::LeftOut,
        forward::Forward,
        propagator::{Ignored, Propagation, named},
    },
    recording::{
        discovery::{Discovery, TracerProbe},
        exceptions::Exceptions,
        instrumentation::Instrumentation,
        loops::Loops,
        metrics::Instruments,
        settings::{ContextReader, Settings},
    },
};

/// An [`Instrumentation`] in use by one client.
pub(crate) struct Pipeline {
    settings: Arc<Settings>,
    discovery: Discovery,
    pub(crate) exceptions: Option<Box<dyn Exceptions>>,
    pub(crate) loops: Loops,
    propagates: AtomicBool,
    /// The log has the note that W3C headers stand in for a propagator.
    noted: AtomicBool,
    /// The log has the warning that baggage is too long.
    noted_baggage: AtomicBool,
}

impl Pipeline {
    pub(crate) fn new(scope: InstrumentationScope, instrumentation: Instrumentation) -> Self {
        let settings = instrumentation.settings;
        let exceptions = settings.exceptions.as_ref().and_then(|make| catch_panic(|| make(scope.clone())));
        Self {
            discovery: Discovery::new(scope, &settings),
            settings,
            exceptions,
            loops: Loops::default(),
            propagates: AtomicBool::new(false),
            noted: AtomicBool::new(false),
            noted_baggage: AtomicBool::new(false),
        }
    }

    #[inline]
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    #[inline]
    pub(crate) fn instruments(&self) -> Option<&Instruments> {
        self.discovery.instruments()
    }

    /// Decides whether an operation is recorded: `None` if nothing is recorded and no context travels.
    #[inline]
    pub(crate) fn enter(&self, now: SystemTime) -> Option<TracerProbe> {
        let misses_tracer = self.discovery.misses_tracer();
        let probe = if misses_tracer {
            self.discovery.look(now, || {
                self.propagates();
            })
        } else {
            self.discovery.look_for_meter(now);
            TracerProbe::NotNow
        };
        let is_needed = probe == TracerProbe::Allowed
            || self.has_tracer()
            || self.instruments().is_some()
            || self.exceptions.is_some()
            || if misses_tracer { self.propagates.load(Ordering::Relaxed) } else { self.propagates() };
        is_needed.then_some(probe)
    }

    /// Whether there is a propagator. The result is kept once there is one, and looked up again while there is none.
    #[inline]
    pub(crate) fn propagates(&self) -> bool {
        self.propagates.load(Ordering::Relaxed) || {
            let found = self.settings.propagator.is_real();
            self.propagates.store(found, Ordering::Relaxed);
            found
        }
    }

    /// Whether there is a real tracer. Only then do W3C headers stand in for a global propagator that lists no header.
    #[inline]
    pub(crate) fn has_tracer(&self) -> bool {
        self.discovery.has_tracer()
    }

    /// Whether messages are sent with a context. If there is no propagator, this depends on whether the starting span finds a
    /// tracer.
    #[inline]
    pub(crate) fn writes(&self, probe: TracerProbe) -> bool {
        self.propagates() || self.follows_global() && self.may_start(probe)
    }

    /// Whether headers are read before a tracer was found. If no tracer is found, the values from the headers are dropped.
    #[inline]
    pub(crate) fn hopes(&self, probe: TracerProbe) -> bool {
        probe == TracerProbe::Allowed && !self.has_tracer() && self.follows_global() && !self.propagates()
    }

    fn follows_global(&self) -> bool {
        matches!(self.settings.propagator, Propagation::Global)
    }

    /// Logs once that contexts travel by W3C because no propagator is installed.
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
                message = "no propagator is installed: messages carry W3C trace context and baggage. Install a propagator by \
                    opentelemetry::global::set_text_map_propagator, or set Propagation::W3c; Propagation::Off sends none."
            );
        });
    }

    /// Whether there is a tracer, or a probe for one is allowed.
    #[inline]
    pub(crate) fn may_start(&self, probe: TracerProbe) -> bool {
        self.has_tracer() || probe == TracerProbe::Allowed
    }

    /// Starts a span. Returns `None` without a real tracer. `builder` is called only for a real tracer or a probe.
    #[inline]
    pub(crate) fn start(
        &self,
        probe: TracerProbe,
        parent: &Context,
        builder: impl FnOnce() -> SpanBuilder,
    ) -> Option<BoxedSpan> {
        self.discovery.start(probe, parent, builder, || self.note_stand_in())
    }

    /// The span context that the headers of a received message name, or an invalid one, to be linked. Without `tracestate` if the
    /// sender is untrusted.
    pub(crate) fn linked(&self, headers: &dyn Extractor, w3c: &ContextHeaders<'_>, probe: TracerProbe) -> SpanContext {
        self.link(&self.extract(Context::new(), headers, w3c, probe))
    }

    /// The span context that the headers of an outgoing message name. The message may be a forward.
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

    /// The span context that the application's context reader finds in a message. Without a tracer, the reader is called only if
    /// contexts travel.
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

    /// Extracts the context of the headers on top of `context`. The span that the headers name becomes the span of the result.
    /// `w3c` has the W3C headers among `headers`.
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

    /// Injects the context of a span, with the other values of `parent`.
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
                    message = "baggage exceeds the W3C limits of 8,192 bytes and 64 entries: messages omit the longest entries. \
                        This warning is logged once."
                );
            });
        }
    }
}

/// The headers of a message without headers.
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
                message = "a message carries baggage that cannot be read, or can be read only in part"
            );
        }
    });
}
