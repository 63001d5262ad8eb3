//! Events for what failed: `messaging.{create,send,receive,process,settle}.exception`.

use std::{borrow::Cow, fmt, time::SystemTime};

use opentelemetry::{
    logs::{AnyValue, LogRecord, Logger, Severity},
    trace::SpanContext,
};

use crate::{
    catch_panic::catch_panic,
    description::{operation_name::OperationType, semconv::attribute},
};

/// One failure. Source: the messaging events of the convention.
pub(crate) struct Exception<'a> {
    pub(crate) operation: OperationType,
    pub(crate) error_type: &'a str,
    pub(crate) message: &'a str,
    pub(crate) span: Option<&'a SpanContext>,
}

/// What failed: its `error.type`, and what it says.
pub(crate) type Failure<'a> = (Cow<'static, str>, &'a dyn fmt::Display);

/// Tells of an operation's failure in an event, where there is somebody to tell; gives what the error says where the span is
/// recorded, and is to say it too.
pub(crate) fn emit_exception(
    exceptions: Option<(&dyn Exceptions, OperationType)>,
    (error_type, error): &Failure<'_>,
    recording: bool,
    span: Option<&SpanContext>,
) -> Option<String> {
    if !recording && exceptions.is_none() {
        return None;
    }
    // Written by somebody's `Display`, as likely to panic as any of it.
    let message = catch_panic(|| error.to_string()).unwrap_or_default();
    if let Some((exceptions, operation)) = exceptions {
        exceptions.emit(&Exception { operation, error_type, message: &message, span });
    }
    recording.then_some(message)
}

/// A logger of whatever provider, of which only this much is needed.
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
