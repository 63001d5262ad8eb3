//! Subscriptions of Core NATS.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use futures_core::Stream;
use otel_messaging::{
    Instrumentation,
    adapter::{poll_started, wrapper},
};

use crate::{Message, receive::Source};

/// A subscription: [`async_nats::Subscriber`] whose messages have process spans.
///
/// A message is delivered when the stream yields it, not while it waits in the client's buffer.
pub struct Subscriber {
    inner: async_nats::Subscriber,
    source: Arc<Source>,
}

impl Subscriber {
    pub(crate) fn new(inner: async_nats::Subscriber, source: Arc<Source>) -> Self {
        Self { inner, source }
    }

    /// Reports messages that are delivered from now on to this instrumentation.
    #[must_use]
    pub fn with_instrumentation(self, instrumentation: Instrumentation) -> Self {
        Self { source: Arc::new(self.source.with_instrumentation(instrumentation)), ..self }
    }
}

wrapper! {
    [] Subscriber => async_nats::Subscriber, inner:
    /// The subscription inside.
    get_ref
    /// The subscription inside, whose messages have no process spans.
    into_inner
    deref deref_mut debug
}

impl Stream for Subscriber {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        poll_started(self.source.id());
        let next = Pin::new(&mut self.inner).poll_next(cx);
        next.map(|message| message.map(|message| Message::delivered(message, &self.source)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}
