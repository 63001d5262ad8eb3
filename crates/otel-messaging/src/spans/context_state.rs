//! What the core says to itself through contexts: which message is being processed, which one is sent again, and that
//! somebody else tells of an operation.
//!
//! What is being processed stands beside OpenTelemetry's own current context, and not in it: a value there costs three
//! allocations a message, and only a message that is sent with a context already in it asks. A context that is given away
//! carries it all the same.

use std::{cell::Cell, num::NonZeroU64, sync::Arc};

use opentelemetry::{Context, ContextGuard, trace::SpanContext};

/// Which span a span context is of: its trace's id and its own, mixed into one word, as it is noted anew for every message
/// and every call. Two spans share it by a chance of one in 2⁶⁴.
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

/// The address that answers to a message go to, in one word: to note it costs no allocation. Two addresses share it by a
/// chance of one in 2⁶⁴.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReplyAddress(NonZeroU64);

impl ReplyAddress {
    /// `None` for an empty one.
    pub(crate) fn of(address: &str) -> Option<Self> {
        let words = address.as_bytes().chunks(size_of::<u64>()).map(|bytes| {
            let mut word = [0; size_of::<u64>()];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        });
        // The last word may be filled up: the length tells what is the address's own.
        (!address.is_empty()).then(|| Self(mixed(0, words.chain([address.len() as u64]))))
    }
}

#[inline]
fn mixed(first: u64, words: impl IntoIterator<Item = u64>) -> NonZeroU64 {
    /// Odd, so that to multiply by it loses nothing: the fraction of the golden ratio.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = words.into_iter().fold(first, |mixed, word| {
        let mixed = (mixed ^ word).wrapping_mul(SPREAD);
        mixed ^ mixed >> 32
    });
    NonZeroU64::new(mixed).unwrap_or(NonZeroU64::MAX)
}

/// What is asked of the message that is being processed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Processed {
    /// Its creation context.
    pub(crate) creation: Option<Identity>,
    /// Where answers to it go.
    pub(crate) reply_to: Option<ReplyAddress>,
}

/// What a context carries for the core.
#[derive(Debug, Clone, Default)]
pub(crate) struct ContextState {
    /// The creation context of the message that is being processed.
    pub(crate) processed: Option<Identity>,
    /// Where answers go to that message, or to those of the batch that is being processed: sorted.
    pub(crate) reply_to: Arc<[ReplyAddress]>,
    /// The message that is sent again: what its next send links.
    pub(crate) again: Vec<SpanContext>,
    /// Somebody else tells of what is done in this context.
    pub(crate) suppressed: bool,
}

/// The same context, in which messages are processed whose answers go to these addresses.
pub(crate) fn with_reply_to(context: &Context, reply_to: Arc<[ReplyAddress]>) -> Context {
    let state = context.get::<ContextState>().cloned().unwrap_or_default();
    context.with_value(ContextState { reply_to, ..state })
}

/// Whether answers go there to a message that is processed in this context.
pub(crate) fn answers_go_to(context: &Context, address: ReplyAddress) -> bool {
    context.get::<ContextState>().is_some_and(|state| state.reply_to.binary_search(&address).is_ok())
}

/// A context in which messaging operations are left alone: no span, no metric, nothing in their headers. For frameworks
/// that have instrumented the operation themselves, so that there is one span and not two.
///
/// ```
/// use opentelemetry::Context;
///
/// let _outer = otel_messaging::suppress_messaging(&Context::current()).attach();
/// // Whatever is sent or received here is told of by somebody else.
/// ```
#[must_use]
pub fn suppress_messaging(context: &Context) -> Context {
    context.with_value(ContextState { suppressed: true, ..ContextState::default() })
}

thread_local! {
    static PROCESSED: Cell<Processed> = const { Cell::new(Processed { creation: None, reply_to: None }) };
}

/// The message that this thread is at work on.
#[inline]
pub(crate) fn processed_here() -> Processed {
    PROCESSED.try_with(Cell::get).unwrap_or_default()
}

#[inline]
pub(crate) fn process_here(message: Processed) {
    // There is nothing to say on a thread that ends.
    let _ = PROCESSED.try_with(|processed| processed.set(message));
}

/// While this lives, this thread is at work on that message.
pub(crate) struct AtWork {
    own: Processed,
    outer: Processed,
}

impl AtWork {
    #[inline]
    pub(crate) fn on(own: Processed) -> Self {
        Self { own, outer: PROCESSED.replace(own) }
    }
}

impl Drop for AtWork {
    #[inline]
    fn drop(&mut self) {
        // Another that came later may still be there.
        if processed_here() == self.own {
            process_here(self.outer);
        }
    }
}

/// A message's context, current on this thread until it is dropped.
pub(crate) struct Attached {
    _at_work: AtWork,
    _context: ContextGuard,
}

impl Attached {
    pub(crate) fn new(context: Context, message: Processed) -> Self {
        Self { _context: context.attach(), _at_work: AtWork::on(message) }
    }
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
        fn a_span_is_told_from_any_other_by_each_bit_of_its_ids(
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
        fn a_reply_address_is_told_from_any_other(one in "[a-b\0]{0,18}", other in "[a-b\0]{0,18}") {
            let [is_one, is_other] = [&one, &other].map(|address| ReplyAddress::of(address));
            prop_assert_eq!(is_one == is_other, one == other);
            prop_assert_eq!(is_one.is_none(), one.is_empty());
        }
    }
}
