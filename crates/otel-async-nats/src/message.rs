//! Core NATS messages.

use std::{fmt, sync::Arc};

use async_nats::{HeaderMap, StatusCode, Subject};
use bytes::Bytes;
use otel_messaging::{ReceivedMessage, adapter::ProcessSpan};
use serde::{Deserialize, Serialize};

use crate::{
    history::DeliveryHistory,
    receive::{MessageTelemetry, Source},
};

pub use async_nats::message::*;

/// A Core NATS message: [`async_nats::Message`] with its process span.
///
/// The seven public fields are the client's, and can be moved out. To make a message by hand, make the client's:
/// `Message::from(otel::raw::Message { … })`; it has no process span.
#[derive(Clone, Serialize, Deserialize)]
pub struct Message {
    /// Subject to which message is published to.
    pub subject: Subject,
    /// Optional reply subject to which response can be published.
    pub reply: Option<Subject>,
    /// Payload of the message.
    pub payload: Bytes,
    /// Optional headers, as they arrived.
    pub headers: Option<HeaderMap>,
    /// Optional status of the message. Used mostly for internal handling; such a message has no process span.
    pub status: Option<StatusCode>,
    /// Optional status description.
    pub description: Option<String>,
    /// Length on the wire.
    pub length: usize,
    #[serde(skip)]
    telemetry: Option<MessageTelemetry>,
}

impl Message {
    #[inline]
    pub(crate) fn new(message: async_nats::Message, telemetry: Option<MessageTelemetry>) -> Self {
        let async_nats::Message { subject, reply, payload, headers, status, description, length } = message;
        Self { subject, reply, payload, headers, status, description, length, telemetry }
    }

    /// Delivers a message of Core NATS to the application.
    #[inline]
    pub(crate) fn delivered(message: async_nats::Message, source: &Source) -> Self {
        let telemetry = source.deliver_message(&message, DeliveryHistory::default);
        Self::new(message, telemetry.map(Into::into))
    }

    #[cfg(feature = "jetstream")]
    pub(crate) fn telemetry(&self) -> Option<&MessageTelemetry> {
        self.telemetry.as_ref()
    }
}

/// The message may be settled outside this crate.
pub(crate) fn allow_untracked_settlement(telemetry: Option<&MessageTelemetry>) {
    if let Some(telemetry) = telemetry {
        telemetry.process().may_settle_elsewhere();
    }
}

impl ReceivedMessage for Message {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        self.telemetry.as_ref().map(MessageTelemetry::process)
    }
}

impl From<async_nats::Message> for Message {
    /// A message without a process span. [`Incoming`](crate::otel::Incoming) gives it one.
    fn from(message: async_nats::Message) -> Self {
        Self::new(message, None)
    }
}

impl From<Message> for async_nats::Message {
    /// The message alone. Its process span ends, unless another part of the message still exists. Its settlement is not recorded.
    fn from(message: Message) -> Self {
        let Message { subject, reply, payload, headers, status, description, length, telemetry } = message;
        allow_untracked_settlement(telemetry.as_ref());
        Self { subject, reply, payload, headers, status, description, length }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("subject", &self.subject)
            .field("reply", &self.reply)
            .field("payload", &self.payload)
            .field("headers", &self.headers)
            .field("status", &self.status)
            .field("description", &self.description)
            .field("length", &self.length)
            .finish()
    }
}
