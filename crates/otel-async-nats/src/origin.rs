//! Describes the source of messages: a subscription, or a consumer.

use std::sync::Arc;

/// The description of a source, without its connection.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    pub(crate) description: SourceDescription,
    /// The parts of the description that identify the source.
    pub(crate) key: Box<str>,
}

/// The names that a source adds to the subject of each message.
#[derive(Debug, Clone, Default)]
pub(crate) struct SourceDescription {
    /// The subject of the subscription, or the filter of the consumer.
    pub(crate) subject: Option<Arc<str>>,
    /// The queue group, or the deliver group of a push consumer.
    pub(crate) group: Option<Arc<str>>,
    /// The durable consumer.
    pub(crate) durable: Option<Arc<str>>,
    /// The JetStream stream.
    pub(crate) stream: Option<Arc<str>>,
    /// The application pulls the messages.
    pub(crate) pulled: bool,
}

impl Origin {
    pub(crate) fn new(description: SourceDescription) -> Self {
        let SourceDescription { subject, group, durable, stream, pulled: _ } = &description;
        // NATS allows no spaces in any of them.
        let key = [subject, group, durable, stream].map(|part| part.as_deref().unwrap_or_default()).join(" ").into();
        Self { description, key }
    }
}
