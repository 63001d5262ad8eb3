//! What the core says to itself through contexts: which message is being processed, which one is sent again, and that
//! somebody else tells of an operation.
//!
//! What is being processed stands beside OpenTelemetry's own current context, and not in it: a value there costs three
//! allocations a message, and only a message that is sent with a context already in it asks. A context that is given away
//! carries it all the same.

use std::cell::Cell;

use opentelemetry::{Context, ContextGuard, trace::SpanContext};

/// Which span a span context is of: its trace's id and its own. Words, of which less is moved than of a `u128`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity([u64; 3]);

impl Identity {
    #[inline]
    pub(crate) fn of(context: &SpanContext) -> Self {
        let trace = u128::from_be_bytes(context.trace_id().to_bytes());
        let span = u64::from_be_bytes(context.span_id().to_bytes());
        Self([(trace >> 64) as u64, trace as u64, span])
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

/// A message's context, current on this thread until it is dropped.
pub(crate) struct Attached {
    _context: ContextGuard,
    own: Option<Identity>,
    outer: Option<Identity>,
}

impl Attached {
    #[inline]
    pub(crate) fn new(context: Context, creation: Option<Identity>) -> Self {
        Self { _context: context.attach(), own: creation, outer: PROCESSED.replace(creation) }
    }
}

impl Drop for Attached {
    #[inline]
    fn drop(&mut self) {
        // Another that came later may still be there.
        if processed_here() == self.own {
            process_here(self.outer);
        }
    }
}
