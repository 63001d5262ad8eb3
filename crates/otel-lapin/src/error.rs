//! `error.type` of lapin's errors.

use std::io;

use lapin::{
    Error, ErrorKind,
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
    types::ReplyCode,
};

/// A refusal by the broker, which has no reply code.
pub(crate) const NACK: &str = "nack";

/// An acker whose channel is closed: lapin returns no error there, but returns this one for a settlement by tag.
pub(crate) const CHANNEL_GONE: &str = "invalid-channel-state";

/// The convention's value for an error without a name.
const OTHER: &str = "_OTHER";

/// The `error.type` of one of lapin's errors: the protocol's own constant, lower case with hyphens, where the broker sent
/// one (`not-found`), else the name of lapin's variant in the same spelling.
///
/// Source: `error.type` of the RabbitMQ spans.
pub(crate) fn error_type(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::ChannelsLimitReached => "channels-limit-reached",
        ErrorKind::InvalidProtocolVersion(_) => "invalid-protocol-version",
        ErrorKind::InvalidChannel(_) => "invalid-channel",
        ErrorKind::InvalidChannelState(..) => CHANNEL_GONE,
        ErrorKind::InvalidConnectionState(_) => "invalid-connection-state",
        ErrorKind::IOError(error) => io_error_type(error),
        ErrorKind::RuntimeShutdownError(_) => "runtime-shutdown",
        ErrorKind::ParsingError(_) => "parsing-error",
        ErrorKind::ProtocolError(error) => protocol_error_type(error.kind()),
        ErrorKind::SerialisationError(_) => "serialisation-error",
        ErrorKind::AuthProviderError(_) => "auth-provider-error",
        ErrorKind::FutureCompleted => "future-completed",
        ErrorKind::NoDefaultRuntime => "no-default-runtime",
        ErrorKind::MissingHeartbeatError => "missing-heartbeat",
        _ => OTHER,
    }
}

/// The `error.type` of a returned message: the constant of its reply code.
pub(crate) fn reply_type(code: ReplyCode) -> &'static str {
    AMQPSoftError::from_id(code)
        .map(AMQPErrorKind::Soft)
        .or_else(|| AMQPHardError::from_id(code).map(AMQPErrorKind::Hard))
        .map_or(OTHER, |kind| protocol_error_type(&kind))
}

fn protocol_error_type(kind: &AMQPErrorKind) -> &'static str {
    match kind {
        AMQPErrorKind::Soft(error) => match error {
            AMQPSoftError::CONTENTTOOLARGE => "content-too-large",
            AMQPSoftError::NOROUTE => "no-route",
            AMQPSoftError::NOCONSUMERS => "no-consumers",
            AMQPSoftError::ACCESSREFUSED => "access-refused",
            AMQPSoftError::NOTFOUND => "not-found",
            AMQPSoftError::RESOURCELOCKED => "resource-locked",
            AMQPSoftError::PRECONDITIONFAILED => "precondition-failed",
        },
        AMQPErrorKind::Hard(error) => match error {
            AMQPHardError::CONNECTIONFORCED => "connection-forced",
            AMQPHardError::INVALIDPATH => "invalid-path",
            AMQPHardError::FRAMEERROR => "frame-error",
            AMQPHardError::SYNTAXERROR => "syntax-error",
            AMQPHardError::COMMANDINVALID => "command-invalid",
            AMQPHardError::CHANNELERROR => "channel-error",
            AMQPHardError::UNEXPECTEDFRAME => "unexpected-frame",
            AMQPHardError::RESOURCEERROR => "resource-error",
            AMQPHardError::NOTALLOWED => "not-allowed",
            AMQPHardError::NOTIMPLEMENTED => "not-implemented",
            AMQPHardError::INTERNALERROR => "internal-error",
        },
    }
}

fn io_error_type(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection-refused",
        io::ErrorKind::ConnectionReset => "connection-reset",
        io::ErrorKind::ConnectionAborted => "connection-aborted",
        io::ErrorKind::NotConnected => "not-connected",
        io::ErrorKind::BrokenPipe => "broken-pipe",
        io::ErrorKind::TimedOut => "timed-out",
        io::ErrorKind::UnexpectedEof => "unexpected-eof",
        _ => "io-error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_constants_are_spelled_as_the_protocol_does_in_lower_case() {
        for code in 0..=600 {
            let named = AMQPSoftError::from_id(code)
                .map(|error| error.to_string())
                .or_else(|| AMQPHardError::from_id(code).map(|error| error.to_string()));
            assert_eq!(reply_type(code), named.map_or(OTHER.to_owned(), |named| named.to_lowercase()), "{code}");
        }
    }

    #[test]
    fn connection_errors_have_their_own_error_types() {
        assert_eq!(error_type(&io::Error::from(io::ErrorKind::ConnectionRefused).into()), "connection-refused");
        assert_eq!(error_type(&io::Error::other("?").into()), "io-error");
        assert_eq!(error_type(&ErrorKind::MissingHeartbeatError.into()), "missing-heartbeat");
    }
}
