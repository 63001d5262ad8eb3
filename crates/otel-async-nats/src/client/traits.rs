//! Traits of the client, for generic code. Those that name a type of this crate are its own; it implements async-nats' as well.

use std::{future::Future, time::Duration};

use async_nats::{PublishError, Request, RequestError, SubscribeError, message::OutboundMessage, subject::ToSubject};
use bytes::Bytes;

use crate::{Client, Message};

pub use async_nats::client::traits::*;

/// Subscribes to subjects.
pub trait Subscriber {
    /// As [`Client::subscribe`](super::Client::subscribe).
    fn subscribe<S>(&self, subject: S) -> impl Future<Output = Result<crate::Subscriber, SubscribeError>>
    where
        S: ToSubject;
}

/// Sends requests and waits for their replies.
pub trait Requester {
    /// As [`Client::send_request`](super::Client::send_request).
    fn send_request<S>(&self, subject: S, request: Request) -> impl Future<Output = Result<Message, RequestError>>
    where
        S: ToSubject;
}

impl Subscriber for Client {
    fn subscribe<S: ToSubject>(&self, subject: S) -> impl Future<Output = Result<crate::Subscriber, SubscribeError>> {
        self.subscribe(subject)
    }
}

impl Requester for Client {
    fn send_request<S: ToSubject>(
        &self,
        subject: S,
        request: Request,
    ) -> impl Future<Output = Result<Message, RequestError>> {
        self.send_request(subject, request)
    }
}

impl Publisher for Client {
    fn publish_with_reply<S: ToSubject, R: ToSubject>(
        &self,
        subject: S,
        reply: R,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), PublishError>> {
        self.publish_with_reply(subject, reply, payload)
    }

    fn publish_message(&self, message: OutboundMessage) -> impl Future<Output = Result<(), PublishError>> {
        self.publish_outbound(message)
    }
}

impl TimeoutProvider for Client {
    fn timeout(&self) -> Option<Duration> {
        self.timeout()
    }
}

/// The client's own trait, for generic code of other crates. Its messages have no process spans.
impl async_nats::client::traits::Subscriber for Client {
    fn subscribe<S: ToSubject>(
        &self,
        subject: S,
    ) -> impl Future<Output = Result<async_nats::Subscriber, SubscribeError>> {
        self.get_ref().subscribe(subject)
    }
}

/// The client's own trait, for generic code of other crates.
impl async_nats::client::traits::Requester for Client {
    fn send_request<S: ToSubject>(
        &self,
        subject: S,
        request: Request,
    ) -> impl Future<Output = Result<async_nats::Message, RequestError>> {
        self.send_raw_request(subject.to_subject(), request)
    }
}
