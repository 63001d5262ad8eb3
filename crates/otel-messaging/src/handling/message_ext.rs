//! What every received message can do, whatever its broker.

use std::{
    any::{Any, type_name},
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
        stream_item::AtStreamError,
    },
    spans::process_span::ProcessSpan,
};

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
    /// For adapters: this is all that has to be implemented.
    fn process_span(&self) -> Option<&Arc<ProcessSpan>>;

    /// For adapters: what [`process_each`](crate::MessageStreamExt::process_each) does at an error of a stream of these
    /// messages, where the application does not say. An error of a type that is not the client's ends the loop.
    fn at_stream_error(error: &dyn Any) -> AtStreamError
    where
        Self: Sized,
    {
        let _ = error;
        AtStreamError::End
    }

    /// Runs a handler inside the message's process span and ends the span with it: an `Err` is recorded as its error.
    ///
    /// The span begins at the first poll, unless something needed it before: `otel_messaging.wait_time` says how long
    /// the message waited for that after the client gave it to the application. The span is current whenever the
    /// handler is polled, on whatever task or thread. A second call attaches the same span and makes no other. A span
    /// of yours is its child when it is made inside the handler, as `#[tracing::instrument]` does, and not when it is
    /// made for it: not `message.process(handle().instrument(info_span!("handle")))`.
    ///
    /// # Cancel safety
    ///
    /// As the handler's. Dropped before it is done, it leaves the span to end with the message.
    fn process<F>(&self, handler: F) -> Processing<F>
    where
        F: Future,
        F::Output: Outcome,
    {
        Processing::of_message(self.process_span().cloned(), handler, ReturnedError)
    }

    /// [`process`](Self::process) for a handler whose output is no [`Outcome`], or whose error has a better name than its
    /// type's. `error` finds the error in the output, if there is one, and gives its `error.type` and its description. The
    /// type is on metrics too: a few fixed names. Both are shown: no payload, no personal data.
    ///
    /// `anyhow::Error` stands for many errors and is called by the type of what is in it:
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
    /// message.process_with(charge(message), named).await
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As [`process`](Self::process).
    fn process_with<F, E, D>(&self, handler: F, error: E) -> Processing<F, ErrorBy<E, D>>
    where
        F: Future,
        E: FnMut(&F::Output) -> Option<(Cow<'static, str>, D)>,
        D: fmt::Display,
    {
        Processing::of_message(self.process_span().cloned(), handler, ErrorBy::new(error))
    }

    /// Runs synchronous work inside the message's process span and ends the span with it: an `Err` is recorded as its
    /// error. The span begins with the call, unless something needed it before.
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
        let _attached = span.republish();
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

impl<M: MessageExt> MessageExt for &M {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        (**self).process_span()
    }

    fn at_stream_error(error: &dyn Any) -> AtStreamError {
        M::at_stream_error(error)
    }
}

#[inline]
fn in_scope<T>(span: Option<&Arc<ProcessSpan>>, work: impl FnOnce() -> T, mut error: impl FindError<T>) -> T {
    let Some(span) = span else { return work() };
    span.handler_starts();
    let outcome = span.scope(work);
    error.end(span, &outcome);
    outcome
}

pin_project! {
    /// The future of [`MessageExt::process`], [`process_batch`](crate::process_batch) and their forms with a function.
    #[must_use = "futures do nothing unless polled"]
    pub struct Processing<F, E = ReturnedError> {
        // Taken when the handler is done.
        span: Option<Arc<ProcessSpan>>,
        // The first poll is the start of the handler.
        starts: bool,
        error: E,
        #[pin]
        handler: F,
    }
}

impl<F, E> Processing<F, E> {
    fn of_message(span: Option<Arc<ProcessSpan>>, handler: F, error: E) -> Self {
        Self { span, starts: true, error, handler }
    }

    /// The span of a batch has begun.
    pub(crate) fn of_batch(span: Option<Arc<ProcessSpan>>, handler: F, error: E) -> Self {
        Self { span, starts: false, error, handler }
    }
}

impl<F, E> Future for Processing<F, E>
where
    F: Future,
    E: FindError<F::Output>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(span) = this.span else { return this.handler.poll(task) };
        if mem::take(this.starts) {
            span.handler_starts();
        }
        let outcome = span.scope(|| this.handler.poll(task));
        if let Poll::Ready(outcome) = &outcome {
            this.error.end(span, outcome);
            *this.span = None;
        }
        outcome
    }
}

impl<F, E> fmt::Debug for Processing<F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Processing").field("span", &self.span).finish_non_exhaustive()
    }
}
