//! What every received message can do, whatever its broker.

use std::{
    any::type_name,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use opentelemetry::Context;
use pin_project_lite::pin_project;

use crate::process_span::ProcessSpan;

/// What the wrappers add to received messages. One trait, so that nothing shadows a method of the client's or of yours.
///
/// ```no_run
/// use otel_messaging::MessageExt;
///
/// # #[derive(Debug)] struct Order;
/// async fn handle(order: &Order) -> Result<(), std::io::Error> {
///     // Spans made here, and messages sent here, belong to the order's process span.
///     Ok(())
/// }
///
/// async fn work(message: &impl MessageExt, order: Order) -> Result<(), std::io::Error> {
///     message.process(handle(&order)).await
/// }
/// ```
pub trait MessageExt {
    /// The message's process span; `None` where telemetry was off when it arrived.
    ///
    /// For adapters: this is all there is to implement.
    fn process_span(&self) -> Option<&Arc<ProcessSpan>>;

    /// Runs a handler inside the message's process span and ends the span with it: an `Err` is recorded as its error.
    ///
    /// The span is current whenever the handler is polled, on whatever task or thread. A second call attaches the same
    /// span and makes no other. A span of yours is its child when it is made inside the handler, as
    /// `#[tracing::instrument]` does, and not when it is made for it: not `process(handle().instrument(info_span!(…)))`.
    ///
    /// # Cancel safety
    ///
    /// As the handler's. Dropped before it is done, it leaves the span to end with the message.
    fn process<F>(&self, handler: F) -> Processing<F>
    where
        F: Future,
        F::Output: Outcome,
    {
        Processing::new(self.process_span().cloned(), handler)
    }

    /// Runs synchronous work inside the message's process span and ends the span with it: an `Err` is recorded as its
    /// error.
    fn in_scope<T: Outcome>(&self, work: impl FnOnce() -> T) -> T {
        let Some(span) = self.process_span() else { return work() };
        let outcome = span.scope(work);
        finish(span, &outcome);
        outcome
    }

    /// The context to work in: the message's process span and its baggage. What is current, where telemetry was off.
    fn otel_context(&self) -> Context {
        self.process_span().map_or_else(Context::current, |span| span.context_to_go())
    }

    /// Sends the message again, for a retry or to a queue of those that failed: the send that `send` calls is linked to
    /// the message's creation context and to its process span, and a context that was copied with the headers is replaced,
    /// whatever [`CarriedContext`](crate::CarriedContext) says.
    /// The future that `send` returns may be awaited outside.
    ///
    /// ```no_run
    /// # use otel_messaging::MessageExt;
    /// # struct Producer;
    /// # impl Producer { async fn send(&self, _: &str) -> Result<(), std::io::Error> { Ok(()) } }
    /// # async fn work(producer: &Producer, message: &impl MessageExt) -> Result<(), std::io::Error> {
    /// message.republish(|| producer.send("orders.dead")).await
    /// # }
    /// ```
    fn republish<T>(&self, send: impl FnOnce() -> T) -> T {
        let Some(span) = self.process_span() else { return send() };
        let _attached = span.again();
        send()
    }

    /// Ends the process span before the message is dropped. Later calls change nothing.
    fn end(&self) {
        if let Some(span) = self.process_span() {
            span.end();
        }
    }

    /// Ends the process span with an error: its type's name as `error.type`, its text as the status's description.
    fn fail<E: fmt::Display>(&self, error: &E) {
        if let Some(span) = self.process_span() {
            span.fail_by(type_name::<E>(), error);
        }
    }
}

impl<M: MessageExt + ?Sized> MessageExt for &M {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        (**self).process_span()
    }
}

/// What a handler may return: nothing, or a result whose error is recorded.
pub trait Outcome {
    /// The error's type name and the error, if there is one.
    fn error(&self) -> Option<(&'static str, &dyn fmt::Display)>;
}

impl Outcome for () {
    fn error(&self) -> Option<(&'static str, &dyn fmt::Display)> {
        None
    }
}

impl<T, E: fmt::Display> Outcome for Result<T, E> {
    fn error(&self) -> Option<(&'static str, &dyn fmt::Display)> {
        self.as_ref().err().map(|error| (type_name::<E>(), error as &dyn fmt::Display))
    }
}

fn finish(span: &ProcessSpan, outcome: &impl Outcome) {
    match outcome.error() {
        Some((type_name, error)) => span.fail_by(type_name, error),
        None => span.end(),
    }
}

pin_project! {
    /// The future of [`MessageExt::process`] and [`process_batch`](crate::process_batch).
    #[must_use = "futures do nothing unless polled"]
    pub struct Processing<F> {
        // Taken when the handler is done.
        span: Option<Arc<ProcessSpan>>,
        #[pin]
        handler: F,
    }
}

impl<F> Processing<F> {
    pub(crate) fn new(span: Option<Arc<ProcessSpan>>, handler: F) -> Self {
        Self { span, handler }
    }
}

impl<F> Future for Processing<F>
where
    F: Future,
    F::Output: Outcome,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(span) = this.span else { return this.handler.poll(task) };
        let outcome = span.scope(|| this.handler.poll(task));
        if let Poll::Ready(outcome) = &outcome {
            finish(span, outcome);
            *this.span = None;
        }
        outcome
    }
}

impl<F> fmt::Debug for Processing<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processing").field("span", &self.span).finish_non_exhaustive()
    }
}
