//! The outcome of a message's settlement.

/// The outcome of a message's settlement: `otel_messaging.settlement.outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settlement {
    /// The application acknowledged the message.
    Ack,
    /// The application refused the message. The broker decides the next step.
    Nack,
    /// The application refused the message, and the broker delivers it again.
    Requeue,
    /// The application refused the message, and the broker does not deliver it again.
    Reject,
    /// The application terminated the message: the broker never delivers it again.
    Term,
    /// The application committed the offset after the message.
    Commit,
    /// The message was settled before. This settlement had no effect.
    AlreadySettled,
    /// The application dropped the message without settling it.
    Dropped,
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
            Self::Dropped => "dropped",
        }
    }
}
