//! Consumers.

pub mod pull;
pub mod push;

use std::{
    fmt,
    ops::DerefMut,
    sync::{Arc, OnceLock},
};

use otel_messaging::{Instrumentation, adapter::wrapper};

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

    /// The source that delivers its messages.
    fn source(&self) -> &Arc<ConsumerSource> {
        self.source.get_or_init(|| Arc::new(ConsumerSource::new(self.client.clone(), self.inner.cached_info())))
    }
}

wrapper! {
    [T: IntoConsumerConfig] Consumer<T> => async_nats::jetstream::consumer::Consumer<T>, inner:
    /// The consumer inside.
    get_ref
    /// The consumer inside, whose messages have no process spans.
    into_inner
    into deref
}

wrapper! {
    [T: IntoConsumerConfig + fmt::Debug] Consumer<T> => async_nats::jetstream::consumer::Consumer<T>, inner:
    debug
}

impl<T: IntoConsumerConfig> From<(async_nats::jetstream::consumer::Consumer<T>, &Context)> for Consumer<T> {
    /// A consumer that was made elsewhere. It does not name its context, so the context is given too.
    fn from((inner, context): (async_nats::jetstream::consumer::Consumer<T>, &Context)) -> Self {
        Self::wrap(inner, context.traced_client().clone())
    }
}

impl<T: IntoConsumerConfig> DerefMut for Consumer<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        // The caller may replace the cached information, on which the source depends.
        self.source.take();
        &mut self.inner
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

            /// Reports messages that are delivered from now on to this instrumentation.
            #[must_use]
            pub fn with_instrumentation(mut self, instrumentation: otel_messaging::Instrumentation) -> Self {
                Arc::make_mut(&mut self.source).instrument(instrumentation);
                self
            }
        }

        otel_messaging::adapter::wrapper! {
            [] $name => $inner, inner:
            /// The stream inside.
            get_ref
            /// The stream inside, whose messages have no process spans.
            into_inner
            deref deref_mut
        }

        otel_messaging::adapter::opaque_debug! { [] $name, stringify!($name), |stream| source: stream.source.inner }

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

    };
}

use messages;
