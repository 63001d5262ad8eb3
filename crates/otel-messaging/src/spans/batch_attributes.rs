//! The common attributes and the links of several messages in one span.

use std::sync::Arc;

use opentelemetry::{
    KeyValue,
    trace::{Link, SpanContext},
};

use crate::{
    description::{attributes::Attributes, semconv::attribute},
    spans::process_span::ProcessSpan,
};

/// The messages of one span. Attributes that are the same for all messages are set on the span, the others on each link.
#[derive(Debug, Default)]
pub(crate) struct BatchAttributes {
    /// The common attributes of all messages so far; `None` before the first message.
    common: Option<Vec<KeyValue>>,
    linked: Vec<Linked>,
}

/// A linked message.
#[derive(Debug)]
struct Linked {
    context: SpanContext,
    own: Vec<KeyValue>,
    /// The wait of the message. It stays on the link even if all messages waited equally long.
    wait: Option<KeyValue>,
}

impl BatchAttributes {
    /// Adds a message, with the context to link and its attributes. At most `with_max_links` links are kept.
    pub(crate) fn add(&mut self, context: Option<SpanContext>, own: Vec<KeyValue>, max_links: usize) {
        self.add_waiting(context, own, None, max_links);
    }

    /// Adds a message that has waited for its handler.
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

    /// Adds the common attributes to the span's own attributes, and returns the links.
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
                // The operation has another value, so each link gets the attribute.
                Some(_) => links.iter_mut().for_each(|link| link.attributes.push(common.clone())),
            }
        }
        links
    }
}

/// The messages of one receive operation, added as they are delivered: see
/// [`Telemetry::receive_batch`](crate::adapter::Telemetry::receive_batch).
///
/// The number of links that are kept is limited by [`with_max_links`](crate::InstrumentationBuilder::with_max_links).
#[derive(Debug, Default)]
pub struct Batch {
    messages: usize,
    pub(crate) attributes: BatchAttributes,
}

impl Batch {
    /// Adds a message; `None` for a message without a process span, which is only counted.
    pub fn add(&mut self, message: Option<&Arc<ProcessSpan>>) {
        self.messages += 1;
        if let Some(message) = message {
            let mut own = Attributes(message.operation().destination_attribute().into_iter().collect());
            message.own_attributes(&mut own);
            self.attributes.add(message.creation(), own.0, message.max_links());
        }
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.messages
    }

    /// Whether there are no messages.
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// The name of the destination, if all messages have the same destination.
    pub fn destination(&self) -> Option<Arc<str>> {
        let common = self.attributes.common.as_ref()?;
        let name = common.iter().find(|one| one.key.as_str() == attribute::MESSAGING_DESTINATION_NAME)?;
        Some(name.value.as_str().as_ref().into())
    }
}
