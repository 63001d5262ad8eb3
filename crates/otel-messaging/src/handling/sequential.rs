//! The message in hand of a loop that works on one after the other.

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context as TaskContext, Poll},
};

use opentelemetry::Context;
use pin_project_lite::pin_project;

use crate::{
    description::source::SourceId,
    spans::{
        context_state::{Attached, Processed, process_here, processed_here},
        current::Current,
        process_span::ProcessSpan,
    },
};

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
    let _here = Here::enter(&Arc::default());
    r#loop()
}

/// For adapters: this source was asked for its next message, so none of its messages is in hand any more.
///
/// The first thing in every `poll_next`, `recv` and `poll`, whether a message comes or not. What is delivered next is in
/// hand again, by [`deliver`](crate::adapter::Telemetry::deliver).
#[inline]
pub fn poll_started(source: SourceId) {
    if let Some(hand) = here() {
        hand.lock().asked(source);
        attach(&hand);
    }
}

/// The messages of one loop that are alive.
#[derive(Default)]
pub(crate) struct Hand(Mutex<Alive>);

#[derive(Default)]
struct Alive(Vec<Message>);

struct Message {
    id: usize,
    source: SourceId,
    /// Its source was not asked for another one since.
    in_hand: bool,
    current: Current,
    processed: Processed,
}

impl Alive {
    fn asked(&mut self, source: SourceId) {
        self.0.iter_mut().filter(|message| message.source == source).for_each(|message| message.in_hand = false);
    }

    /// The message to work on: the only one, if it is in hand.
    fn in_hand(&self) -> Option<&Message> {
        match &self.0[..] {
            [only] => Some(only).filter(|only| only.in_hand),
            _ => None,
        }
    }
}

impl Hand {
    fn lock(&self) -> MutexGuard<'_, Alive> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message of this source in hand.
    pub(crate) fn take(self: &Arc<Self>, message: &Arc<ProcessSpan>, source: SourceId) {
        // Makes the span, which is not ours to do while others may wait.
        let Some(current) = message.share_current() else { return };
        let (id, processed) = (Arc::as_ptr(message).addr(), message.processed());
        self.lock().0.push(Message { id, source, in_hand: true, current, processed });
        attach(self);
    }

    /// Lets a message go, on whatever thread its last part was dropped.
    pub(crate) fn release(self: &Arc<Self>, message: &ProcessSpan) {
        let id = std::ptr::from_ref(message).addr();
        let released = {
            let mut alive = self.lock();
            let at = alive.0.iter().position(|message| message.id == id);
            at.map(|at| alive.0.swap_remove(at))
        };
        attach(self);
        drop(released);
    }
}

thread_local! {
    /// The loop that this thread is polling.
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

struct Here {
    hand: Arc<Hand>,
    /// What is current around the loop.
    outer: Context,
    /// Never used again: dropping it is its purpose.
    attached: Option<Attached>,
}

/// The loop that this thread is polling, if it is.
#[inline]
pub(crate) fn here() -> Option<Arc<Hand>> {
    HERE.try_with(|here| here.borrow().as_ref().map(|here| here.hand.clone())).ok().flatten()
}

/// Makes current what the loop has in hand, if the loop is the one that this thread is polling.
fn attach(hand: &Arc<Hand>) {
    let outer = |here: &RefCell<Option<Here>>| {
        here.borrow().as_ref().filter(|here| Arc::ptr_eq(&here.hand, hand)).map(|here| here.outer.clone())
    };
    let Ok(Some(outer)) = HERE.try_with(outer) else { return };
    let put = |attached| {
        HERE.with(|here| here.borrow_mut().as_mut().and_then(|here| std::mem::replace(&mut here.attached, attached)))
    };
    // Let go of before the next is attached, and outside the borrow: a context may be the last owner of a span.
    drop(put(None));
    let in_hand = hand.lock().in_hand().map(|message| (message.current.inside(|| outer), message.processed));
    if let Some((context, processed)) = in_hand {
        drop(put(Some(Attached::new(context, processed))));
    }
}

impl Here {
    /// Until the guard is dropped this thread is polling that loop.
    fn enter(hand: &Arc<Hand>) -> Entered {
        let here = Self { hand: hand.clone(), outer: Context::current(), attached: None };
        let entered = Entered { outer: HERE.with(|cell| cell.replace(Some(here))), processed: processed_here() };
        attach(hand);
        entered
    }
}

struct Entered {
    outer: Option<Here>,
    processed: Processed,
}

impl Drop for Entered {
    fn drop(&mut self) {
        // The guard of the loop that is left goes first, then the outer loop is what it was.
        drop(HERE.with(|cell| cell.replace(None)));
        HERE.with(|cell| cell.replace(self.outer.take()));
        // Guards of the loop may have gone in another order than they came.
        process_here(self.processed);
    }
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
        let _here = Here::enter(this.hand);
        this.r#loop.poll(task)
    }
}

impl<F> fmt::Debug for Sequential<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequential").field("alive", &self.hand.lock().0.len()).finish_non_exhaustive()
    }
}
