//! Messages handed to the application, and what becomes of them.

use std::{iter, sync::Arc};

use lapin::{
    Error, Result,
    types::{DeliveryTag, ShortString},
};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use otel_messaging::{
    adapter::{Arrival, Call, ClientSpan, OperationName, ProcessSpan, Settlement, Settles},
    semconv::attribute,
};

use crate::{
    error::error_type,
    headers::HeaderExtractor,
    ledger::{Entry, Ledger},
    telemetry::{Broker, PROCESS, Place, delivery_attributes, delivery_tag, ids},
};

/// What a message carries that was handed to the application: its process span, and what its settlement tells.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) span: Arc<ProcessSpan>,
    pub(crate) broker: Arc<Broker>,
    pub(crate) place: Arc<Place>,
    pub(crate) tag: DeliveryTag,
    message_id: Option<ShortString>,
    conversation_id: Option<ShortString>,
    /// None where nothing is to be settled.
    ledger: Option<Arc<Ledger>>,
}

impl Handed {
    /// Hands a message out.
    pub(crate) fn out(
        call: Call,
        delivery: &lapin::message::Delivery,
        broker: &Arc<Broker>,
        place: Arc<Place>,
        ledger: Option<&Arc<Ledger>>,
    ) -> Arc<Self> {
        let properties = &delivery.properties;
        let headers = properties.headers().as_ref().map(HeaderExtractor::new);
        let headers = headers.as_ref().map(|headers| headers as _);
        let operation = broker.at(PROCESS, &place);
        let span = broker.telemetry.hand_out(call, operation, Arrival::new(headers), |attributes| {
            delivery_attributes(attributes, delivery);
        });
        let handed = Arc::new(Self {
            span,
            broker: broker.clone(),
            place,
            tag: delivery.delivery_tag,
            message_id: properties.message_id().clone(),
            conversation_id: properties.correlation_id().clone(),
            ledger: ledger.cloned(),
        });
        if let Some(ledger) = ledger {
            ledger.enter(&handed, &delivery.acker);
        }
        handed
    }

    /// The context of the message's process span.
    pub(crate) fn span_context(&self) -> SpanContext {
        self.span.context().span().span_context().clone()
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(ledger) = &self.ledger {
            ledger.outlive(self.tag, self, || self.span_context());
        }
    }
}

/// A settlement that has begun.
pub(crate) struct Settling<'a> {
    span: ClientSpan,
    messages: Messages<'a>,
}

enum Messages<'a> {
    One(&'a Arc<Handed>),
    Known(&'a Ledger, Vec<(DeliveryTag, Entry)>),
}

impl<'a> Settling<'a> {
    /// Of a message at hand, or of all up to it.
    pub(crate) fn message(call: Call, name: OperationName, message: &'a Arc<Handed>, multiple: bool) -> Self {
        if let (true, Some(ledger)) = (multiple, &message.ledger) {
            return Self::all_until(call, name, message.tag, &message.broker, ledger);
        }
        let span = of_message(call, name, message);
        Self { span, messages: Messages::One(message) }
    }

    /// By tag alone.
    pub(crate) fn tagged(
        call: Call,
        name: OperationName,
        tag: DeliveryTag,
        multiple: bool,
        broker: &Broker,
        ledger: &'a Ledger,
    ) -> Self {
        if multiple {
            return Self::all_until(call, name, tag, broker, ledger);
        }
        let entry = ledger.find(tag);
        let span = match entry.as_ref().and_then(|entry| entry.message.upgrade()) {
            Some(message) => of_message(call, name, &message),
            None => {
                let context = entry.as_ref().and_then(Entry::context);
                let settles = context.as_ref().map_or(Settles::Unknown, Settles::Context);
                let nowhere = Place::default();
                let place = entry.as_ref().map_or(&nowhere, |entry| &entry.place);
                broker.telemetry.settle(call, &broker.at(name, place), settles, iter::empty(), |attributes| {
                    delivery_tag(attributes, tag);
                })
            }
        };
        Self { span, messages: Messages::Known(ledger, entry.map(|entry| (tag, entry)).into_iter().collect()) }
    }

    fn all_until(call: Call, name: OperationName, tag: DeliveryTag, broker: &Broker, ledger: &'a Ledger) -> Self {
        let known = ledger.find_until(tag);
        let operation = broker.at(name, &common_place(&known));
        let links = known.iter().filter_map(|(_, entry)| entry.context());
        let span = broker.telemetry.settle(call, &operation, Settles::Unknown, links, |attributes| {
            if tag != 0 {
                delivery_tag(attributes, tag);
            }
            if !known.is_empty() {
                let count = i64::try_from(known.len()).unwrap_or(i64::MAX);
                attributes.set(attribute::MESSAGING_BATCH_MESSAGE_COUNT, count);
            }
        });
        Self { span, messages: Messages::Known(ledger, known) }
    }

    /// Reports what lapin answered: whether the broker was told.
    pub(crate) fn end(self, result: &Result<bool>, outcome: Settlement) {
        match result {
            Ok(true) => self.settled(outcome),
            Ok(false) => self.span.settled(Settlement::AlreadySettled),
            Err(error) => self.failed(error),
        }
    }

    pub(crate) fn settled(self, outcome: Settlement) {
        match self.messages {
            Messages::One(message) => {
                if let Some(ledger) = &message.ledger {
                    ledger.forget(message.tag, Arc::as_ptr(message));
                }
            }
            Messages::Known(ledger, known) => {
                for (tag, entry) in &known {
                    ledger.forget(*tag, entry.message.as_ptr());
                    if let Some(message) = entry.message.upgrade() {
                        message.span.settled(outcome);
                    }
                }
            }
        }
        self.span.settled(outcome);
    }

    pub(crate) fn failed(self, error: &Error) {
        self.span.fail(error_type(error), error);
    }
}

fn of_message(call: Call, name: OperationName, message: &Handed) -> ClientSpan {
    let operation = message.broker.at(name, &message.place);
    let settles = Settles::Message(&message.span);
    message.broker.telemetry.settle(call, &operation, settles, iter::empty(), |attributes| {
        delivery_tag(attributes, message.tag);
        ids(attributes, message.message_id.as_ref(), message.conversation_id.as_ref());
    })
}

/// What is the same for all of them.
fn common_place(known: &[(DeliveryTag, Entry)]) -> Place {
    let Some(((_, first), rest)) = known.split_first() else { return Place::default() };
    let same = |part: fn(&Place) -> &ShortString| {
        let all = rest.iter().all(|(_, entry)| part(&entry.place) == part(&first.place));
        if all { part(&first.place).clone() } else { ShortString::default() }
    };
    Place {
        exchange: same(|place| &place.exchange),
        routing_key: same(|place| &place.routing_key),
        queue: same(|place| &place.queue),
    }
}
