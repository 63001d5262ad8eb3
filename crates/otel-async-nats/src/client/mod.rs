//! The client.

pub mod traits;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Sink;
use otel_messaging::{Instrumentation, adapter::wrapper};

use crate::{
    Message, Subscriber,
    headers::HeaderCase,
    message::OutboundMessage,
    receive::Source,
    send::{PublishSpan, SendStart, trace_request},
    subject::{Subject, ToSubject},
    telemetry::{ClientTelemetry, ConnectInfo},
};

pub use async_nats::client::*;

/// A NATS client: [`async_nats::Client`] with spans.
///
/// Cheap to clone. All other methods are the client's, through `Deref`.
#[derive(Clone)]
pub struct Client {
    inner: async_nats::Client,
    telemetry: Arc<ClientTelemetry>,
}

impl Client {
    pub(crate) fn new(inner: async_nats::Client, info: ConnectInfo) -> Self {
        let telemetry = Arc::new(ClientTelemetry::new(&inner, info));
        Self { inner, telemetry }
    }

    pub(crate) fn telemetry(&self) -> &Arc<ClientTelemetry> {
        &self.telemetry
    }

    /// Reports to this instrumentation from now on, as do the subscriptions, contexts and clones made of this value.
    #[must_use]
    pub fn with_instrumentation(self, instrumentation: Instrumentation) -> Self {
        Self { telemetry: Arc::new(self.telemetry.with_instrumentation(instrumentation)), ..self }
    }

    /// Writes the names of context headers in this case from now on. Default: [`HeaderCase::Lower`].
    #[must_use]
    pub fn with_header_case(self, header_case: HeaderCase) -> Self {
        Self { telemetry: Arc::new(self.telemetry.with_header_case(header_case)), ..self }
    }

    /// From now on, leaves the context out of a message that would exceed this number of bytes with it, headers and body
    /// together. Default: the only limit is the server's `max_payload`.
    ///
    /// For limits that the client does not know: the `max_message_size` of a stream, or a payload limit of the account or the
    /// user. A message just below such a limit would be refused because of its context. This setting refuses nothing: a longer
    /// message is sent without a context. Where less than 28 KiB are left, each context is measured before it is written.
    #[must_use]
    pub fn with_message_limit(self, bytes: usize) -> Self {
        Self { telemetry: Arc::new(self.telemetry.with_message_limit(bytes)), ..self }
    }

    /// Publishes a message. The span `publish {subject}` ends when the client has taken the message over: the server sends
    /// no answer.
    ///
    /// # Errors
    ///
    /// The client's.
    ///
    /// # Cancel safety
    ///
    /// As the client's: dropped before it is done, the message may or may not be sent, and the span says that the outcome
    /// is unknown.
    pub fn publish<S: ToSubject>(
        &self,
        subject: S,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), PublishError>> + use<'_, S> {
        self.publish_outbound(OutboundMessage { subject: subject.to_subject(), reply: None, payload, headers: None })
    }

    /// As [`publish`](Self::publish), with headers. A context that they already carry is linked.
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn publish_with_headers<S: ToSubject>(
        &self,
        subject: S,
        headers: crate::HeaderMap,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), PublishError>> + use<'_, S> {
        let headers = Some(headers);
        self.publish_outbound(OutboundMessage { subject: subject.to_subject(), reply: None, payload, headers })
    }

    /// As [`publish`](Self::publish), with a subject for replies; it does not wait for a reply.
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn publish_with_reply<S: ToSubject, R: ToSubject>(
        &self,
        subject: S,
        reply: R,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), PublishError>> + use<'_, S, R> {
        let message = OutboundMessage { subject: subject.to_subject(), reply: None, payload, headers: None };
        self.publish_for_reply(message, reply.to_subject())
    }

    /// As [`publish_with_reply`](Self::publish_with_reply), with headers.
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn publish_with_reply_and_headers<S: ToSubject, R: ToSubject>(
        &self,
        subject: S,
        reply: R,
        headers: crate::HeaderMap,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), PublishError>> + use<'_, S, R> {
        let message = OutboundMessage { subject: subject.to_subject(), reply: None, payload, headers: Some(headers) };
        self.publish_for_reply(message, reply.to_subject())
    }

    pub(super) fn publish_outbound(
        &self,
        mut message: OutboundMessage,
    ) -> impl Future<Output = Result<(), PublishError>> {
        let start = SendStart::new(&self.telemetry, &message.subject);
        async move {
            let span =
                PublishSpan::start(&self.telemetry, start, &message.subject, &mut message.headers, &message.payload);
            let result = async_nats::client::traits::Publisher::publish_message(&self.inner, message).await;
            PublishSpan::end(span, &result);
            result
        }
    }

    /// Not by [`publish_outbound`](Self::publish_outbound), where the client does not check the reply subject.
    fn publish_for_reply(
        &self,
        message: OutboundMessage,
        reply: Subject,
    ) -> impl Future<Output = Result<(), PublishError>> {
        let start = SendStart::new(&self.telemetry, &message.subject);
        async move {
            let OutboundMessage { subject, payload, mut headers, .. } = message;
            let span = PublishSpan::start(&self.telemetry, start, &subject, &mut headers, &payload);
            let result = match headers {
                None => self.inner.publish_with_reply(subject, reply, payload).await,
                Some(headers) => self.inner.publish_with_reply_and_headers(subject, reply, headers, payload).await,
            };
            PublishSpan::end(span, &result);
            result
        }
    }

    /// Sends a request and waits for its reply: see [`send_request`](Self::send_request).
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn request<S: ToSubject>(
        &self,
        subject: S,
        payload: Bytes,
    ) -> impl Future<Output = Result<Message, RequestError>> + use<'_, S> {
        self.send_request(subject, Request::new().payload(payload))
    }

    /// As [`request`](Self::request), with headers.
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn request_with_headers<S: ToSubject>(
        &self,
        subject: S,
        headers: crate::HeaderMap,
        payload: Bytes,
    ) -> impl Future<Output = Result<Message, RequestError>> + use<'_, S> {
        self.send_request(subject, Request::new().headers(headers).payload(payload))
    }

    /// Sends a request and waits for its reply. The span `request {subject}` ends with the reply; no reply in time and no
    /// responders are failures. So is the error reply of a service, though the caller gets it as `Ok`: `error.type` is the
    /// service's code, if it has one to five digits, else `_OTHER`. A context in the reply is linked and changes no parent.
    ///
    /// # Errors
    ///
    /// The client's.
    ///
    /// # Cancel safety
    ///
    /// As the client's: dropped before it is done, the request may have been sent, and the span says that the outcome is
    /// unknown.
    pub fn send_request<S: ToSubject>(
        &self,
        subject: S,
        request: Request,
    ) -> impl Future<Output = Result<Message, RequestError>> + use<'_, S> {
        let request = self.send_raw_request(subject.to_subject(), request);
        async move { request.await.map(Message::from) }
    }

    pub(super) fn send_raw_request(
        &self,
        subject: Subject,
        request: Request,
    ) -> impl Future<Output = Result<async_nats::Message, RequestError>> {
        trace_request(&self.telemetry, subject, request, |subject, request| self.inner.send_request(subject, request))
    }

    /// Subscribes to a subject. Each message has a process span, `process {subject}`; with wildcards, the subscribed
    /// subject is the template.
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn subscribe<S: ToSubject>(&self, subject: S) -> Result<Subscriber, SubscribeError> {
        let subject = subject.to_subject();
        let source = Source::subscription(&self.telemetry, &subject, None);
        Ok(Subscriber::new(self.inner.subscribe(subject).await?, source))
    }

    /// Subscribes to a subject in a queue group, which is `messaging.consumer.group.name` on the process spans.
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn queue_subscribe<S: ToSubject>(
        &self,
        subject: S,
        queue_group: String,
    ) -> Result<Subscriber, SubscribeError> {
        let subject = subject.to_subject();
        let source = Source::subscription(&self.telemetry, &subject, Some(&queue_group));
        Ok(Subscriber::new(self.inner.queue_subscribe(subject, queue_group).await?, source))
    }

    /// As the client's: [`async_nats::Client::flush`].
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn flush(&self) -> Result<(), FlushError> {
        self.inner.flush().await
    }

    /// As the client's: [`async_nats::Client::timeout`].
    pub fn timeout(&self) -> Option<Duration> {
        self.inner.timeout()
    }

    /// As the client's: [`async_nats::Client::set_server_pool`]. From then on
    /// the server of an operation is uncertain, and left out.
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn set_server_pool<A: crate::ToServerAddrs>(&self, addrs: A) -> Result<(), SetServerPoolError> {
        self.telemetry.server.servers_changed();
        self.inner.set_server_pool(addrs).await
    }
}

wrapper! {
    [] Client => async_nats::Client, inner:
    /// The client inside.
    get_ref
    /// The client inside, without spans.
    into_inner
    into deref deref_mut as_ref debug
}

impl From<async_nats::Client> for Client {
    /// A client that was connected elsewhere. Its name and the address of its server are not known.
    fn from(inner: async_nats::Client) -> Self {
        Self::new(inner, ConnectInfo::default())
    }
}

/// A span `publish {subject}` for each message, which ends when the client has taken it over.
impl Sink<OutboundMessage> for Client {
    type Error = PublishError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.inner).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, mut message: OutboundMessage) -> Result<(), Self::Error> {
        let start = SendStart::new(&self.telemetry, &message.subject);
        let span = PublishSpan::start(&self.telemetry, start, &message.subject, &mut message.headers, &message.payload);
        let result = Pin::new(&mut self.inner).start_send(message);
        PublishSpan::end(span, &result);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
