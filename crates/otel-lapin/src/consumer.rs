//! Messages that the broker pushes.

use std::{
    fmt, future,
    future::Future,
    iter,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use futures_core::stream::Stream;
use lapin::{Result, types::ShortString};
use otel_messaging::{
    Instrumentation,
    adapter::{ProcessSpan, SourceId, poll_started},
};

use crate::{
    error::error_type,
    ledger::Ledger,
    message::{Delivery, DeliveryResult},
    settle::{DeliveredMessage, Origin},
    telemetry::{CONSUME, ClientTelemetry, PROCESS, Route},
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

/// Where a consumer's messages come from and what they are told of to.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) telemetry: Arc<ClientTelemetry>,
    pub(crate) queue: ShortString,
    id: SourceId,
    /// None where nothing is to be settled.
    pub(crate) ledger: Option<Arc<Ledger>>,
    /// The next message's origin is most often the last one's.
    last: Mutex<Option<Arc<Origin>>>,
}

impl Source {
    pub(crate) fn new(telemetry: Arc<ClientTelemetry>, queue: ShortString, ledger: Option<Arc<Ledger>>) -> Self {
        Self { telemetry, queue, id: SourceId::new(), ledger, last: Mutex::default() }
    }

    pub(crate) fn id(&self) -> SourceId {
        self.id
    }

    /// The same place, told of by another instrumentation.
    pub(crate) fn instrumented(&self, instrumentation: Instrumentation) -> Self {
        let telemetry = Arc::new(self.telemetry.instrumented(instrumentation));
        Self { id: self.id, ..Self::new(telemetry, self.queue.clone(), self.ledger.clone()) }
    }

    /// Gives a message its process span.
    #[inline]
    pub(crate) fn deliver(&self, delivery: lapin::message::Delivery) -> Delivery {
        let delivered = self.telemetry.core.start_operation().map(|start| {
            let origin = self.origin_of(&delivery);
            DeliveredMessage::deliver(start, self.id, &delivery, origin)
        });
        if let (None, Some(ledger)) = (&delivered, &self.ledger) {
            ledger.note_untracked(delivery.delivery_tag, &delivery.acker);
        }
        Delivery::new(delivery, delivered)
    }

    /// Tells of an error that ends the consumer.
    fn record_error(&self, error: &lapin::Error) {
        if let Some(start) = self.telemetry.core.start_operation() {
            let operation =
                self.telemetry.operation_at(CONSUME, &Route { queue: self.queue.clone(), ..Route::default() });
            let span = self.telemetry.core.receive(start, &operation, iter::empty(), |_| ());
            span.fail(error_type(error), error);
        }
    }

    #[inline]
    fn origin_of(&self, delivery: &lapin::message::Delivery) -> Arc<Origin> {
        let same = |origin: &&Arc<Origin>| {
            origin.route.exchange == delivery.exchange && origin.route.routing_key == delivery.routing_key
        };
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = last().as_ref().filter(same) {
            return found.clone();
        }
        // Hooks are asked here, so nothing is locked.
        let route = Route::of(delivery, self.queue.clone());
        let origin = Arc::new(Origin::new(PROCESS, &self.telemetry, route, self.ledger.as_ref()));
        *last() = Some(origin.clone());
        origin
    }
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
        poll_started(self.source.id);
        Poll::Ready(match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
            Some(Ok(delivery)) => Some(Ok(self.source.deliver(delivery))),
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

/// Calls the user's delegate inside the message's process span.
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
                self.source.deliver(delivery)
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

/// The user's handler. It keeps the message's process span open until it is done.
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
