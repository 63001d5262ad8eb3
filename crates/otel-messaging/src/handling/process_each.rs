//! Concurrent handling of the messages of a stream, each inside its process span.

use std::{
    borrow::Cow,
    fmt,
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use futures_core::Stream;
use futures_util::stream::{FuturesUnordered, StreamExt};
use pin_project_lite::pin_project;

use crate::{
    handling::{
        outcome::{ErrorBy, FindError, Outcome, ReturnedError},
        received_message::AtStreamError,
        received_message::ReceivedMessage,
        stream_item::{AskedFor, ByClient, OnStreamError, StreamItem},
    },
    spans::process_span::ProcessSpan,
};

/// The maximum number of messages that are taken in one poll, so that other futures of the same task can run.
const TAKEN_AT_ONCE: usize = 32;

/// The methods that the wrappers add to streams of received messages.
pub trait MessageStreamExt: Stream {
    /// Handles the messages of a stream, at most `limit` messages at a time (0 counts as 1), each inside its process span.
    ///
    /// Handlers run in this future, on its task, and finish in any order. With `limit` 1, messages are handled one after the
    /// other. The future polls for the next message only while fewer than `limit` messages are being handled; further messages
    /// wait in the client. The handler is both called and polled inside the message's span. So a send before the handler's first
    /// `await` belongs to the message too.
    ///
    /// The span of a message ends with its handler. An `Err` of the handler is recorded on the span, and stops no other message.
    /// [`on_outcome`](ProcessEach::on_outcome) sees the error; it is not returned. Handle the error in the handler, for example
    /// reject the message or send it to another queue.
    ///
    /// `process_each` works on streams of messages and on streams of results. It takes the stream by value; `&mut stream` keeps
    /// the stream. The future completes when the stream ends:
    ///
    /// * `Stream<Item = M>`, as a NATS subscription: the output is `()`.
    /// * `Stream<Item = Result<M, E>>`, as all others: the output is `Result<(), E>`. The client decides whether the loop
    ///   continues after an error of the stream, unless [`on_stream_error`](ProcessEach::on_stream_error) is set:
    ///
    /// | client | continues | ends, with the error as its output |
    /// |---|---|---|
    /// | Kafka | at all other errors; at the end of a partition without a warning | at a fatal error of the consumer |
    /// | RabbitMQ | | at any error |
    /// | NATS | at all other errors | at an error after which the stream ends |
    /// | an error type that is not the client's | | at any error |
    ///
    /// If the loop continues, OpenTelemetry's internal logs have a warning for the first error of each kind. If the loop ends, it
    /// takes no more messages, and first completes the handlers of the messages in hand.
    ///
    /// ```no_run
    /// # use otel_messaging::{MessageExt, MessageStreamExt};
    /// # async fn pack<M>(_: &M) -> Result<(), std::io::Error> { Ok(()) }
    /// # async fn work<M: MessageExt, E: 'static>(
    /// #     orders: impl futures::Stream<Item = Result<M, E>>,
    /// # ) -> Result<(), E> {
    /// orders
    ///     .process_each(8, async |order| pack(&order).await)
    ///     .on_outcome(|outcome| {
    ///         if let Err(error) = outcome {
    ///             eprintln!("an order is not packed: {error}");
    ///         }
    ///     })
    ///     .await
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the running handlers and the messages that they own. The spans of these messages end. A message
    /// that no handler has taken is not lost. An error of the stream that waited for handlers to complete is lost. To stop
    /// without dropping a handler, end the stream: `stream.take_until(stop).process_each(…)`.
    ///
    /// # Panics
    ///
    /// Only if a handler panics: the panic is recorded on its message's span and is propagated.
    fn process_each<H, F>(self, limit: usize, handler: H) -> ProcessEach<Self, H, F>
    where
        Self: Sized,
        Self::Item: StreamItem,
        H: FnMut(<Self::Item as StreamItem>::Message) -> F,
        F: Future,
        F::Output: Outcome,
    {
        ProcessEach::new(self, limit, handler, ReturnedError)
    }

    /// [`process_each`](Self::process_each) for a handler whose output is no [`Outcome`]: `error` finds the error in it, if
    /// there is one, as in [`process_with`](crate::MessageExt::process_with).
    ///
    /// # Cancel safety
    ///
    /// As [`process_each`](Self::process_each).
    fn process_each_with<H, F, E, D>(self, limit: usize, handler: H, error: E) -> ProcessEach<Self, H, F, ErrorBy<E, D>>
    where
        Self: Sized,
        Self::Item: StreamItem,
        H: FnMut(<Self::Item as StreamItem>::Message) -> F,
        F: Future,
        E: FnMut(&F::Output) -> Option<(Cow<'static, str>, D)>,
        D: fmt::Display,
    {
        ProcessEach::new(self, limit, handler, ErrorBy::new(error))
    }
}

impl<S: Stream + ?Sized> MessageStreamExt for S {}

/// The future of [`MessageStreamExt::process_each`] and [`process_each_with`](MessageStreamExt::process_each_with).
#[must_use = "futures do nothing unless polled"]
pub struct ProcessEach<S, H, F, E = ReturnedError, R = ByClient, O = ()>
where
    S: Stream<Item: StreamItem>,
{
    /// A box, so that the stream need not be `Unpin`, at the cost of one allocation for each loop.
    stream: Pin<Box<S>>,
    limit: usize,
    handler: H,
    error: E,
    rule: R,
    observer: O,
    in_hand: FuturesUnordered<Handling<F>>,
    /// The last error, if the client expects that the stream may end after it. If the stream ends, this error is the output.
    may_be_last: Option<<S::Item as StreamItem>::Error>,
    /// The output, set once the loop ends and only waits for its handlers.
    end: Option<<S::Item as StreamItem>::End>,
}

impl<S, H, F, E> ProcessEach<S, H, F, E>
where
    S: Stream<Item: StreamItem>,
{
    fn new(stream: S, limit: usize, handler: H, error: E) -> Self {
        Self {
            stream: Box::pin(stream),
            limit: limit.max(1),
            handler,
            error,
            rule: ByClient::default(),
            observer: (),
            in_hand: FuturesUnordered::new(),
            may_be_last: None,
            end: None,
        }
    }
}

impl<S, H, F, E, R, O> ProcessEach<S, H, F, E, R, O>
where
    S: Stream<Item: StreamItem>,
{
    /// Sets a function that decides whether the loop continues after an error of the stream, in place of the client's decision.
    /// At `Break`, the loop takes no more messages, completes the handlers in progress, and returns the error.
    ///
    /// A stream that returns errors without end is polled without end. Continue only after errors where the client waits before
    /// it returns the next one.
    pub fn on_stream_error<C>(self, decide: C) -> ProcessEach<S, H, F, E, AskedFor<C>, O>
    where
        C: FnMut(&<S::Item as StreamItem>::Error) -> ControlFlow<()>,
    {
        let Self { stream, limit, handler, error, rule: _, observer, in_hand, may_be_last, end } = self;
        ProcessEach { stream, limit, handler, error, rule: AskedFor(decide), observer, in_hand, may_be_last, end }
    }

    /// Sets a function that sees the output of each handler, for example to log an error or to count. It runs inside the
    /// message's process span, before the span ends. It runs between the handlers and must not block.
    pub fn on_outcome<C>(self, observe: C) -> ProcessEach<S, H, F, E, R, Observer<C>>
    where
        F: Future,
        C: FnMut(&F::Output),
    {
        let Self { stream, limit, handler, error, rule, observer: _, in_hand, may_be_last, end } = self;
        ProcessEach { stream, limit, handler, error, rule, observer: Observer(observe), in_hand, may_be_last, end }
    }
}

// No field is structurally pinned: the stream is pinned in its box, and `FuturesUnordered` pins the handlers.
impl<S, H, F, E, R, O> Unpin for ProcessEach<S, H, F, E, R, O> where S: Stream<Item: StreamItem> {}

impl<S, H, F, E, R, O> Future for ProcessEach<S, H, F, E, R, O>
where
    S: Stream<Item: StreamItem>,
    H: FnMut(<S::Item as StreamItem>::Message) -> F,
    F: Future,
    E: FindError<F::Output>,
    R: OnStreamError<S::Item>,
    O: Observe<F::Output>,
{
    type Output = <S::Item as StreamItem>::End;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        for _ in 0..TAKEN_AT_ONCE {
            while let Poll::Ready(Some((span, output))) = this.in_hand.poll_next_unpin(task) {
                this.observer.see(span.as_deref(), &output);
                if let Some(span) = &span {
                    this.error.end(span, &output);
                }
            }
            if this.in_hand.is_empty()
                && let Some(end) = this.end.take()
            {
                return Poll::Ready(end);
            }
            if this.end.is_some() || this.in_hand.len() == this.limit {
                return Poll::Pending;
            }
            let Poll::Ready(item) = this.stream.as_mut().poll_next(task) else { return Poll::Pending };
            match item.map(S::Item::received) {
                Some(Ok(message)) => {
                    this.may_be_last = None;
                    this.in_hand.push(handle(message, &mut this.handler));
                }
                Some(Err(error)) => match this.rule.at(&error) {
                    AtStreamError::End => this.end = Some(S::Item::end(Some(error))),
                    AtStreamError::GoOn(_) | AtStreamError::Ignore => this.may_be_last = None,
                    AtStreamError::GoOnUnlessLast(_) => this.may_be_last = Some(error),
                },
                None => this.end = Some(S::Item::end(this.may_be_last.take())),
            }
        }
        // The stream may have more messages, and the last handler has not been polled.
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S, H, F, E, R, O> fmt::Debug for ProcessEach<S, H, F, E, R, O>
where
    S: Stream<Item: StreamItem>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessEach")
            .field("limit", &self.limit)
            .field("in_hand", &self.in_hand.len())
            .finish_non_exhaustive()
    }
}

/// Calls the handler with a message. The span's start time is the delivery, because the stream has just returned the message.
fn handle<M: ReceivedMessage, F>(message: M, handler: &mut impl FnMut(M) -> F) -> Handling<F> {
    let span = message.process_span().cloned();
    let handler = match &span {
        Some(span) => span.scope(|| handler(message)),
        None => handler(message),
    };
    Handling { span, handler }
}

pin_project! {
    /// A running handler, and the process span that ends with it.
    struct Handling<F> {
        span: Option<Arc<ProcessSpan>>,
        #[pin]
        handler: F,
    }
}

impl<F: Future> Future for Handling<F> {
    type Output = (Option<Arc<ProcessSpan>>, F::Output);

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let output = match this.span {
            Some(span) => span.scope(|| this.handler.poll(task)),
            None => this.handler.poll(task),
        };
        output.map(|output| (this.span.take(), output))
    }
}

/// An observer of the handlers' outputs.
pub trait Observe<T> {
    /// Sees the output of a handler, inside the process span of the message, if the message has a span.
    fn see(&mut self, span: Option<&ProcessSpan>, output: &T);
}

impl<T> Observe<T> for () {
    fn see(&mut self, _: Option<&ProcessSpan>, _: &T) {}
}

/// A function of the application: see [`ProcessEach::on_outcome`].
pub struct Observer<C>(C);

impl<T, C: FnMut(&T)> Observe<T> for Observer<C> {
    fn see(&mut self, span: Option<&ProcessSpan>, output: &T) {
        match span {
            Some(span) => span.scope(|| (self.0)(output)),
            None => (self.0)(output),
        }
    }
}

impl<C> fmt::Debug for Observer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}
