//! The JetStream context: publishing, and the way to streams and consumers.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use async_nats::{
    HeaderMap, ToSubject,
    jetstream::{
        consumer::{FromConsumer, IntoConsumerConfig},
        message::{OutboundMessage, PublishMessage},
        stream::{Config, ConsumerError, Info},
    },
};
use bytes::Bytes;
use otel_messaging::Instrumentation;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Client,
    jetstream::{consumer::Consumer, stream::Stream},
    send::{PublishSpan, SendStart, trace_request},
    wrap::deref,
};

pub use crate::send::PublishAckFuture;
pub use async_nats::jetstream::context::*;

#[cfg(feature = "server_2_10")]
use async_nats::jetstream::stream::{ConsumerCreateStrictError, ConsumerUpdateError};

/// A JetStream context: [`async_nats::jetstream::Context`] with spans.
///
/// What is not here is the client's own, through `Deref`: the JetStream API, key-value and object stores have no spans.
#[derive(Clone)]
pub struct Context {
    inner: async_nats::jetstream::Context,
    client: Arc<Client>,
}

/// Traits of the context, for generic code. Those that name a type of this crate are its own; it implements async-nats' as
/// well.
pub mod traits {
    use super::{Bytes, Future, OutboundMessage, PublishAckFuture, PublishError, ToSubject};

    pub use async_nats::jetstream::context::traits::*;

    /// Publishes to streams.
    pub trait Publisher {
        /// As [`Context::publish`](super::Context::publish).
        fn publish<S>(
            &self,
            subject: S,
            payload: Bytes,
        ) -> impl Future<Output = Result<PublishAckFuture, PublishError>>
        where
            S: ToSubject;

        /// As [`Context::send_publish`](super::Context::send_publish).
        fn publish_message(
            &self,
            message: OutboundMessage,
        ) -> impl Future<Output = Result<PublishAckFuture, PublishError>>;
    }

    /// Gives its client.
    pub trait ClientProvider {
        /// The client.
        fn client(&self) -> crate::Client;
    }
}

impl Context {
    pub(crate) fn new(inner: async_nats::jetstream::Context, client: Client) -> Self {
        Self { inner, client: Arc::new(client) }
    }

    pub(crate) fn with_shared(inner: async_nats::jetstream::Context, client: Arc<Client>) -> Self {
        Self { inner, client }
    }

    pub(crate) fn into_parts(self) -> (async_nats::jetstream::Context, Arc<Client>) {
        (self.inner, self.client)
    }

    pub(crate) fn traced_client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Reports to this instrumentation from now on, as do the streams, consumers and clones made of this value.
    #[must_use]
    pub fn with_instrumentation(self, instrumentation: Instrumentation) -> Self {
        let client = Client::clone(&self.client).with_instrumentation(instrumentation);
        Self { client: Arc::new(client), ..self }
    }

    /// The context inside.
    pub fn get_ref(&self) -> &async_nats::jetstream::Context {
        &self.inner
    }

    /// The context inside, without spans.
    pub fn into_inner(self) -> async_nats::jetstream::Context {
        self.inner
    }

    /// The client.
    pub fn client(&self) -> Client {
        Client::clone(&self.client)
    }

    /// Publishes a message to the stream that listens to its subject: see [`send_publish`](Self::send_publish).
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn publish<S: ToSubject>(
        &self,
        subject: S,
        payload: Bytes,
    ) -> impl Future<Output = Result<PublishAckFuture, PublishError>> + use<'_, S> {
        self.send_outbound(OutboundMessage::new(subject.to_subject(), payload, None))
    }

    /// As [`publish`](Self::publish), with headers.
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn publish_with_headers<S: ToSubject>(
        &self,
        subject: S,
        headers: HeaderMap,
        payload: Bytes,
    ) -> impl Future<Output = Result<PublishAckFuture, PublishError>> + use<'_, S> {
        self.send_outbound(OutboundMessage::new(subject.to_subject(), payload, Some(headers)))
    }

    /// Publishes a message to the stream that listens to its subject. The span `publish {subject}` ends with the stream's
    /// acknowledgement, when the returned [`PublishAckFuture`] resolves, with the name of the stream and the message's
    /// sequence there.
    ///
    /// # Errors
    ///
    /// The client's.
    ///
    /// # Cancel safety
    ///
    /// As the client's: dropped before it is done, the message may or may not be sent, and the span says that the outcome
    /// is unknown.
    pub fn send_publish<S: ToSubject>(
        &self,
        subject: S,
        publish: PublishMessage,
    ) -> impl Future<Output = Result<PublishAckFuture, PublishError>> + use<'_, S> {
        self.send_outbound(publish.outbound_message(subject))
    }

    fn send_outbound(
        &self,
        message: OutboundMessage,
    ) -> impl Future<Output = Result<PublishAckFuture, PublishError>> + use<'_> {
        let start = SendStart::new(self.client.telemetry(), &message.subject);
        async move {
            let OutboundMessage { subject, payload, mut headers } = message;
            let span = PublishSpan::start(self.client.telemetry(), start, &subject, &mut headers, &payload);
            let publish = PublishMessage::build().payload(payload);
            let publish = match headers {
                Some(headers) => publish.headers(headers),
                None => publish,
            };
            PublishAckFuture::new(span, self.inner.send_publish(subject, publish).await)
        }
    }

    /// As the client's: [`async_nats::jetstream::Context::request`]. The JetStream API has no spans.
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn request<S, T, V>(&self, subject: S, payload: &T) -> Result<V, RequestError>
    where
        S: ToSubject,
        T: ?Sized + Serialize,
        V: DeserializeOwned,
    {
        self.inner.request(subject, payload).await
    }

    /// As the client's: [`async_nats::jetstream::Context::send_request`]. The JetStream API has no spans.
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn send_request<S: ToSubject>(
        &self,
        subject: S,
        request: crate::Request,
    ) -> Result<(), crate::PublishError> {
        self.inner.send_request(subject, request).await
    }

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

deref!(Context => async_nats::jetstream::Context);

impl From<async_nats::jetstream::Context> for Context {
    /// A context that was made elsewhere. The client's name and the address of its server are not known.
    fn from(inner: async_nats::jetstream::Context) -> Self {
        let client = inner.client().into();
        Self::new(inner, client)
    }
}

impl From<Context> for async_nats::jetstream::Context {
    fn from(context: Context) -> Self {
        context.into_inner()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl traits::Publisher for Context {
    fn publish<S: ToSubject>(
        &self,
        subject: S,
        payload: Bytes,
    ) -> impl Future<Output = Result<PublishAckFuture, PublishError>> {
        self.publish(subject, payload)
    }

    fn publish_message(
        &self,
        message: OutboundMessage,
    ) -> impl Future<Output = Result<PublishAckFuture, PublishError>> {
        self.send_outbound(message)
    }
}

impl traits::ClientProvider for Context {
    fn client(&self) -> Client {
        self.client()
    }
}

impl traits::Requester for Context {
    fn request<S, T, V>(&self, subject: S, payload: &T) -> impl Future<Output = Result<V, RequestError>>
    where
        S: ToSubject,
        T: ?Sized + Serialize,
        V: DeserializeOwned,
    {
        self.request(subject, payload)
    }
}

impl traits::RequestSender for Context {
    fn send_request<S: ToSubject>(
        &self,
        subject: S,
        request: crate::Request,
    ) -> impl Future<Output = Result<(), crate::PublishError>> {
        self.send_request(subject, request)
    }
}

impl traits::TimeoutProvider for Context {
    fn timeout(&self) -> Duration {
        traits::TimeoutProvider::timeout(&self.inner)
    }
}

impl crate::client::traits::Publisher for Context {
    fn publish_with_reply<S: ToSubject, R: ToSubject>(
        &self,
        subject: S,
        reply: R,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), crate::PublishError>> {
        self.client.publish_with_reply(subject, reply, payload)
    }

    fn publish_message(
        &self,
        message: crate::message::OutboundMessage,
    ) -> impl Future<Output = Result<(), crate::PublishError>> {
        crate::client::traits::Publisher::publish_message(&*self.client, message)
    }
}

impl crate::client::traits::Requester for Context {
    fn send_request<S: ToSubject>(
        &self,
        subject: S,
        request: crate::Request,
    ) -> impl Future<Output = Result<crate::Message, crate::RequestError>> {
        let request = self.send_raw_request(subject, request);
        async move { request.await.map(crate::Message::from) }
    }
}

/// The client's own trait, for generic code of others.
impl async_nats::client::traits::Requester for Context {
    fn send_request<S: ToSubject>(
        &self,
        subject: S,
        request: crate::Request,
    ) -> impl Future<Output = Result<async_nats::Message, crate::RequestError>> {
        self.send_raw_request(subject, request)
    }
}

impl Context {
    /// Through the context, which knows its timeout.
    fn send_raw_request<S: ToSubject>(
        &self,
        subject: S,
        request: crate::Request,
    ) -> impl Future<Output = Result<async_nats::Message, crate::RequestError>> + use<'_, S> {
        trace_request(self.client.telemetry(), subject.to_subject(), request, |subject, request| {
            async_nats::client::traits::Requester::send_request(&self.inner, subject, request)
        })
    }
}

/// The client's own trait, for generic code of others. Its futures can carry no span: it ends at the hand-over.
impl async_nats::jetstream::context::traits::Publisher for Context {
    fn publish<S: ToSubject>(
        &self,
        subject: S,
        payload: Bytes,
    ) -> impl Future<Output = Result<async_nats::jetstream::context::PublishAckFuture, PublishError>> {
        let publish = self.publish(subject, payload);
        async move { publish.await.map(PublishAckFuture::into_inner) }
    }

    fn publish_message(
        &self,
        message: OutboundMessage,
    ) -> impl Future<Output = Result<async_nats::jetstream::context::PublishAckFuture, PublishError>> {
        let publish = self.send_outbound(message);
        async move { publish.await.map(PublishAckFuture::into_inner) }
    }
}

/// The client's own trait, for generic code of others. The client that it gives has no spans.
impl async_nats::jetstream::context::traits::ClientProvider for Context {
    fn client(&self) -> async_nats::Client {
        self.inner.client()
    }
}

/// Makes contexts: [`async_nats::jetstream::ContextBuilder`].
pub struct ContextBuilder<PREFIX: ToAssign>(async_nats::jetstream::ContextBuilder<PREFIX>);

impl Default for ContextBuilder<Yes> {
    fn default() -> Self {
        Self(async_nats::jetstream::ContextBuilder::default())
    }
}

impl ContextBuilder<Yes> {
    /// Starts from the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// See [`async_nats::jetstream::ContextBuilder::api_prefix`].
    pub fn api_prefix<T: Into<String>>(self, prefix: T) -> ContextBuilder<No> {
        ContextBuilder(self.0.api_prefix(prefix))
    }

    /// See [`async_nats::jetstream::ContextBuilder::domain`].
    pub fn domain<T: Into<String>>(self, domain: T) -> ContextBuilder<No> {
        ContextBuilder(self.0.domain(domain))
    }
}

impl<PREFIX: ToAssign> ContextBuilder<PREFIX> {
    /// See [`async_nats::jetstream::ContextBuilder::timeout`].
    pub fn timeout(self, timeout: Duration) -> ContextBuilder<Yes> {
        ContextBuilder(self.0.timeout(timeout))
    }

    /// See [`async_nats::jetstream::ContextBuilder::ack_timeout`].
    pub fn ack_timeout(self, ack_timeout: Duration) -> ContextBuilder<Yes> {
        ContextBuilder(self.0.ack_timeout(ack_timeout))
    }

    /// See [`async_nats::jetstream::ContextBuilder::max_ack_inflight`].
    pub fn max_ack_inflight(self, capacity: usize) -> ContextBuilder<Yes> {
        ContextBuilder(self.0.max_ack_inflight(capacity))
    }

    /// See [`async_nats::jetstream::ContextBuilder::backpressure_on_inflight`].
    pub fn backpressure_on_inflight(self, enabled: bool) -> ContextBuilder<Yes> {
        ContextBuilder(self.0.backpressure_on_inflight(enabled))
    }

    /// See [`async_nats::jetstream::ContextBuilder::concurrency_limit`].
    pub fn concurrency_limit(self, limit: Option<usize>) -> ContextBuilder<Yes> {
        ContextBuilder(self.0.concurrency_limit(limit))
    }

    /// The builder inside.
    pub fn get_ref(&self) -> &async_nats::jetstream::ContextBuilder<PREFIX> {
        &self.0
    }

    /// The builder inside.
    pub fn into_inner(self) -> async_nats::jetstream::ContextBuilder<PREFIX> {
        self.0
    }

    /// Makes the context.
    pub fn build(self, client: Client) -> Context {
        Context::new(self.0.build(client.get_ref().clone()), client)
    }
}

impl<PREFIX: ToAssign> From<async_nats::jetstream::ContextBuilder<PREFIX>> for ContextBuilder<PREFIX> {
    fn from(inner: async_nats::jetstream::ContextBuilder<PREFIX>) -> Self {
        Self(inner)
    }
}

impl<PREFIX: ToAssign> fmt::Debug for ContextBuilder<PREFIX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextBuilder").finish_non_exhaustive()
    }
}
