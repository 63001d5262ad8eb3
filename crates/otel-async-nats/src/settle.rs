//! Settles messages: by their own methods, or by a publish to their reply subject.

#[cfg(feature = "jetstream")]
use std::future::Future;
use std::{fmt, sync::Arc};

use async_nats::Subject;
#[cfg(feature = "jetstream")]
use bytes::Bytes;
use otel_messaging::{
    adapter::{ClientSpan, OperationName, OperationStart, Settlement, Settles},
    semconv::{attribute, extension},
};

#[cfg(feature = "jetstream")]
use crate::receive::MessageTelemetry;
use crate::{
    error::ErrorType,
    ledger::{Ledger, MessageDescription, SettlementTarget},
    telemetry::ClientTelemetry,
};

pub(crate) const ACK: OperationName = OperationName::settle("ack");
pub(crate) const NAK: OperationName = OperationName::settle("nak");
pub(crate) const TERM: OperationName = OperationName::settle("term");

/// The operation name and the outcome of an acknowledgement with this payload. `None` if it settles nothing.
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

/// Whether the server is asked to answer an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    None,
    /// Until the answer arrives, and if none arrives, the message may or may not be settled.
    Awaited,
}

/// A settlement in flight. If it is dropped before its end, the outcome is unknown.
pub(crate) struct SettlementInFlight {
    /// `None` after the end.
    span: Option<ClientSpan>,
    outcome: Settlement,
    reply: Option<Subject>,
    ledger: Arc<Ledger>,
}

impl SettlementInFlight {
    /// Starts the settlement of an acknowledgement on this subject and with this payload. `None` if it settles nothing, or
    /// telemetry is off.
    pub(crate) fn begin(
        telemetry: &ClientTelemetry,
        start: Option<OperationStart>,
        (reply, payload): (Option<&Subject>, &[u8]),
        target: SettlementTarget<'_>,
        answer: Answer,
    ) -> Option<Self> {
        let ledger = &telemetry.ledger;
        let Some((name, outcome)) = parse_acknowledgement(payload) else {
            if let (Some(start), Some(reply), IN_PROGRESS) = (&start, reply, payload) {
                ledger.in_progress(reply, start.at());
            }
            return None;
        };
        // Where telemetry is off the settlement has no span, and the outcome of the message is not recorded.
        if start.is_none() || answer == Answer::Awaited {
            target.may_settle_elsewhere();
            reply.iter().for_each(|reply| ledger.may_be_settled(reply));
        }
        let span = settle_span(telemetry, start?, name, &target);
        Some(Self { span: Some(span), outcome, reply: reply.cloned(), ledger: ledger.clone() })
    }

    /// As `begin`, for an acknowledgement that the application publishes itself.
    pub(crate) fn published(
        telemetry: &ClientTelemetry,
        start: Option<OperationStart>,
        reply: &Subject,
        payload: &[u8],
        answer: Answer,
    ) -> Option<Self> {
        let target = telemetry.ledger.find(reply);
        Self::begin(telemetry, start, (Some(reply), payload), target, answer)
    }

    /// Ends the span with the result of the acknowledgement.
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

fn settle_span(
    telemetry: &ClientTelemetry,
    start: OperationStart,
    name: OperationName,
    target: &SettlementTarget<'_>,
) -> ClientSpan {
    let at_origin = |description: &MessageDescription| {
        telemetry.operation_at(name, &description.origin, Some(&description.subject))
    };
    let on_subject = |subject: Option<&Subject>| telemetry.send_operation(name, subject.map(Subject::as_str), false);
    let (operation, settles, description) = match target {
        SettlementTarget::Message(delivered) => {
            (at_origin(&delivered.description), Settles::Message(&delivered.span), Some(&delivered.description))
        }
        SettlementTarget::Remnant(remnant) => (at_origin(&remnant.1), Settles::Context(&remnant.0), Some(&remnant.1)),
        SettlementTarget::Received(span, subject) => (on_subject(Some(subject)), Settles::Message(span), None),
        SettlementTarget::Named(subject) => (on_subject(Some(subject)), Settles::Unknown, None),
        SettlementTarget::Unknown => (on_subject(None), Settles::Unknown, None),
    };
    telemetry.core.settle(start, &operation, settles, |attributes| {
        if let Some(MessageDescription { id, domain, .. }) = description {
            attributes.set_opt(attribute::MESSAGING_MESSAGE_ID, id.clone());
            attributes.set_opt(extension::NATS_DOMAIN, domain.clone());
        }
    })
}

impl Drop for SettlementInFlight {
    fn drop(&mut self) {
        if self.span.is_some() {
            self.reply.iter().for_each(|reply| self.ledger.may_be_settled(reply));
        }
    }
}

/// Acknowledges a message by `send`, with the span of the settlement.
#[cfg(feature = "jetstream")]
pub(crate) fn acknowledge(
    telemetry: &ClientTelemetry,
    payload: Bytes,
    reply: Option<&Subject>,
    (message, subject): (Option<&MessageTelemetry>, Option<&Subject>),
    send: impl Future<Output = Result<(), async_nats::Error>>,
    answer: Answer,
) -> impl Future<Output = Result<(), async_nats::Error>> {
    let start = telemetry.start_on_message();
    async move {
        let target = match (message, reply, subject) {
            (Some(MessageTelemetry::Settleable(delivered)), ..) => SettlementTarget::Message(delivered.clone()),
            (Some(MessageTelemetry::ProcessOnly(process)), _, Some(subject)) => {
                SettlementTarget::Received(process, subject)
            }
            (_, reply, subject) => match (reply.map(|reply| telemetry.ledger.find(reply)), subject) {
                (None | Some(SettlementTarget::Unknown), Some(subject)) => SettlementTarget::Named(subject),
                (target, _) => target.unwrap_or(SettlementTarget::Unknown),
            },
        };
        let settlement = SettlementInFlight::begin(telemetry, start, (reply, &payload), target, answer);
        let result = send.await;
        if let Some(settlement) = settlement {
            settlement.end(&result);
        }
        result
    }
}
