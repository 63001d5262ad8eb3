//! Which paths there are, and on which sides.

use std::fmt;

use otel_messaging::Instrumentation;

use crate::{
    by_hand_subjects, ours, raw,
    subject::{Driven, Failed, Threads},
};

/// What a client is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// `BaseProducer::send`, and `poll` until its delivery report was served.
    KafkaSend,
    /// `FutureProducer::send_result`, and its future until it is ready.
    KafkaSendFuture,
    /// `BaseConsumer::poll` of a message that was fetched before, and an empty handler.
    KafkaReceive,
    /// `Channel::basic_publish` without confirms, a thousand at a time, as many tasks would: one after the other, most of what
    /// is measured are two threads waking each other.
    RabbitSend,
    /// `Consumer::next` of a delivery that arrived before, and an empty handler.
    RabbitReceive,
    /// `Client::publish`, which queues.
    NatsSend,
    /// `Subscriber::next` of a message that arrived before, and an empty handler.
    NatsReceive,
}

/// How it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client alone.
    Raw,
    /// The client, instrumented by its user.
    ByHand,
    /// Our crate in the client's place.
    Ours,
}

impl Path {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::KafkaSend,
        Self::KafkaSendFuture,
        Self::KafkaReceive,
        Self::RabbitSend,
        Self::RabbitReceive,
        Self::NatsSend,
        Self::NatsReceive,
    ];

    /// Whether it is done inside of a request.
    pub fn is_send(self) -> bool {
        !matches!(self, Self::KafkaReceive | Self::RabbitReceive | Self::NatsReceive)
    }

    /// Whose work it is: a `FutureProducer` takes delivery reports on a thread of its own, and what ends there counts.
    pub fn threads(self) -> Threads {
        if self == Self::KafkaSendFuture { Threads::All } else { Threads::Caller }
    }

    /// Connected to its peer. Ours by this instrumentation.
    pub(crate) fn on(self, side: Side, instrumentation: Instrumentation) -> Result<Box<dyn Driven>, Failed> {
        match side {
            Side::Raw => raw::driven(self),
            Side::ByHand => by_hand_subjects::driven(self),
            Side::Ours => ours::driven(self, instrumentation),
        }
    }
}

impl Side {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Raw, Self::ByHand, Self::Ours];
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::KafkaSend => "Kafka send",
            Self::KafkaSendFuture => "Kafka send, future",
            Self::KafkaReceive => "Kafka receive",
            Self::RabbitSend => "RabbitMQ publish",
            Self::RabbitReceive => "RabbitMQ receive",
            Self::NatsSend => "NATS publish",
            Self::NatsReceive => "NATS receive",
        })
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Raw => "raw",
            Self::ByHand => "by hand",
            Self::Ours => "ours",
        })
    }
}
