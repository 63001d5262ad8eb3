//! Messages that are worked on together: one process span, a link for each.

use std::{borrow::Cow, fmt, future::Future, sync::Arc};

use crate::{
    handling::{
        message_ext::Processing,
        outcome::{ErrorBy, Outcome, ReturnedError},
        received_message::ReceivedMessage,
    },
    spans::{batch_span::start_batch_span, process_span::ProcessSpan},
};

/// Calls a handler for several messages inside one process span, which links the creation context of each of them. The span
/// begins with this call, the handler is called at the first poll.
///
/// What is the same for all messages stands on the span, the rest on each link. Messages of several destinations have the
/// name that these have together, where their client knows one (`{exchange}:{queue}` for several routing keys of a RabbitMQ
/// queue), else that of the server, where it is the same. `messaging.batch.message_count` counts
/// them all, also beyond [`with_max_links`](crate::InstrumentationBuilder::with_max_links), but for those that a
/// [`with_filter`](crate::InstrumentationBuilder::with_filter) turned off. The span is a child of the span that is
/// current at the call, never of a message's. Messages that have no span of their own yet never get one: settle spans
/// of theirs are children of the batch's. The handler sees no message's baggage: whose would it be; inside
/// [`in_scope`](crate::MessageExt::in_scope) of one it sees that one's.
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
/// As the handler's. The span then ends when the future is dropped.
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
