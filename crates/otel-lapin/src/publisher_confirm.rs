//! The confirm of a publish, as lapin's API has it.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use lapin::{ErrorKind, Result};

use crate::{
    confirmation::Confirmation,
    confirms::{ConfirmHandle, PendingConfirms},
};

/// [`lapin::PublisherConfirm`], whose answer ends the span of its publish.
///
/// Dropped unresolved, it is kept for [`Channel::wait_for_confirms`](crate::Channel::wait_for_confirms) as lapin's is; the
/// span still ends with the true outcome, at the time the answer came.
pub struct PublisherConfirm {
    /// None only during drop.
    inner: Option<lapin::PublisherConfirm>,
    state: State,
}

enum State {
    /// Without a span, or the span has ended.
    Untraced,
    /// Waits for the answer.
    Waiting(ConfirmHandle),
    /// The answer came before the first poll.
    Answered(Box<Result<Confirmation>>, Arc<PendingConfirms>),
}

impl PublisherConfirm {
    /// Waits for the answer to this publish.
    pub(crate) fn new(mut inner: lapin::PublisherConfirm, publish: ConfirmHandle) -> Self {
        // Polled at once, so that the time of the answer is noted however late the user polls.
        let state = match publish.poll_answer(&mut inner) {
            Poll::Pending => State::Waiting(publish),
            Poll::Ready(answer) => {
                let confirms = publish.confirms().clone();
                State::Answered(Box::new(publish.finish(answer)), confirms)
            }
        };
        Self { inner: Some(inner), state }
    }
}

impl From<lapin::PublisherConfirm> for PublisherConfirm {
    /// Without a span.
    fn from(inner: lapin::PublisherConfirm) -> Self {
        Self { inner: Some(inner), state: State::Untraced }
    }
}

impl Future for PublisherConfirm {
    type Output = Result<Confirmation>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::Answered(..) = &self.state
            && let State::Answered(answer, _) = mem::replace(&mut self.state, State::Untraced)
        {
            return Poll::Ready(*answer);
        }
        let Some(inner) = &mut self.inner else { return Poll::Ready(Err(ErrorKind::FutureCompleted.into())) };
        let polled = Pin::new(inner).poll(cx);
        if polled.is_pending() {
            return Poll::Pending;
        }
        match mem::replace(&mut self.state, State::Untraced) {
            State::Waiting(publish) => polled.map(|answer| publish.finish(answer)),
            State::Untraced | State::Answered(..) => polled.map_ok(Confirmation::from),
        }
    }
}

impl Drop for PublisherConfirm {
    fn drop(&mut self) {
        match mem::replace(&mut self.state, State::Untraced) {
            State::Untraced => {}
            State::Answered(answer, confirms) => confirms.keep_returned(*answer),
            State::Waiting(publish) => {
                let Some(mut inner) = self.inner.take() else { return };
                match publish.poll_answer(&mut inner) {
                    Poll::Pending => publish.park(inner),
                    Poll::Ready(answer) => {
                        let confirms = publish.confirms().clone();
                        confirms.keep_returned(publish.finish(answer));
                    }
                }
            }
        }
    }
}

impl fmt::Debug for PublisherConfirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublisherConfirm").finish()
    }
}
