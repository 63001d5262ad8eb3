//! The client's errors, which pass through untouched, and their `error.type`.

use std::{borrow::Cow, io};

pub use async_nats::error::*;

use async_nats::{
    HeaderMap,
    client::{PublishErrorKind, RequestErrorKind, SubscribeErrorKind},
};

use crate::headers::find;

/// The `error.type` of an error that has no name of its own.
const OTHER: &str = "_OTHER";

/// The headers of a service's answer that is an error.
///
/// Source: "NATS Services API", ADR-32 of NATS.
const SERVICE_ERROR_CODE: &str = "Nats-Service-Error-Code";
const SERVICE_ERROR: &str = "Nats-Service-Error";

/// `error.type` and the text of the error that a service answered with, if these are the headers of one.
pub(crate) fn service_error(headers: &HeaderMap) -> Option<(Cow<'static, str>, &str)> {
    let (code, text) = (find(headers, SERVICE_ERROR_CODE), find(headers, SERVICE_ERROR));
    code.or(text)?;
    Some((service_error_type(code.unwrap_or_default()), text.unwrap_or_default()))
}

/// The code of a service's error as an `error.type`. The author of the service chooses the code: without a limit on its length
/// the values would have no bound.
pub(crate) fn service_error_type(code: &str) -> Cow<'static, str> {
    let is_code = matches!(code.len(), 1..=5) && code.bytes().all(|byte| byte.is_ascii_digit());
    if is_code { code.to_owned().into() } else { OTHER.into() }
}

/// `error.type`: the kind of error in snake case.
pub(crate) trait ErrorType {
    fn error_type(&self) -> &'static str;
}

impl ErrorType for Error<PublishErrorKind> {
    fn error_type(&self) -> &'static str {
        match self.kind() {
            PublishErrorKind::MaxPayloadExceeded => "max_payload_exceeded",
            PublishErrorKind::InvalidSubject => "invalid_subject",
            PublishErrorKind::Send => "send",
        }
    }
}

impl ErrorType for Error<RequestErrorKind> {
    fn error_type(&self) -> &'static str {
        match self.kind() {
            RequestErrorKind::TimedOut => "timed_out",
            RequestErrorKind::NoResponders => "no_responders",
            RequestErrorKind::InvalidSubject => "invalid_subject",
            RequestErrorKind::MaxPayloadExceeded => "max_payload_exceeded",
            RequestErrorKind::Other => OTHER,
        }
    }
}

impl ErrorType for Error<SubscribeErrorKind> {
    fn error_type(&self) -> &'static str {
        match self.kind() {
            SubscribeErrorKind::InvalidSubject => "invalid_subject",
            SubscribeErrorKind::InvalidQueueName => "invalid_queue_name",
            SubscribeErrorKind::Other => OTHER,
        }
    }
}

/// The error of acknowledgements and batches: one of the others in a box.
impl ErrorType for async_nats::Error {
    fn error_type(&self) -> &'static str {
        if let Some(error) = self.downcast_ref::<Error<PublishErrorKind>>() {
            return error.error_type();
        }
        if let Some(error) = self.downcast_ref::<Error<SubscribeErrorKind>>() {
            return error.error_type();
        }
        match self.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::TimedOut) => "timed_out",
            _ => OTHER,
        }
    }
}

#[cfg(feature = "jetstream")]
pub(crate) use jetstream::stream_error_type;

#[cfg(feature = "jetstream")]
mod jetstream {
    use std::any::Any;

    use async_nats::jetstream::{
        consumer::{
            pull::{BatchErrorKind, MessagesErrorKind, OrderedErrorKind},
            push,
        },
        context::PublishErrorKind,
    };

    use super::{Error, ErrorType, OTHER};

    /// The `error.type` of an error of any of the client's streams of messages; `None` for one of other code.
    pub(crate) fn stream_error_type(error: &dyn Any) -> Option<&'static str> {
        fn of<E: ErrorType + 'static>(error: &dyn Any) -> Option<&'static str> {
            error.downcast_ref::<E>().map(E::error_type)
        }
        of::<Error<MessagesErrorKind>>(error)
            .or_else(|| of::<Error<OrderedErrorKind>>(error))
            .or_else(|| of::<Error<push::MessagesErrorKind>>(error))
            .or_else(|| of::<Error<push::OrderedErrorKind>>(error))
            .or_else(|| of::<async_nats::Error>(error))
    }

    impl ErrorType for Error<PublishErrorKind> {
        fn error_type(&self) -> &'static str {
            match self.kind() {
                PublishErrorKind::StreamNotFound => "stream_not_found",
                PublishErrorKind::WrongLastMessageId => "wrong_last_message_id",
                PublishErrorKind::WrongLastSequence => "wrong_last_sequence",
                PublishErrorKind::TimedOut => "timed_out",
                PublishErrorKind::BrokenPipe => "broken_pipe",
                PublishErrorKind::MaxAckPending => "max_ack_pending",
                PublishErrorKind::MaxPayloadExceeded => "max_payload_exceeded",
                PublishErrorKind::Other => OTHER,
            }
        }
    }

    impl ErrorType for Error<BatchErrorKind> {
        fn error_type(&self) -> &'static str {
            match self.kind() {
                BatchErrorKind::Subscribe => "subscribe",
                BatchErrorKind::Pull => "pull",
                BatchErrorKind::Flush => "flush",
                BatchErrorKind::Serialize => "serialize",
                // Exists with a feature of the client's that another crate may have switched on.
                #[allow(unreachable_patterns)]
                _ => "pinned_client",
            }
        }
    }

    impl ErrorType for Error<MessagesErrorKind> {
        fn error_type(&self) -> &'static str {
            match self.kind() {
                MessagesErrorKind::MissingHeartbeat => "missing_heartbeat",
                MessagesErrorKind::ConsumerDeleted => "consumer_deleted",
                MessagesErrorKind::Pull => "pull",
                MessagesErrorKind::PushBasedConsumer => "push_based_consumer",
                MessagesErrorKind::NoResponders => "no_responders",
                MessagesErrorKind::RequestLimitExceeded => "request_limit_exceeded",
                MessagesErrorKind::Other => OTHER,
            }
        }
    }

    impl ErrorType for Error<OrderedErrorKind> {
        fn error_type(&self) -> &'static str {
            match self.kind() {
                OrderedErrorKind::MissingHeartbeat => "missing_heartbeat",
                OrderedErrorKind::ConsumerDeleted => "consumer_deleted",
                OrderedErrorKind::Pull => "pull",
                OrderedErrorKind::PushBasedConsumer => "push_based_consumer",
                OrderedErrorKind::Recreate => "recreate",
                OrderedErrorKind::NoResponders => "no_responders",
                OrderedErrorKind::RequestLimitExceeded => "request_limit_exceeded",
                OrderedErrorKind::Other => OTHER,
            }
        }
    }

    impl ErrorType for Error<push::MessagesErrorKind> {
        fn error_type(&self) -> &'static str {
            match self.kind() {
                push::MessagesErrorKind::MissingHeartbeat => "missing_heartbeat",
                push::MessagesErrorKind::ConsumerDeleted => "consumer_deleted",
                push::MessagesErrorKind::PullBasedConsumer => "pull_based_consumer",
                push::MessagesErrorKind::Other => OTHER,
            }
        }
    }

    impl ErrorType for Error<push::OrderedErrorKind> {
        fn error_type(&self) -> &'static str {
            match self.kind() {
                push::OrderedErrorKind::MissingHeartbeat => "missing_heartbeat",
                push::OrderedErrorKind::ConsumerDeleted => "consumer_deleted",
                push::OrderedErrorKind::PullBasedConsumer => "pull_based_consumer",
                push::OrderedErrorKind::Recreate => "recreate",
                push::OrderedErrorKind::Other => OTHER,
            }
        }
    }
}
