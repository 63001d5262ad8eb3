//! Batch processing: one process span for several messages.

use std::{borrow::Cow, fmt, future::Future, sync::Arc};

use crate::{
    handling::{
        message_ext::Processing,
        outcome::{ErrorBy, Outcome, ReturnedError},
        received_message::ReceivedMessage,
    },
    spans::{batch_span::start_batch_span, process_span::ProcessSpan},
};

/// Calls a handler for several messages inside one process span, which links the creation context of each message. The span
/// starts with this call. The handler is called at the first poll.
///
/// Attributes that are the same for all messages are set on the span, the others on each link. The span of messages from several
/// destinations has the common name of these destinations, if the client has a common name for them (`{exchange}:{queue}` for
/// several routing keys of a RabbitMQ queue). Otherwise it has the name of their server, if all have the same server.
///
/// `messaging.batch.message_count` counts all messages, also beyond
/// [`with_max_links`](crate::InstrumentationBuilder::with_max_links), except messages that a
/// [`with_filter`](crate::InstrumentationBuilder::with_filter) excludes. The span is a child of the span that is current at the
/// call, and never of a message's span. Messages that have no span of their own yet never get one: their settle spans are
/// children of the batch's span. The handler sees no baggage of the messages. Inside [`in_scope`](crate::MessageExt::in_scope) of
/// a message, it sees that message's baggage.
///
/// Source: "Batch processing" in the trace structure of the messaging spans convention.
///
/// ```no_run
/// # use otel_messaging::{MessageExt, process_batch};
/// # async fn store<M>(_: &[M]) -> Result<(), std::io::Error> { Ok(()) }
/// # async fn work<M: MessageExt>(messages: Vec<M>) -> Result<(), std::io::Error> {
/// process_batch(&messages, || store(&messages)).await
/// # }
/// ```
///
/// # Cancel safety
///
/// Cancel safe if the handler is. The span then ends when the future is dropped.
pub fn process_batch<M, H, F>(messages: &[M], handler: H) -> Processing<H, F>
where
    M: ReceivedMessage,
    H: FnOnce() -> F,
    F: Future,
    F::Output: Outcome,
{
    Processing::of_batch(batch_span(messages), handler, ReturnedError)
}

/// [`process_batch`] for a handler whose output is no [`Outcome`]: `error` finds the error in it, if there is one, as in
/// [`process_with`](crate::MessageExt::process_with).
///
/// # Cancel safety
///
/// As [`process_batch`].
pub fn process_batch_with<M, H, F, E, D>(messages: &[M], handler: H, error: E) -> Processing<H, F, ErrorBy<E, D>>
where
    M: ReceivedMessage,
    H: FnOnce() -> F,
    F: Future,
    E: FnMut(&F::Output) -> Option<(Cow<'static, str>, D)>,
    D: fmt::Display,
{
    Processing::of_batch(batch_span(messages), handler, ErrorBy::new(error))
}

fn batch_span<M: ReceivedMessage>(messages: &[M]) -> Option<Arc<ProcessSpan>> {
    let is_recorded = |span: &&Arc<ProcessSpan>| !span.operation().filtered_out;
    let spans: Vec<_> = messages.iter().filter_map(ReceivedMessage::process_span).filter(is_recorded).collect();
    start_batch_span(&spans)
}
