//! Injection and extraction of contexts by the configured propagator.

use std::{fmt, sync::Arc};

use opentelemetry::{
    Context,
    baggage::BaggageExt,
    global,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanContext, TraceContextExt},
};

use crate::{
    catch_panic::catch_panic,
    description::context_headers::{BAGGAGE, CONTEXT_HEADERS, ContextHeaders, TRACEPARENT, has_readable_size},
    propagation::{
        baggage::{self, Bounded, LeftOut},
        forward::Forward,
        w3c::{self},
    },
};

/// The name that NATS servers 2.11, and 2.12 up to 2.12.8, give to the header `traceparent`. Its value is the same.
const RENAMED_TRACEPARENT: &str = "xraceparent";

/// How contexts travel in message headers: [`with_propagation`](crate::InstrumentationBuilder::with_propagation).
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Propagation {
    /// Contexts travel by the global propagator.
    ///
    /// If there is a real tracer, and if no propagator is installed or the installed one lists no header, contexts travel as with
    /// [`W3c`](Self::W3c). OpenTelemetry's internal logs report this once for each client. A propagator that is installed later
    /// is used from the next message on. Without a tracer and without a propagator, contexts do not travel.
    #[default]
    Global,
    /// Contexts travel by W3C trace context and baggage, in an implementation of this crate. It writes the same headers as the
    /// SDK's propagators at a fraction of their cost, and does not depend on the global propagator. Where the SDK is laxer than
    /// W3C, this implementation follows W3C: it ignores a `traceparent` with capital letters, signs or a superfluous dash, and
    /// encodes `%` in baggage.
    W3c,
    /// Contexts travel by this propagator: see [`custom`](Self::custom).
    Custom(Arc<dyn TextMapPropagator + Send + Sync>),
    /// Contexts do not travel: the client writes no header and reads none, and sends are CLIENT spans. For services whose trace
    /// ids or baggage must not leave the service.
    Off,
}

impl Propagation {
    /// Uses this propagator.
    ///
    /// ```
    /// use opentelemetry_sdk::propagation::TraceContextPropagator;
    /// use otel_messaging::{Instrumentation, Propagation};
    ///
    /// let without_baggage = Propagation::custom(TraceContextPropagator::new());
    /// let instrumentation = Instrumentation::builder().with_propagation(without_baggage).build();
    /// # let _ = instrumentation;
    /// ```
    pub fn custom(propagator: impl TextMapPropagator + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(propagator))
    }
}

impl fmt::Debug for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "Global",
            Self::W3c => "W3c",
            Self::Custom(_) => "Custom",
            Self::Off => "Off",
        })
    }
}

impl Propagation {
    /// Whether there is a propagator that lists any header.
    pub(crate) fn is_real(&self) -> bool {
        match self {
            Self::W3c => true,
            Self::Off => false,
            Self::Global | Self::Custom(_) => self.with(|_| ()).is_ok(),
        }
    }

    /// Whether this header carries contexts: a W3C header, `xraceparent`, or a header of this propagator or of the global one.
    pub(crate) fn owns(&self, header: &str) -> bool {
        let same = |field: &str| field.eq_ignore_ascii_case(header);
        let field_of = |propagator: &Self| propagator.with(|propagator| propagator.fields().any(same));
        CONTEXT_HEADERS.into_iter().chain([RENAMED_TRACEPARENT]).any(same)
            || field_of(&Self::Global).unwrap_or_default()
            // If a propagator panics when it lists its headers, any header may be its own.
            || matches!(self, Self::Custom(_)) && field_of(self).unwrap_or(true)
    }

    /// Injects the context of a span, with the other values of `parent`. If `replaces` is set, all headers of the existing
    /// context are removed, so that no old `tracestate` stays beside a new `traceparent`. If `or_w3c` is set, W3C headers are
    /// written when the global propagator lists no header.
    ///
    /// Baggage is written only up to the W3C limits.
    #[inline]
    pub(crate) fn inject(
        &self,
        span: &SpanContext,
        parent: &Context,
        headers: &mut dyn Injector,
        replaces: Option<&mut Forward>,
        or_w3c: bool,
    ) -> LeftOut {
        match self {
            Self::W3c => inject_w3c(span, parent, headers, replaces.is_some()),
            Self::Off => LeftOut(false),
            Self::Global | Self::Custom(_) => {
                let context =
                    if span.is_valid() { parent.with_remote_span_context(span.clone()) } else { parent.clone() };
                let mut bounded = Bounded::new(headers);
                let replace = replaces.is_some();
                let asked = self.with(|propagator| match replaces {
                    Some(forward) => forward.inject(propagator, &context, &mut bounded),
                    None => propagator.inject_context(&context, &mut bounded),
                });
                match asked {
                    Err(Silent::NamesNoHeader) if or_w3c => inject_w3c(span, parent, headers, replace),
                    _ => bounded.left_out,
                }
            }
        }
    }

    /// Extracts the context of the headers on top of `context`. The span that the headers name becomes the span of the result.
    /// `w3c` has the W3C headers among `headers`. If `or_w3c` is set, they are read when the global propagator lists no header.
    /// The function calls `note` for each header that cannot be read. `forward` is set for a message that may be forwarded.
    #[inline]
    pub(crate) fn extract(
        &self,
        context: Context,
        (headers, w3c): (&dyn Extractor, &ContextHeaders<'_>),
        forward: Option<&mut Forward>,
        or_w3c: bool,
        note: impl Fn(Ignored),
    ) -> Context {
        let [traceparent, _, baggage] = w3c;
        match self {
            Self::W3c => extract_w3c(context, w3c, note),
            Self::Off => context,
            Self::Global | Self::Custom(_) => {
                let headers = &Found { headers, w3c };
                let extracted = self.with(|propagator| {
                    let extracted = match forward {
                        Some(forward) => forward.extract(propagator, &context, headers),
                        None => propagator.extract_with_context(&context, headers),
                    };
                    let names = |header: &str| propagator.fields().any(|field| field == header);
                    let no_context =
                        traceparent.is_some() && of_named(&extracted, |_| ()).is_none() && names(TRACEPARENT);
                    let no_baggage = baggage.is_some_and(|header| !baggage::is_readable(header)) && names(BAGGAGE);
                    (extracted, no_context, no_baggage)
                });
                let (context, no_context, no_baggage) = match extracted {
                    Ok(extracted) => extracted,
                    Err(Silent::NamesNoHeader) if or_w3c => return extract_w3c(context, w3c, note),
                    Err(_) => (context, false, false),
                };
                // `note` is called after the lock of the global propagator is released.
                if no_context {
                    note(Ignored::Traceparent);
                }
                if no_baggage {
                    note(Ignored::Baggage);
                }
                context
            }
        }
    }

    /// Returns the headers that a forwarded message must lose: see [`Forward::stale`].
    pub(crate) fn stale(&self, forward: &Forward, written: &SpanContext, headers: &dyn Extractor) -> Vec<String> {
        self.with(|propagator| forward.stale(propagator, written, headers)).unwrap_or_default()
    }

    /// Runs `with` on the global or custom propagator.
    fn with<T>(&self, with: impl FnOnce(&dyn TextMapPropagator) -> T) -> Result<T, Silent> {
        match self {
            Self::Custom(propagator) => catch_panic(|| with(&**propagator)).ok_or(Silent::Panicked),
            Self::Global => {
                // `get_text_map_propagator` takes an `FnMut` and calls it once.
                let mut with = Some(with);
                global::get_text_map_propagator(|propagator| {
                    // The panic is caught while the lock of the global propagator is held, because a panic would poison the lock.
                    let asked = catch_panic(|| {
                        // The no-op propagator extracts the *current* context, so it must not be used.
                        propagator.fields().next().ok_or(Silent::NamesNoHeader)?;
                        with.take().map(|with| with(propagator)).ok_or(Silent::Panicked)
                    });
                    asked.ok_or(Silent::Panicked).flatten()
                })
            }
            Self::W3c | Self::Off => Err(Silent::NamesNoHeader),
        }
    }
}

/// The headers of a message, with the W3C headers already looked up.
struct Found<'a> {
    headers: &'a dyn Extractor,
    w3c: &'a ContextHeaders<'a>,
}

impl Extractor for Found<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match CONTEXT_HEADERS.iter().position(|field| *field == key) {
            Some(at) => str::from_utf8(self.w3c[at].filter(|value| has_readable_size(key, value))?).ok(),
            None => self.headers.get(key),
        }
    }

    fn keys(&self) -> Vec<&str> {
        self.headers.keys()
    }

    fn get_all(&self, key: &str) -> Option<Vec<&str>> {
        let mut all = self.headers.get_all(key)?;
        all.retain(|value| has_readable_size(key, value.as_bytes()));
        (!all.is_empty()).then_some(all)
    }
}

/// Why a propagator gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silent {
    /// No propagator is installed, or the installed one lists no header.
    NamesNoHeader,
    Panicked,
}

/// A received header that cannot be read, or can be read only in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ignored {
    Traceparent,
    Baggage,
}

#[inline]
fn inject_w3c(span: &SpanContext, parent: &Context, headers: &mut dyn Injector, replace: bool) -> LeftOut {
    if replace {
        CONTEXT_HEADERS.into_iter().for_each(|field| headers.set(field, String::new()));
    }
    w3c::inject_span(span, headers);
    baggage::inject(parent.baggage(), headers)
}

#[inline]
fn extract_w3c(mut context: Context, w3c: &ContextHeaders<'_>, note: impl Fn(Ignored)) -> Context {
    let [traceparent, _, baggage] = w3c;
    if let Some(header) = baggage {
        let read = baggage::read(header);
        if !matches!(read, Some((_, true))) {
            note(Ignored::Baggage);
        }
        if let Some((baggage, _)) = read {
            context = context.with_baggage(baggage);
        }
    }
    match w3c::span_context(w3c) {
        Some(creation) => context.with_remote_span_context(creation),
        None => {
            if traceparent.is_some() {
                note(Ignored::Traceparent);
            }
            context
        }
    }
}

/// The span that the headers named, in a context that was extracted from them.
#[inline]
pub(crate) fn named(context: &Context) -> Option<SpanContext> {
    of_named(context, SpanContext::clone)
}

/// Reads the span that the headers named, without copying its context.
#[inline]
pub(crate) fn of_named<T>(context: &Context, read: impl FnOnce(&SpanContext) -> T) -> Option<T> {
    let span = context.span();
    let named = span.span_context();
    (named.is_valid() && named.is_remote()).then(|| read(named))
}
