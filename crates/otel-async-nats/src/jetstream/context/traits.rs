//! Traits of the context, for generic code. Those that name a type of this crate are its own; it implements async-nats' as well.

use std::{future::Future, time::Duration};

use async_nats::{
    ToSubject,
    jetstream::{
        context::{PublishError, RequestError},
        message::OutboundMessage,
    },
};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{Context, PublishAckFuture};

pub use async_nats::jetstream::context::traits::*;

/// Publishes to streams.
pub trait Publisher {
    /// As [`Context::publish`](super::Context::publish).
    fn publish<S>(&self, subject: S, payload: Bytes) -> impl Future<Output = Result<PublishAckFuture, PublishError>>
    where
        S: ToSubject;

    /// As [`Context::send_publish`](super::Context::send_publish).
    fn publish_message(&self, message: OutboundMessage)
    -> impl Future<Output = Result<PublishAckFuture, PublishError>>;
}

/// Gives its client.
pub trait ClientProvider {
    /// The client.
    fn client(&self) -> crate::Client;
}

impl Publisher for Context {
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

impl ClientProvider for Context {
    fn client(&self) -> crate::Client {
        self.client()
    }
}

impl Requester for Context {
    fn request<S, T, V>(&self, subject: S, payload: &T) -> impl Future<Output = Result<V, RequestError>>
    where
        S: ToSubject,
        T: ?Sized + Serialize,
        V: DeserializeOwned,
    {
        self.request(subject, payload)
    }
}

impl RequestSender for Context {
    fn send_request<S: ToSubject>(
        &self,
        subject: S,
        request: crate::Request,
    ) -> impl Future<Output = Result<(), crate::PublishError>> {
        self.send_request(subject, request)
    }
}

impl TimeoutProvider for Context {
    fn timeout(&self) -> Duration {
        TimeoutProvider::timeout(self.get_ref())
    }
}

impl crate::client::traits::Publisher for Context {
    fn publish_with_reply<S: ToSubject, R: ToSubject>(
        &self,
        subject: S,
        reply: R,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), crate::PublishError>> {
        self.traced_client().publish_with_reply(subject, reply, payload)
    }

    fn publish_message(
        &self,
        message: crate::message::OutboundMessage,
    ) -> impl Future<Output = Result<(), crate::PublishError>> {
        crate::client::traits::Publisher::publish_message(&**self.traced_client(), message)
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

/// The client's own trait, for generic code of other crates.
impl async_nats::client::traits::Requester for Context {
    fn send_request<S: ToSubject>(
        &self,
        subject: S,
        request: crate::Request,
    ) -> impl Future<Output = Result<async_nats::Message, crate::RequestError>> {
        self.send_raw_request(subject, request)
    }
}

/// The client's own trait, for generic code of other crates. Its futures cannot carry a span: the span ends when the client has
/// taken the message over, and says that the outcome is unknown.
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

/// The client's own trait, for generic code of other crates. Its client has no spans.
impl async_nats::jetstream::context::traits::ClientProvider for Context {
    fn client(&self) -> async_nats::Client {
        self.get_ref().client()
    }
}
