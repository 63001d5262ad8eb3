//! The message in hand of a loop that works on one after the other.

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
/// One line around a loop gives everything that is done for a message, and everything that is sent for it, the message's
/// process span as its parent:
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
/// A message is in hand from the moment a wrapped consumer delivers it, inside this future, until it is dropped or that
/// consumer is asked for the next one, even in vain. A handler may ask other queues meanwhile: only the consumer that the
/// message came from takes it out of hand. While two messages are alive none is current, and nothing is guessed. Tasks that
/// are spawned inside inherit nothing.
///
/// One consumer are its streams, fetches and clones; for RabbitMQ's `basic_get` a queue that is asked through one channel.
///
/// The promise is the loop's: one message at a time, and nothing else sends inside while one is held. Keep it the
/// innermost wrapper of the loop: two loops that are joined in one task are two `sequential`s. Work on several messages
/// at a time belongs into [`process_each`](crate::MessageStreamExt::process_each) or
/// [`process`](crate::MessageExt::process), batches into [`process_batch`](crate::process_batch).
///
/// # Cancel safety
///
/// As the loop's.
pub fn sequential<F: Future>(r#loop: F) -> Sequential<F> {
    Sequential { hand: Arc::default(), r#loop }
}

/// [`sequential`] for a loop that blocks its thread, as around `BaseConsumer::poll`.
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
