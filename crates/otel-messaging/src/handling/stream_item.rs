//! The items of a stream of messages, and the reaction of a loop to an error.

use std::{convert::Infallible, fmt, ops::ControlFlow};

use opentelemetry::otel_warn;

use crate::{
    catch_panic::catch_panic,
    handling::{
        message_ext::MessageExt,
        received_message::{AtStreamError, ReceivedMessage},
    },
};

/// An item of a stream of messages: a message, or a result with a message.
pub trait StreamItem {
    /// The message.
    type Message: MessageExt;
    /// The error of the stream; [`Infallible`] for a stream of messages alone.
    type Error;
    /// The output of a loop over the stream: `()` if the stream cannot fail, else `Result<(), E>`.
    type End;

    /// Returns the message.
    ///
    /// # Errors
    ///
    /// The error of the stream.
    fn received(self) -> Result<Self::Message, Self::Error>;

    /// Returns the client's reaction to an error of its stream.
    fn at_error(error: &Self::Error) -> AtStreamError;

    /// Returns the output of a loop that ends, because of this error if there is one.
    fn end(error: Option<Self::Error>) -> Self::End;
}

impl<M: ReceivedMessage> StreamItem for M {
    type Message = M;
    type Error = Infallible;
    type End = ();

    fn received(self) -> Result<M, Infallible> {
        Ok(self)
    }

    fn at_error(error: &Infallible) -> AtStreamError {
        match *error {}
    }

    fn end(_: Option<Infallible>) {}
}

impl<M: ReceivedMessage, E: 'static> StreamItem for Result<M, E> {
    type Message = M;
    type Error = E;
    type End = Result<(), E>;

    fn received(self) -> Self {
        self
    }

    fn at_error(error: &E) -> AtStreamError {
        M::at_stream_error(error)
    }

    fn end(error: Option<E>) -> Result<(), E> {
        error.map_or(Ok(()), Err)
    }
}

/// The decision about an error of a stream.
pub trait OnStreamError<I: StreamItem> {
    /// Returns the reaction to an error.
    fn at(&mut self, error: &I::Error) -> AtStreamError;
}

/// The client decides: see [`process_each`](crate::MessageStreamExt::process_each).
#[derive(Debug, Default)]
pub struct ByClient {
    warned: Vec<&'static str>,
}

impl<I: StreamItem> OnStreamError<I> for ByClient {
    fn at(&mut self, error: &I::Error) -> AtStreamError {
        let rule = I::at_error(error);
        if let AtStreamError::GoOn(error_type) | AtStreamError::GoOnUnlessLast(error_type) = rule
            && !self.warned.contains(&error_type)
        {
            self.warned.push(error_type);
            catch_panic(|| {
                otel_warn!(
                    name: "messaging.stream.error",
                    error_type = error_type,
                    message = "process_each continues after an error of its stream. The span of the error has the details. \
                        Later errors of this kind are not logged. Use on_stream_error to end the loop instead."
                );
            });
        }
        rule
    }
}

/// A function of the application decides: see [`ProcessEach::on_stream_error`](crate::ProcessEach::on_stream_error).
pub struct AskedFor<C>(pub(crate) C);

impl<I: StreamItem, C: FnMut(&I::Error) -> ControlFlow<()>> OnStreamError<I> for AskedFor<C> {
    fn at(&mut self, error: &I::Error) -> AtStreamError {
        match (self.0)(error) {
            ControlFlow::Continue(()) => AtStreamError::Ignore,
            ControlFlow::Break(()) => AtStreamError::End,
        }
    }
}

impl<C> fmt::Debug for AskedFor<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskedFor").finish_non_exhaustive()
    }
}
