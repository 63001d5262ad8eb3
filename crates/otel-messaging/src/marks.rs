//! What the core says to itself through contexts: which message is being processed, which one is sent again, and that
//! somebody else tells of an operation.
//!
//! What is being processed stands beside OpenTelemetry's own current context, and not in it: a value there costs three
//! allocations a message, and only a message that is sent with a context already in it asks. A context that is given away
//! carries it all the same.

use std::{cell::Cell, num::NonZeroU64};

use opentelemetry::{Context, ContextGuard, trace::SpanContext};

/// Which span a span context is of: its trace's id and its own, mixed into one word, as it is noted anew for every message
/// and every call. Two spans share it by a chance of one in 2⁶⁴.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(NonZeroU64);

impl Identity {
    #[inline]
    pub(crate) fn of(context: &SpanContext) -> Self {
        /// Odd, so that to multiply by it loses nothing: the fraction of the golden ratio.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let trace = u128::from_be_bytes(context.trace_id().to_bytes());
        let span = u64::from_be_bytes(context.span_id().to_bytes());
        let mixed = [(trace >> 64) as u64, trace as u64].into_iter().fold(span, |mixed, word| {
            let mixed = (mixed ^ word).wrapping_mul(SPREAD);
            mixed ^ mixed >> 32
        });
        Self(NonZeroU64::new(mixed).unwrap_or(NonZeroU64::MAX))
    }
}

/// What a context carries for the core.
#[derive(Debug, Clone, Default)]
pub(crate) struct Marks {
    /// The creation context of the message that is being processed.
    pub(crate) processed: Option<Identity>,
    /// The message that is sent again: what its next send links.
    pub(crate) again: Vec<SpanContext>,
    /// Somebody else tells of what is done in this context.
    pub(crate) suppressed: bool,
}

/// A context in which messaging operations are left alone: no span, no metric, nothing in their headers. For frameworks
/// that have instrumented the operation themselves, so that there is one span and not two.
///
/// ```
/// use opentelemetry::Context;
///
/// let _outer = otel_messaging::suppressed(&Context::current()).attach();
/// // Whatever is sent or received here is told of by somebody else.
/// ```
#[must_use]
pub fn suppressed(context: &Context) -> Context {
    context.with_value(Marks { suppressed: true, ..Marks::default() })
}

thread_local! {
    static PROCESSED: Cell<Option<Identity>> = const { Cell::new(None) };
}

/// The creation context of the message that this thread is at work on.
#[inline]
pub(crate) fn processed_here() -> Option<Identity> {
    PROCESSED.try_with(Cell::get).ok().flatten()
}

#[inline]
pub(crate) fn process_here(creation: Option<Identity>) {
    // There is nothing to say on a thread that ends.
    let _ = PROCESSED.try_with(|processed| processed.set(creation));
}

/// While this lives, a message with this creation context is the one that this thread is at work on.
pub(crate) struct Processed {
    own: Option<Identity>,
    outer: Option<Identity>,
}

impl Processed {
    #[inline]
    pub(crate) fn here(own: Option<Identity>) -> Self {
        Self { own, outer: PROCESSED.replace(own) }
    }
}

impl Drop for Processed {
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
    _processed: Processed,
    _context: ContextGuard,
}

impl Attached {
    pub(crate) fn new(context: Context, creation: Option<Identity>) -> Self {
        Self { _context: context.attach(), _processed: Processed::here(creation) }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::{
        SpanId, TraceFlags, TraceId,
        trace::{SpanContext, TraceState},
    };
    use proptest::prelude::*;

    use super::Identity;

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
    }
}
