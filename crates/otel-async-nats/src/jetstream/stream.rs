//! Streams, and the way to their consumers.

use std::{fmt, sync::Arc};

use async_nats::{
    Error,
    jetstream::consumer::{FromConsumer, IntoConsumerConfig},
};
use otel_messaging::{Instrumentation, adapter::wrapper};

use crate::{
    Client,
    jetstream::{Context, consumer::Consumer},
    wrap::wrapping,
};

pub use async_nats::jetstream::stream::*;

/// A stream: [`async_nats::jetstream::stream::Stream`] whose consumers' messages have process spans.
///
/// All other methods are the client's, through `Deref`.
#[derive(Clone)]
pub struct Stream<T = Info> {
    inner: async_nats::jetstream::stream::Stream<T>,
    client: Arc<Client>,
}

impl<T> Stream<T> {
    pub(crate) fn new(inner: async_nats::jetstream::stream::Stream<T>, client: Arc<Client>) -> Self {
        Self { inner, client }
    }

    /// Reports to this instrumentation from now on, as do the consumers and clones made of this value.
    #[must_use]
    pub fn with_instrumentation(self, instrumentation: Instrumentation) -> Self {
        Self { client: Arc::new(Client::clone(&self.client).with_instrumentation(instrumentation)), ..self }
    }

    fn consumer<C: IntoConsumerConfig>(&self, consumer: async_nats::jetstream::consumer::Consumer<C>) -> Consumer<C> {
        Consumer::wrap(consumer, self.client.clone())
    }

    wrapping! {
        "stream::Stream";
        consumer: create_consumer[C: IntoConsumerConfig + FromConsumer](config: C) -> Consumer<C>, ConsumerError;
        #[cfg(feature = "server_2_10")]
        consumer: update_consumer[C: IntoConsumerConfig + FromConsumer](config: C) -> Consumer<C>, ConsumerUpdateError;
        #[cfg(feature = "server_2_10")]
        consumer: create_consumer_strict[C: IntoConsumerConfig + FromConsumer](config: C)
            -> Consumer<C>, ConsumerCreateStrictError;
        consumer: get_consumer[C: FromConsumer + IntoConsumerConfig](name: &str) -> Consumer<C>, Error;
        consumer: get_or_create_consumer[C: FromConsumer + IntoConsumerConfig](name: &str, config: C)
            -> Consumer<C>, ConsumerError;
    }
}

wrapper! {
    [T] Stream<T> => async_nats::jetstream::stream::Stream<T>, inner:
    /// The stream inside.
    get_ref
    /// The stream inside, whose messages have no process spans.
    into_inner
    into deref deref_mut
}

wrapper! { [T: fmt::Debug] Stream<T> => async_nats::jetstream::stream::Stream<T>, inner: debug }

impl<T> From<(async_nats::jetstream::stream::Stream<T>, &Context)> for Stream<T> {
    /// A stream that was looked up elsewhere. It does not name its context, so the context is given too.
    fn from((inner, context): (async_nats::jetstream::stream::Stream<T>, &Context)) -> Self {
        Self::new(inner, context.traced_client().clone())
    }
}
