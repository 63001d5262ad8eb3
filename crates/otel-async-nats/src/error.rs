//! The client's errors, which pass through untouched, and their `error.type`.

use std::{borrow::Cow, io};

pub use async_nats::error::*;

use async_nats::{
    HeaderMap,
    client::{PublishErrorKind, RequestErrorKind, SubscribeErrorKind},
};

use crate::headers::find;

/// The convention's `error.type` for an error without a name.
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

/// Implements [`ErrorType`] for the errors of a kind.
macro_rules! error_types {
    ($($kind:ident: $($variant:ident $name:expr),*;)*) => {$(
        impl ErrorType for Error<$kind> {
            fn error_type(&self) -> &'static str {
                match self.kind() {
                    $($kind::$variant => $name,)*
                }
            }
        }
    )*};
}

error_types! {
    PublishErrorKind: MaxPayloadExceeded "max_payload_exceeded", InvalidSubject "invalid_subject", Send "send";
    RequestErrorKind: TimedOut "timed_out", NoResponders "no_responders", InvalidSubject "invalid_subject",
        MaxPayloadExceeded "max_payload_exceeded", Other OTHER;
    SubscribeErrorKind: InvalidSubject "invalid_subject", InvalidQueueName "invalid_queue_name", Other OTHER;
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
            push::{MessagesErrorKind as PushMessagesErrorKind, OrderedErrorKind as PushOrderedErrorKind},
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
            .or_else(|| of::<Error<PushMessagesErrorKind>>(error))
            .or_else(|| of::<Error<PushOrderedErrorKind>>(error))
            .or_else(|| of::<async_nats::Error>(error))
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

    error_types! {
        PublishErrorKind: StreamNotFound "stream_not_found", WrongLastMessageId "wrong_last_message_id",
            WrongLastSequence "wrong_last_sequence", TimedOut "timed_out", BrokenPipe "broken_pipe",
            MaxAckPending "max_ack_pending", MaxPayloadExceeded "max_payload_exceeded", Other OTHER;
        MessagesErrorKind: MissingHeartbeat "missing_heartbeat", ConsumerDeleted "consumer_deleted", Pull "pull",
            PushBasedConsumer "push_based_consumer", NoResponders "no_responders",
            RequestLimitExceeded "request_limit_exceeded", Other OTHER;
        OrderedErrorKind: MissingHeartbeat "missing_heartbeat", ConsumerDeleted "consumer_deleted", Pull "pull",
            PushBasedConsumer "push_based_consumer", Recreate "recreate", NoResponders "no_responders",
            RequestLimitExceeded "request_limit_exceeded", Other OTHER;
        PushMessagesErrorKind: MissingHeartbeat "missing_heartbeat", ConsumerDeleted "consumer_deleted",
            PullBasedConsumer "pull_based_consumer", Other OTHER;
        PushOrderedErrorKind: MissingHeartbeat "missing_heartbeat", ConsumerDeleted "consumer_deleted",
            PullBasedConsumer "pull_based_consumer", Recreate "recreate", Other OTHER;
    }
}
