//! Hashes of span contexts and reply addresses.

use std::num::NonZeroU64;

use opentelemetry::trace::SpanContext;

/// A hash of trace id and span id in one word, because it is kept for every message and every operation. The probability that two
/// spans share a hash is 1 in 2⁶⁴.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(NonZeroU64);

impl Identity {
    #[inline]
    pub(crate) fn of(context: &SpanContext) -> Self {
        let trace = u128::from_be_bytes(context.trace_id().to_bytes());
        let span = u64::from_be_bytes(context.span_id().to_bytes());
        Self(mixed(span, [(trace >> 64) as u64, trace as u64]))
    }
}

/// A hash of the address that answers to a message are sent to. It needs no allocation. The probability that two addresses share
/// a hash is 1 in 2⁶⁴.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReplyAddress(NonZeroU64);

impl ReplyAddress {
    /// Returns `None` for an empty address.
    pub(crate) fn of(address: &str) -> Option<Self> {
        let words = address.as_bytes().chunks(size_of::<u64>()).map(|bytes| {
            let mut word = [0; size_of::<u64>()];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        });
        // The last word may be padded with zeros. The length distinguishes the padding from zeros in the address.
        (!address.is_empty()).then(|| Self(mixed(0, words.chain([address.len() as u64]))))
    }
}

#[inline]
fn mixed(first: u64, words: impl IntoIterator<Item = u64>) -> NonZeroU64 {
    /// The fraction of the golden ratio. It is odd, so the multiplication loses no information.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = words.into_iter().fold(first, |mixed, word| {
        let mixed = (mixed ^ word).wrapping_mul(SPREAD);
        mixed ^ mixed >> 32
    });
    NonZeroU64::new(mixed).unwrap_or(NonZeroU64::MAX)
}

#[cfg(test)]
mod tests {
    use opentelemetry::{
        SpanId, TraceFlags, TraceId,
        trace::{SpanContext, TraceState},
    };
    use proptest::prelude::*;

    use super::{Identity, ReplyAddress};

    fn identity(trace: u128, span: u64) -> Identity {
        let (trace, span) = (TraceId::from(trace), SpanId::from(span));
        Identity::of(&SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::NONE))
    }

    proptest! {
        #[test]
        fn a_spans_identity_differs_with_each_bit_of_its_ids(
            trace in any::<u128>(), span in any::<u64>(), bit in 0..192_u32,
        ) {
            let other = match bit {
                0..128 => identity(trace ^ 1 << bit, span),
                _ => identity(trace, span ^ 1 << (bit - 128)),
            };
            prop_assert_ne!(identity(trace, span), other);
            prop_assert_eq!(identity(trace, span), identity(trace, span));
        }

        #[test]
        fn a_reply_address_differs_from_any_other(one in "[a-b\0]{0,18}", other in "[a-b\0]{0,18}") {
            let [is_one, is_other] = [&one, &other].map(|address| ReplyAddress::of(address));
            prop_assert_eq!(is_one == is_other, one == other);
            prop_assert_eq!(is_one.is_none(), one.is_empty());
        }
    }
}
