//! How contexts are written into headers and read from them.

use std::{str::FromStr, sync::Arc};

use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    baggage::{Baggage, BaggageExt, KeyValueMetadata},
    global,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanContext, TraceContextExt, TraceState},
};

use crate::shield::shield;

/// How contexts travel in message headers, where no propagator is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Propagation {
    /// By the propagator that is installed globally; not at all while none is.
    #[default]
    Global,
    /// By W3C trace context and baggage, written here: the same headers as those of the SDK's propagators, for a fraction
    /// of the cost, and independent of what is installed globally. Where the SDK is laxer than W3C, W3C is followed: a
    /// `traceparent` with capital letters, signs or a dash too many is none, and `%` in baggage is encoded.
    W3c,
    /// Not at all: nothing is written and nothing is read. Sends are CLIENT spans then.
    Off,
}

#[derive(Clone)]
pub(crate) enum Propagator {
    Global,
    Explicit(Arc<dyn TextMapPropagator + Send + Sync>),
    W3c,
    Off,
}

impl From<Propagation> for Propagator {
    fn from(propagation: Propagation) -> Self {
        match propagation {
            Propagation::Global => Self::Global,
            Propagation::W3c => Self::W3c,
            Propagation::Off => Self::Off,
        }
    }
}

pub(crate) const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";
const W3C: [&str; 3] = [TRACEPARENT, TRACESTATE, BAGGAGE];

impl Propagator {
    /// Whether there is one that knows any header.
    pub(crate) fn is_real(&self) -> bool {
        match self {
            Self::W3c => true,
            Self::Off => false,
            Self::Global | Self::Explicit(_) => self.with(|_| ()).is_some(),
        }
    }

    /// Whether this header carries contexts: those of W3C, of this propagator, and of the one that is installed globally.
    pub(crate) fn owns(&self, header: &str) -> bool {
        let same = |field: &str| field.eq_ignore_ascii_case(header);
        let field_of = |propagator: &Self| propagator.with(|propagator| propagator.fields().any(same));
        W3C.into_iter().any(same)
            || field_of(&Self::Global).unwrap_or_default()
            // One that panics instead of naming its headers may own any.
            || matches!(self, Self::Explicit(_)) && field_of(self).unwrap_or(true)
    }

    /// Writes a context. `replace`: one that is there goes whole, so that a tracestate does not outlive its traceparent.
    pub(crate) fn inject(&self, context: &Context, headers: &mut dyn Injector, replace: bool) {
        match self {
            Self::W3c => {
                if replace {
                    W3C.into_iter().for_each(|field| headers.set(field, String::new()));
                }
                inject_w3c(context, headers);
            }
            Self::Off => (),
            Self::Global | Self::Explicit(_) => {
                self.with(|propagator| {
                    if replace {
                        propagator.fields().for_each(|field| headers.set(field, String::new()));
                    }
                    propagator.inject_context(context, headers);
                });
            }
        }
    }

    /// What the headers say, on top of `context`: the span they name is the context's then. `malformed` is called for a
    /// `traceparent` that says nothing.
    pub(crate) fn extract(&self, context: Context, headers: &dyn Extractor, malformed: impl FnOnce()) -> Context {
        match self {
            Self::W3c => {
                let context = match baggage(headers) {
                    Some(baggage) => context.with_baggage(baggage),
                    None => context,
                };
                match span_context(headers) {
                    Some(creation) => context.with_remote_span_context(creation),
                    None => {
                        if headers.get(TRACEPARENT).is_some() {
                            malformed();
                        }
                        context
                    }
                }
            }
            Self::Off => context,
            Self::Global | Self::Explicit(_) => {
                let extracted = self.with(|propagator| {
                    let extracted = propagator.extract_with_context(&context, headers);
                    if named(&extracted).is_none()
                        && propagator.fields().any(|field| field == TRACEPARENT)
                        && headers.get(TRACEPARENT).is_some()
                    {
                        malformed();
                    }
                    extracted
                });
                extracted.unwrap_or(context)
            }
        }
    }

    /// Runs `with` on a propagator of others; `None` where none is installed, or where it panicked.
    fn with<T>(&self, with: impl FnOnce(&dyn TextMapPropagator) -> T) -> Option<T> {
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
            Self::W3c | Self::Off => None,
        }
    }
}

/// The span that the headers named which a context was extracted from.
pub(crate) fn named(context: &Context) -> Option<SpanContext> {
    let span = context.span();
    let named = span.span_context();
    (named.is_valid() && named.is_remote()).then(|| named.clone())
}

fn inject_w3c(context: &Context, headers: &mut dyn Injector) {
    let span = context.span();
    let span = span.span_context();
    if span.is_valid() {
        headers.set(TRACEPARENT, traceparent(span));
        headers.set(TRACESTATE, span.trace_state().header());
    }
    let baggage = context.baggage();
    if !baggage.is_empty() {
        headers.set(BAGGAGE, baggage_header(baggage));
    }
}

/// `00-{trace id}-{span id}-{flags}`: only the flag that this version defines.
fn traceparent(span: &SpanContext) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    let mut write = |at: usize, bytes: &[u8]| {
        for (two, byte) in text[at..].chunks_exact_mut(2).zip(bytes) {
            two.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    };
    write(3, &span.trace_id().to_bytes());
    write(36, &span.span_id().to_bytes());
    write(53, &[(span.trace_flags() & TraceFlags::SAMPLED).to_u8()]);
    text.iter().map(|&byte| char::from(byte)).collect()
}

/// The context in `traceparent` and `tracestate`, if it is valid.
fn span_context(headers: &dyn Extractor) -> Option<SpanContext> {
    let text = headers.get(TRACEPARENT)?.trim();
    let mut parts = text.split('-');
    let mut number = |digits: usize| {
        let part = parts.next()?;
        let hex = part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        hex.then(|| u128::from_str_radix(part, 16).ok())?
    };
    let (version, trace, span, flags) = (number(2)?, number(32)?, number(16)?, number(2)?);
    // Later versions may have more parts; version 0 has these, and 255 is none.
    if version == 0xff || version == 0 && parts.next().is_some() {
        return None;
    }
    let flags = TraceFlags::new(u8::try_from(flags).ok()?) & TraceFlags::SAMPLED;
    let state = headers.get(TRACESTATE).and_then(|state| TraceState::from_str(state).ok()).unwrap_or_default();
    let span = SpanContext::new(TraceId::from(trace), SpanId::from(u64::try_from(span).ok()?), flags, true, state);
    span.is_valid().then_some(span)
}

/// What W3C baggage allows: bytes in a header, and entries.
const MAX_BAGGAGE_BYTES: usize = 8_192;
const MAX_BAGGAGE_ENTRIES: usize = 64;

fn baggage(headers: &dyn Extractor) -> Option<Baggage> {
    let text = headers.get(BAGGAGE).filter(|text| text.len() <= MAX_BAGGAGE_BYTES)?;
    let entry = |entry: &str| {
        let (pair, metadata) = entry.split_once(';').unwrap_or((entry, ""));
        let mut pair = pair.split('=');
        let (name, value) = (decoded(pair.next()?)?, decoded(pair.next()?)?);
        let metadata: Vec<_> = metadata.split(';').filter_map(|one| Some(decoded(one)?.trim().to_owned())).collect();
        Some(KeyValueMetadata::new(name.trim().to_owned(), value.trim().to_owned(), metadata.join(";")))
    };
    Some(text.split(',').take(MAX_BAGGAGE_ENTRIES).filter_map(entry).collect())
}

fn baggage_header(baggage: &Baggage) -> String {
    let mut text = String::new();
    for (name, (value, metadata)) in baggage {
        if !text.is_empty() {
            text.push(',');
        }
        encode(name.as_str().trim(), b"", &mut text);
        text.push('=');
        encode(value.as_str().trim(), b"", &mut text);
        let metadata = metadata.as_str().trim();
        if !metadata.is_empty() {
            text.push(';');
            // Several properties, with space around them.
            encode(metadata, b" ;=", &mut text);
        }
    }
    text
}

/// Percent-encoded, but for `plain`. The SDK leaves `%` and `\` as they are, and all of the metadata: another value would
/// arrive than was sent, and a comma in the metadata would begin an entry.
fn encode(text: &str, plain: &[u8], to: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        let special = matches!(byte, b'"' | b'%' | b',' | b';' | b'=' | b'\\') || !byte.is_ascii_graphic();
        if special && !plain.contains(&byte) {
            to.extend(['%', char::from(HEX[usize::from(byte >> 4)]), char::from(HEX[usize::from(byte & 15)])]);
        } else {
            to.push(char::from(byte));
        }
    }
}

/// Percent-decoded; `None` for what is not UTF-8 then. A `%` that begins no such code stays.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let code = match (first, after) {
            (b'%', [high, low, after @ ..]) => hex(high).zip(hex(low)).map(|(high, low)| (high << 4 | low, after)),
            _ => None,
        };
        let (byte, after) = code.unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}
