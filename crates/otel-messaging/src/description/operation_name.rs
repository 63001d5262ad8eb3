//! The name and the type of an operation.

use opentelemetry::trace::SpanKind;

/// The client's name of an operation, and the convention's type of that operation.
///
/// Adapters declare operation names as constants:
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
    /// The name of the operation that received the messages.
    brought_by: &'static str,
}

/// `messaging.operation.type`: the kind of an operation, independent of the client's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OperationType {
    /// Creates a message that is sent later.
    Create,
    /// Sends a message to the broker.
    Send,
    /// Requests messages from the broker.
    Receive,
    /// Processes received messages.
    Process,
    /// Reports the settlement of a message to the broker.
    Settle,
}

impl OperationName {
    /// Creates a message that is sent later.
    pub const fn create(name: &'static str) -> Self {
        Self { name, kind: OperationType::Create, brought_by: name }
    }

    /// Sends a message to the broker.
    pub const fn send(name: &'static str) -> Self {
        Self { name, kind: OperationType::Send, brought_by: name }
    }

    /// Requests messages from the broker.
    pub const fn receive(name: &'static str) -> Self {
        Self { name, kind: OperationType::Receive, brought_by: name }
    }

    /// Processes messages that the broker pushed. For messages that an operation requested, use [`of`](Self::of).
    pub const fn process(name: &'static str) -> Self {
        Self { name, kind: OperationType::Process, brought_by: name }
    }

    /// Processes messages that this receive operation returned. `messaging.client.consumed.messages` counts them under the name
    /// of the receive operation.
    pub const fn of(self, receive: Self) -> Self {
        Self { brought_by: receive.name, ..self }
    }

    pub(crate) const fn brought_by(self) -> &'static str {
        self.brought_by
    }

    /// Reports the settlement of a message to the broker.
    pub const fn settle(name: &'static str) -> Self {
        Self { name, kind: OperationType::Settle, brought_by: name }
    }
}

impl OperationType {
    /// The value of `messaging.operation.type`.
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

    /// Whether the spans of this type have `network.peer.*` in the convention: only operations that send a request to a server
    /// have it.
    pub(crate) const fn has_peer(self) -> bool {
        match self {
            Self::Send | Self::Receive | Self::Settle => true,
            Self::Create | Self::Process => false,
        }
    }

    /// The span kind. A send whose message does not carry the span's context is a CLIENT span instead.
    pub(crate) const fn span_kind(self) -> SpanKind {
        match self {
            Self::Create | Self::Send => SpanKind::Producer,
            Self::Receive | Self::Settle => SpanKind::Client,
            Self::Process => SpanKind::Consumer,
        }
    }
}
