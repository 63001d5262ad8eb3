//! Messages that are worked on together: one process span, a link for each.

use std::{borrow::Cow, fmt, future::Future, sync::Arc, time::SystemTime};

use crate::{
    description::{attributes::Attributes, semconv::attribute},
    handling::{
        message_ext::{MessageExt, Processing},
        outcome::{ErrorBy, Outcome, ReturnedError},
    },
    spans::{batch_attributes::BatchAttributes, process_span::ProcessSpan},
};

/// Runs a handler for several messages inside one process span, which links the creation context of each of them.
///
/// What is the same for all messages stands on the span, the rest on each link. Messages of several destinations have the
/// name that these have together, where their client knows one (`{exchange}:{queue}` for several routing keys of a RabbitMQ
/// queue), else that of the server, where it is the same. `messaging.batch.message_count` counts
/// them all, also beyond [`max_links`](crate::InstrumentationBuilder::max_links), but for those that a
/// [`filter`](crate::InstrumentationBuilder::filter) turned off. The span is a child of the span that is
/// current at the call, never of a message's. Messages that have no span of their own yet never get one: settle spans
/// of theirs are children of the batch's. The handler sees no message's baggage: whose would it be; inside
/// [`in_scope`](MessageExt::in_scope) of one it sees that one's.
///
/// Source: "Batch processing" in the trace structure of the messaging spans convention.
///
/// ```no_run
/// # use otel_messaging::{MessageExt, process_batch};
/// # async fn store<M>(_: &[M]) -> Result<(), std::io::Error> { Ok(()) }
/// # async fn work<M: MessageExt>(messages: Vec<M>) -> Result<(), std::io::Error> {
/// process_batch(&messages, store(&messages)).await
/// # }
/// ```
///
/// # Cancel safety
///
/// As the handler's. The span then ends when the future is dropped.
pub fn process_batch<M, F>(messages: &[M], handler: F) -> Processing<F>
where
    M: MessageExt,
    F: Future,
    F::Output: Outcome,
{
    Processing::of_batch(claim(messages), handler, ReturnedError)
}

/// [`process_batch`] for a handler whose output is no [`Outcome`]: `error` finds the error in it, if there is one, as in
/// [`process_with`](MessageExt::process_with).
///
/// # Cancel safety
///
/// As [`process_batch`].
pub fn process_batch_with<M, F, E, D>(messages: &[M], handler: F, error: E) -> Processing<F, ErrorBy<E, D>>
where
    M: MessageExt,
    F: Future,
    E: FnMut(&F::Output) -> Option<(Cow<'static, str>, D)>,
    D: fmt::Display,
{
    Processing::of_batch(claim(messages), handler, ErrorBy::new(error))
}

fn claim<M: MessageExt>(messages: &[M]) -> Option<Arc<ProcessSpan>> {
    // Those that a filter turned off are not told of here either.
    let told = |span: &&Arc<ProcessSpan>| !span.operation().filtered_out;
    let spans: Vec<_> = messages.iter().filter_map(MessageExt::process_span).filter(told).collect();
    let first = *spans.first()?;
    let now = SystemTime::now();
    let mut shared = BatchAttributes::default();
    for span in &spans {
        shared.add_waiting(span.creation(), span.start_attributes(), span.wait_time(now), first.max_links());
    }
    let mut attributes = Attributes::default();
    let links = shared.into_links(&mut attributes);
    let others: Vec<_> = spans[1..].iter().map(|span| span.operation()).collect();
    let operation = first.operation().of_batch(&others);
    let named = attributes.0.iter().any(|one| one.key.as_str() == attribute::MESSAGING_DESTINATION_NAME);
    if let Some(name) = operation.description.destination().filter(|_| !named) {
        attributes.set(attribute::MESSAGING_DESTINATION_NAME, name.to_owned());
    }
    attributes.set_number(attribute::MESSAGING_BATCH_MESSAGE_COUNT, spans.len());

    let mut reply_to: Vec<_> = spans.iter().filter_map(|span| span.processed().reply_to).collect();
    reply_to.sort_unstable();
    reply_to.dedup();
    let batch = Arc::new(ProcessSpan::of_batch(first, operation, now, attributes, links, reply_to));
    for span in &spans {
        span.claim(&batch, now);
    }
    Some(batch)
}
