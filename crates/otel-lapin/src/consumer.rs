//! Messages that the broker pushes.

use std::{
    fmt,
    future::{self, Future},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::stream::Stream;
use lapin::{Result, types::ShortString};
use otel_messaging::{Instrumentation, adapter::poll_started};

use crate::{
    message::{Delivery, DeliveryResult},
    receive::{Source, TracedDelegate},
    telemetry::ClientTelemetry,
};

/// [`lapin::Consumer`], a stream of deliveries that carry their process spans.
///
/// A delivery's span is not current by itself: run its handler inside
/// [`process`](otel_messaging::MessageExt::process), or set a delegate, whose handler runs inside the span without further
/// ado. An error of the stream has a span `consume {queue}`.
#[derive(Clone)]
pub struct Consumer {
    inner: lapin::Consumer,
    source: Arc<Source>,
}

impl Consumer {
    pub(crate) fn new(inner: lapin::Consumer, source: Source) -> Self {
        Self { inner, source: Arc::new(source) }
    }

    /// Uses this instrumentation for the messages that come from now on through this consumer, instead of its channel's.
    #[must_use]
    pub fn with_instrumentation(mut self, instrumentation: Instrumentation) -> Self {
        self.source = Arc::new(self.source.instrumented(instrumentation));
        self
    }

    /// The consumer's tag.
    #[must_use]
    pub fn tag(&self) -> ShortString {
        self.inner.tag()
    }

    /// The queue it consumes from.
    #[must_use]
    pub fn queue(&self) -> ShortString {
        self.inner.queue()
    }

    /// Has every message handled by the delegate, on lapin's executor, inside its process span. What is current at this call
    /// is not carried into that.
    pub fn set_delegate<D: ConsumerDelegate + 'static>(&self, delegate: D) {
        self.inner.set_delegate(TracedDelegate { delegate, source: self.source.clone() });
    }

    /// lapin's own, whose messages are not traced.
    #[must_use]
    pub fn get_ref(&self) -> &lapin::Consumer {
        &self.inner
    }

    /// lapin's own, whose messages are not traced.
    #[must_use]
    pub fn into_inner(self) -> lapin::Consumer {
        self.inner
    }
}

impl From<lapin::Consumer> for Consumer {
    /// The server's address is not known, and messages can be settled by their own handles only.
    fn from(inner: lapin::Consumer) -> Self {
        let source = Source::new(ClientTelemetry::unknown(), inner.queue(), None);
        Self::new(inner, source)
    }
}

impl From<Consumer> for lapin::Consumer {
    fn from(consumer: Consumer) -> Self {
        consumer.into_inner()
    }
}

impl Stream for Consumer {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        poll_started(self.source.id());
        Poll::Ready(match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
            Some(Ok(delivery)) => Some(Ok(self.source.deliver_to_application(delivery))),
            Some(Err(error)) => {
                self.source.record_error(&error);
                Some(Err(error))
            }
            None => None,
        })
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// [`lapin::ConsumerDelegate`]: handles messages instead of a stream.
///
/// The process span of the message is current inside `on_new_delivery` and inside the future that it returns. It ends when
/// that future is done and no part of the message lives on elsewhere.
pub trait ConsumerDelegate: Send + Sync {
    /// Called for each delivery, and for a cancellation or an error.
    fn on_new_delivery(&self, delivery: DeliveryResult) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Called when buffered messages are to be discarded.
    fn drop_prefetched_messages(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(future::ready(()))
    }
}

impl<F, H> ConsumerDelegate for H
where
    F: Future<Output = ()> + Send + 'static,
    H: Fn(DeliveryResult) -> F + Send + Sync + 'static,
{
    fn on_new_delivery(&self, delivery: DeliveryResult) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self(delivery))
    }
}
