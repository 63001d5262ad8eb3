//! Several messages of a stream at a time, each inside its process span.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use futures_core::Stream;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::message_ext::{MessageExt, Outcome, Processing};

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
    /// The span of a message ends with its handler. An `Err` of the handler is recorded on it and goes no further: one
    /// message that fails stops no other, and what is to be done about it (reject, send to another queue, log) is done
    /// in the handler.
    ///
    /// It works on streams of messages and on streams of results, and is done when the stream ends:
    ///
    /// * `Stream<Item = M>`, as a NATS subscription: the output is `()`.
    /// * `Stream<Item = Result<M, E>>`, as all others: the output is `Result<(), E>`. At an error of the stream no more
    ///   messages are taken, those in hand are handled to their end, and the error is handed out. The stream is only
    ///   borrowed: where its errors pass, call this again.
    ///
    /// ```no_run
    /// # use otel_messaging::{MessageExt, MessageStreamExt};
    /// # async fn pack<M>(_: &M) -> Result<(), std::io::Error> { Ok(()) }
    /// # async fn work<M: MessageExt, E>(mut orders: impl futures::Stream<Item = Result<M, E>> + Unpin) -> Result<(), E> {
    /// orders.process_each(8, async |order| pack(&order).await).await
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the handlers that run and the messages they own, whose spans end with them; no message
    /// is lost that no handler had. An error that waited for handlers to end is lost.
    ///
    /// # Panics
    ///
    /// Only as a handler does: its panic is recorded on its message's span and passes through.
    fn process_each<H, F>(&mut self, limit: usize, handler: H) -> ProcessEach<'_, Self, H, F>
    where
        Self: Sized + Unpin,
        Self::Item: Received,
        H: FnMut(<Self::Item as Received>::Message) -> F,
        F: Future,
        F::Output: Outcome,
    {
        ProcessEach { stream: self, limit: limit.max(1), handler, in_hand: FuturesUnordered::new(), end: None }
    }
}

impl<S: Stream + ?Sized> MessageStreamExt for S {}

/// What a stream of messages gives: a message, or a result with one.
pub trait Received {
    /// The message.
    type Message: MessageExt;
    /// What the end of the stream or an error becomes: `()` where nothing fails, else `Result<(), E>`.
    type End;

    /// The message, or what to end with.
    ///
    /// # Errors
    ///
    /// The stream's own.
    fn received(self) -> Result<Self::Message, Self::End>;

    /// The end of the stream.
    fn end() -> Self::End;
}

impl<M: MessageExt> Received for M {
    type Message = M;
    type End = ();

    fn received(self) -> Result<M, ()> {
        Ok(self)
    }

    fn end() {}
}

impl<M: MessageExt, E> Received for Result<M, E> {
    type Message = M;
    type End = Result<(), E>;

    fn received(self) -> Result<M, Self::End> {
        self.map_err(Err)
    }

    fn end() -> Self::End {
        Ok(())
    }
}

/// The future of [`MessageStreamExt::process_each`].
#[must_use = "futures do nothing unless polled"]
pub struct ProcessEach<'a, S, H, F>
where
    S: Stream<Item: Received>,
{
    stream: &'a mut S,
    limit: usize,
    handler: H,
    in_hand: FuturesUnordered<Processing<F>>,
    /// What to end with, once the handlers are done.
    end: Option<<S::Item as Received>::End>,
}

// Nothing in it is pinned: the handlers are pinned where `FuturesUnordered` keeps them.
impl<S, H, F> Unpin for ProcessEach<'_, S, H, F> where S: Stream<Item: Received> + Unpin {}

impl<S, H, F> Future for ProcessEach<'_, S, H, F>
where
    S: Stream<Item: Received> + Unpin,
    H: FnMut(<S::Item as Received>::Message) -> F,
    F: Future,
    F::Output: Outcome,
{
    type Output = <S::Item as Received>::End;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        for _ in 0..TAKEN_AT_ONCE {
            while let Poll::Ready(Some(_)) = this.in_hand.poll_next_unpin(task) {}
            if this.in_hand.is_empty()
                && let Some(end) = this.end.take()
            {
                return Poll::Ready(end);
            }
            if this.end.is_some() || this.in_hand.len() == this.limit {
                return Poll::Pending;
            }
            let Poll::Ready(item) = this.stream.poll_next_unpin(task) else { return Poll::Pending };
            match item.map_or_else(|| Err(S::Item::end()), S::Item::received) {
                Ok(message) => {
                    let span = message.process_span().cloned();
                    let handler = match &span {
                        Some(span) => span.scope(|| (this.handler)(message)),
                        None => (this.handler)(message),
                    };
                    this.in_hand.push(Processing::new(span, handler));
                }
                Err(end) => this.end = Some(end),
            }
        }
        // There may be more to take, and the last one taken has not been polled.
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S, H, F> fmt::Debug for ProcessEach<'_, S, H, F>
where
    S: Stream<Item: Received>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessEach")
            .field("limit", &self.limit)
            .field("in_hand", &self.in_hand.len())
            .finish_non_exhaustive()
    }
}
