//! Settles messages: by their own handles or by their tags.

use std::{future::Future, sync::Arc};

use lapin::{
    Error, Result,
    options::{BasicNackOptions, BasicRejectOptions},
    types::{DeliveryTag, ShortString},
};
use otel_messaging::{
    adapter::{
        Attributes, ClientSpan, OperationName, OperationStart, PreparedOperation, ProcessSpan, SettledMessage,
        Settlement, Settles,
    },
    semconv::attribute,
};

use crate::{
    delivered::{DeliveredMessage, Origin},
    error::{CHANNEL_GONE, error_type},
    ledger::{Entry, Ledger, TrackedMessages},
    telemetry::{ClientTelemetry, Route, delivery_tag},
};

/// Settles a message by its own handle.
pub(crate) fn settle_message<'a>(
    (acker, delivered): (&'a lapin::Acker, Option<&'a Arc<DeliveredMessage>>),
    name: OperationName,
    multiple: bool,
    outcome: Settlement,
    settle: impl Future<Output = Result<bool>> + Send,
) -> impl Future<Output = Result<bool>> + Send {
    let traced = delivered.map(|delivered| (delivered, delivered.origin.telemetry.core.start_operation()));
    async move {
        let Some((delivered, start)) = traced else { return settle.await };
        let Some(start) = start else {
            // Telemetry is suppressed: neither this settlement nor that the message is dropped may be recorded.
            delivered.mark_settled_elsewhere(multiple && acker.usable());
            return settle.await;
        };
        // A used acker settles nothing, other messages included.
        let settlement = PendingSettlement::of_message(start, name, delivered, multiple && acker.usable());
        let result = settle.await;
        settlement.acker_answered(&result, outcome, acker);
        result
    }
}

/// Settles a message by its tag, or with `multiple` all up to it.
pub(crate) fn settle_by_tag(
    (telemetry, ledger): (&ClientTelemetry, &Ledger),
    name: OperationName,
    tag: DeliveryTag,
    multiple: bool,
    outcome: Settlement,
    settle: impl Future<Output = Result<()>> + Send,
) -> impl Future<Output = Result<()>> + Send {
    let start = telemetry.core.start_operation();
    async move {
        let Some(start) = start else {
            ledger.remove_settled_elsewhere(tag, multiple);
            return settle.await;
        };
        let settlement = PendingSettlement::by_tag(start, name, tag, multiple, telemetry, ledger);
        let result = settle.await;
        match &result {
            Ok(()) => settlement.succeed(outcome),
            Err(error) => settlement.fail(error),
        }
        result
    }
}

pub(crate) fn nack_outcome(options: BasicNackOptions) -> Settlement {
    if options.requeue { Settlement::Requeue } else { Settlement::Nack }
}

pub(crate) fn reject_outcome(options: BasicRejectOptions) -> Settlement {
    if options.requeue { Settlement::Requeue } else { Settlement::Reject }
}

/// A settlement that lapin is writing. If it is dropped before lapin's answer, its outcome is unknown: lapin may have sent it.
pub(crate) struct PendingSettlement<'a> {
    /// None once it has ended.
    span: Option<ClientSpan>,
    messages: SettledMessages<'a>,
}

enum SettledMessages<'a> {
    One(&'a Arc<DeliveredMessage>),
    Tagged(&'a Ledger, Option<(DeliveryTag, Entry)>),
    UpTo(&'a Ledger, DeliveryTag, Vec<(DeliveryTag, Entry)>),
}

impl<'a> PendingSettlement<'a> {
    /// Starts to settle a message by its handle, or with `multiple` all up to it.
    pub(crate) fn of_message(
        start: OperationStart,
        name: OperationName,
        message: &'a Arc<DeliveredMessage>,
        multiple: bool,
    ) -> Self {
        if let (true, Some(ledger)) = (multiple, &message.origin.ledger) {
            let mut known = ledger.find_up_to(message.tag);
            // The ledger may not track this message any more.
            if !known.complete && known.messages.last().is_none_or(|(last, _)| *last != message.tag) {
                known.messages.push((message.tag, Entry::of(message)));
            }
            return Self::up_to(start, name, message.tag, &message.origin.telemetry, ledger, known);
        }
        Self::new(start_span(start, name, message), SettledMessages::One(message))
    }

    /// Starts to settle the message with this tag, or with `multiple` all up to it.
    pub(crate) fn by_tag(
        start: OperationStart,
        name: OperationName,
        tag: DeliveryTag,
        multiple: bool,
        telemetry: &ClientTelemetry,
        ledger: &'a Ledger,
    ) -> Self {
        if multiple {
            return Self::up_to(start, name, tag, telemetry, ledger, ledger.find_up_to(tag));
        }
        let entry = ledger.find(tag);
        let span = match entry.as_ref().and_then(|entry| entry.message.upgrade()) {
            Some(message) => start_span(start, name, &message),
            None => {
                let remnant = entry.as_ref().and_then(|entry| entry.remnant.as_ref());
                let settles = remnant.map_or(Settles::Unknown, |remnant| Settles::Context(&remnant.context));
                let nowhere = Route::default();
                let route = entry.as_ref().map_or(&nowhere, |entry| &entry.route);
                telemetry.core.settle(start, &telemetry.operation_at(name, route), settles, |attributes| {
                    delivery_tag(attributes, tag);
                    if let Some(remnant) = remnant {
                        remnant.ids.set(attributes);
                    }
                })
            }
        };
        Self::new(span, SettledMessages::Tagged(ledger, entry.map(|entry| (tag, entry))))
    }

    fn up_to(
        start: OperationStart,
        name: OperationName,
        tag: DeliveryTag,
        telemetry: &ClientTelemetry,
        ledger: &'a Ledger,
        TrackedMessages { messages: known, complete }: TrackedMessages,
    ) -> Self {
        let operation = telemetry.operation_at(name, &common_route(&known));
        let messages = known.iter().map(|(tag, entry)| link_of(*tag, entry, &operation));
        let attributes = |attributes: &mut Attributes| {
            if tag != 0 {
                delivery_tag(attributes, tag);
            }
        };
        let span = if complete {
            telemetry.core.settle_batch(start, &operation, messages, attributes)
        } else {
            telemetry.core.settle_known(start, &operation, messages, attributes)
        };
        Self::new(span, SettledMessages::UpTo(ledger, tag, known))
    }

    fn new(span: ClientSpan, messages: SettledMessages<'a>) -> Self {
        Self { span: Some(span), messages }
    }

    /// Records lapin's answer: whether it sent the settlement to the broker.
    pub(crate) fn acker_answered(self, result: &Result<bool>, outcome: Settlement, acker: &lapin::Acker) {
        match result {
            Ok(true) => self.succeed(outcome),
            // Checked after the answer: an acker that is not poisoned now was not poisoned before, so it was used.
            Ok(false) if !acker.poisoned() => {
                self.end_span(|span| span.messages(1).settled(Settlement::AlreadySettled))
            }
            // Nothing was sent: the broker delivers the message again unless it was settled before.
            Ok(false) => self.end_span(|span| span.fail(CHANNEL_GONE, "the channel is gone")),
            Err(error) => self.fail(error),
        }
    }

    pub(crate) fn succeed(self, outcome: Settlement) {
        self.messages.remove(|_| ());
        self.end_span(|span| span.settled(outcome));
    }

    pub(crate) fn fail(self, error: &Error) {
        self.end_span(|span| span.fail(error_type(error), error));
    }

    fn end_span(mut self, end_span: impl FnOnce(ClientSpan)) {
        self.span.take().map(end_span);
    }
}

impl Drop for PendingSettlement<'_> {
    fn drop(&mut self) {
        if self.span.is_some() {
            self.messages.remove(ProcessSpan::settles_elsewhere);
        }
    }
}

impl SettledMessages<'_> {
    /// Removes the messages from the ledger and notes it on the process spans of those that live.
    fn remove(&self, note: impl Fn(&ProcessSpan)) {
        match self {
            Self::One(message) => {
                note(&message.span);
                if let Some(ledger) = &message.origin.ledger {
                    ledger.remove(message.tag, Arc::as_ptr(message));
                }
            }
            Self::Tagged(ledger, known) => ledger.remove_settled(known.as_slice(), note),
            Self::UpTo(ledger, tag, known) => ledger.remove_settled_up_to(*tag, known, note),
        }
    }
}

fn start_span(start: OperationStart, name: OperationName, message: &DeliveredMessage) -> ClientSpan {
    let Origin { telemetry, route, .. } = &*message.origin;
    let operation = telemetry.operation_at(name, route);
    let settles = Settles::Message(&message.span);
    telemetry.core.settle(start, &operation, settles, |attributes| {
        delivery_tag(attributes, message.tag);
        message.ids.set(attributes);
    })
}

/// The link of one of several settled messages: its context and the attributes that only this message has.
fn link_of(tag: DeliveryTag, entry: &Entry, operation: &PreparedOperation) -> (SettledMessage, Attributes) {
    let mut own = Attributes::default();
    let message = entry.message.upgrade();
    let (settled, ids) = match (&message, &entry.remnant) {
        (Some(message), _) => (SettledMessage::Message(message.span.clone()), Some(&message.ids)),
        (None, Some(remnant)) => (SettledMessage::Context(remnant.context.clone()), Some(&remnant.ids)),
        (None, None) => (SettledMessage::Unknown, None),
    };
    delivery_tag(&mut own, tag);
    if let Some(ids) = ids {
        ids.set(&mut own);
    }
    let destination = entry.route.name();
    if operation.destination() != Some(&*destination) {
        own.set(attribute::MESSAGING_DESTINATION_NAME, destination);
    }
    (settled, own)
}

/// The parts of the route that all messages have in common.
fn common_route(known: &[(DeliveryTag, Entry)]) -> Route {
    let Some(((_, first), rest)) = known.split_first() else { return Route::default() };
    let same = |part: fn(&Route) -> &ShortString| {
        let all = rest.iter().all(|(_, entry)| part(&entry.route) == part(&first.route));
        if all { part(&first.route).clone() } else { ShortString::default() }
    };
    Route {
        exchange: same(|route| &route.exchange),
        routing_key: same(|route| &route.routing_key),
        queue: same(|route| &route.queue),
    }
}
