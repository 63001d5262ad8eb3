//! Delivers messages to the application, each with its process span.

use std::{
    iter,
    sync::{Arc, Mutex, PoisonError},
};

use lapin::{Result, types::ShortString};
use otel_messaging::{
    Instrumentation,
    adapter::{Arrival, OperationStart, SourceId},
};

use crate::{
    delivered::{DeliveredMessage, Origin},
    error::error_type,
    headers::{HeaderExtractor, read_headers},
    history::delivery_history,
    ledger::Ledger,
    message::{BasicGetMessage, Delivery},
    telemetry::{
        CONSUME, ClientTelemetry, GET, MessageIds, PROCESS, PROCESS_GOT, Route, delivery_attributes, stream_offset,
    },
};

/// Where the messages of a consumer come from, and where their telemetry goes.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) telemetry: Arc<ClientTelemetry>,
    pub(crate) queue: ShortString,
    id: SourceId,
    /// None if the messages need no settlement.
    pub(crate) ledger: Option<Arc<Ledger>>,
    /// Origin of the last message: most often that of the next one too.
    last: Mutex<Option<Arc<Origin>>>,
}

impl Source {
    pub(crate) fn new(telemetry: Arc<ClientTelemetry>, queue: ShortString, ledger: Option<Arc<Ledger>>) -> Self {
        Self { telemetry, queue, id: SourceId::new(), ledger, last: Mutex::default() }
    }

    pub(crate) fn id(&self) -> SourceId {
        self.id
    }

    /// The same source with another instrumentation.
    pub(crate) fn instrumented(&self, instrumentation: Instrumentation) -> Self {
        let telemetry = Arc::new(self.telemetry.instrumented(instrumentation));
        Self { id: self.id, ..Self::new(telemetry, self.queue.clone(), self.ledger.clone()) }
    }

    /// Delivers a message with its process span.
    #[inline]
    pub(crate) fn deliver_to_application(&self, delivery: lapin::message::Delivery) -> Delivery {
        let start = self.telemetry.core.start_operation();
        let delivered = track(start, self.id, &delivery, self.ledger.as_ref(), || self.origin_of(&delivery));
        Delivery::new(delivery, delivered)
    }

    /// Records an error of the consumer.
    pub(crate) fn record_error(&self, error: &lapin::Error) {
        if let Some(start) = self.telemetry.core.start_operation() {
            let operation =
                self.telemetry.operation_at(CONSUME, &Route { queue: self.queue.clone(), ..Route::default() });
            let span = self.telemetry.core.receive(start, &operation, iter::empty(), |_| ());
            span.fail(error_type(error), error);
        }
    }

    #[inline]
    fn origin_of(&self, delivery: &lapin::message::Delivery) -> Arc<Origin> {
        let same = |origin: &&Arc<Origin>| {
            origin.route.exchange == delivery.exchange && origin.route.routing_key == delivery.routing_key
        };
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = last().as_ref().filter(same) {
            return found.clone();
        }
        // The user's hooks run here, so no lock is held.
        let route = Route::of(delivery, self.queue.clone());
        let origin = Arc::new(Origin::new(PROCESS, &self.telemetry, route, self.ledger.as_ref()));
        *last() = Some(origin.clone());
        origin
    }
}

/// Records the delivery of a message. Without a `start` nothing is recorded, and the ledger notes an untracked message.
#[inline]
fn track(
    start: Option<OperationStart>,
    source: SourceId,
    delivery: &lapin::message::Delivery,
    ledger: Option<&Arc<Ledger>>,
    origin: impl FnOnce() -> Arc<Origin>,
) -> Option<Arc<DeliveredMessage>> {
    let delivered = start.map(|start| record_delivery(start, source, delivery, origin()));
    if let (None, Some(ledger)) = (&delivered, ledger) {
        ledger.note_untracked(delivery.delivery_tag, &delivery.acker);
    }
    delivered
}

/// The source of a `basic_get`'s message.
pub(crate) struct GetSource<'a> {
    pub(crate) telemetry: &'a Arc<ClientTelemetry>,
    pub(crate) id: SourceId,
    /// None if the messages need no settlement.
    pub(crate) ledger: Option<&'a Arc<Ledger>>,
}

impl GetSource<'_> {
    /// Records the answer to a `basic_get` and delivers its message.
    pub(crate) fn record_get(
        &self,
        start: OperationStart,
        queue: ShortString,
        answer: Result<Option<lapin::message::BasicGetMessage>>,
    ) -> Result<Option<BasicGetMessage>> {
        let Self { telemetry, id, ledger } = *self;
        match answer {
            Ok(None) => Ok(None),
            Ok(Some(lapin::message::BasicGetMessage { delivery, message_count })) => {
                let route = Route::of(&delivery, queue);
                let operation = telemetry.operation_at(GET, &route);
                let origin = || Arc::new(Origin::new(PROCESS_GOT, telemetry, route, ledger));
                let delivered = track(telemetry.core.start_operation(), id, &delivery, ledger, origin);
                let messages = delivered.iter().map(|delivered| &delivered.span);
                let span = telemetry.core.receive(start, &operation, messages, |attributes| {
                    delivery_attributes(attributes, &delivery, telemetry);
                });
                span.succeed();
                Ok(Some(BasicGetMessage { delivery: Delivery::new(delivery, delivered), message_count }))
            }
            Err(error) => {
                let operation = telemetry.operation_at(GET, &Route { queue, ..Route::default() });
                let span = telemetry.core.receive(start, &operation, iter::empty(), |_| ());
                span.fail(error_type(&error), &error);
                Err(error)
            }
        }
    }

    /// Delivers the message of a `basic_get` that is not recorded.
    pub(crate) fn deliver_untraced(&self, message: lapin::message::BasicGetMessage) -> BasicGetMessage {
        if let Some(ledger) = self.ledger {
            ledger.note_untracked(message.delivery.delivery_tag, &message.delivery.acker);
        }
        message.into()
    }
}

/// Starts the telemetry of a delivered message and tracks it in its ledger.
#[inline]
fn record_delivery(
    start: OperationStart,
    source: SourceId,
    delivery: &lapin::message::Delivery,
    origin: Arc<Origin>,
) -> Arc<DeliveredMessage> {
    let Origin { telemetry, ledger, process, .. } = &*origin;
    let properties = &delivery.properties;
    let headers = properties.headers().as_ref();
    let found = headers.map(read_headers).unwrap_or_default();
    let headers = headers.map(HeaderExtractor::new);
    let mut arrival = Arrival::new(source, headers.as_ref().map(|headers| headers as _))
        .context_headers(&found.contexts)
        .payload(&delivery.data)
        .history(delivery_history(delivery, &found))
        .awaits_settlement(ledger.is_some());
    if let Some(address) = properties.reply_to() {
        arrival = arrival.reply_to(address.as_str());
    }
    let span = telemetry.core.deliver(start, process.clone(), arrival, |attributes| {
        delivery_attributes(attributes, delivery, telemetry);
        stream_offset(attributes, found.stream_offset);
    });
    let delivered = Arc::new(DeliveredMessage {
        span,
        tag: delivery.delivery_tag,
        ids: MessageIds::of(properties, found.stream_offset),
        origin,
    });
    if let Some(ledger) = &delivered.origin.ledger {
        ledger.insert(&delivered, &delivery.acker);
    }
    delivered
}
