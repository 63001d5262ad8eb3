//! Events for failed operations: `messaging.{create,send,receive,process,settle}.exception`.

use std::{borrow::Cow, fmt, time::SystemTime};

use opentelemetry::{
    KeyValue,
    logs::{AnyValue, LogRecord, Logger, Severity},
    trace::{SpanContext, Status},
};

use crate::{
    catch_panic::catch_panic,
    description::{operation_name::OperationType, semconv::attribute},
    recording::ending::EndingSpan,
};

/// A failed operation. Source: the messaging events of the convention.
pub(crate) struct Exception<'a> {
    pub(crate) operation: OperationType,
    pub(crate) error_type: &'a str,
    pub(crate) message: &'a str,
    pub(crate) span: Option<&'a SpanContext>,
}

/// The `error.type` and the text of an error.
pub(crate) type Failure<'a> = (Cow<'static, str>, &'a dyn fmt::Display);

/// Records a failure as an event, and on the span if the span is recorded.
pub(crate) fn record_failure(
    (error_type, error): &Failure<'_>,
    exceptions: Option<(&dyn Exceptions, OperationType)>,
    which: Option<&SpanContext>,
    span: Option<&mut impl EndingSpan>,
) {
    let span = span.filter(|span| span.is_recorded());
    if span.is_none() && exceptions.is_none() {
        return;
    }
    // The application implements `Display`, which may panic.
    let message = catch_panic(|| error.to_string()).unwrap_or_default();
    if let Some((exceptions, operation)) = exceptions {
        exceptions.emit(&Exception { operation, error_type, message: &message, span: which });
    }
    if let Some(span) = span {
        span.set_error(KeyValue::new(attribute::ERROR_TYPE, error_type.clone()), Status::error(message));
    }
}

/// The part of a logger that this crate needs, independent of the logger's type.
pub(crate) trait Exceptions: Send + Sync {
    fn emit(&self, exception: &Exception<'_>);
}

impl<L: Logger + Send + Sync> Exceptions for L {
    fn emit(&self, exception: &Exception<'_>) {
        catch_panic(|| {
            let (event, severity) = event(exception.operation);
            if !self.event_enabled(severity, "", Some(event)) {
                return;
            }
            let mut record = self.create_log_record();
            record.set_event_name(event);
            record.set_timestamp(SystemTime::now());
            record.set_severity_number(severity);
            record.set_severity_text(severity.name());
            if let Some(span) = exception.span.filter(|span| span.is_valid()) {
                record.set_trace_context(span.trace_id(), span.span_id(), Some(span.trace_flags()));
            }
            record.add_attribute(attribute::EXCEPTION_TYPE, AnyValue::from(exception.error_type.to_owned()));
            record.add_attribute(attribute::EXCEPTION_MESSAGE, AnyValue::from(exception.message.to_owned()));
            Logger::emit(self, record);
        });
    }
}

fn event(operation: OperationType) -> (&'static str, Severity) {
    match operation {
        OperationType::Create => ("messaging.create.exception", Severity::Warn),
        OperationType::Send => ("messaging.send.exception", Severity::Warn),
        OperationType::Receive => ("messaging.receive.exception", Severity::Warn),
        OperationType::Process => ("messaging.process.exception", Severity::Error),
        OperationType::Settle => ("messaging.settle.exception", Severity::Warn),
    }
}
