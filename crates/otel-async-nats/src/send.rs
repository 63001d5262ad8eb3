//! The span of a send: from the call of a publish, request or answer to the answer of the client or the server.

use std::{fmt, future::Future};

use async_nats::{HeaderMap, Request, RequestError, Subject};
use bytes::Bytes;
use otel_messaging::adapter::{ClientSpan, OperationName, OperationStart};

use crate::{
    error::{ErrorType, service_error},
    headers::{HeaderExtractor, HeaderInjector, wire_length},
    settle::{Answer, SettlementInFlight},
    subjects::{is_acknowledgement, is_api},
    telemetry::{ClientTelemetry, PUBLISH, REQUEST, message_id},
};

/// The most bytes of headers that a stream accepts.
const MAX_HEADERS: usize = 65_535;

/// The length of a message without its headers, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageLength {
    pub(crate) body: usize,
    /// Headers that the client adds by itself.
    pub(crate) added: usize,
}

impl From<usize> for MessageLength {
    fn from(body: usize) -> Self {
        Self { body, added: 0 }
    }
}

/// The start of a send, and whether it answers the message that is being processed.
#[derive(Debug)]
pub(crate) struct SendStart {
    start: OperationStart,
    answers: bool,
}

impl SendStart {
    /// `None` where telemetry is off, and for a subject of JetStream's API, which has no spans.
    #[inline]
    pub(crate) fn new(telemetry: &ClientTelemetry, subject: &str) -> Option<Self> {
        let start = telemetry.start_on_message().filter(|_| !is_api(subject))?;
        Some(Self { answers: start.answers(subject), start })
    }

    /// The start of an answer.
    #[cfg(feature = "service")]
    pub(crate) fn answer(start: OperationStart) -> Self {
        Self { start, answers: true }
    }

    /// Starts the span, and writes its context into the headers if the server accepts headers.
    #[inline]
    pub(crate) fn span_with_context(
        self,
        telemetry: &ClientTelemetry,
        name: OperationName,
        subject: Option<&str>,
        headers: &mut Option<HeaderMap>,
        length: impl Into<MessageLength>,
    ) -> ClientSpan {
        let length = length.into();
        if !telemetry.server.accepts_headers() {
            return self.span_without_context(telemetry, name, subject, headers.as_ref(), length.body);
        }
        let operation = telemetry.send_operation(name, subject, self.answers);
        let id = message_id(headers.as_ref());
        let budget = header_budget(telemetry, length, headers.as_ref().map_or(0, wire_length));
        let mut carrier = headers.take().unwrap_or_default();
        let mut injector = HeaderInjector::new(&mut carrier).case(telemetry.header_case).budget(budget);
        let span = telemetry.core.send(self.start, &operation, Some(&mut injector), |message| {
            telemetry.set_message(message, id, Some(length.body));
        });
        // The client treats an empty map as no headers.
        *headers = Some(carrier).filter(|carrier| !carrier.is_empty());
        span
    }

    /// Starts the span, and leaves the message as it is.
    pub(crate) fn span_without_context(
        self,
        telemetry: &ClientTelemetry,
        name: OperationName,
        subject: Option<&str>,
        headers: Option<&HeaderMap>,
        body: usize,
    ) -> ClientSpan {
        let operation = telemetry.send_operation(name, subject, self.answers);
        telemetry.core.send(self.start, &operation, None, |message| {
            telemetry.set_message(message, message_id(headers), Some(body));
        })
    }
}

/// The number of bytes of headers that can be added to a message of this length, which has `headers` bytes of headers.
#[inline]
fn header_budget(telemetry: &ClientTelemetry, length: MessageLength, headers: usize) -> usize {
    let limit = telemetry.server.max_payload().min(telemetry.message_limit.unwrap_or(usize::MAX));
    limit.saturating_sub(length.body + length.added).min(MAX_HEADERS).saturating_sub(headers)
}

/// The span of a publish, which is a send, or the settlement of a message.
pub(crate) enum PublishSpan {
    Send(ClientSpan),
    Settlement(Box<SettlementInFlight>),
}

impl PublishSpan {
    #[inline]
    pub(crate) fn start(
        telemetry: &ClientTelemetry,
        start: Option<SendStart>,
        subject: &Subject,
        headers: &mut Option<HeaderMap>,
        payload: &[u8],
    ) -> Option<Self> {
        if is_acknowledgement(subject) {
            let start = start.map(|send| send.start);
            let settlement = SettlementInFlight::published(telemetry, start, subject, payload, Answer::None)?;
            return Some(Self::Settlement(Box::new(settlement)));
        }
        Some(Self::Send(start?.span_with_context(telemetry, PUBLISH, Some(subject), headers, payload.len())))
    }

    /// Ends the span of a publish whose result is all that is reported of it.
    #[inline]
    pub(crate) fn end<T, E: ErrorType + fmt::Display>(this: Option<Self>, result: &Result<T, E>) {
        match (this, result) {
            (None, _) => (),
            (Some(Self::Settlement(settlement)), _) => settlement.end(result),
            (Some(Self::Send(span)), _) => span.report(result, E::error_type),
        }
    }
}

/// Sends a request by `send`, with a span that ends with the reply.
pub(crate) fn trace_request<F>(
    telemetry: &ClientTelemetry,
    subject: Subject,
    mut request: Request,
    send: impl FnOnce(Subject, Request) -> F,
) -> impl Future<Output = Result<async_nats::Message, RequestError>>
where
    F: Future<Output = Result<async_nats::Message, RequestError>>,
{
    let start = SendStart::new(telemetry, &subject);
    async move {
        if is_acknowledgement(&subject) {
            let payload = request.payload.as_deref().unwrap_or_default();
            let start = start.map(|send| send.start);
            let settlement = SettlementInFlight::published(telemetry, start, &subject, payload, Answer::Awaited);
            let result = send(subject, request).await;
            if let Some(settlement) = settlement {
                settlement.end(&result);
            }
            return result;
        }
        let Some(start) = start else { return send(subject, request).await };
        let payload = request.payload.as_ref().map_or(0, Bytes::len);
        let headers = &mut request.headers;
        let mut span = start.span_with_context(telemetry, REQUEST, Some(&subject), headers, payload);
        let result = send(subject, request).await;
        match &result {
            Ok(reply) => {
                let headers = reply.headers.as_ref().map(HeaderExtractor::new);
                telemetry.core.link_reply(&mut span, headers.as_ref().map(|headers| headers as _), &reply.payload);
                match reply.headers.as_ref().and_then(service_error) {
                    Some((error_type, text)) => span.fail(error_type, text),
                    None => span.succeed(),
                }
            }
            Err(error) => span.fail(error.error_type(), error),
        }
        result
    }
}

#[cfg(feature = "jetstream")]
pub use acknowledged::PublishAckFuture;

#[cfg(feature = "jetstream")]
mod acknowledged {
    use std::{
        future::{Future, IntoFuture},
        pin::Pin,
    };

    use async_nats::jetstream::{
        context::{self, PublishError},
        publish::PublishAck,
    };
    use otel_messaging::{
        adapter::{ClientSpan, opaque_debug},
        semconv::extension,
    };

    use super::PublishSpan;
    use crate::error::ErrorType;

    /// A pending acknowledgement: [`async_nats::jetstream::context::PublishAckFuture`] with the span of its publish, which ends
    /// when this resolves.
    ///
    /// If it is dropped, the client waits for the acknowledgement in the background; the span ends at once and says that the
    /// outcome is unknown.
    pub struct PublishAckFuture {
        inner: context::PublishAckFuture,
        span: Option<ClientSpan>,
    }

    impl PublishAckFuture {
        /// The acknowledgement of a publish that the client accepted. The span of a publish that failed ends now.
        pub(crate) fn new(
            span: Option<PublishSpan>,
            result: Result<context::PublishAckFuture, PublishError>,
        ) -> Result<Self, PublishError> {
            let Some(PublishSpan::Send(span)) = span else {
                // The future does not read what the server answers to an acknowledgement, so the settlement ends now.
                PublishSpan::end(span, &result);
                return result.map(Self::from);
            };
            match result {
                Ok(inner) => Ok(Self { inner, span: Some(span) }),
                Err(error) => {
                    span.fail(error.error_type(), &error);
                    Err(error)
                }
            }
        }

        /// The pending acknowledgement.
        pub fn get_ref(&self) -> &context::PublishAckFuture {
            &self.inner
        }

        /// The pending acknowledgement. The span ends now, and says that the outcome is unknown.
        pub fn into_inner(self) -> context::PublishAckFuture {
            if let Some(span) = self.span {
                span.outcome_unknown();
            }
            self.inner
        }
    }

    impl From<context::PublishAckFuture> for PublishAckFuture {
        /// Without a span.
        fn from(inner: context::PublishAckFuture) -> Self {
            Self { inner, span: None }
        }
    }

    impl IntoFuture for PublishAckFuture {
        type Output = Result<PublishAck, PublishError>;
        type IntoFuture = Pin<Box<dyn Future<Output = Result<PublishAck, PublishError>> + Send>>;

        fn into_future(self) -> Self::IntoFuture {
            let Self { inner, span } = self;
            let acknowledged = inner.into_future();
            let Some(mut span) = span else { return acknowledged };
            Box::pin(async move {
                let result = acknowledged.await;
                if let (Ok(ack), true) = (&result, span.is_recording()) {
                    span.set(extension::NATS_STREAM_NAME, ack.stream.clone());
                    if let Ok(sequence) = i64::try_from(ack.sequence) {
                        span.set(extension::NATS_MESSAGE_STREAM_SEQUENCE, sequence);
                    }
                    if ack.duplicate {
                        span.set(extension::NATS_PUBLISH_DUPLICATE, true);
                    }
                    if !ack.domain.is_empty() {
                        span.set(extension::NATS_DOMAIN, ack.domain.clone());
                    }
                }
                span.report(&result, PublishError::error_type);
                result
            })
        }
    }

    opaque_debug! { [] PublishAckFuture, "PublishAckFuture", |future| span: future.span }
}
