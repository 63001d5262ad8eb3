//! The streams and consumers that a context finds or creates.

#[cfg(feature = "server_2_10")]
use async_nats::jetstream::stream::{ConsumerCreateStrictError, ConsumerUpdateError};
use async_nats::jetstream::{
    consumer::{FromConsumer, IntoConsumerConfig},
    stream::{Config, ConsumerError, Info},
};

use super::{Context, CreateStreamError, GetStreamError};
use crate::{
    jetstream::{consumer::Consumer, stream::Stream},
    wrap::wrapping,
};

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

    wrapping! {
        "Context";
        stream: get_stream_no_info[T: AsRef<str>](stream: T) -> Stream<()>, GetStreamError;
        stream: get_stream[T: AsRef<str>](stream: T) -> Stream, GetStreamError;
        stream: get_or_create_stream[S: Into<Config>](stream_config: S) -> Stream, CreateStreamError;
        consumer: get_consumer_from_stream[T: FromConsumer + IntoConsumerConfig, C: AsRef<str>, S: AsRef<str>](
            consumer: C, stream: S
        ) -> Consumer<T>, ConsumerError;
        consumer: create_consumer_on_stream[C: IntoConsumerConfig + FromConsumer, S: AsRef<str>](config: C, stream: S)
            -> Consumer<C>, ConsumerError;
        #[cfg(feature = "server_2_10")]
        consumer: update_consumer_on_stream[C: IntoConsumerConfig + FromConsumer, S: AsRef<str>](config: C, stream: S)
            -> Consumer<C>, ConsumerUpdateError;
        #[cfg(feature = "server_2_10")]
        consumer: create_consumer_strict_on_stream[C: IntoConsumerConfig + FromConsumer, S: AsRef<str>](
            config: C, stream: S
        ) -> Consumer<C>, ConsumerCreateStrictError;
    }
}
