//! Several messages of a stream at a time, each inside its process span.

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

/// How many messages are taken in one poll before others of the same task have their turn.
const TAKEN_AT_ONCE: usize = 32;

/// What the wrappers add to streams of received messages.
pub trait MessageStreamExt: Stream {
    /// Handles the messages of a stream, at most `limit` of them at a time (0 counts as 1), each inside its process span.
    ///
    /// Handlers run in this future, on its task, and finish in any order; `limit` 1 is one after the other. The next
    /// message is asked for only while fewer than `limit` are being handled, so what cannot be handled yet waits where
    /// the client keeps it. The handler is called inside the message's span as well as run in it, so what it sends
    /// before its first `await` belongs to the message too.
    ///
    /// The span of a message ends with its handler. An `Err` of the handler is recorded on it and stops no other message.
    /// It goes nowhere else: [`on_outcome`](ProcessEach::on_outcome) sees it, and what is to be done about it (reject, send to
    /// another queue) is done in the handler.
    ///
    /// It works on streams of messages and on streams of results, takes them by value (`&mut stream` keeps one), and is done
    /// when the stream ends:
    ///
    /// * `Stream<Item = M>`, as a NATS subscription: the output is `()`.
    /// * `Stream<Item = Result<M, E>>`, as all others: the output is `Result<(), E>`. What happens at an error of the stream
    ///   its client says, or [`on_stream_error`](ProcessEach::on_stream_error) where it is given:
    ///
    /// | client | goes on | ends, with the error as its output |
    /// |---|---|---|
    /// | Kafka | at all others; at the end of a partition in silence | at a fatal error of the consumer |
    /// | RabbitMQ | | at any |
    /// | NATS | at all others | at an error after which the stream ends |
    /// | an error type that is not the client's | | at any |
    ///
    /// Where it goes on, the first error of each kind is warned of, through OpenTelemetry's internal logs. At an error that
    /// ends it no more messages are taken, and those in hand are handled to their end first.
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
    /// Dropping the future drops the handlers that run and the messages they own, whose spans end with them; no message
    /// is lost that no handler had. An error that waited for handlers to end is lost. To stop without dropping a handler,
    /// end the stream: `stream.take_until(stop).process_each(…)`.
    ///
    /// # Panics
    ///
    /// Only as a handler does: its panic is recorded on its message's span and passes through.
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
    /// In a box, so that the stream need not be `Unpin`: one allocation for a loop.
    stream: Pin<Box<S>>,
    limit: usize,
    handler: H,
    error: E,
    rule: R,
    observer: O,
    in_hand: FuturesUnordered<Handling<F>>,
    /// An error after which the stream may be over, where it is the output then.
    may_be_last: Option<<S::Item as StreamItem>::Error>,
    /// What to end with, once the handlers are done.
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
    /// Decides at each error of the stream whether to go on, in place of what its client says. At `Break` no more messages are
    /// taken, those in hand are handled to their end, and the error is the output.
    ///
    /// A stream that gives errors without end is polled without end: go on only where the client waits between them.
    pub fn on_stream_error<C>(self, decide: C) -> ProcessEach<S, H, F, E, AskedFor<C>, O>
    where
        C: FnMut(&<S::Item as StreamItem>::Error) -> ControlFlow<()>,
    {
        let Self { stream, limit, handler, error, rule: _, observer, in_hand, may_be_last, end } = self;
        ProcessEach { stream, limit, handler, error, rule: AskedFor(decide), observer, in_hand, may_be_last, end }
    }

    /// Sees what each handler gives when it is done, inside the message's process span, which has not ended then: to log an
    /// error, or to count. It runs between the messages and must not block.
    pub fn on_outcome<C>(self, observe: C) -> ProcessEach<S, H, F, E, R, Observer<C>>
    where
        F: Future,
        C: FnMut(&F::Output),
    {
        let Self { stream, limit, handler, error, rule, observer: _, in_hand, may_be_last, end } = self;
        ProcessEach { stream, limit, handler, error, rule, observer: Observer(observe), in_hand, may_be_last, end }
    }
}

// Nothing in it is pinned: the stream is in its box, and the handlers are pinned where `FuturesUnordered` keeps them.
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
        // There may be more to take, and the last one taken has not been polled.
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

/// Hands a message to the handler. Its span begins with the delivery: the stream gave the message just now.
fn handle<M: ReceivedMessage, F>(message: M, handler: &mut impl FnMut(M) -> F) -> Handling<F> {
    let span = message.process_span().cloned();
    let handler = match &span {
        Some(span) => span.scope(|| handler(message)),
        None => handler(message),
    };
    Handling { span, handler }
}

pin_project! {
    /// A handler at work, and the process span that ends with it.
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

/// Who sees what handlers give.
pub trait Observe<T> {
    /// Sees one output, inside the process span of the message, if it has one.
    fn see(&mut self, span: Option<&ProcessSpan>, output: &T);
}

impl<T> Observe<T> for () {
    fn see(&mut self, _: Option<&ProcessSpan>, _: &T) {}
}

/// A function of the application's: see [`ProcessEach::on_outcome`].
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
