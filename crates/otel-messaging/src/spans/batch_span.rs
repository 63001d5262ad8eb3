//! The process span of a batch of messages.

use std::{sync::Arc, time::SystemTime};

use opentelemetry::Context;

use crate::{
    description::{attributes::Attributes, semconv::attribute},
    recording::metrics::partition_attribute,
    spans::{
        batch_attributes::BatchAttributes,
        batch_outcome::BatchOutcome,
        context_state::with_reply_to,
        current::{Current, naming_its_span},
        process_span::ProcessSpan,
    },
};

/// Starts the process span of a batch, and assigns the messages that have no span yet to the batch. Returns `None` for an empty
/// batch.
pub(crate) fn start_batch_span(messages: &[&Arc<ProcessSpan>]) -> Option<Arc<ProcessSpan>> {
    let (first, rest) = messages.split_first()?;
    let now = SystemTime::now();
    let mut shared = BatchAttributes::default();
    for message in messages {
        shared.add_waiting(message.creation(), message.start_attributes(), message.wait_time(now), first.max_links());
    }
    let mut attributes = Attributes::default();
    let links = shared.into_links(&mut attributes);
    let others: Vec<_> = rest.iter().map(|message| message.operation()).collect();
    let operation = first.operation().of_batch(&others);
    let named = attributes.0.iter().any(|one| one.key.as_str() == attribute::MESSAGING_DESTINATION_NAME);
    if let Some(name) = operation.destination().filter(|_| !named) {
        attributes.set(attribute::MESSAGING_DESTINATION_NAME, name.to_owned());
    }
    attributes.set_number(attribute::MESSAGING_BATCH_MESSAGE_COUNT, messages.len());

    let mut parent = Context::current();
    let mut reply_to: Vec<_> = messages.iter().filter_map(|message| message.processed().reply_to).collect();
    if !reply_to.is_empty() {
        reply_to.sort_unstable();
        reply_to.dedup();
        parent = with_reply_to(&parent, reply_to.into());
    }
    let pipeline = &operation.pipeline;
    let partition = partition_attribute(pipeline.settings().metric_partition, &attributes.0);
    let start = || {
        let builder = || operation.span(operation.kind().span_kind(), now, attributes, Some(links));
        pipeline.start(first.probe(), &parent, builder)
    };
    let current = match (!operation.filtered_out).then(start).flatten() {
        Some(span) => Current::of(span, &parent, now),
        None => Current::without_span(naming_its_span(&parent), now),
    };
    let batch = Arc::new(ProcessSpan::of_batch(first, operation, current, partition));
    let outcome = Arc::new(BatchOutcome::new(messages.len()));
    for message in messages {
        message.assign_to(&batch, &outcome, now);
    }
    Some(batch)
}
