//! Messages that are worked on together: one process span, a link for each.

use std::{future::Future, sync::Arc};

use opentelemetry::{KeyValue, trace::Link};

use crate::{
    message_ext::{MessageExt, Outcome, Processing},
    operation::Attributes,
    process_span::ProcessSpan,
    semconv::attribute,
};

/// Runs a handler for several messages inside one process span, which links the creation context of each of them.
///
/// What is the same for all messages stands on the span, the rest on each link; `messaging.batch.message_count` counts
/// them all, also beyond [`max_links`](crate::InstrumentationBuilder::max_links), but for those that a
/// [`filter`](crate::InstrumentationBuilder::filter) turned off. The span is a child of the span that is
/// current at the call, never of a message's. Messages that have no span of their own yet never get one: settle spans
/// of theirs are children of the batch's.
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
    Processing::new(claim(messages), handler)
}

fn claim<M: MessageExt>(messages: &[M]) -> Option<Arc<ProcessSpan>> {
    // Those that a filter turned off are not told of here either.
    let told = |span: &&Arc<ProcessSpan>| !span.operation().off;
    let spans: Vec<_> = messages.iter().filter_map(MessageExt::process_span).filter(told).collect();
    let first = *spans.first()?;
    let mut each: Vec<_> = spans.iter().map(|span| span.start_attributes()).collect();
    let common = take_common(&mut each);
    let links = spans
        .iter()
        .zip(each)
        .filter_map(|(span, own)| Some(Link::new(span.creation()?, own, 0)))
        .take(first.max_links())
        .collect();
    let operation = if spans.iter().all(|span| span.operation().span_name == first.operation().span_name) {
        first.operation().clone()
    } else {
        Arc::new(first.operation().without_destination())
    };
    let mut attributes = Attributes(common);
    attributes
        .0
        .push(KeyValue::new(attribute::MESSAGING_BATCH_MESSAGE_COUNT, i64::try_from(spans.len()).unwrap_or(i64::MAX)));

    let batch = Arc::new(ProcessSpan::of_batch(first, operation, attributes, links));
    for span in &spans {
        span.claim(batch.context());
    }
    Some(batch)
}

/// Takes out what is the same for all, and leaves each what it alone has.
pub(crate) fn take_common(each: &mut [Vec<KeyValue>]) -> Vec<KeyValue> {
    let Some((head, rest)) = each.split_first() else { return Vec::new() };
    let common: Vec<_> = head.iter().filter(|one| rest.iter().all(|other| other.contains(one))).cloned().collect();
    each.iter_mut().for_each(|own| own.retain(|one| !common.contains(one)));
    common
}
