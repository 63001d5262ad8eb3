//! The discovery of a client's tracer and instruments in OpenTelemetry's globals.
//!
//! A client may be built, and may send, before the SDK is installed, so a no-op must not be kept. OpenTelemetry cannot report
//! whether a tracer or a meter is a no-op. This file has the replacements for that missing question.

use std::{
    cell::Cell,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Context, InstrumentationScope,
    global::{self, BoxedSpan, BoxedTracer},
    trace::{Span, SpanBuilder, TraceContextExt, Tracer, TracerProvider},
};

use crate::{
    catch_panic::catch_panic,
    recording::{
        metrics::Instruments,
        settings::{Meters, Settings, Tracers},
    },
};

/// The interval between two look-ups of the globals while a tracer or a meter is missing, in milliseconds.
const LOOK_EVERY: u64 = 1_000;

/// Whether the next span may be started with the global tracer, to find out whether that tracer is a no-op. After a probe that
/// found a no-op, the next probe follows a second later. An operation that starts no span, such as a poll without a message, does
/// not use its probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TracerProbe {
    Allowed,
    NotNow,
}

/// The tracer and the instruments of one client, as far as they were found.
pub(crate) struct Discovery {
    scope: InstrumentationScope,
    follows_global_tracer: bool,
    follows_global_meter: bool,
    tracer: OnceLock<BoxedTracer>,
    instruments: OnceLock<Instruments>,
    /// The time of the last look-up, in milliseconds since 1970.
    looked_at: AtomicU64,
}

impl Discovery {
    pub(crate) fn new(scope: InstrumentationScope, settings: &Settings) -> Self {
        let tracer = match &settings.tracers {
            Tracers::Explicit(make) if settings.spans => {
                catch_panic(|| make(scope.clone())).map_or_else(OnceLock::new, OnceLock::from)
            }
            _ => OnceLock::new(),
        };
        let instruments = match &settings.meters {
            Meters::Explicit(provider) if settings.metrics => {
                catch_panic(|| Instruments::new(&provider.meter_with_scope(scope.clone())))
                    .map_or_else(OnceLock::new, OnceLock::from)
            }
            _ => OnceLock::new(),
        };
        Self {
            scope,
            follows_global_tracer: settings.spans && matches!(settings.tracers, Tracers::Global),
            follows_global_meter: settings.metrics && matches!(settings.meters, Meters::Global),
            tracer,
            instruments,
            looked_at: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn has_tracer(&self) -> bool {
        self.tracer.get().is_some()
    }

    #[inline]
    pub(crate) fn instruments(&self) -> Option<&Instruments> {
        self.instruments.get()
    }

    #[inline]
    pub(crate) fn misses_tracer(&self) -> bool {
        self.follows_global_tracer && self.tracer.get().is_none()
    }

    #[inline]
    fn misses_meter(&self) -> bool {
        self.follows_global_meter && self.instruments.get().is_none()
    }

    /// Looks for a missing tracer and a missing meter, if a second has passed since the last look-up. Calls `look_too` then.
    pub(crate) fn look(&self, now: SystemTime, look_too: impl FnOnce()) -> TracerProbe {
        let millis = since_1970(now);
        // The difference is absolute, so that a clock that was set back does not stop the look-ups.
        if millis.abs_diff(self.looked_at.load(Ordering::Relaxed)) < LOOK_EVERY {
            return TracerProbe::NotNow;
        }
        look_too();
        if self.misses_meter() {
            self.find_meter();
        }
        if self.misses_tracer() {
            return TracerProbe::Allowed;
        }
        self.looked_at.store(millis, Ordering::Relaxed);
        TracerProbe::NotNow
    }

    /// Looks for a missing meter alone. While no meter is installed, all clients do this, so each thread keeps the time of its
    /// last look-up: a message then costs only a comparison of two times. When a thread finds a meter, all threads look.
    #[inline]
    pub(crate) fn look_for_meter(&self, now: SystemTime) {
        thread_local! {
            /// Between these times, the thread does not look again. A clock that was set back is before both times.
            static LOOKED: Cell<Option<(SystemTime, SystemTime)>> = const { Cell::new(None) };
        }
        static FOUND: AtomicBool = AtomicBool::new(false);
        if !self.misses_meter() {
            return;
        }
        let soon = |(from, until)| from <= now && now < until;
        if FOUND.load(Ordering::Relaxed) || !LOOKED.get().is_some_and(soon) {
            LOOKED.set(Some((now, now + Duration::from_millis(LOOK_EVERY))));
            self.find_meter();
            if self.instruments.get().is_some() {
                FOUND.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Finds the instruments. The no-op meter provider is recognised by its size, which is 0.
    fn find_meter(&self) {
        let provider = global::meter_provider();
        if size_of_val(&*provider) == 0 {
            return;
        }
        if let Some(instruments) = catch_panic(|| Instruments::new(&provider.meter_with_scope(self.scope.clone()))) {
            // Another thread may have been first. Both threads found the same provider.
            let _ = self.instruments.set(instruments);
        }
    }

    /// Starts a span. Returns `None` without a real tracer. `builder` is called only for a real tracer or a probe.
    #[inline]
    pub(crate) fn start(
        &self,
        probe: TracerProbe,
        parent: &Context,
        builder: impl FnOnce() -> SpanBuilder,
        found: impl FnOnce(),
    ) -> Option<BoxedSpan> {
        if let Some(tracer) = self.tracer.get() {
            // After a shutdown of its provider, a tracer makes spans without a valid context.
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
        // A no-op tracer returns the parent's span context. A real tracer creates a new span id, whether the span is sampled or
        // not.
        let is_real = |span: &BoxedSpan| {
            let made = span.span_context();
            made.is_valid() && made.span_id() != parent.span().span_context().span_id()
        };
        let Some((tracer, span)) = tried.filter(|(_, span)| is_real(span)) else {
            self.looked_at.store(since_1970(SystemTime::now()), Ordering::Relaxed);
            return None;
        };
        // Another thread may have been first. Both threads found the same provider.
        let _ = self.tracer.set(tracer);
        found();
        Some(span)
    }
}

fn since_1970(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs().saturating_mul(1_000).saturating_add(u64::from(since.subsec_millis()))
}
