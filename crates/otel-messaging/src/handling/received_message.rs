//! A message that was received, as this crate sees it.

use std::{any::Any, sync::Arc};

use crate::spans::process_span::ProcessSpan;

/// A received message that carries its process span.
///
/// The adapters' messages implement it; [`MessageExt`](crate::MessageExt) is then there by itself. Implement it for your own type
/// that wraps a message:
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

    /// What [`process_each`](crate::MessageStreamExt::process_each) does at an error of a stream of these messages, where the
    /// application does not say. Default: the loop ends.
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

/// For adapters: what a loop over a stream of messages does at an error of the stream, unless the application says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtStreamError {
    /// It ends, and the error is its output.
    End,
    /// It goes on. The first error of this `error.type` is warned of.
    GoOn(&'static str),
    /// The same, unless the stream ends before it gives another message: then the error is the output.
    GoOnUnlessLast(&'static str),
    /// It goes on: nothing has failed.
    Ignore,
}
