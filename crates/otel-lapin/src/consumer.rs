//! Messages that the broker pushes.

use std::{
    future::{self, Future},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::stream::Stream;
use lapin::{Result, types::ShortString};
use otel_messaging::{
    Instrumentation,
    adapter::{ProcessSpan, poll_started, wrapper},
};

use crate::{
    message::{Delivery, DeliveryResult},
    receive::Source,
    telemetry::ClientTelemetry,
};

/// [`lapin::Consumer`], a stream of deliveries that carry their process spans.
///
/// The process span of a delivery from the stream is not current by itself: run the handler inside
/// [`process`](otel_messaging::MessageExt::process). A delegate runs inside the process span without further code. An error
/// of the stream has a span `consume {queue}`.
#[derive(Clone)]
pub struct Consumer {
    inner: lapin::Consumer,
    source: Arc<Source>,
}

impl Consumer {
    pub(crate) fn new(inner: lapin::Consumer, source: Source) -> Self {
        Self { inner, source: Arc::new(source) }
    }

    /// Uses this instrumentation instead of the channel's for the messages that this consumer delivers from now on.
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

    /// Has the delegate handle every message, on lapin's executor, inside the message's process span. The context that is
    /// current at this call is not current there.
    pub fn set_delegate<D: ConsumerDelegate + 'static>(&self, delegate: D) {
        self.inner.set_delegate(TracedDelegate { delegate, source: self.source.clone() });
    }
}

wrapper! {
    [] Consumer => lapin::Consumer, inner:
    /// lapin's consumer, whose messages are not traced.
    get_ref
    /// lapin's consumer, whose messages are not traced.
    into_inner
    into debug
}

impl From<lapin::Consumer> for Consumer {
    /// The server's address is unknown. Only a settlement by a message's own handle is related to the message.
    fn from(inner: lapin::Consumer) -> Self {
        let source = Source::new(ClientTelemetry::for_raw_handles(), inner.queue(), None);
        Self::new(inner, source)
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

/// [`lapin::ConsumerDelegate`]: handles messages in place of a stream.
///
/// The process span of the message is current inside `on_new_delivery` and inside the future that it returns. It ends when
/// that future is done and the last part of the message is dropped.
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

/// Calls the user's delegate inside the process span of the message.
struct TracedDelegate<D> {
    delegate: D,
    source: Arc<Source>,
}

impl<D: ConsumerDelegate> lapin::ConsumerDelegate for TracedDelegate<D> {
    fn on_new_delivery(&self, delivery: lapin::message::DeliveryResult) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let delivery = match delivery {
            Ok(Some(delivery)) => {
                // Clear the current context: it has lapin's I/O span, or the span of the caller of `set_delegate`.
                let _cleared = opentelemetry::Context::new().attach();
                self.source.deliver_to_application(delivery)
            }
            Ok(None) => return self.delegate.on_new_delivery(Ok(None)),
            Err(error) => {
                self.source.record_error(&error);
                return self.delegate.on_new_delivery(Err(error));
            }
        };
        let Some(delivered) = delivery.acker.delivered().cloned() else {
            return self.delegate.on_new_delivery(Ok(Some(delivery)));
        };
        let handler = delivered.span.scope(|| self.delegate.on_new_delivery(Ok(Some(delivery))));
        Box::pin(Handler { span: delivered.span.clone(), handler })
    }

    fn drop_prefetched_messages(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.delegate.drop_prefetched_messages()
    }
}

/// The future of the user's delegate. It keeps the process span of the message open until it ends.
struct Handler {
    span: Arc<ProcessSpan>,
    handler: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Handler {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { span, handler } = &mut *self;
        span.scope(|| handler.as_mut().poll(cx))
    }
}
