//! Settling a delivery by its own handle.

use std::{future::Future, sync::Arc};

use lapin::{
    Result,
    options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions},
};
use otel_messaging::{
    ReceivedMessage,
    adapter::{ProcessSpan, Settlement, wrapper},
};

use crate::{
    delivered::DeliveredMessage,
    settle::{nack_outcome, reject_outcome, settle_message},
    telemetry::{ACK, NACK, REJECT},
};

/// [`lapin::Acker`], which carries its message's process span.
///
/// Each settlement has a span, a child of the process span. The process span does not end with the settlement; it lives at
/// least as long as the last clone of its acker.
#[derive(Clone)]
pub struct Acker {
    inner: lapin::Acker,
    delivered: Option<Arc<DeliveredMessage>>,
}

impl Acker {
    pub(crate) fn new(inner: lapin::Acker, delivered: Option<Arc<DeliveredMessage>>) -> Self {
        Self { inner, delivered }
    }

    /// Acknowledges the delivery, or with `multiple` all up to it. `Ok(false)` if it was settled before or its channel is
    /// closed.
    ///
    /// # Errors
    ///
    /// As [`lapin::Acker::ack`].
    ///
    /// # Cancel safety
    ///
    /// Once the future is polled, lapin sends the acknowledgement. If the future is dropped then, its span has an unknown
    /// outcome, the process span has none, and `otel_messaging.deliveries` does not count the message.
    ///
    /// Until the future has ended, lapin may write the acknowledgement after settlements that started later. If one of those
    /// has `multiple` and settles this message first, the broker closes the channel:
    /// `PRECONDITION_FAILED - unknown delivery tag`.
    pub fn ack(&self, options: BasicAckOptions) -> impl Future<Output = Result<bool>> + Send {
        settle_message(self.parts(), ACK, options.multiple, Settlement::Ack, self.inner.ack(options))
    }

    /// Refuses the delivery, or with `multiple` all up to it. `Ok(false)` if it was settled before or its channel is closed.
    ///
    /// # Errors
    ///
    /// As [`lapin::Acker::nack`].
    ///
    /// # Cancel safety
    ///
    /// As [`ack`](Self::ack).
    pub fn nack(&self, options: BasicNackOptions) -> impl Future<Output = Result<bool>> + Send {
        settle_message(self.parts(), NACK, options.multiple, nack_outcome(options), self.inner.nack(options))
    }

    /// Refuses the delivery. `Ok(false)` if it was settled before or its channel is closed.
    ///
    /// # Errors
    ///
    /// As [`lapin::Acker::reject`].
    ///
    /// # Cancel safety
    ///
    /// As [`ack`](Self::ack).
    pub fn reject(&self, options: BasicRejectOptions) -> impl Future<Output = Result<bool>> + Send {
        settle_message(self.parts(), REJECT, false, reject_outcome(options), self.inner.reject(options))
    }

    /// Whether the channel was closed or had an error.
    #[must_use]
    pub fn poisoned(&self) -> bool {
        self.inner.poisoned()
    }

    /// Whether the delivery can still be settled.
    #[must_use]
    pub fn usable(&self) -> bool {
        self.inner.usable()
    }

    /// lapin's acker. The process span is dropped with the wrapper, and a settlement by lapin's acker is not recorded.
    #[must_use]
    pub fn into_inner(self) -> lapin::Acker {
        if let Some(delivered) = &self.delivered {
            delivered.mark_released(&self.inner);
        }
        self.inner
    }

    fn parts(&self) -> (&lapin::Acker, Option<&Arc<DeliveredMessage>>) {
        (&self.inner, self.delivered.as_ref())
    }

    pub(crate) fn delivered(&self) -> Option<&Arc<DeliveredMessage>> {
        self.delivered.as_ref()
    }
}

wrapper! {
    [] Acker => lapin::Acker, inner:
    /// lapin's acker, whose calls are not traced: a message settled by it counts as dropped. To settle with lapin's acker use
    /// [`into_inner`](Self::into_inner), on a clone where this acker is needed too.
    get_ref
    into debug
}

impl ReceivedMessage for Acker {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        self.delivered().map(|delivered| &delivered.span)
    }
}

impl PartialEq for Acker {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl From<lapin::Acker> for Acker {
    /// Without a process span: its calls are not traced.
    fn from(inner: lapin::Acker) -> Self {
        Self::new(inner, None)
    }
}
