//! The JetStream context: publishing, and the way to streams and consumers.

mod builder;
mod streams;
pub mod traits;

use std::{future::Future, sync::Arc};

use async_nats::{
    HeaderMap, ToSubject,
    jetstream::message::{OutboundMessage, PublishMessage},
};
use bytes::Bytes;
use otel_messaging::{Instrumentation, adapter::wrapper};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Client,
    send::{PublishSpan, SendStart, trace_request},
};

pub use crate::{jetstream::context::builder::ContextBuilder, send::PublishAckFuture};
pub use async_nats::jetstream::context::*;

/// A JetStream context: [`async_nats::jetstream::Context`] with spans.
///
/// All other methods are the client's, through `Deref`: the JetStream API, key-value and object stores have no spans.
#[derive(Clone)]
pub struct Context {
    inner: async_nats::jetstream::Context,
    client: Arc<Client>,
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

    pub(super) fn send_outbound(
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

    /// Sends through the raw context, which has its own timeout.
    pub(super) fn send_raw_request<S: ToSubject>(
        &self,
        subject: S,
        request: crate::Request,
    ) -> impl Future<Output = Result<async_nats::Message, crate::RequestError>> + use<'_, S> {
        trace_request(self.client.telemetry(), subject.to_subject(), request, |subject, request| {
            async_nats::client::traits::Requester::send_request(&self.inner, subject, request)
        })
    }
}

wrapper! {
    [] Context => async_nats::jetstream::Context, inner:
    /// The context inside.
    get_ref
    /// The context inside, without spans.
    into_inner
    into deref deref_mut debug
}

impl From<async_nats::jetstream::Context> for Context {
    /// A context that was made elsewhere. The client's name and the address of its server are not known.
    fn from(inner: async_nats::jetstream::Context) -> Self {
        let client = inner.client().into();
        Self::new(inner, client)
    }
}
