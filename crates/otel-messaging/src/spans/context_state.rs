//! The state that OpenTelemetry contexts carry for the core: the message that is being processed, a republish, and which
//! operations are recorded.
//!
//! What is being processed stands beside OpenTelemetry's own current context, and not in it: a value there costs three
//! allocations a message, and only a message that is sent with a context already in it asks. A context that is given away
//! carries it all the same.

use std::{cell::Cell, sync::Arc};

use opentelemetry::{Context, ContextGuard, trace::SpanContext};

use crate::description::identity::{Identity, ReplyAddress};

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
    /// The contexts of the message that is republished, which its next send links.
    pub(crate) republished_from: Vec<SpanContext>,
    /// No messaging operation is recorded.
    pub(crate) suppressed: bool,
    /// Sends have no span of their own.
    pub(crate) without_span: bool,
    /// Sends write no context into their messages.
    pub(crate) without_context: bool,
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

/// A context in which messaging operations are not recorded: no span, no metric, no header. For frameworks that instrument
/// the operation themselves, so that it has one span and not two.
///
/// OpenTelemetry's `Context::with_telemetry_suppressed` has the same effect on this crate, and silences every other
/// instrumentation too.
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
/// The future that `send` returns may be awaited outside.
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

/// Sends messages without a span: the send that `send` calls is measured, and writes the current span's context into its
/// message. For frequent messages whose spans say nothing, such as heartbeats.
///
/// The future that `send` returns may be awaited outside.
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
