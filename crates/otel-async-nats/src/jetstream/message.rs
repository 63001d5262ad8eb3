//! JetStream messages and their acknowledgement.

use std::{any::Any, future::Future, io, mem, ops::Deref, sync::Arc};

use async_nats::{Error, Subject};
use bytes::Bytes;
use otel_messaging::{
    ReceivedMessage,
    adapter::{AtStreamError, ProcessSpan, opaque_debug, wrapper},
};

use crate::{
    Client,
    error::stream_error_type,
    history,
    jetstream::context::Context,
    message::allow_untracked_settlement,
    receive::MessageTelemetry,
    settle::{Answer, acknowledge},
};

pub use async_nats::jetstream::message::*;

/// A JetStream message: [`async_nats::jetstream::Message`] with its process span, which is in
/// [`message`](Self::message).
///
/// Acknowledging makes a span, `ack {subject}`, `nak {subject}` or `term {subject}`, child of the process span, which
/// records the outcome and does not end with it. [`AckKind::Progress`] settles nothing and makes none.
#[derive(Clone, Debug)]
pub struct Message {
    /// The message itself.
    pub message: crate::Message,
    /// The context that it is acknowledged through.
    pub context: Context,
}

impl Message {
    /// Takes the message apart. Both parts carry the process span, which ends with the last of them.
    pub fn split(mut self) -> (crate::Message, Acker) {
        let reply = mem::take(&mut self.message.reply);
        let mut acker = Acker::new(self.context, reply);
        acker.subject = Some(self.message.subject.clone());
        acker.telemetry = self.message.telemetry().cloned();
        (self.message, acker)
    }

    /// Acknowledges the message. The span `ack {subject}` ends when the client has taken the acknowledgement over.
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn ack(&self) -> impl Future<Output = Result<(), Error>> {
        self.settle(Bytes::new(), self.publish_acknowledgement(Bytes::new()), Answer::None)
    }

    /// Acknowledges in this way. The span is `ack`, `nak` or `term {subject}`; there is none for
    /// [`AckKind::Progress`].
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn ack_with(&self, kind: AckKind) -> impl Future<Output = Result<(), Error>> {
        let payload = Bytes::from(kind);
        self.settle(payload.clone(), self.publish_acknowledgement(payload), Answer::None)
    }

    /// Acknowledges and waits for the server's answer, with which the span ends.
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn double_ack(&self) -> impl Future<Output = Result<(), Error>> {
        self.double_ack_with(AckKind::Ack)
    }

    /// As [`double_ack`](Self::double_ack), in this way.
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn double_ack_with(&self, ack_kind: AckKind) -> impl Future<Output = Result<(), Error>> {
        let acknowledge = async move {
            // The client's own `double_ack_with` needs a context by value.
            let context = self.context.get_ref().clone();
            async_nats::jetstream::message::Acker::new(context, self.reply.clone()).double_ack_with(ack_kind).await
        };
        self.settle(ack_kind.into(), acknowledge, Answer::Awaited)
    }

    /// The information about this delivery in the reply subject.
    ///
    /// # Errors
    ///
    /// The client's, for a message that is not JetStream's.
    pub fn info(&self) -> Result<Info<'_>, Error> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "did not found reply subject");
        history::parse(self.reply.as_ref().ok_or_else(missing)?)
    }

    /// Publishes through the raw context, which has the connection of the message, since this is no publish of the user's.
    async fn publish_acknowledgement(&self, payload: Bytes) -> Result<(), Error> {
        let Some(reply) = &self.reply else {
            return Err(io::Error::other("No reply subject, not a JetStream message").into());
        };
        let (subject, context) = (reply.clone(), self.context.get_ref());
        let answer = async_nats::message::OutboundMessage { subject, payload, reply: None, headers: None };
        Ok(async_nats::client::traits::Publisher::publish_message(context, answer).await?)
    }

    fn settle(
        &self,
        payload: Bytes,
        send: impl Future<Output = Result<(), Error>>,
        answer: Answer,
    ) -> impl Future<Output = Result<(), Error>> {
        let (telemetry, subject) = (self.message.telemetry(), Some(&self.message.subject));
        acknowledge(
            self.context.traced_client().telemetry(),
            payload,
            self.reply.as_ref(),
            (telemetry, subject),
            send,
            answer,
        )
    }
}

impl ReceivedMessage for Message {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        self.message.process_span()
    }

    /// After an error the client asks the server again where it can, and ends its stream where it cannot.
    fn at_stream_error(error: &dyn Any) -> AtStreamError {
        stream_error_type(error).map_or(AtStreamError::End, AtStreamError::GoOnUnlessLast)
    }
}

impl Deref for Message {
    type Target = crate::Message;

    fn deref(&self) -> &Self::Target {
        &self.message
    }
}

impl From<async_nats::jetstream::Message> for Message {
    /// Without a process span. [`IncomingJetStream`](crate::otel::IncomingJetStream) gives it one.
    fn from(async_nats::jetstream::Message { message, context }: async_nats::jetstream::Message) -> Self {
        Self { message: message.into(), context: context.into() }
    }
}

impl From<Message> for crate::Message {
    fn from(source: Message) -> Self {
        source.message
    }
}

impl From<Message> for async_nats::jetstream::Message {
    /// The message alone. Its process span ends, unless another part of the message still exists. Its settlement is not recorded.
    fn from(Message { message, context }: Message) -> Self {
        Self { message: message.into(), context: context.into_inner() }
    }
}

impl TryFrom<crate::Message> for StreamMessage {
    type Error = StreamMessageError;

    fn try_from(message: crate::Message) -> Result<Self, Self::Error> {
        async_nats::Message::from(message).try_into()
    }
}

/// The part of a message that acknowledges it: [`async_nats::jetstream::message::Acker`] with the message's process span.
pub struct Acker {
    inner: async_nats::jetstream::message::Acker,
    client: Arc<Client>,
    reply: Option<Subject>,
    subject: Option<Subject>,
    telemetry: Option<MessageTelemetry>,
}

impl Acker {
    /// Acknowledges by this reply subject. Its message is found if it is not settled yet, and among the last 4,096 of its
    /// connection.
    pub fn new(context: Context, reply: Option<Subject>) -> Self {
        let (context, client) = context.into_parts();
        let inner = async_nats::jetstream::message::Acker::new(context, reply.clone());
        Self { inner, client, reply, subject: None, telemetry: None }
    }

    /// The acker inside, which makes no spans. The process span ends, unless another part of the message still exists. Its
    /// settlement is not recorded.
    pub fn into_inner(self) -> async_nats::jetstream::message::Acker {
        allow_untracked_settlement(self.telemetry.as_ref());
        self.inner
    }

    /// As [`Message::ack`].
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn ack(&self) -> impl Future<Output = Result<(), Error>> {
        self.settle(AckKind::Ack, self.inner.ack(), Answer::None)
    }

    /// As [`Message::ack_with`].
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn ack_with(&self, kind: AckKind) -> impl Future<Output = Result<(), Error>> {
        self.settle(kind, self.inner.ack_with(kind), Answer::None)
    }

    /// As [`Message::double_ack`].
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn double_ack(&self) -> impl Future<Output = Result<(), Error>> {
        self.double_ack_with(AckKind::Ack)
    }

    /// As [`Message::double_ack_with`].
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn double_ack_with(&self, ack_kind: AckKind) -> impl Future<Output = Result<(), Error>> {
        self.settle(ack_kind, self.inner.double_ack_with(ack_kind), Answer::Awaited)
    }

    fn settle(
        &self,
        kind: AckKind,
        send: impl Future<Output = Result<(), Error>>,
        answer: Answer,
    ) -> impl Future<Output = Result<(), Error>> {
        let message = (self.telemetry.as_ref(), self.subject.as_ref());
        acknowledge(self.client.telemetry(), kind.into(), self.reply.as_ref(), message, send, answer)
    }
}

wrapper! {
    [] Acker => async_nats::jetstream::message::Acker, inner:
    /// The acker inside.
    get_ref
}

opaque_debug! { [] Acker, "Acker", |acker| subject: acker.subject }
