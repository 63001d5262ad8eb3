//! Requests of services, and their answers.

use std::{future::Future, sync::Arc};

use async_nats::{
    HeaderMap, PublishError, Subject,
    service::{NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE, error},
};
use bytes::Bytes;
use opentelemetry::{Context, trace::TraceContextExt};
use otel_messaging::{
    MessageExt, ReceivedMessage,
    adapter::{ProcessSpan, opaque_debug},
};

use crate::{
    Client, Message,
    error::service_error_type,
    send::{MessageLength, PublishSpan, SendStart},
    telemetry::RESPOND,
};

/// A request to be answered: [`async_nats::service::Request`] with its process span, which is in
/// [`message`](Self::message).
///
/// Answering makes a span `respond`, which is a child of the current span, or of the process span where no span is current. A
/// context is written only into an answer that has headers: callers do not read a context from an answer without headers.
pub struct Request {
    /// The request itself. Its answer goes to the reply subject that it came with.
    pub message: Message,
    inner: async_nats::service::Request,
    client: Arc<Client>,
}

impl Request {
    pub(super) fn new(
        mut inner: async_nats::service::Request,
        client: Arc<Client>,
        wrap: impl FnOnce(async_nats::Message) -> Message,
    ) -> Self {
        // The client answers to the reply subject of its own message, and reads nothing else of it.
        let kept = async_nats::Message {
            subject: Subject::from_static(""),
            reply: inner.message.reply.clone(),
            payload: Bytes::new(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        let message = wrap(std::mem::replace(&mut inner.message, kept));
        Self { message, inner, client }
    }

    /// The request inside, with its message. The process span ends, unless another part of the request still exists.
    pub fn into_inner(self) -> async_nats::service::Request {
        let Self { message, mut inner, client: _ } = self;
        inner.message = message.into();
        inner
    }

    /// Answers the request. An answer that is an error is the error of the request's process span, unless the handler returns
    /// one of its own; `error.type` is its code if that has one to five digits, else `_OTHER`. The span `respond` says whether
    /// the answer was sent.
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn respond(&self, response: Result<Bytes, error::Error>) -> impl Future<Output = Result<(), PublishError>> {
        self.respond_with_headers(response, HeaderMap::new())
    }

    /// Answers the request, with headers. A context is written into them, unless they are empty.
    ///
    /// # Errors
    ///
    /// The client's.
    pub fn respond_with_headers(
        &self,
        response: Result<Bytes, error::Error>,
        headers: HeaderMap,
    ) -> impl Future<Output = Result<(), PublishError>> {
        let start = self.start_send();
        async move {
            if let (Err(error), Some(process)) = (&response, self.process_span()) {
                process.answered_with_error(service_error_type(&error.code.to_string()), &error.status);
            }
            let Some(start) = start else { return self.inner.respond_with_headers(response, headers).await };
            let reply = self.inner.message.reply.as_deref();
            let telemetry = self.client.telemetry();
            let mut headers = Some(headers).filter(|headers| !headers.is_empty());
            let span = if headers.is_some() {
                start.span_with_context(telemetry, RESPOND, reply, &mut headers, length(&response))
            } else {
                start.span_without_context(telemetry, RESPOND, reply, None, length(&response).body)
            };
            let result = self.inner.respond_with_headers(response, headers.unwrap_or_default()).await;
            PublishSpan::end(Some(PublishSpan::Send(span)), &result);
            result
        }
    }

    /// An answer has its request's process span as its parent if no span is current.
    fn start_send(&self) -> Option<SendStart> {
        let telemetry = self.client.telemetry();
        let start = telemetry.start_on_message()?;
        if Context::current().has_active_span() {
            return Some(SendStart::answer(start));
        }
        let _attached = self.message.otel_context().attach();
        telemetry.start_on_message().map(SendStart::answer)
    }
}

/// The length of the answer, and of the headers that the client adds to an error.
fn length(response: &Result<Bytes, error::Error>) -> MessageLength {
    match response {
        Ok(payload) => payload.len().into(),
        Err(error) => {
            // The longest code, and the bytes around names and values.
            const REST: usize = 20 + 8;
            let added = NATS_SERVICE_ERROR.len() + NATS_SERVICE_ERROR_CODE.len() + error.status.len() + REST;
            MessageLength { body: 0, added }
        }
    }
}

impl ReceivedMessage for Request {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        self.message.process_span()
    }
}

opaque_debug! { [] Request, "Request", |request| message: request.message }
