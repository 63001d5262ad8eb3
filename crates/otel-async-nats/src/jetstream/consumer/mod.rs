//! Consumers.

pub mod pull;
pub mod push;

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, OnceLock},
};

use otel_messaging::Instrumentation;

use crate::{
    Client,
    jetstream::{Context, receive::ConsumerSource},
};

pub use async_nats::jetstream::consumer::*;

/// A consumer: [`async_nats::jetstream::consumer::Consumer`] whose messages have process spans.
///
/// The spans have the name of a durable consumer as `messaging.destination.subscription.name`, and the deliver group as
/// `messaging.consumer.group.name`; a filter with wildcards is the template of their subjects. All other methods are the
/// client's, through `Deref`.
#[derive(Clone)]
pub struct Consumer<T: IntoConsumerConfig> {
    inner: async_nats::jetstream::consumer::Consumer<T>,
    client: Arc<Client>,
    source: OnceLock<Arc<ConsumerSource>>,
}

/// A consumer whose messages the application pulls.
pub type PullConsumer = Consumer<async_nats::jetstream::consumer::pull::Config>;
/// A consumer whose messages the server pushes.
pub type PushConsumer = Consumer<async_nats::jetstream::consumer::push::Config>;
/// A pull consumer that the client makes again when it misses a message.
pub type OrderedPullConsumer = Consumer<async_nats::jetstream::consumer::pull::OrderedConfig>;
/// A push consumer that the client makes again when it misses a message.
pub type OrderedPushConsumer = Consumer<async_nats::jetstream::consumer::push::OrderedConfig>;

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

    /// The source that delivers its messages.
    fn source(&self) -> &Arc<ConsumerSource> {
        self.source.get_or_init(|| Arc::new(ConsumerSource::new(self.client.clone(), self.inner.cached_info())))
    }
}

impl<T: IntoConsumerConfig> From<(async_nats::jetstream::consumer::Consumer<T>, &Context)> for Consumer<T> {
    /// A consumer that was made elsewhere. It does not name its context, so the context is given too.
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
        // The caller may replace the cached information, on which the source depends.
        self.source.take();
        &mut self.inner
    }
}

impl<T: IntoConsumerConfig + fmt::Debug> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// A stream of a consumer's messages around the client's.
macro_rules! messages {
    ($(#[$docs:meta])* $name:ident of $inner:ty, $error:ty) => {
        $(#[$docs])*
        pub struct $name {
            inner: $inner,
            source: Arc<ConsumerSource>,
            /// When the poll for the next message started. Not an `OperationStart`, which keeps the span of its context alive.
            poll_start: Option<std::time::SystemTime>,
        }

        impl $name {
            fn new(inner: $inner, source: &Arc<ConsumerSource>) -> Self {
                Self { inner, source: source.clone(), poll_start: None }
            }
        }

        impl $name {
            /// Reports messages that are delivered from now on to this instrumentation.
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
