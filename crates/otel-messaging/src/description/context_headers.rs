//! The headers that carry contexts by W3C.

use opentelemetry::propagation::Extractor;

pub(crate) const TRACEPARENT: &str = "traceparent";
pub(crate) const TRACESTATE: &str = "tracestate";
pub(crate) const BAGGAGE: &str = "baggage";

/// The headers that carry contexts by W3C, for adapters that look through a message's headers once.
pub const CONTEXT_HEADERS: [&str; 3] = [TRACEPARENT, TRACESTATE, BAGGAGE];

/// The values of a message's [`CONTEXT_HEADERS`], in their order. Bytes that are no text say nothing.
pub type ContextHeaders<'a> = [Option<&'a [u8]>; CONTEXT_HEADERS.len()];

/// Which of [`CONTEXT_HEADERS`] this is, in any letter case.
#[inline]
pub fn context_header(name: &[u8]) -> Option<usize> {
    let at = CONTEXT_HEADERS.iter().position(|field| field.len() == name.len())?;
    let field = CONTEXT_HEADERS[at].as_bytes();
    // As it nearly always is, letter by letter only then.
    (name == field || name.eq_ignore_ascii_case(field)).then_some(at)
}

/// The same, asked for one by one.
pub(crate) fn context_headers(headers: &dyn Extractor) -> ContextHeaders<'_> {
    CONTEXT_HEADERS.map(|name| headers.get(name).map(str::as_bytes))
}
