//! Messages that are worked on together: one process span, a link for each.

use std::{borrow::Cow, fmt, future::Future, sync::Arc, time::SystemTime};

use opentelemetry::{
    KeyValue,
    trace::{Link, SpanContext},
};

use crate::{
    description::{operation::Attributes, semconv::attribute},
    handling::{
        message_ext::{MessageExt, Processing},
        outcome::{ErrorBy, Outcome, ReturnedError},
    },
    spans::process_span::ProcessSpan,
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
    if let Some(name) = operation.destination().filter(|_| !named) {
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

/// Messages that one span is about: what is the same for all goes on the span, the rest on a link for each.
#[derive(Debug, Default)]
pub(crate) struct BatchAttributes {
    /// Of all so far; `None` before the first.
    common: Option<Vec<KeyValue>>,
    linked: Vec<Linked>,
}

/// A message that is linked.
#[derive(Debug)]
struct Linked {
    context: SpanContext,
    own: Vec<KeyValue>,
    /// How long it waited: on its link, also where others waited as long.
    wait: Option<KeyValue>,
}

impl BatchAttributes {
    /// One more, with the context to link and its attributes. What is kept does not grow beyond `max_links`.
    pub(crate) fn add(&mut self, context: Option<SpanContext>, own: Vec<KeyValue>, max_links: usize) {
        self.add_waiting(context, own, None, max_links);
    }

    /// The same for one that has waited for its handler.
    fn add_waiting(
        &mut self,
        context: Option<SpanContext>,
        own: Vec<KeyValue>,
        wait: Option<KeyValue>,
        max_links: usize,
    ) {
        match &mut self.common {
            None => self.common = Some(own.clone()),
            Some(common) => common.retain(|one| own.contains(one)),
        }
        if let Some(context) = context.filter(|_| self.linked.len() < max_links) {
            self.linked.push(Linked { context, own, wait });
        }
    }

    /// Adds what is the same for all to a span's own attributes, and gives the links.
    pub(crate) fn into_links(self, span: &mut Attributes) -> Vec<Link> {
        let Self { common, linked } = self;
        let common = common.unwrap_or_default();
        let link = |Linked { context, mut own, wait }| {
            own.retain(|one| !common.contains(one));
            own.extend(wait);
            Link::new(context, own, 0)
        };
        let mut links: Vec<_> = linked.into_iter().map(link).collect();
        for common in common {
            match span.0.iter().find(|own| own.key == common.key) {
                None => span.0.push(common),
                Some(own) if own.value == common.value => (),
                // The operation itself has another.
                Some(_) => links.iter_mut().for_each(|link| link.attributes.push(common.clone())),
            }
        }
        links
    }
}

/// The messages of one receive operation, noted as they are delivered: see
/// [`Telemetry::receive_batch`](crate::adapter::Telemetry::receive_batch).
///
/// What is kept of them is bounded by [`max_links`](crate::InstrumentationBuilder::max_links).
#[derive(Debug, Default)]
pub struct Batch {
    messages: usize,
    pub(crate) attributes: BatchAttributes,
}

impl Batch {
    /// One more message; `None` for one without a process span, which is counted only.
    pub fn add(&mut self, message: Option<&Arc<ProcessSpan>>) {
        self.messages += 1;
        if let Some(message) = message {
            let mut own = Attributes(message.operation().destination_attribute().into_iter().collect());
            message.own_attributes(&mut own);
            self.attributes.add(message.creation(), own.0, message.max_links());
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.messages
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// The name of the destination that all messages have, if they have one.
    pub fn destination(&self) -> Option<Arc<str>> {
        let common = self.attributes.common.as_ref()?;
        let name = common.iter().find(|one| one.key.as_str() == attribute::MESSAGING_DESTINATION_NAME)?;
        Some(name.value.as_str().as_ref().into())
    }
}
