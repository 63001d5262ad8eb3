//! Raw messages, delivered with process spans.

use std::sync::Arc;

use futures_core::Stream;
use otel_messaging::{Instrumentation, adapter::DeliverStream};
use rdkafka::{consumer as raw_consumer, message as raw};

use crate::{
    message::{BorrowedMessage, OwnedMessage},
    receive::{deliver_borrowed, deliver_owned},
    telemetry::ClientTelemetry,
};

/// Gives process spans to messages that other code received with rdkafka itself.
///
/// Each message is delivered at the call, as by a [`StreamConsumer`](crate::consumer::StreamConsumer). A raw consumer whose
/// context is a [`Traced`](crate::otel::Traced) does not need this type: use `StreamConsumer::from(raw)`.
///
/// ```no_run
/// use futures::StreamExt;
/// use otel_rdkafka::{
///     Message,
///     otel::{Incoming, MessageExt, raw},
/// };
/// // rdkafka's own consumer, from a crate that does not use otel-rdkafka, and rdkafka's trait.
/// use raw::consumer::{CommitMode, Consumer, StreamConsumer};
///
/// # async fn pay(_: &[u8]) -> Result<(), std::io::Error> { Ok(()) }
/// async fn work(consumer: &StreamConsumer) -> Result<(), otel_rdkafka::error::KafkaError> {
///     let mut messages = Incoming::of(consumer).stream(consumer.stream());
///     while let Some(message) = messages.next().await {
///         let message = message?;
///         let _ = message.process(|| pay(message.payload().unwrap_or_default())).await;
///         // The raw consumer takes the wrapped message. This commit has no span.
///         consumer.commit_message(&message, CommitMode::Async)?;
///     }
///     Ok(())
/// }
///
/// // One message that owns its data, in a handler that a framework calls.
/// async fn on_message(incoming: &Incoming, message: raw::message::OwnedMessage) -> Result<(), std::io::Error> {
///     let message = incoming.owned_message(message);
///     message.process(|| pay(message.payload().unwrap_or_default())).await
/// }
/// ```
///
/// Keep one `Incoming` for each consumer: it caches names and attributes. Errors of a stream have no `poll` spans.
#[derive(Debug, Clone)]
pub struct Incoming(pub(crate) Arc<ClientTelemetry>);

impl Incoming {
    /// For messages of this consumer. Its `client.id` and `group.id` are set on the spans.
    pub fn of<C: raw_consumer::ConsumerContext>(consumer: &impl raw_consumer::Consumer<C>) -> Self {
        let telemetry = ClientTelemetry::new();
        telemetry.read_configuration(consumer.client());
        Self(Arc::new(telemetry))
    }

    /// For messages of a consumer that is not accessible: the spans have neither its `client.id` nor its `group.id`.
    #[must_use]
    pub fn of_unknown() -> Self {
        Self(Arc::new(ClientTelemetry::new()))
    }

    /// Uses this instrumentation instead of the default one.
    #[must_use]
    pub fn with_instrumentation(self, instrumentation: Instrumentation) -> Self {
        Self(Arc::new(self.0.with_instrumentation(instrumentation)))
    }

    /// Delivers a message.
    #[must_use]
    pub fn message<'a>(&self, message: raw::BorrowedMessage<'a>) -> BorrowedMessage<'a> {
        deliver_borrowed(&self.0, self.0.source, self.0.start_operation(), None, message)
    }

    /// Delivers a message that owns its data.
    #[must_use]
    pub fn owned_message(&self, message: raw::OwnedMessage) -> OwnedMessage {
        deliver_owned(&self.0, message)
    }

    /// Delivers the messages of a stream when the stream yields them. Errors pass unchanged.
    pub fn stream<'a, S, E>(&self, messages: S) -> impl Stream<Item = Result<BorrowedMessage<'a>, E>> + use<'a, S, E>
    where
        S: Stream<Item = Result<raw::BorrowedMessage<'a>, E>>,
    {
        let incoming = self.clone();
        DeliverStream::new(self.0.source, messages, move |message: Result<_, E>| {
            message.map(|message| incoming.message(message))
        })
    }
}
