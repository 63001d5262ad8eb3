//! How contexts are written into headers and read from them.

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

/// What NATS servers of 2.11, and of 2.12 up to 2.12.8, make of `traceparent`; it carries the same.
const RENAMED_TRACEPARENT: &str = "xraceparent";

/// How contexts travel in message headers:
/// [`with_propagation`](crate::InstrumentationBuilder::with_propagation).
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Propagation {
    /// By the propagator that is installed globally.
    ///
    /// While no propagator is installed, or one that names no header, and there is a real tracer, contexts travel as with
    /// [`W3c`](Self::W3c), and OpenTelemetry's internal logs say so once for each client. A propagator that is installed later is
    /// used from the next message on. Without a tracer and without a propagator contexts do not travel.
    #[default]
    Global,
    /// By W3C trace context and baggage, written here: the same headers as those of the SDK's propagators, for a fraction
    /// of the cost, and independent of the global propagator. Where the SDK is laxer than W3C, this follows W3C: it ignores a
    /// `traceparent` with capital letters, signs or a superfluous dash, and encodes `%` in baggage.
    W3c,
    /// By this propagator: see [`custom`](Self::custom).
    Custom(Arc<dyn TextMapPropagator + Send + Sync>),
    /// Contexts do not travel: no header is written, none is read, and sends are CLIENT spans. For services whose traces or
    /// baggage must not leave them.
    Off,
}

impl Propagation {
    /// Contexts travel by this propagator.
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
    /// Whether there is one that knows any header.
    pub(crate) fn is_real(&self) -> bool {
        match self {
            Self::W3c => true,
            Self::Off => false,
            Self::Global | Self::Custom(_) => self.with(|_| ()).is_ok(),
        }
    }

    /// Whether this header carries contexts: those of W3C, what a NATS server makes of one, those of this propagator, and of
    /// the one that is installed globally.
    pub(crate) fn owns(&self, header: &str) -> bool {
        let same = |field: &str| field.eq_ignore_ascii_case(header);
        let field_of = |propagator: &Self| propagator.with(|propagator| propagator.fields().any(same));
        CONTEXT_HEADERS.into_iter().chain([RENAMED_TRACEPARENT]).any(same)
            || field_of(&Self::Global).unwrap_or_default()
            // One that panics instead of naming its headers may own any.
            || matches!(self, Self::Custom(_)) && field_of(self).unwrap_or(true)
    }

    /// Writes the context of a span, and what else its parent's carries. `replaces`: one that is there goes whole, so that a
    /// tracestate does not outlive its traceparent. `or_w3c`: W3C's headers stand in for a global propagator that names none.
    ///
    /// Baggage is written as far as W3C's limits let everybody read it.
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

    /// What the headers say, on top of `context`: the span they name is the context's then. `w3c` are those of them
    /// that W3C has; `or_w3c`: they stand in for a global propagator that names none. `note` is called for what cannot be
    /// read. `forward`: those of a message that may be forwarded.
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
                // Not under the lock that the global propagator is asked under.
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

    /// Which headers of a message that was forwarded have to go: see [`Forward::stale`].
    pub(crate) fn stale(&self, forward: &Forward, written: &SpanContext, headers: &dyn Extractor) -> Vec<String> {
        self.with(|propagator| forward.stale(propagator, written, headers)).unwrap_or_default()
    }

    /// Runs `with` on a propagator of others.
    fn with<T>(&self, with: impl FnOnce(&dyn TextMapPropagator) -> T) -> Result<T, Silent> {
        match self {
            Self::Custom(propagator) => catch_panic(|| with(&**propagator)).ok_or(Silent::Panicked),
            Self::Global => {
                // The global takes an FnMut, and calls it once.
                let mut with = Some(with);
                global::get_text_map_propagator(|propagator| {
                    // Caught under the global's lock, so that a panic does not poison it for everybody else.
                    let asked = catch_panic(|| {
                        // The no-op propagator extracts the *current* context: it must not be asked.
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

/// The headers of a message, of which those of W3C are not looked for again.
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

/// Why a propagator of others says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silent {
    /// None is installed, or one that names no header.
    NamesNoHeader,
    Panicked,
}

/// A header that arrived and cannot be read, or not all of it.
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

/// The span that the headers named which a context was extracted from.
#[inline]
pub(crate) fn named(context: &Context) -> Option<SpanContext> {
    of_named(context, SpanContext::clone)
}

/// What is wanted of it, without a copy of all.
#[inline]
pub(crate) fn of_named<T>(context: &Context, read: impl FnOnce(&SpanContext) -> T) -> Option<T> {
    let span = context.span();
    let named = span.span_context();
    (named.is_valid() && named.is_remote()).then(|| read(named))
}
