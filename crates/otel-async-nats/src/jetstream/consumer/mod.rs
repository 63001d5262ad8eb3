//! Consumers.

pub mod pull;
pub mod push;

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use crate::{
    Client,
    jetstream::{Context, Message, info},
    telemetry::{Description, Source},
};

pub use async_nats::jetstream::consumer::*;

/// A consumer: [`async_nats::jetstream::consumer::Consumer`] whose messages have process spans.
///
/// The name of a durable one stands on them as `messaging.destination.subscription.name`, the deliver group as
/// `messaging.consumer.group.name`; a filter with wildcards is the template of their subjects. What is not here is the
/// client's own, through [`Deref`].
#[derive(Clone)]
pub struct Consumer<T: IntoConsumerConfig> {
    inner: async_nats::jetstream::consumer::Consumer<T>,
    client: Arc<Client>,
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
        Self { inner, client }
    }

    /// The consumer inside.
    pub fn get_ref(&self) -> &async_nats::jetstream::consumer::Consumer<T> {
        &self.inner
    }

    /// The consumer inside, whose messages have no process spans.
    pub fn into_inner(self) -> async_nats::jetstream::consumer::Consumer<T> {
        self.inner
    }

    /// What its messages are handed out with.
    fn feed(&self) -> Feed {
        Feed::new(self.client.clone(), self.inner.cached_info())
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
        &mut self.inner
    }
}

impl<T: IntoConsumerConfig + fmt::Debug> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// What turns a consumer's messages into ours.
#[derive(Debug)]
pub(crate) struct Feed {
    source: Arc<Source>,
    client: Arc<Client>,
}

impl Feed {
    pub(crate) fn new(client: Arc<Client>, consumer: &Info) -> Self {
        let Info { stream_name, config, .. } = consumer;
        let description = Description {
            subject: filter(config).map(Arc::from),
            group: config.deliver_group.as_deref().map(Arc::from),
            durable: config.durable_name.as_deref().map(Arc::from),
            stream: Some(stream_name.as_str().into()),
        };
        Self { source: Arc::new(Source::new(client.telemetry().clone(), description)), client }
    }

    /// Hands a message to the application.
    pub(crate) fn hand_out(&self, message: async_nats::jetstream::Message) -> Message {
        let async_nats::jetstream::Message { message, context } = message;
        let delivery = self.source.hand_out(self.client.get_ref(), &message, |attributes| {
            info::describe(message.reply.as_deref(), attributes);
        });
        Message {
            message: crate::Message::new(message, delivery),
            context: Context::with_shared(context, self.client.clone()),
        }
    }
}

/// A stream of a consumer's messages around the client's.
macro_rules! messages {
    ($(#[$docs:meta])* $name:ident of $inner:ty, $error:ty) => {
        $(#[$docs])*
        pub struct $name {
            inner: $inner,
            feed: Feed,
        }

        impl $name {
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
                otel_messaging::adapter::waiting();
                let next = Pin::new(&mut self.inner).poll_next(cx);
                next.map(|item| item.map(|result| result.map(|message| self.feed.hand_out(message))))
            }

            fn size_hint(&self) -> (usize, Option<usize>) {
                futures_core::Stream::size_hint(&self.inner)
            }
        }

        impl Deref for $name {
            type Target = $inner;

            fn deref(&self) -> &Self::Target {
                &self.inner
            }
        }

        impl DerefMut for $name {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.inner
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("source", &self.feed.source).finish_non_exhaustive()
            }
        }
    };
}

use messages;
