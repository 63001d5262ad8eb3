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

/// The length of baggage that every reader has to read, by W3C.
pub(crate) const MAX_BAGGAGE: usize = 8_192;

/// The length of one entry of `tracestate`, by W3C: 256 bytes for each of key and value, and `=`.
const MAX_STATE_ENTRY: usize = 513;

/// The number of entries of `tracestate`, by W3C.
const MAX_STATE_ENTRIES: usize = 32;

/// Whether a received header of this name has a size that is read. A longer one is ignored. Headers that are not W3C's have no limit.
#[inline]
pub(crate) fn has_readable_size(name: &str, value: &[u8]) -> bool {
    match name {
        BAGGAGE => value.len() <= MAX_BAGGAGE,
        TRACESTATE => {
            let mut entries =
                value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty());
            entries.by_ref().take(MAX_STATE_ENTRIES).all(|entry| entry.len() <= MAX_STATE_ENTRY)
                && entries.next().is_none()
        }
        _ => true,
    }
}

/// The same, asked for one by one.
pub(crate) fn context_headers(headers: &dyn Extractor) -> ContextHeaders<'_> {
    CONTEXT_HEADERS.map(|name| headers.get(name).map(str::as_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_baggage_and_a_tracestate_have_a_limit() {
        let entry = format!("{}={}", "k".repeat(256), "v".repeat(256));
        let entries = |number| vec![&*entry; number].join(" , ");
        let cases = [
            (BAGGAGE, "b".repeat(8_192), true),
            (BAGGAGE, "b".repeat(8_193), false),
            (TRACESTATE, String::new(), true),
            (TRACESTATE, entries(32), true),
            (TRACESTATE, format!("{},,", entries(32)), true),
            (TRACESTATE, entries(33), false),
            (TRACESTATE, format!("a=1,{entry}v"), false),
            (TRACEPARENT, "t".repeat(100_000), true),
            ("tenant", "t".repeat(100_000), true),
        ];
        for (name, value, is_read) in cases {
            assert_eq!(has_readable_size(name, value.as_bytes()), is_read, "{name} of {} bytes", value.len());
        }
    }
}
