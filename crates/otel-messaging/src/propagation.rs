//! How contexts are written into headers and read from them.

use std::{
    hash::Hasher,
    ptr,
    str::FromStr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

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
const TRACE_CONTEXT: [&str; 2] = [TRACEPARENT, TRACESTATE];
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
                if let Some(Recognized { baggage }) = self.recognized()
                    && (!baggage || context.baggage().is_empty())
                {
                    if replace {
                        let fields = if baggage { &W3C[..] } else { &TRACE_CONTEXT };
                        fields.iter().for_each(|field| headers.set(field, String::new()));
                    }
                    return inject_span(context, headers);
                }
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
                if let Some(Recognized { baggage }) = self.recognized()
                    && (!baggage || headers.get(BAGGAGE).is_none())
                    && let Some(creation) = span_context(headers)
                {
                    return context.with_remote_span_context(creation);
                }
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

    /// What the SDK's own propagators do for a span is done here, for a fraction of the cost.
    fn recognized(&self) -> Option<Recognized> {
        matches!(self, Self::Global).then(recognized).flatten()
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
    of_named(context, SpanContext::clone)
}

/// What is wanted of it, without a copy of all.
pub(crate) fn of_named<T>(context: &Context, read: impl FnOnce(&SpanContext) -> T) -> Option<T> {
    let span = context.span();
    let named = span.span_context();
    (named.is_valid() && named.is_remote()).then(|| read(named))
}

/// The SDK's propagators, known by what they say of themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Recognized {
    /// That of baggage is among them.
    baggage: bool,
}

/// What is installed globally, if it is the SDK's propagator of W3C trace context, alone or with that of baggage.
///
/// The first propagator that is met is asked what it is, once. From then on it is known by its address; one that replaces
/// it is not, and does its work itself.
fn recognized() -> Option<Recognized> {
    static FIRST: OnceLock<(Address, Option<Recognized>)> = OnceLock::new();
    // Once it was replaced, its address may be anybody's.
    static REPLACED: AtomicBool = AtomicBool::new(false);
    if REPLACED.load(Ordering::Relaxed) {
        return None;
    }
    global::get_text_map_propagator(|propagator| {
        let (address, recognized) = match FIRST.get() {
            Some(first) => first,
            None => {
                // The no-op one is not the one to wait for.
                shield(|| propagator.fields().next()).flatten()?;
                let recognized = shield(|| recognize(&format!("{propagator:?}"))).flatten();
                FIRST.get_or_init(|| (Address::of(propagator), recognized))
            }
        };
        if *address != Address::of(propagator) {
            REPLACED.store(true, Ordering::Relaxed);
            return None;
        }
        *recognized
    })
}

/// By the `Debug` form, in which a type names itself and all it consists of.
fn recognize(debug: &str) -> Option<Recognized> {
    const TRACE: &str = "TraceContextPropagator { _private: () }";
    const BAGGAGE: &str = "BaggagePropagator { _private: () }";
    let parts = match debug.strip_prefix("TextMapCompositePropagator { propagators: [") {
        Some(parts) => parts.split_once("], fields: [")?.0,
        None => debug,
    };
    let both = [[TRACE, BAGGAGE], [BAGGAGE, TRACE]].map(|both| both.join(", "));
    let baggage = both.iter().any(|both| both == parts);
    (baggage || parts == TRACE).then_some(Recognized { baggage })
}

/// Where a propagator is, and by which table its methods are called: what a reference to it consists of. A type without
/// size has no place of its own, but a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Address([usize; 2]);

impl Address {
    fn of(propagator: &dyn TextMapPropagator) -> Self {
        let mut address = Self::default();
        ptr::hash(propagator, &mut address);
        address
    }
}

/// The only safe way to see both is to have them hashed.
impl Hasher for Address {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_usize(byte.into()));
    }

    fn write_usize(&mut self, word: usize) {
        let [one, two] = self.0;
        self.0 = [two.rotate_left(7) ^ one.rotate_left(31), word];
    }

    fn finish(&self) -> u64 {
        0
    }
}

fn inject_w3c(context: &Context, headers: &mut dyn Injector) {
    inject_span(context, headers);
    let baggage = context.baggage();
    if !baggage.is_empty() {
        headers.set(BAGGAGE, baggage_header(baggage));
    }
}

fn inject_span(context: &Context, headers: &mut dyn Injector) {
    let span = context.span();
    let span = span.span_context();
    if span.is_valid() {
        headers.set(TRACEPARENT, traceparent(span));
        headers.set(TRACESTATE, span.trace_state().header());
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
    // It is ASCII.
    String::from_utf8(text.to_vec()).unwrap_or_default()
}

/// The context in `traceparent` and `tracestate`, if it is valid.
fn span_context(headers: &dyn Extractor) -> Option<SpanContext> {
    let text = headers.get(TRACEPARENT)?.trim().as_bytes();
    let (parts, more) = text.split_at_checked(55)?;
    if [2, 35, 52].iter().any(|&dash| parts[dash] != b'-') {
        return None;
    }
    let (version, flags) = (hex(&parts[..2])?, hex(&parts[53..])?);
    let trace = u128::from(hex(&parts[3..19])?) << 64 | u128::from(hex(&parts[19..35])?);
    let span = hex(&parts[36..52])?;
    // Later versions may have more parts; version 0 has these, and 255 is none.
    if version == 0xff || !more.is_empty() && (version == 0 || more[0] != b'-') {
        return None;
    }
    let flags = TraceFlags::new(u8::try_from(flags).ok()?) & TraceFlags::SAMPLED;
    let state = headers.get(TRACESTATE).and_then(|state| TraceState::from_str(state).ok()).unwrap_or_default();
    let span = SpanContext::new(TraceId::from(trace), SpanId::from(span), flags, true, state);
    span.is_valid().then_some(span)
}

/// What each byte is worth as a digit; [`NO_DIGIT`] for those that are none, capital letters among them.
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    digits
};
const NO_DIGIT: u8 = 0xff;

/// A number of at most 16 digits. Each is looked at before the answer: in a good header all have to be.
fn hex(digits: &[u8]) -> Option<u64> {
    let (mut number, mut seen) = (0, 0);
    for &digit in digits {
        let value = DIGITS[usize::from(digit)];
        seen |= value;
        number = number << 4 | u64::from(value & 0xf);
    }
    (seen <= 0xf).then_some(number)
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

#[cfg(test)]
mod tests {
    use opentelemetry::propagation::{TextMapCompositePropagator, TextMapPropagator};
    use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};

    use super::{Recognized, recognize};

    fn known(propagator: &dyn TextMapPropagator) -> Option<Recognized> {
        recognize(&format!("{propagator:?}"))
    }

    fn both(propagators: [Box<dyn TextMapPropagator + Send + Sync>; 2]) -> TextMapCompositePropagator {
        TextMapCompositePropagator::new(propagators.into())
    }

    #[test]
    fn the_sdks_propagators_of_w3c_are_known_and_no_others() {
        let trace = || Box::new(TraceContextPropagator::new());
        let baggage = || Box::new(BaggagePropagator::new());
        assert_eq!(known(&*trace()), Some(Recognized { baggage: false }));
        assert_eq!(known(&TextMapCompositePropagator::new(vec![trace()])), Some(Recognized { baggage: false }));
        assert_eq!(known(&both([trace(), baggage()])), Some(Recognized { baggage: true }));
        assert_eq!(known(&both([baggage(), trace()])), Some(Recognized { baggage: true }));
        assert_eq!(known(&*baggage()), None);
        assert_eq!(known(&both([trace(), trace()])), None);
        assert_eq!(known(&both([trace(), Box::new(both([trace(), baggage()]))])), None);
        assert_eq!(recognize("MyTraceContextPropagator { _private: () }"), None);
    }
}
