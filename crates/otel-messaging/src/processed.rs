//! Which message is being processed: by its creation context a forward of it is known.
//!
//! Beside OpenTelemetry's own current context, and not in it: a value there costs three allocations a message, and only a
//! message that is sent with a context already in it asks. A context that is given away carries it all the same.

use std::cell::Cell;

use opentelemetry::{Context, ContextGuard, SpanId, TraceId, trace::SpanContext};

/// What a span context says of its span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(TraceId, SpanId);

impl Identity {
    pub(crate) fn of(context: &SpanContext) -> Self {
        Self(context.trace_id(), context.span_id())
    }
}

thread_local! {
    static PROCESSED: Cell<Option<Identity>> = const { Cell::new(None) };
}

/// The creation context of the message that this context, or else this thread, is at work on.
pub(crate) fn processed(current: &Context) -> Option<Identity> {
    current.get::<Identity>().copied().or_else(|| PROCESSED.try_with(Cell::get).ok().flatten())
}

/// A message's context, current on this thread until it is dropped.
pub(crate) struct Attached {
    _context: ContextGuard,
    outer: Option<Identity>,
}

impl Attached {
    pub(crate) fn new(context: Context, creation: Option<Identity>) -> Self {
        Self { _context: context.attach(), outer: PROCESSED.replace(creation) }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        PROCESSED.set(self.outer);
    }
}
