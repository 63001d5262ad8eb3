//! The interface of received messages, and the rule for errors of their streams.

use std::{any::Any, sync::Arc};

use crate::spans::process_span::ProcessSpan;

/// A received message that carries its process span.
///
/// The adapters' messages implement this trait, and every type that does has [`MessageExt`](crate::MessageExt). Implement the
/// trait for your own type that wraps a message:
///
/// ```
/// use std::sync::Arc;
///
/// use otel_messaging::{MessageExt, ProcessSpan, ReceivedMessage};
///
/// struct Order<M> {
///     message: M,
///     number: u64,
/// }
///
/// impl<M: ReceivedMessage> ReceivedMessage for Order<M> {
///     fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
///         self.message.process_span()
///     }
/// }
///
/// async fn work<M: ReceivedMessage>(order: Order<M>) {
///     order.process(|| async { println!("{}", order.number) }).await;
/// }
/// ```
pub trait ReceivedMessage {
    /// The message's process span; `None` if telemetry was off when the message was delivered.
    fn process_span(&self) -> Option<&Arc<ProcessSpan>>;

    /// The reaction of [`process_each`](crate::MessageStreamExt::process_each) to an error of a stream of these messages, unless
    /// the application sets another. Default: the loop ends.
    fn at_stream_error(error: &dyn Any) -> AtStreamError
    where
        Self: Sized,
    {
        let _ = error;
        AtStreamError::End
    }
}

impl<M: ReceivedMessage> ReceivedMessage for &M {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        (**self).process_span()
    }

    fn at_stream_error(error: &dyn Any) -> AtStreamError {
        M::at_stream_error(error)
    }
}

/// For adapters: the reaction of a loop over a stream of messages to an error of the stream, unless the application sets another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtStreamError {
    /// The loop ends, and the error is its output.
    End,
    /// The loop continues, and logs a warning for the first error with this `error.type`.
    GoOn(&'static str),
    /// As [`GoOn`](Self::GoOn). But if the stream ends before it returns another message, the error is the output.
    GoOnUnlessLast(&'static str),
    /// The loop continues without a warning, because the error is no failure.
    Ignore,
}
