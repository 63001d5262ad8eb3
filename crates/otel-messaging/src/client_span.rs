//! The span of one operation of a client: a send, a receive or a settle.

use std::{borrow::Cow, fmt, sync::Arc, thread, time::SystemTime};

use opentelemetry::{
    KeyValue, Value,
    global::BoxedSpan,
    trace::{Span, SpanContext, Status},
};

use crate::{
    process_span::ProcessSpan,
    semconv::{ERROR_TYPE_PANIC, attribute, ours},
    shield::shield,
};

/// The span of one operation of a client. It ends once, when its outcome is reported.
///
/// Dropped without a report it ends too: the outcome is unknown then, which is no error and is said on the span
/// (`otel_messaging.delivery.outcome_unknown`); while the thread is panicking, the error is `panic`.
#[must_use = "a span says what became of its operation"]
pub struct ClientSpan {
    span: Option<BoxedSpan>,
    ended_at: Option<SystemTime>,
    of: Option<Arc<ProcessSpan>>,
}

/// What became of a message at its broker: `otel_messaging.settlement.outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settlement {
    /// Done with.
    Ack,
    /// Refused; the broker decides what to do with it.
    Nack,
    /// Refused, to be delivered again.
    Requeue,
    /// Refused, not to be delivered again.
    Reject,
    /// Never to be delivered again.
    Term,
    /// The offset after it is committed.
    Commit,
    /// It was settled before; nothing happened.
    AlreadySettled,
}

impl Settlement {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Nack => "nack",
            Self::Requeue => "requeue",
            Self::Reject => "reject",
            Self::Term => "term",
            Self::Commit => "commit",
            Self::AlreadySettled => "already_settled",
        }
    }
}

impl ClientSpan {
    pub(crate) fn new(span: Option<BoxedSpan>) -> Self {
        Self { span, ended_at: None, of: None }
    }

    /// The message whose settlement this is.
    pub(crate) fn of(mut self, message: Arc<ProcessSpan>) -> Self {
        self.of = Some(message);
        self
    }

    /// Whether anybody will see what is set: what is costly to find out need not be, otherwise.
    pub fn is_recording(&self) -> bool {
        self.span.as_ref().is_some_and(Span::is_recording)
    }

    /// The context that other spans can link to; `None` without a tracer.
    pub fn span_context(&self) -> Option<&SpanContext> {
        self.span.as_ref().map(Span::span_context)
    }

    /// Adds what only the answer tells. Keys are expected to be new: nothing looks for an earlier value.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = self.span.as_mut().filter(|span| span.is_recording()) {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    pub(crate) fn link(&mut self, context: SpanContext) {
        if let Some(span) = &mut self.span {
            span.add_link(context, Vec::new());
        }
    }

    /// The operation ended at this time, not when it is reported.
    pub fn ended_at(mut self, time: SystemTime) -> Self {
        self.ended_at = Some(time);
        self
    }

    /// The broker accepted, as far as the operation waits for it. The status stays unset.
    pub fn succeed(mut self) {
        self.end();
    }

    /// The operation failed. `error_type` is a low-cardinality name in the protocol's own spelling, `description` what
    /// the client's error says.
    pub fn fail(mut self, error_type: impl Into<Cow<'static, str>>, description: impl fmt::Display) {
        if self.is_recording() {
            self.set(attribute::ERROR_TYPE, error_type.into());
            if let Some(span) = &mut self.span {
                span.set_status(Status::error(description.to_string()));
            }
        }
        self.end();
    }

    /// The message is settled: noted here, and on its process span if that has not ended.
    pub fn settled(mut self, outcome: Settlement) {
        self.set(ours::SETTLEMENT_OUTCOME, outcome.as_str());
        if let Some(message) = self.of.take() {
            message.settled(outcome);
        }
        self.end();
    }

    /// The operation ended and nobody could wait for its answer.
    pub fn outcome_unknown(mut self) {
        self.set(ours::DELIVERY_OUTCOME_UNKNOWN, true);
        self.end();
    }

    fn end(&mut self) {
        if let Some(mut span) = self.span.take() {
            let ended_at = self.ended_at;
            shield(|| match ended_at {
                Some(time) => span.end_with_timestamp(time),
                None => span.end(),
            });
        }
    }
}

impl Drop for ClientSpan {
    fn drop(&mut self) {
        if let Some(span) = &mut self.span {
            if thread::panicking() {
                span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, ERROR_TYPE_PANIC));
                span.set_status(Status::error("panicked"));
            } else {
                span.set_attribute(KeyValue::new(ours::DELIVERY_OUTCOME_UNKNOWN, true));
            }
            self.end();
        }
    }
}

impl fmt::Debug for ClientSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSpan").field("span_context", &self.span_context()).finish_non_exhaustive()
    }
}
