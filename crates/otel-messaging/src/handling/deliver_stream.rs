//! A stream that delivers the items of a raw client's stream.

use std::{
    fmt,
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::{description::source::SourceId, spans::hand::poll_started};

pin_project! {
    /// For adapters: a raw client's stream, whose items are delivered by a function.
    ///
    /// The stream calls the function when it returns an item, and not before. In a [`sequential`](crate::sequential) loop, a poll
    /// of this stream ends the time in hand of the previous message.
    #[must_use = "streams do nothing unless polled"]
    pub struct DeliverStream<S, F> {
        #[pin]
        stream: S,
        source: SourceId,
        deliver: F,
    }
}

impl<S, F> DeliverStream<S, F> {
    /// Creates the stream. `deliver` delivers each item of `stream`, from the same `source`.
    pub fn new(source: SourceId, stream: S, deliver: F) -> Self {
        Self { stream, source, deliver }
    }
}

impl<S, F, T> Stream for DeliverStream<S, F>
where
    S: Stream,
    F: FnMut(S::Item) -> T,
{
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<T>> {
        poll_started(self.source);
        let this = self.project();
        this.stream.poll_next(task).map(|item| item.map(this.deliver))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stream.size_hint()
    }
}

impl<S: fmt::Debug, F> fmt::Debug for DeliverStream<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliverStream").field("stream", &self.stream).finish_non_exhaustive()
    }
}
