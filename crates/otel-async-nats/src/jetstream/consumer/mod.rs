//! Consumers.

pub mod pull;
pub mod push;

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use async_nats::datetime::DateTime;
use otel_messaging::{
    Instrumentation,
    adapter::{OperationStart, SourceId},
};

use crate::{
    Client,
    error::ErrorType,
    history,
    history::DeliveryHistory,
    jetstream::{Context, Message},
    origin::SourceDescription,
    receive::Source,
};

pub use async_nats::jetstream::consumer::*;

/// A consumer: [`async_nats::jetstream::consumer::Consumer`] whose messages have process spans.
///
/// The name of a durable one stands on them as `messaging.destination.subscription.name`, the deliver group as
/// `messaging.consumer.group.name`; a filter with wildcards is the template of their subjects. What is not here is the
/// client's own, through `Deref`.
#[derive(Clone)]
pub struct Consumer<T: IntoConsumerConfig> {
    inner: async_nats::jetstream::consumer::Consumer<T>,
    client: Arc<Client>,
    source: OnceLock<Arc<ConsumerSource>>,
}

/// A consumer that is asked for messages.
pub type PullConsumer = Consumer<pull::Config>;
/// A consumer that sends messages.
pub type PushConsumer = Consumer<push::Config>;
/// A consumer that is asked for messages and made anew when it misses one.
pub type OrderedPullConsumer = Consumer<pull::OrderedConfig>;
/// A consumer that sends messages and is made anew when it misses one.
pub type OrderedPushConsumer = Consumer<push::OrderedConfig>;

impl<T: IntoConsumerConfig> Consumer<T> {
    /// A consumer that exists on the server.
    pub fn new(config: T, info: Info, context: Context) -> Self {
        let (context, client) = context.into_parts();
        Self::wrap(async_nats::jetstream::consumer::Consumer::new(config, info, context), client)
    }

    pub(crate) fn wrap(inner: async_nats::jetstream::consumer::Consumer<T>, client: Arc<Client>) -> Self {
        Self { inner, client, source: OnceLock::new() }
    }

    /// Reports to this instrumentation from now on, as do the streams and batches of messages, and the clones, made of this
    /// value.
    #[must_use]
    pub fn with_instrumentation(self, instrumentation: Instrumentation) -> Self {
        let client = Client::clone(&self.client).with_instrumentation(instrumentation);
        Self::wrap(self.inner, Arc::new(client))
    }

    /// The consumer inside.
    pub fn get_ref(&self) -> &async_nats::jetstream::consumer::Consumer<T> {
        &self.inner
    }

    /// The consumer inside, whose messages have no process spans.
    pub fn into_inner(self) -> async_nats::jetstream::consumer::Consumer<T> {
        self.inner
    }

    /// What its messages are delivered with.
    fn source(&self) -> &Arc<ConsumerSource> {
        self.source.get_or_init(|| Arc::new(ConsumerSource::new(self.client.clone(), self.inner.cached_info())))
    }
}

/// The one filter there is.
fn filter(config: &Config) -> Option<&str> {
    if !config.filter_subject.is_empty() {
        return Some(&config.filter_subject);
    }
    #[cfg(feature = "server_2_10")]
    if let [only] = config.filter_subjects.as_slice() {
        return Some(only);
    }
    None
}

impl<T: IntoConsumerConfig> From<(async_nats::jetstream::consumer::Consumer<T>, &Context)> for Consumer<T> {
    /// A consumer that was made elsewhere: it does not say by which context, so that is given too.
    fn from((inner, context): (async_nats::jetstream::consumer::Consumer<T>, &Context)) -> Self {
        Self::wrap(inner, context.traced_client().clone())
    }
}

impl<T: IntoConsumerConfig> From<Consumer<T>> for async_nats::jetstream::consumer::Consumer<T> {
    fn from(consumer: Consumer<T>) -> Self {
        consumer.into_inner()
    }
}

impl<T: IntoConsumerConfig> Deref for Consumer<T> {
    type Target = async_nats::jetstream::consumer::Consumer<T>;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl<T: IntoConsumerConfig> DerefMut for Consumer<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        // What the consumer is may be asked of the server again.
        self.source.take();
        &mut self.inner
    }
}

impl<T: IntoConsumerConfig + fmt::Debug> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// What turns a consumer's messages into ours.
#[derive(Debug, Clone)]
pub(crate) struct ConsumerSource {
    inner: Arc<Source>,
    client: Arc<Client>,
    pulled: bool,
    /// Its messages can be settled.
    acknowledges: bool,
    /// The longest time that the server waits for a settlement before it delivers a message again.
    ack_wait: Duration,
    /// Each message has to be settled by itself.
    awaits_settlement: bool,
    /// Its messages come without their bodies.
    headers_only: bool,
    /// What was stored before is a replay.
    began: Option<DateTime>,
}

impl ConsumerSource {
    pub(crate) fn new(client: Arc<Client>, consumer: &Info) -> Self {
        let Info { stream_name, name, config, created, .. } = consumer;
        let pulled = config.deliver_subject.is_none();
        let description = SourceDescription {
            subject: filter(config).map(Arc::from),
            group: config.deliver_group.as_deref().map(Arc::from),
            durable: config.durable_name.as_deref().map(Arc::from),
            stream: Some(stream_name.as_str().into()),
            pulled,
        };
        Self {
            inner: Arc::new(Source::consumer(client.telemetry().clone(), name, description)),
            client,
            pulled,
            acknowledges: config.ack_policy != AckPolicy::None,
            ack_wait: config.backoff.iter().copied().chain([config.ack_wait]).max().unwrap_or_default(),
            // Of all up to one that is acknowledged, the earlier ones are settled without a word.
            awaits_settlement: config.ack_policy == AckPolicy::Explicit,
            headers_only: config.headers_only,
            began: (config.deliver_policy != DeliverPolicy::New).then_some(*created),
        }
    }

    /// The consumer, as the source of messages.
    pub(crate) fn id(&self) -> SourceId {
        self.inner.id()
    }

    /// Delivers messages, and settles them, as this instrumentation says.
    fn instrument(&mut self, instrumentation: Instrumentation) {
        self.client = Arc::new(Client::clone(&self.client).with_instrumentation(instrumentation));
        self.inner = Arc::new(self.inner.with_telemetry(self.client.telemetry().clone()));
    }

    /// Hands a message to the application.
    pub(crate) fn deliver(&self, message: async_nats::jetstream::Message) -> Message {
        let async_nats::jetstream::Message { message, context } = message;
        let telemetry = self.inner.deliver_message(&message, || {
            let (history, stored) = history::history(message.reply.as_deref());
            let replayed = stored.zip(self.began).is_some_and(|(stored, began)| stored < began);
            // Without a subject to acknowledge by there is nothing to settle.
            let awaits_settlement = self.awaits_settlement && stored.is_some();
            DeliveryHistory { replayed, headers_only: self.headers_only, awaits_settlement, ..history }
        });
        let telemetry = telemetry.map(|delivered| match message.reply.clone().filter(|_| self.acknowledges) {
            Some(reply) => delivered.make_settleable(reply, self.ack_wait, &message.subject, &self.inner),
            None => delivered.into(),
        });
        Message {
            message: crate::Message::new(message, telemetry),
            context: Context::with_shared(context, self.client.clone()),
        }
    }
}

impl ConsumerSource {
    /// The application asks a stream for its next message: notes since when, if somebody wants to know.
    fn stream_poll_started(&self, poll_start: &mut Option<SystemTime>) {
        if self.pulled && poll_start.is_none() && self.client.telemetry().records_polls() {
            *poll_start = Some(SystemTime::now());
        }
    }

    /// The moment of a poll that began then, if it is known.
    fn start_poll(&self, poll_start: Option<SystemTime>) -> Option<OperationStart> {
        let start = self.client.telemetry().start_on_message()?;
        let began = poll_start.unwrap_or(start.at());
        Some(start.since(began))
    }

    /// What a stream gave when it was asked.
    fn poll_finished<E: ErrorType + fmt::Display>(
        &self,
        poll_start: Option<SystemTime>,
        result: Result<async_nats::jetstream::Message, E>,
    ) -> Result<Message, E> {
        match result {
            Ok(message) => {
                let message = self.deliver(message);
                if let (Some(_), Some(telemetry)) = (poll_start, message.message.telemetry())
                    && let Some(start) = self.start_poll(poll_start)
                {
                    self.inner.record_poll(start, &message.message.subject, telemetry);
                }
                Ok(message)
            }
            Err(error) => {
                // A failure is told of whoever else wants to know.
                if let Some(start) = self.start_poll(poll_start) {
                    let span = self.inner.failed_poll(start);
                    span.fail(error.error_type(), &error);
                }
                Err(error)
            }
        }
    }
}

/// A stream of a consumer's messages around the client's.
macro_rules! messages {
    ($(#[$docs:meta])* $name:ident of $inner:ty, $error:ty) => {
        $(#[$docs])*
        pub struct $name {
            inner: $inner,
            source: Arc<ConsumerSource>,
            /// Since when the next message is asked for. Not a call, whose context may hold a span that ends when it is let go.
            poll_start: Option<std::time::SystemTime>,
        }

        impl $name {
            fn new(inner: $inner, source: &Arc<ConsumerSource>) -> Self {
                Self { inner, source: source.clone(), poll_start: None }
            }
        }

        impl $name {
            /// Reports the messages that come from now on to this instrumentation.
            #[must_use]
            pub fn with_instrumentation(mut self, instrumentation: otel_messaging::Instrumentation) -> Self {
                Arc::make_mut(&mut self.source).instrument(instrumentation);
                self
            }

            /// The stream inside.
            pub fn get_ref(&self) -> &$inner {
                &self.inner
            }

            /// The stream inside, whose messages have no process spans.
            pub fn into_inner(self) -> $inner {
                self.inner
            }
        }

        impl futures_core::Stream for $name {
            type Item = Result<Message, $error>;

            fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
                otel_messaging::adapter::poll_started(self.source.id());
                let this = &mut *self;
                this.source.stream_poll_started(&mut this.poll_start);
                let next = Pin::new(&mut this.inner).poll_next(cx);
                next.map(|item| item.map(|result| this.source.poll_finished(this.poll_start.take(), result)))
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                futures_core::Stream::size_hint(&self.inner)
            }
        }

        deref!($name => $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("source", &self.source.inner).finish_non_exhaustive()
            }
        }
    };
}

use messages;
