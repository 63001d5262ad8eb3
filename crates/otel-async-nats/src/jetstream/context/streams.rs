//! The streams and consumers that a context finds or creates.

#[cfg(feature = "server_2_10")]
use async_nats::jetstream::stream::{ConsumerCreateStrictError, ConsumerUpdateError};
use async_nats::jetstream::{
    consumer::{FromConsumer, IntoConsumerConfig},
    stream::{Config, ConsumerError, Info},
};

use super::{Context, CreateStreamError, GetStreamError};
use crate::jetstream::{consumer::Consumer, stream::Stream};

impl Context {
    fn stream<I>(&self, stream: async_nats::jetstream::stream::Stream<I>) -> Stream<I> {
        Stream::new(stream, self.client.clone())
    }

    fn consumer<T: IntoConsumerConfig>(&self, consumer: async_nats::jetstream::consumer::Consumer<T>) -> Consumer<T> {
        Consumer::wrap(consumer, self.client.clone())
    }

    /// See [`async_nats::jetstream::Context::create_stream`].
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn create_stream<S>(&self, stream_config: S) -> Result<Stream<Info>, CreateStreamError>
    where
        Config: From<S>,
    {
        Ok(self.stream(self.inner.create_stream(stream_config).await?))
    }

    /// See [`async_nats::jetstream::Context::get_stream_no_info`].
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn get_stream_no_info<T: AsRef<str>>(&self, stream: T) -> Result<Stream<()>, GetStreamError> {
        Ok(self.stream(self.inner.get_stream_no_info(stream).await?))
    }

    /// See [`async_nats::jetstream::Context::get_stream`].
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn get_stream<T: AsRef<str>>(&self, stream: T) -> Result<Stream, GetStreamError> {
        Ok(self.stream(self.inner.get_stream(stream).await?))
    }

    /// See [`async_nats::jetstream::Context::get_or_create_stream`].
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn get_or_create_stream<S>(&self, stream_config: S) -> Result<Stream, CreateStreamError>
    where
        S: Into<Config>,
    {
        Ok(self.stream(self.inner.get_or_create_stream(stream_config).await?))
    }

    /// See [`async_nats::jetstream::Context::get_consumer_from_stream`].
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn get_consumer_from_stream<T, C, S>(&self, consumer: C, stream: S) -> Result<Consumer<T>, ConsumerError>
    where
        T: FromConsumer + IntoConsumerConfig,
        S: AsRef<str>,
        C: AsRef<str>,
    {
        Ok(self.consumer(self.inner.get_consumer_from_stream(consumer, stream).await?))
    }

    /// See [`async_nats::jetstream::Context::create_consumer_on_stream`].
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn create_consumer_on_stream<C: IntoConsumerConfig + FromConsumer, S: AsRef<str>>(
        &self,
        config: C,
        stream: S,
    ) -> Result<Consumer<C>, ConsumerError> {
        Ok(self.consumer(self.inner.create_consumer_on_stream(config, stream).await?))
    }

    /// See [`async_nats::jetstream::Context::update_consumer_on_stream`].
    ///
    /// # Errors
    ///
    /// The client's.
    #[cfg(feature = "server_2_10")]
    pub async fn update_consumer_on_stream<C: IntoConsumerConfig + FromConsumer, S: AsRef<str>>(
        &self,
        config: C,
        stream: S,
    ) -> Result<Consumer<C>, ConsumerUpdateError> {
        Ok(self.consumer(self.inner.update_consumer_on_stream(config, stream).await?))
    }

    /// See [`async_nats::jetstream::Context::create_consumer_strict_on_stream`].
    ///
    /// # Errors
    ///
    /// The client's.
    #[cfg(feature = "server_2_10")]
    pub async fn create_consumer_strict_on_stream<C: IntoConsumerConfig + FromConsumer, S: AsRef<str>>(
        &self,
        config: C,
        stream: S,
    ) -> Result<Consumer<C>, ConsumerCreateStrictError> {
        Ok(self.consumer(self.inner.create_consumer_strict_on_stream(config, stream).await?))
    }
}
