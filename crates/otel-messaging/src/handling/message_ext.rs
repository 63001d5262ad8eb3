//! The methods of received messages, for every broker.

use std::{
    any::type_name,
    borrow::Cow,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use opentelemetry::Context;
use pin_project_lite::pin_project;

use crate::{
    handling::{
        outcome::{ErrorBy, FindError, Outcome, ReturnedError},
        received_message::ReceivedMessage,
    },
    spans::process_span::ProcessSpan,
};

/// The methods that the wrappers add to received messages. They are in one trait, so that they shadow no method of the client's
/// or of your types.
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
///     message.process(|| handle(&order)).await
/// }
/// ```
pub trait MessageExt: ReceivedMessage {
    /// Calls a handler inside the message's process span, and ends the span when the handler's future completes. An `Err` is
    /// recorded as the span's error.
    ///
    /// The handler is called at the first poll; a future that is never polled never calls it. The span starts at the first poll
    /// too, unless it was needed before. `otel_messaging.wait_time` is the time since the delivery. The span is current in the
    /// handler and in each poll of its future, on every task and thread. A second call attaches the same span.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe if the handler is. If the future is dropped before it completes, the span ends with the message.
    fn process<H, F>(&self, handler: H) -> Processing<H, F>
    where
        H: FnOnce() -> F,
        F: Future,
        F::Output: Outcome,
    {
        Processing::of_message(self.process_span().cloned(), handler, ReturnedError)
    }

    /// [`process`](Self::process) for a handler whose output is no [`Outcome`], or whose error needs a better name than that of
    /// its type. `error` finds the error in the output, if there is one, and returns its `error.type` and its description.
    /// Metrics have the `error.type` too, so use few fixed names. Both are exported, so they must not contain payload or personal
    /// data.
    ///
    /// `anyhow::Error` can hold many types of errors. This example names the error by the type inside:
    ///
    /// ```no_run
    /// # use std::borrow::Cow;
    /// # use otel_messaging::MessageExt;
    /// #[derive(Debug)]
    /// struct Declined;
    /// # impl std::fmt::Display for Declined {
    /// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("declined") }
    /// # }
    /// # impl std::error::Error for Declined {}
    /// # async fn charge<M>(_: &M) -> anyhow::Result<()> { Ok(()) }
    ///
    /// fn named<T>(outcome: &anyhow::Result<T>) -> Option<(Cow<'static, str>, String)> {
    ///     let error = outcome.as_ref().err()?;
    ///     let error_type = match error.downcast_ref::<Declined>() {
    ///         Some(_) => "declined",
    ///         None if error.is::<std::io::Error>() => "io",
    ///         None => "other",
    ///     };
    ///     Some((error_type.into(), error.to_string()))
    /// }
    ///
    /// # async fn work(message: &impl MessageExt) -> anyhow::Result<()> {
    /// message.process_with(|| charge(message), named).await
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As [`process`](Self::process).
    fn process_with<H, F, E, D>(&self, handler: H, error: E) -> Processing<H, F, ErrorBy<E, D>>
    where
        H: FnOnce() -> F,
        F: Future,
        E: FnMut(&F::Output) -> Option<(Cow<'static, str>, D)>,
        D: fmt::Display,
    {
        Processing::of_message(self.process_span().cloned(), handler, ErrorBy::new(error))
    }

    /// Runs synchronous work inside the message's process span, and ends the span when the work returns. An `Err` is recorded as
    /// the span's error. The span starts with the call, unless it was needed before.
    fn in_scope<T: Outcome>(&self, work: impl FnOnce() -> T) -> T {
        in_scope(self.process_span(), work, ReturnedError)
    }

    /// [`in_scope`](Self::in_scope) for work whose output is no [`Outcome`]: `error` finds the error in it, as in
    /// [`process_with`](Self::process_with).
    fn in_scope_with<T, D: fmt::Display>(
        &self,
        work: impl FnOnce() -> T,
        error: impl FnMut(&T) -> Option<(Cow<'static, str>, D)>,
    ) -> T {
        in_scope(self.process_span(), work, ErrorBy::new(error))
    }

    /// The context of the message's handler: the message's process span and its baggage. If telemetry was off at the delivery,
    /// the current context.
    fn otel_context(&self) -> Context {
        self.process_span().map_or_else(Context::current, |span| span.context_to_go())
    }

    /// Sends the message again, for a retry or to a dead-letter queue. The send that `send` calls links the message's creation
    /// context and its process span. A context that was copied with the headers is replaced, whatever
    /// [`CarriedContext`](crate::CarriedContext) is set. The future that `send` returns may be awaited outside of this call.
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
        let _attached = span.republish();
        send()
    }

    /// Ends the process span before the message is dropped. Later calls change nothing.
    fn end(&self) {
        if let Some(span) = self.process_span() {
            span.end();
        }
    }

    /// Ends the process span with an error. The name of the error's type becomes `error.type`, its text the description of the
    /// status.
    fn fail<E: fmt::Display>(&self, error: &E) {
        if let Some(span) = self.process_span() {
            span.fail_by(type_name::<E>(), error);
        }
    }
}

impl<M: ReceivedMessage + ?Sized> MessageExt for M {}

#[inline]
fn in_scope<T>(span: Option<&Arc<ProcessSpan>>, work: impl FnOnce() -> T, mut error: impl FindError<T>) -> T {
    let Some(span) = span else { return work() };
    span.handler_starts();
    let outcome = span.scope(work);
    error.end(span, &outcome);
    outcome
}

pin_project! {
    /// The future of [`MessageExt::process`], [`process_batch`](crate::process_batch) and their `…_with` forms.
    #[must_use = "futures do nothing unless polled"]
    pub struct Processing<H, F, E = ReturnedError> {
        // Taken when the handler has completed.
        span: Option<Arc<ProcessSpan>>,
        // Whether the span starts with the handler. The span of a batch has started before.
        starts: bool,
        error: E,
        // Taken at the first poll.
        handler: Option<H>,
        #[pin]
        future: Option<F>,
    }
}

impl<H, F, E> Processing<H, F, E> {
    fn of_message(span: Option<Arc<ProcessSpan>>, handler: H, error: E) -> Self {
        Self { span, starts: true, error, handler: Some(handler), future: None }
    }

    pub(crate) fn of_batch(span: Option<Arc<ProcessSpan>>, handler: H, error: E) -> Self {
        Self { span, starts: false, error, handler: Some(handler), future: None }
    }
}

impl<H, F, E> Future for Processing<H, F, E>
where
    H: FnOnce() -> F,
    F: Future,
    E: FindError<F::Output>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut work = || {
            if let Some(handler) = this.handler.take() {
                this.future.set(Some(handler()));
            }
            // After a panic of the handler, there is no future.
            this.future.as_mut().as_pin_mut().map_or(Poll::Pending, |future| future.poll(task))
        };
        let Some(span) = this.span else { return work() };
        if mem::take(this.starts) {
            span.handler_starts();
        }
        let outcome = span.scope(work);
        if let Poll::Ready(outcome) = &outcome {
            this.error.end(span, outcome);
            *this.span = None;
        }
        outcome
    }
}

impl<H, F, E> fmt::Debug for Processing<H, F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processing").field("span", &self.span).finish_non_exhaustive()
    }
}
