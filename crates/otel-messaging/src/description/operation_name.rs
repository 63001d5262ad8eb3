//! What an operation is called: in its client's words, and in those of the convention.

use opentelemetry::trace::SpanKind;

/// The name of an operation in its client's words, with the type the convention gives it.
///
/// Adapters make these as constants:
///
/// ```
/// use otel_messaging::adapter::OperationName;
///
/// const PUBLISH: OperationName = OperationName::send("publish");
/// const ACK: OperationName = OperationName::settle("ack");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationName {
    pub(crate) name: &'static str,
    pub(crate) kind: OperationType,
    /// What brought the messages that are processed.
    brought_by: &'static str,
}

/// `messaging.operation.type`: what an operation does, whatever its client calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OperationType {
    /// Makes a message that is sent later.
    Create,
    /// Hands a message to the broker.
    Send,
    /// Asks the broker for messages.
    Receive,
    /// Works on messages that arrived.
    Process,
    /// Tells the broker what became of a message.
    Settle,
}

impl OperationName {
    /// Makes a message that is sent later.
    pub const fn create(name: &'static str) -> Self {
        Self { name, kind: OperationType::Create, brought_by: name }
    }

    /// Hands a message to the broker.
    pub const fn send(name: &'static str) -> Self {
        Self { name, kind: OperationType::Send, brought_by: name }
    }

    /// Asks the broker for messages.
    pub const fn receive(name: &'static str) -> Self {
        Self { name, kind: OperationType::Receive, brought_by: name }
    }

    /// Works on messages that the broker pushed. Those that were asked for: [`of`](Self::of).
    pub const fn process(name: &'static str) -> Self {
        Self { name, kind: OperationType::Process, brought_by: name }
    }

    /// Works on messages that this operation brought: they are counted under its name.
    pub const fn of(self, receive: Self) -> Self {
        Self { brought_by: receive.name, ..self }
    }

    pub(crate) const fn brought_by(self) -> &'static str {
        self.brought_by
    }

    /// Tells the broker what became of a message.
    pub const fn settle(name: &'static str) -> Self {
        Self { name, kind: OperationType::Settle, brought_by: name }
    }
}

impl OperationType {
    /// The convention's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Process => "process",
            Self::Settle => "settle",
        }
    }

    /// Whether its spans have the peer's attributes in the convention: those of operations that ask a server.
    pub(crate) const fn has_peer(self) -> bool {
        match self {
            Self::Send | Self::Receive | Self::Settle => true,
            Self::Create | Self::Process => false,
        }
    }

    /// The span kind; a send whose context does not travel in the message is a CLIENT instead.
    pub(crate) const fn span_kind(self) -> SpanKind {
        match self {
            Self::Create | Self::Send => SpanKind::Producer,
            Self::Receive | Self::Settle => SpanKind::Client,
            Self::Process => SpanKind::Consumer,
        }
    }
}
