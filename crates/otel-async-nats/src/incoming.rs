//! Gives process spans to raw messages.

use std::sync::Arc;

use futures_core::Stream;
use otel_messaging::adapter::DeliverStream;

#[cfg(feature = "jetstream")]
use crate::jetstream::{self, receive::ConsumerSource};
use crate::{Client, Message, Subscriber, receive::Source, subject::ToSubject};

/// Gives process spans to messages that other code received with async-nats itself.
///
/// Each message that passes gets its span, as if a subscription of this crate delivered it. The spans go to the instrumentation
/// of the client that is given.
///
/// ```no_run
/// use futures_util::StreamExt;
/// use otel_async_nats::{
///     Client,
///     otel::{Incoming, MessageExt, raw},
/// };
///
/// # async fn pack(_: &[u8]) -> Result<(), std::io::Error> { Ok(()) }
/// // A client and a subscription from a crate that knows async-nats and not this one.
/// async fn work(client: raw::Client, orders: raw::Subscriber) {
///     let client = Client::from(client);
///     let mut orders = Incoming::subscription(&client, "orders.*").subscriber(orders);
///     while let Some(order) = orders.next().await {
///         let _ = order.process(|| pack(&order.payload)).await;
///     }
/// }
///
/// // One message, in a handler that a framework calls.
/// async fn on_message(incoming: &Incoming, message: raw::Message) -> Result<(), std::io::Error> {
///     let message = incoming.message(message);
///     message.process(|| pack(&message.payload)).await
/// }
/// ```
///
/// Keep one for each subscription: it caches names and attributes.
#[derive(Debug, Clone)]
pub struct Incoming {
    source: Arc<Source>,
}

impl Incoming {
    /// For messages of a subscription to this subject, which may have wildcards.
    pub fn subscription(client: &Client, subject: impl ToSubject) -> Self {
        let source = Source::subscription(client.telemetry(), &subject.to_subject(), None);
        Self { source }
    }

    /// For messages of a subscription that shares its subject with others of a group.
    pub fn queue_subscription(client: &Client, subject: impl ToSubject, queue_group: &str) -> Self {
        let source = Source::subscription(client.telemetry(), &subject.to_subject(), Some(queue_group));
        Self { source }
    }

    /// Delivers a message.
    #[must_use]
    pub fn message(&self, message: async_nats::Message) -> Message {
        Message::delivered(message, &self.source)
    }

    /// Delivers the messages of a subscription.
    #[must_use]
    pub fn subscriber(&self, messages: async_nats::Subscriber) -> Subscriber {
        Subscriber::new(messages, self.source.clone())
    }

    /// Delivers the messages of any stream.
    pub fn stream<S>(&self, messages: S) -> impl Stream<Item = Message> + use<S>
    where
        S: Stream<Item = async_nats::Message>,
    {
        let incoming = self.clone();
        DeliverStream::new(self.source.id(), messages, move |message| incoming.message(message))
    }
}

/// Gives process spans to JetStream messages that other code received with async-nats itself.
///
/// ```no_run
/// use futures_util::{Stream, StreamExt};
/// use otel_async_nats::{
///     Client, Error,
///     otel::{IncomingJetStream, MessageExt, raw},
/// };
/// use raw::jetstream::{Message, consumer::Info};
///
/// # async fn pack(_: &[u8]) -> Result<(), std::io::Error> { Ok(()) }
/// async fn work(
///     client: &Client,
///     consumer: &Info,
///     orders: impl Stream<Item = Result<Message, Error>> + Unpin,
/// ) -> Result<(), Error> {
///     let mut orders = IncomingJetStream::of(client, consumer).stream(orders);
///     while let Some(order) = orders.next().await {
///         let order = order?;
///         let _ = order.process(|| pack(&order.payload)).await;
///         order.ack().await?;
///     }
///     Ok(())
/// }
/// ```
///
/// To wrap a raw consumer itself, use `Consumer::from((raw, &context))`.
#[cfg(feature = "jetstream")]
#[derive(Debug, Clone)]
pub struct IncomingJetStream(Arc<ConsumerSource>);

#[cfg(feature = "jetstream")]
impl IncomingJetStream {
    /// For messages of the consumer with this information, as its `cached_info` gives it.
    #[must_use]
    pub fn of(client: &Client, consumer: &jetstream::consumer::Info) -> Self {
        Self(Arc::new(ConsumerSource::new(Arc::new(client.clone()), consumer)))
    }

    /// Delivers a message.
    #[must_use]
    pub fn message(&self, message: async_nats::jetstream::Message) -> jetstream::Message {
        self.0.deliver_stored(message)
    }

    /// Delivers the messages of a stream. Errors pass through.
    pub fn stream<S, E>(&self, messages: S) -> impl Stream<Item = Result<jetstream::Message, E>> + use<S, E>
    where
        S: Stream<Item = Result<async_nats::jetstream::Message, E>>,
    {
        let source = self.0.clone();
        DeliverStream::new(source.id(), messages, move |message: Result<_, E>| {
            message.map(|message| source.deliver_stored(message))
        })
    }
}
