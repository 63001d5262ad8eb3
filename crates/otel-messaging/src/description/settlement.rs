//! What became of a message at its broker.

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
