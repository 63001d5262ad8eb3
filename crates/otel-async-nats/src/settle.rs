//! Messages that can be settled, and their settlement: by their own methods, or by a publish to the subject that they are
//! acknowledged on.

use std::{fmt, sync::Arc, time::Duration};

use async_nats::Subject;
use opentelemetry::trace::{SpanContext, TraceContextExt};
use otel_messaging::adapter::{ClientSpan, OperationName, OperationStart, ProcessSpan, Settlement, Unsettled};

use crate::{Client, error::ErrorType, ledger::Ledger, telemetry::Origin};

pub(crate) const ACK: OperationName = OperationName::settle("ack");
pub(crate) const NAK: OperationName = OperationName::settle("nak");
pub(crate) const TERM: OperationName = OperationName::settle("term");

/// What a delivered message carries that can be settled.
#[derive(Debug)]
pub(crate) struct DeliveredMessage {
    pub(crate) span: Arc<ProcessSpan>,
    pub(crate) description: MessageDescription,
    /// The subject that it is acknowledged on.
    pub(crate) reply: Subject,
    /// For how long the server waits for that.
    pub(crate) ack_wait: Duration,
    pub(crate) ledger: Arc<Ledger>,
}

/// What the span of a settlement records of its message.
#[derive(Debug, Clone)]
pub(crate) struct MessageDescription {
    pub(crate) origin: Arc<Origin>,
    pub(crate) subject: Subject,
    pub(crate) id: Option<Arc<str>>,
    pub(crate) domain: Option<Arc<str>>,
}

/// What the ledger keeps of a message that is dropped before it is settled.
pub(crate) struct UnsettledRemnant {
    pub(crate) description: Arc<(SpanContext, MessageDescription)>,
    /// Counts as dropped, unless it is discharged.
    unsettled: Option<Unsettled>,
    pub(crate) ack_wait: Duration,
}

impl UnsettledRemnant {
    /// The message counts as dropped no more.
    pub(crate) fn discharge(&self) {
        self.unsettled.iter().for_each(Unsettled::discharge);
    }
}

impl Drop for DeliveredMessage {
    fn drop(&mut self) {
        self.ledger.message_dropped(self, || UnsettledRemnant {
            description: Arc::new((self.span.context().span().span_context().clone(), self.description.clone())),
            unsettled: self.span.unsettled(),
            ack_wait: self.ack_wait,
        });
    }
}

/// The message that a settlement is about.
#[derive(Debug)]
pub(crate) enum SettlementTarget<'a> {
    Message(Arc<DeliveredMessage>),
    /// One that is gone: the context of its process span, and what it was.
    Remnant(Arc<(SpanContext, MessageDescription)>),
    /// One that came by no consumer of a stream, with its subject.
    Received(&'a Arc<ProcessSpan>, &'a Subject),
    /// No more than its subject, where that is known.
    Named(&'a Subject),
    Unknown,
}

impl SettlementTarget<'_> {
    /// Its message may be settled without a span.
    fn may_settle_elsewhere(&self) {
        match self {
            Self::Message(message) => message.span.may_settle_elsewhere(),
            Self::Received(span, _) => span.may_settle_elsewhere(),
            _ => (),
        }
    }
}

/// Whether a publish to this subject settles a message.
#[inline]
pub(crate) fn is_acknowledgement(subject: &str) -> bool {
    subject.starts_with("$JS.ACK.")
}

/// How an acknowledgement with this payload is called, and what it does to its message. `None` for one that settles
/// nothing.
///
/// Source: `processAck` of nats-server, in `consumer.go`.
fn parse_acknowledgement(payload: &[u8]) -> Option<(OperationName, Settlement)> {
    match payload {
        b"" | b"+ACK" | b"+OK" => Some((ACK, Settlement::Ack)),
        _ if payload.starts_with(b"+NXT") => Some((ACK, Settlement::Ack)),
        _ if payload.starts_with(b"-NAK") => Some((NAK, Settlement::Nack)),
        _ if payload.starts_with(b"+TERM") => Some((TERM, Settlement::Term)),
        _ => None,
    }
}

/// The payload that asks the server to wait for longer.
const IN_PROGRESS: &[u8] = b"+WPI";

/// Whether the server is asked for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    None,
    /// Until it comes, and for ever where it does not, the message may be settled.
    Awaited,
}

/// A settlement that has begun. If it is dropped before the report, its outcome is unknown.
pub(crate) struct SettlementInFlight {
    /// `None` after the report.
    span: Option<ClientSpan>,
    outcome: Settlement,
    reply: Option<Subject>,
    ledger: Arc<Ledger>,
}

impl SettlementInFlight {
    /// Begins the settlement that an acknowledgement on this subject and with this payload is. `None` where it settles
    /// nothing, or telemetry is off.
    pub(crate) fn begin(
        client: &Client,
        start: Option<OperationStart>,
        (reply, payload): (Option<&Subject>, &[u8]),
        target: SettlementTarget<'_>,
        answer: Answer,
    ) -> Option<Self> {
        let ledger = client.telemetry().ledger();
        let Some((name, outcome)) = parse_acknowledgement(payload) else {
            if let (Some(start), Some(reply), IN_PROGRESS) = (&start, reply, payload) {
                ledger.in_progress(reply, start.at());
            }
            return None;
        };
        // Without a call the settlement has no span, and the outcome of the message is not recorded.
        if start.is_none() || answer == Answer::Awaited {
            target.may_settle_elsewhere();
            reply.iter().for_each(|reply| ledger.may_be_settled(reply));
        }
        let span = client.telemetry().settle(start?, name, &target);
        Some(Self { span: Some(span), outcome, reply: reply.cloned(), ledger: ledger.clone() })
    }

    /// The same for an acknowledgement that is published by hand.
    pub(crate) fn published(
        client: &Client,
        start: Option<OperationStart>,
        reply: &Subject,
        payload: &[u8],
        answer: Answer,
    ) -> Option<Self> {
        let target = client.telemetry().ledger().find(reply);
        Self::begin(client, start, (Some(reply), payload), target, answer)
    }

    /// Reports whether the acknowledgement was taken over, or answered.
    pub(crate) fn end<T, E: ErrorType + fmt::Display>(mut self, result: &Result<T, E>) {
        let Some(span) = self.span.take() else { return };
        match result {
            Ok(_) => {
                span.settled(self.outcome);
                self.reply.iter().for_each(|reply| self.ledger.settled(reply));
            }
            Err(error) => span.fail(error.error_type(), error),
        }
    }
}

impl Drop for SettlementInFlight {
    fn drop(&mut self) {
        if self.span.is_some() {
            self.reply.iter().for_each(|reply| self.ledger.may_be_settled(reply));
        }
    }
}
