//! What several messages of one span have in common, and what stands on the link of each.

use std::sync::Arc;

use opentelemetry::{
    KeyValue,
    trace::{Link, SpanContext},
};

use crate::{
    description::{attributes::Attributes, semconv::attribute},
    spans::process_span::ProcessSpan,
};

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
    /// One more, with the context to link and its attributes. What is kept does not grow beyond `with_max_links`.
    pub(crate) fn add(&mut self, context: Option<SpanContext>, own: Vec<KeyValue>, max_links: usize) {
        self.add_waiting(context, own, None, max_links);
    }

    /// The same for one that has waited for its handler.
    pub(crate) fn add_waiting(
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
/// What is kept of them is bounded by [`with_max_links`](crate::InstrumentationBuilder::with_max_links).
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
