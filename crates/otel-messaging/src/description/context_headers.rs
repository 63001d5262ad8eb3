//! The headers of W3C trace context and baggage.

use opentelemetry::propagation::Extractor;

pub(crate) const TRACEPARENT: &str = "traceparent";
pub(crate) const TRACESTATE: &str = "tracestate";
pub(crate) const BAGGAGE: &str = "baggage";

/// The headers of W3C trace context and baggage, for adapters that find them in one pass over a message's headers.
pub const CONTEXT_HEADERS: [&str; 3] = [TRACEPARENT, TRACESTATE, BAGGAGE];

/// The values of a message's [`CONTEXT_HEADERS`], in the same order. A value that is not UTF-8 is ignored.
pub type ContextHeaders<'a> = [Option<&'a [u8]>; CONTEXT_HEADERS.len()];

/// Returns the index of this name in [`CONTEXT_HEADERS`]. Case is ignored.
#[inline]
pub fn context_header(name: &[u8]) -> Option<usize> {
    let at = CONTEXT_HEADERS.iter().position(|field| field.len() == name.len())?;
    let field = CONTEXT_HEADERS[at].as_bytes();
    // Most names are in lower case, so the exact comparison comes first.
    (name == field || name.eq_ignore_ascii_case(field)).then_some(at)
}

/// The length of baggage that W3C requires every reader to accept, in bytes.
pub(crate) const MAX_BAGGAGE: usize = 8_192;

/// The maximum length of one entry of `tracestate` by W3C, in bytes: 256 for the key, 256 for the value, 1 for `=`.
const MAX_STATE_ENTRY: usize = 513;

/// The maximum number of entries of `tracestate` by W3C.
const MAX_STATE_ENTRIES: usize = 32;

/// Whether a received header of this name is short enough to be read. A longer header is ignored. Only W3C headers have a limit.
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

/// Looks up the values of [`CONTEXT_HEADERS`], each by its name.
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
