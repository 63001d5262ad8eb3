//! A message that was received, as this crate sees it.

use std::{any::Any, sync::Arc};

use crate::{handling::stream_item::AtStreamError, spans::process_span::ProcessSpan};

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
