//! The current message of a loop that handles one message after the other.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use pin_project_lite::pin_project;

use crate::spans::hand::Hand;

/// Makes each message of a loop over a stream current while the loop has it in hand.
///
/// With one line around a loop, the spans and sends for a message become children of the message's process span:
///
/// ```no_run
/// # use futures::StreamExt;
/// # use otel_messaging::{MessageExt, sequential};
/// # async fn handle<M>(_: M) {}
/// # async fn work<M: MessageExt>(mut consumer: impl futures::Stream<Item = M> + Unpin) {
/// sequential(async {
///     while let Some(message) = consumer.next().await {
///         handle(message).await;
///     }
/// })
/// .await;
/// # }
/// ```
///
/// A message is in hand from its delivery by a wrapped consumer, inside this future, until it is dropped or that consumer is
/// polled for the next message, even if the poll returns none. A handler may poll other queues meanwhile: only the message's own
/// consumer ends its time in hand. While two messages are alive, no message is current. Tasks that are spawned inside the loop
/// inherit no context.
///
/// The streams, fetches and clones of a consumer count as one consumer. For RabbitMQ's `basic_get`, a queue that is polled
/// through one channel counts as one consumer.
///
/// The loop must handle one message at a time, and no other code may send inside the loop while a message is in hand.
/// `sequential` must be the innermost wrapper of the loop: two loops that are joined in one task need two `sequential`s. To
/// handle several messages at a time, use [`process_each`](crate::MessageStreamExt::process_each) or
/// [`process`](crate::MessageExt::process). For batches, use [`process_batch`](crate::process_batch).
///
/// # Cancel safety
///
/// Cancel safe if the loop is.
pub fn sequential<F: Future>(r#loop: F) -> Sequential<F> {
    Sequential { hand: Arc::default(), r#loop }
}

/// [`sequential`] for a loop that blocks its thread, for example with `BaseConsumer::poll`.
///
/// ```no_run
/// # use otel_messaging::{MessageExt, sequential_blocking};
/// # fn handle<M>(_: M) {}
/// # fn work<M: MessageExt>(poll: impl Fn() -> Option<M>) {
/// sequential_blocking(|| {
///     while let Some(message) = poll() {
///         handle(message);
///     }
/// });
/// # }
/// ```
pub fn sequential_blocking<T>(r#loop: impl FnOnce() -> T) -> T {
    let _here = Hand::enter(&Arc::default());
    r#loop()
}

pin_project! {
    /// The future of [`sequential`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Sequential<F> {
        hand: Arc<Hand>,
        #[pin]
        r#loop: F,
    }
}

impl<F: Future> Future for Sequential<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _here = Hand::enter(this.hand);
        this.r#loop.poll(task)
    }
}

impl<F> fmt::Debug for Sequential<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequential").field("alive", &self.hand.alive()).finish_non_exhaustive()
    }
}
