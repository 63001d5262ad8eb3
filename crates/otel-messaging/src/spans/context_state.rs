//! The state of the core in an OpenTelemetry context: the message that is being processed, a republish, and the operations that
//! are not recorded.
//!
//! The message that is being processed is kept in a thread-local, beside OpenTelemetry's current context. A value in the context
//! would cost three allocations for each message, and only a send of a message that already carries a context needs the value. A
//! context for other tasks carries the value.

use std::{cell::Cell, sync::Arc};

use opentelemetry::{Context, ContextGuard, trace::SpanContext};

use crate::description::identity::{Identity, ReplyAddress};

/// The facts about the message that is being processed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Processed {
    /// The creation context of the message.
    pub(crate) creation: Option<Identity>,
    /// The address that answers to the message are sent to.
    pub(crate) reply_to: Option<ReplyAddress>,
}

/// The state of the core in a context.
#[derive(Debug, Clone, Default)]
pub(crate) struct ContextState {
    /// The creation context of the message that is being processed.
    pub(crate) processed: Option<Identity>,
    /// The addresses that answers to the message, or to the messages of the batch, are sent to: sorted.
    pub(crate) reply_to: Arc<[ReplyAddress]>,
    /// The contexts of the message that is being republished. The next send links them.
    pub(crate) republished_from: Vec<SpanContext>,
    /// No messaging operation is recorded.
    pub(crate) suppressed: bool,
    /// Sends have no span of their own.
    pub(crate) without_span: bool,
    /// Sends write no context into their messages.
    pub(crate) without_context: bool,
}

/// Returns the context with these reply addresses of the messages that are being processed.
pub(crate) fn with_reply_to(context: &Context, reply_to: Arc<[ReplyAddress]>) -> Context {
    let state = context.get::<ContextState>().cloned().unwrap_or_default();
    context.with_value(ContextState { reply_to, ..state })
}

/// Whether answers to a message that is being processed in this context are sent to this address.
pub(crate) fn answers_go_to(context: &Context, address: ReplyAddress) -> bool {
    context.get::<ContextState>().is_some_and(|state| state.reply_to.binary_search(&address).is_ok())
}

/// Returns a context in which messaging operations are not recorded: no span, no metric, no header. For frameworks that
/// instrument the operation themselves, so that an operation does not have two spans.
///
/// OpenTelemetry's `Context::with_telemetry_suppressed` suppresses all other instrumentations too.
///
/// ```
/// use opentelemetry::Context;
///
/// let _suppressed = otel_messaging::suppress_messaging(&Context::current()).attach();
/// // Operations on messages are not recorded here.
/// ```
#[must_use]
pub fn suppress_messaging(context: &Context) -> Context {
    context.with_value(ContextState { suppressed: true, ..ContextState::default() })
}

/// Sends messages without a context: the send that `send` calls has its span, and writes no header. For a receiver that must not
/// see trace ids or baggage.
///
/// The future that `send` returns may be awaited outside of this call.
///
/// ```no_run
/// # struct Producer;
/// # impl Producer { async fn send(&self, _: &str) -> Result<(), std::io::Error> { Ok(()) } }
/// # async fn work(producer: &Producer) -> Result<(), std::io::Error> {
/// otel_messaging::without_context(|| producer.send("partners.orders")).await
/// # }
/// ```
pub fn without_context<T>(send: impl FnOnce() -> T) -> T {
    with_state(|state| ContextState { without_context: true, ..state }, send)
}

/// Sends messages without a span: the send that `send` calls is measured, and writes the current span's context into its message.
/// For frequent messages whose spans have no value, such as heartbeats.
///
/// The future that `send` returns may be awaited outside of this call.
///
/// ```no_run
/// # struct Producer;
/// # impl Producer { async fn send(&self, _: &str) -> Result<(), std::io::Error> { Ok(()) } }
/// # async fn work(producer: &Producer) -> Result<(), std::io::Error> {
/// otel_messaging::without_span(|| producer.send("heartbeats")).await
/// # }
/// ```
pub fn without_span<T>(send: impl FnOnce() -> T) -> T {
    with_state(|state| ContextState { without_span: true, ..state }, send)
}

fn with_state<T>(change: impl FnOnce(ContextState) -> ContextState, work: impl FnOnce() -> T) -> T {
    let current = Context::current();
    let state = current.get::<ContextState>().cloned().unwrap_or_default();
    let _attached = current.with_value(change(state)).attach();
    work()
}

thread_local! {
    static PROCESSED: Cell<Processed> = const { Cell::new(Processed { creation: None, reply_to: None }) };
}

/// The message that this thread is processing.
#[inline]
pub(crate) fn processed_here() -> Processed {
    PROCESSED.try_with(Cell::get).unwrap_or_default()
}

#[inline]
pub(crate) fn process_here(message: Processed) {
    // On a thread that is ending, the thread-local may no longer exist.
    let _ = PROCESSED.try_with(|processed| processed.set(message));
}

/// A guard: while it exists, this thread is processing the message.
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
        // A later guard may still exist.
        if processed_here() == self.own {
            process_here(self.outer);
        }
    }
}

/// A guard: while it exists, the context of a message is current on this thread.
pub(crate) struct Attached {
    _at_work: AtWork,
    _context: ContextGuard,
}

impl Attached {
    pub(crate) fn new(context: Context, message: Processed) -> Self {
        Self { _context: context.attach(), _at_work: AtWork::on(message) }
    }
}
