//! What an operation starts with: its time and its parent context.

use std::time::SystemTime;

use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt},
};

use crate::{
    description::identity::{Identity, ReplyAddress},
    recording::discovery::TracerProbe,
    spans::{
        context_state::{ContextState, answers_go_to, processed_here},
        hand::around_hand,
    },
};

/// Start time and parent context of an operation:
/// [`Telemetry::start_operation`](crate::adapter::Telemetry::start_operation) takes them where the client's method is called.
#[derive(Debug, Clone)]
pub struct OperationStart {
    pub(crate) at: SystemTime,
    pub(crate) parent: Context,
    pub(crate) probe: TracerProbe,
    /// The creation context of the message that was being processed there.
    pub(crate) processed: Option<Identity>,
    /// Whether the context has a [`ContextState`]. What a send needs of it is read later.
    pub(crate) has_state: bool,
}

impl OperationStart {
    /// The start time.
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// The same with an earlier start time. An adapter that waits for a message keeps the time and no `OperationStart`: that
    /// holds its parent context, and with it perhaps the last handle of a span, which ends when the handle is dropped.
    #[must_use]
    pub fn since(self, began: SystemTime) -> Self {
        Self { at: began, ..self }
    }

    /// The same, to be kept while the operation waits for an answer: the parent is known by its span context, and its span is
    /// not held. OpenTelemetry ends a span when its last handle is dropped.
    #[must_use]
    pub fn release_parent(mut self) -> Self {
        let current = self.parent.span().span_context().clone();
        if current.is_valid() {
            self.parent = self.parent.with_remote_span_context(current);
        }
        self
    }

    /// The same for a delivery inside [`sequential`](crate::sequential): the message in hand is not its parent.
    pub(crate) fn around_hand(mut self) -> Self {
        if let Some(around) = around_hand(&self.parent) {
            self.has_state = around.get::<ContextState>().is_some();
            self.parent = around;
        }
        self
    }

    /// Whether this address is the [`reply_to`](crate::adapter::Arrival::reply_to) of the message that is being processed, or of
    /// one of the batch. Such a destination is a [`reply_address`](crate::adapter::Destination::reply_address), whoever chose
    /// its name.
    ///
    /// Call it where the operation starts, before the first await. Without a message, or with one that has no reply address,
    /// it costs two loads.
    #[inline]
    #[must_use]
    pub fn answers(&self, address: &str) -> bool {
        let here = processed_here().reply_to;
        (here.is_some() || self.has_state) && self.answers_one(here, address)
    }

    fn answers_one(&self, here: Option<ReplyAddress>, address: &str) -> bool {
        ReplyAddress::of(address)
            .is_some_and(|address| here == Some(address) || self.has_state && answers_go_to(&self.parent, address))
    }

    fn state(&self) -> Option<&ContextState> {
        self.parent.get::<ContextState>().filter(|_| self.has_state)
    }

    /// Whether the send has a span.
    pub(crate) fn wants_span(&self) -> bool {
        self.state().is_none_or(|state| !state.without_span)
    }

    /// Whether the send writes a context into its message.
    pub(crate) fn wants_context(&self) -> bool {
        self.state().is_none_or(|state| !state.without_context)
    }

    /// The contexts of the message that is republished, which its send links.
    pub(crate) fn republished_from(&self) -> &[SpanContext] {
        self.state().map(|state| &state.republished_from[..]).unwrap_or_default()
    }
}
