//! [`lapin::message`], whose messages carry their process spans.

use std::sync::Arc;

use lapin::{
    BasicProperties, Result,
    protocol::AMQPError,
    types::{DeliveryTag, MessageCount, ReplyCode, ShortString},
};
use otel_messaging::{
    ReceivedMessage,
    adapter::{ProcessSpan, wrapper},
};

use crate::{acker::Acker, delivered::DeliveredMessage};

/// The result that a consumer delivers: a delivery, `None` when it was cancelled, or an error.
pub type DeliveryResult = Result<Option<Delivery>>;

/// [`lapin::message::Delivery`]: a message that was received.
///
/// Its [`acker`](Self::acker) carries the process span, which ends at the latest when the last part of the message is
/// dropped. [`MessageExt`](crate::otel::MessageExt) has the methods of the process span.
#[derive(Debug, PartialEq)]
pub struct Delivery {
    /// The broker's number for this delivery on its channel.
    pub delivery_tag: DeliveryTag,
    /// The exchange the message was published to; empty for the default exchange.
    pub exchange: ShortString,
    /// The routing key the message was published with.
    pub routing_key: ShortString,
    /// Whether the message was delivered before.
    pub redelivered: bool,
    /// Properties and headers, as they arrived.
    pub properties: BasicProperties,
    /// The payload.
    pub data: Vec<u8>,
    /// Settles the message.
    pub acker: Acker,
}

impl Delivery {
    /// A delivery for tests, as lapin makes it.
    #[must_use]
    pub fn mock(
        delivery_tag: DeliveryTag,
        exchange: ShortString,
        routing_key: ShortString,
        redelivered: bool,
        data: Vec<u8>,
    ) -> Self {
        lapin::message::Delivery::mock(delivery_tag, exchange, routing_key, redelivered, data).into()
    }

    pub(crate) fn new(delivery: lapin::message::Delivery, delivered: Option<Arc<DeliveredMessage>>) -> Self {
        let lapin::message::Delivery { delivery_tag, exchange, routing_key, redelivered, properties, data, acker } =
            delivery;
        let acker = Acker::new(acker, delivered);
        Self { delivery_tag, exchange, routing_key, redelivered, properties, data, acker }
    }

    /// lapin's message. The process span is dropped with the wrapper.
    #[must_use]
    pub fn into_inner(self) -> lapin::message::Delivery {
        let Self { delivery_tag, exchange, routing_key, redelivered, properties, data, acker } = self;
        let acker = acker.into_inner();
        lapin::message::Delivery { delivery_tag, exchange, routing_key, redelivered, properties, data, acker }
    }
}

wrapper! { [] Delivery => Acker, acker: deref }
wrapper! { [] Delivery => lapin::message::Delivery, acker: into }

impl ReceivedMessage for Delivery {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        self.acker.process_span()
    }
}

impl From<lapin::message::Delivery> for Delivery {
    /// Without a process span.
    fn from(delivery: lapin::message::Delivery) -> Self {
        Self::new(delivery, None)
    }
}

/// [`lapin::message::BasicGetMessage`]: a message that `basic_get` received.
#[derive(Debug, PartialEq)]
pub struct BasicGetMessage {
    /// The message.
    pub delivery: Delivery,
    /// Number of messages that remain in the queue.
    pub message_count: MessageCount,
}

impl BasicGetMessage {
    /// lapin's message. The process span is dropped with the wrapper.
    #[must_use]
    pub fn into_inner(self) -> lapin::message::BasicGetMessage {
        lapin::message::BasicGetMessage { delivery: self.delivery.into_inner(), message_count: self.message_count }
    }
}

wrapper! { [] BasicGetMessage => Delivery, delivery: deref deref_mut }
wrapper! { [] BasicGetMessage => lapin::message::BasicGetMessage, delivery: into }

impl ReceivedMessage for BasicGetMessage {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        self.delivery.process_span()
    }
}

impl From<lapin::message::BasicGetMessage> for BasicGetMessage {
    /// Without a process span.
    fn from(message: lapin::message::BasicGetMessage) -> Self {
        Self { delivery: message.delivery.into(), message_count: message.message_count }
    }
}

/// [`lapin::message::BasicReturnMessage`]: a message that the broker returned, as the user published it.
///
/// On channels with confirms the headers that were injected into the message are removed again.
#[derive(Debug, PartialEq)]
pub struct BasicReturnMessage {
    /// The message.
    pub delivery: Delivery,
    /// Why the broker returned the message: AMQP's reply code.
    pub reply_code: ReplyCode,
    /// Why the broker returned the message: AMQP's reply text.
    pub reply_text: ShortString,
}

impl BasicReturnMessage {
    /// Why the broker returned the message, as an error.
    #[must_use]
    pub fn error(&self) -> Option<AMQPError> {
        AMQPError::from_id(self.reply_code, self.reply_text.clone())
    }

    /// lapin's message.
    #[must_use]
    pub fn into_inner(self) -> lapin::message::BasicReturnMessage {
        lapin::message::BasicReturnMessage {
            delivery: self.delivery.into_inner(),
            reply_code: self.reply_code,
            reply_text: self.reply_text,
        }
    }
}

wrapper! { [] BasicReturnMessage => Delivery, delivery: deref deref_mut }
wrapper! { [] BasicReturnMessage => lapin::message::BasicReturnMessage, delivery: into }

impl From<lapin::message::BasicReturnMessage> for BasicReturnMessage {
    fn from(message: lapin::message::BasicReturnMessage) -> Self {
        Self { delivery: message.delivery.into(), reply_code: message.reply_code, reply_text: message.reply_text }
    }
}
