//! W3C trace context as text. `baggage.rs` has W3C baggage.

use std::str::FromStr;

use opentelemetry::{
    SpanId, TraceFlags, TraceId,
    propagation::Injector,
    trace::{SpanContext, TraceState},
};

use crate::description::context_headers::{ContextHeaders, TRACEPARENT, TRACESTATE, has_readable_size};

/// Parses a `traceparent` into a span context without `tracestate`, for
/// [`with_context_reader`](crate::InstrumentationBuilder::with_context_reader). Returns `None` if the text is not valid by W3C,
/// for example with capital letters, an id of zeros, or quotes. Space around the text is ignored.
///
/// Source: "traceparent Header" of W3C Trace Context.
#[must_use]
pub fn parse_traceparent(text: &str) -> Option<SpanContext> {
    span_context(&[Some(text.as_bytes()), None, None])
}

/// Writes `traceparent` and `tracestate`, if the span is valid.
#[inline]
pub(crate) fn inject_span(span: &SpanContext, headers: &mut dyn Injector) {
    if span.is_valid() {
        // `tracestate` is set first: it is mostly empty, and the search for an old value is cheapest while the message has few
        // headers.
        headers.set(TRACESTATE, span.trace_state().header());
        headers.set(TRACEPARENT, traceparent(span));
    }
}

/// Formats `00-{trace id}-{span id}-{flags}`, with the only flag that version 00 defines.
#[inline]
fn traceparent(span: &SpanContext) -> String {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    let (trace, span_id) = (span.trace_id().to_bytes(), span.span_id().to_bytes());
    let (trace, span_id) = (trace.as_chunks().0, span_id.as_chunks().0);
    for (at, four) in [3, 11, 19, 27, 36, 44].into_iter().zip(trace.iter().chain(span_id)) {
        text[at..at + 8].copy_from_slice(&digits(u32::from_be_bytes(*four)));
    }
    if span.is_sampled() {
        text[54] = b'1';
    }
    // The text is ASCII.
    String::from_utf8(text.to_vec()).unwrap_or_default()
}

/// Returns the context in `traceparent` and `tracestate`, if it is valid.
#[inline]
pub(crate) fn span_context([traceparent, tracestate, _]: &ContextHeaders<'_>) -> Option<SpanContext> {
    let text = traceparent.as_ref()?.trim_ascii();
    let (parts, more) = text.split_first_chunk::<55>()?;
    if parts[2] != b'-' || parts[35] != b'-' || parts[52] != b'-' {
        return None;
    }
    let [.., version, flags] =
        number([b'0', b'0', b'0', b'0', parts[0], parts[1], parts[53], parts[54]])?.to_be_bytes();
    let trace = u128::from(numbers(&parts[3..19])?) << 64 | u128::from(numbers(&parts[19..35])?);
    let span = numbers(&parts[36..52])?;
    // A later version may have further parts. Version 00 has none, and version 255 is invalid.
    let may_follow = |more: &[u8]| version != 0 && more[0] == b'-' && str::from_utf8(more).is_ok();
    if version == 0xff || !more.is_empty() && !may_follow(more) {
        return None;
    }
    let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
    let state = tracestate.filter(|state| has_readable_size(TRACESTATE, state));
    let state = state.and_then(|state| TraceState::from_str(str::from_utf8(state).ok()?).ok()).unwrap_or_default();
    let span = SpanContext::new(TraceId::from(trace), SpanId::from(span), flags, true, state);
    span.is_valid().then_some(span)
}

/// Parses sixteen hexadecimal digits.
#[inline(always)]
fn numbers(digits: &[u8]) -> Option<u64> {
    Some(u64::from(number(*digits.first_chunk()?)?) << 32 | u64::from(number(*digits.last_chunk()?)?))
}

// Eight digits are processed at once: each is one byte of a 64-bit word.

const EACH: u64 = 0x0101_0101_0101_0101;

/// Parses eight hexadecimal digits. Capital letters are not accepted.
#[inline(always)]
fn number(digits: [u8; 8]) -> Option<u32> {
    let digits = u64::from_be_bytes(digits);
    // '0' to '9' are 0x30 to 0x39, 'a' to 'f' are 0x61 to 0x66: this bit is set for letters only.
    let letters = digits >> 6 & EACH;
    let values = (digits & (0x0f * EACH)) + 9 * letters;
    let kinds = digits & (0xf0 * EACH) == 0x30 * (EACH + letters);
    // The value of a letter must be above 9, that of a digit at most 9, and none above 15. No sum here overflows its byte.
    let ranges = (values + 6 * EACH) >> 4 & EACH == letters && values & (0xf0 * EACH) == 0;
    if !kinds || !ranges {
        return None;
    }
    let twos = (values | values >> 4) & 0x00ff_00ff_00ff_00ff;
    let fours = (twos | twos >> 8) & 0x0000_ffff_0000_ffff;
    u32::try_from((fours | fours >> 16) & 0xffff_ffff).ok()
}

/// Formats eight hexadecimal digits.
#[inline(always)]
fn digits(number: u32) -> [u8; 8] {
    let fours = u64::from(number);
    let twos = (fours | fours << 16) & 0x0000_ffff_0000_ffff;
    let values = (twos | twos << 8) & 0x00ff_00ff_00ff_00ff;
    let values = (values | values << 4) & (0x0f * EACH);
    let letters = (values + 6 * EACH) >> 4 & EACH;
    (values + u64::from(b'0') * EACH + u64::from(b'a' - b'0' - 10) * letters).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{digits, number};

    fn is_digit(byte: &u8) -> bool {
        matches!(byte, b'0'..=b'9' | b'a'..=b'f')
    }

    /// Mostly digits and the characters next to them.
    fn nearly() -> impl Strategy<Value = u8> {
        prop_oneof![8 => prop::sample::select(b"0123456789abcdef".to_vec()), 1 => any::<u8>(), 1 => prop::sample::select(b"/:`gAF".to_vec())]
    }

    #[test]
    fn each_byte_is_a_digit_or_none_at_each_place() {
        for place in 0..8 {
            for byte in 0..=u8::MAX {
                let mut digits = *b"00000000";
                digits[place] = byte;
                let expected = char::from(byte).to_digit(16).filter(|_| is_digit(&byte));
                assert_eq!(number(digits), expected.map(|digit| digit << (4 * (7 - place))));
            }
        }
    }

    proptest! {
        #[test]
        fn digits_are_the_number_that_they_write(written in prop::array::uniform8(nearly())) {
            let text = std::str::from_utf8(&written).ok().filter(|_| written.iter().all(is_digit));
            prop_assert_eq!(number(written), text.and_then(|text| u32::from_str_radix(text, 16).ok()));
        }

        #[test]
        fn a_number_is_written_in_its_digits(any in any::<u32>()) {
            prop_assert_eq!(digits(any).to_vec(), format!("{any:08x}").into_bytes());
        }
    }
}
