//! The start time and the parent context of an operation.

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

/// The start time and the parent context of an operation.
/// [`Telemetry::start_operation`](crate::adapter::Telemetry::start_operation) takes them when the client's method is called.
#[derive(Debug, Clone)]
pub struct OperationStart {
    pub(crate) at: SystemTime,
    pub(crate) parent: Context,
    pub(crate) probe: TracerProbe,
    /// The creation context of the message that was being processed at the call.
    pub(crate) processed: Option<Identity>,
    /// Whether the context has a [`ContextState`]. The state is read later, by sends.
    pub(crate) has_state: bool,
}

impl OperationStart {
    /// The start time.
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// Returns the `OperationStart` with an earlier start time. An adapter that waits for a message keeps the time and no
    /// `OperationStart`, because an `OperationStart` may hold the last handle of its parent span, and so keep that span from
    /// ending.
    #[must_use]
    pub fn since(self, began: SystemTime) -> Self {
        Self { at: began, ..self }
    }

    /// Returns an `OperationStart` that an adapter can keep while the operation waits for an answer. It holds the span context of
    /// the parent and no handle of its span: OpenTelemetry ends a span when the last handle is dropped.
    #[must_use]
    pub fn release_parent(mut self) -> Self {
        let current = self.parent.span().span_context().clone();
        if current.is_valid() {
            self.parent = self.parent.with_remote_span_context(current);
        }
        self
    }

    /// For a delivery inside [`sequential`](crate::sequential): the message in hand is not the parent.
    pub(crate) fn around_hand(mut self) -> Self {
        if let Some(around) = around_hand(&self.parent) {
            self.has_state = around.get::<ContextState>().is_some();
            self.parent = around;
        }
        self
    }

    /// Whether this address is the [`reply_to`](crate::adapter::Arrival::reply_to) of the message that is being processed, or of
    /// a message of the batch. A destination with such a name is a [`reply_address`](crate::adapter::Destination::reply_address).
    ///
    /// Call this where the operation starts, before the first await. If no message with a reply address is being processed, the
    /// call costs two loads.
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

    /// The contexts of the message that is being republished. The send links them.
    pub(crate) fn republished_from(&self) -> &[SpanContext] {
        self.state().map(|state| &state.republished_from[..]).unwrap_or_default()
    }
}
