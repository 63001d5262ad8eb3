//! Delivers messages to the application, each with its process span.

use std::{
    future::Future,
    iter,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use lapin::{
    Result,
    types::{DeliveryTag, ShortString},
};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use otel_messaging::{
    Instrumentation,
    adapter::{Arrival, Operation, OperationName, OperationStart, ProcessSpan, SourceId},
};

use crate::{
    consumer::ConsumerDelegate,
    error::error_type,
    headers::{HeaderExtractor, read_headers},
    history::record_history,
    ledger::{Ledger, UnsettledRemnant},
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
    let delivered = start.map(|start| DeliveredMessage::record_delivery(start, source, delivery, origin()));
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

/// What a delivered message carries: its process span, and the attributes of its settlement.
#[derive(Debug)]
pub(crate) struct DeliveredMessage {
    pub(crate) span: Arc<ProcessSpan>,
    pub(crate) origin: Arc<Origin>,
    pub(crate) tag: DeliveryTag,
    pub(crate) ids: MessageIds,
}

/// What all messages of one source with the same route have in common.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) telemetry: Arc<ClientTelemetry>,
    pub(crate) route: Arc<Route>,
    /// None if the messages need no settlement.
    pub(crate) ledger: Option<Arc<Ledger>>,
    process: Arc<Operation>,
}

impl Origin {
    /// Of messages that are processed by the operation `process`.
    pub(crate) fn new(
        process: OperationName,
        telemetry: &Arc<ClientTelemetry>,
        route: Route,
        ledger: Option<&Arc<Ledger>>,
    ) -> Self {
        let process = telemetry.operation_at(process, &route);
        Self { telemetry: telemetry.clone(), route: Arc::new(route), ledger: ledger.cloned(), process }
    }
}

impl DeliveredMessage {
    /// Starts the telemetry of a delivered message and tracks it in its ledger.
    #[inline]
    pub(crate) fn record_delivery(
        start: OperationStart,
        source: SourceId,
        delivery: &lapin::message::Delivery,
        origin: Arc<Origin>,
    ) -> Arc<Self> {
        let Origin { telemetry, ledger, process, .. } = &*origin;
        let properties = &delivery.properties;
        let headers = properties.headers().as_ref();
        let found = headers.map(read_headers).unwrap_or_default();
        let headers = headers.map(HeaderExtractor::new);
        let arrival =
            Arrival::new(source, headers.as_ref().map(|headers| headers as _)).context_headers(&found.contexts);
        let arrival = record_history(arrival.payload(&delivery.data), delivery, &found);
        let mut arrival = arrival.awaits_settlement(ledger.is_some());
        if let Some(address) = properties.reply_to() {
            arrival = arrival.reply_to(address.as_str());
        }
        let span = telemetry.core.deliver(start, process.clone(), arrival, |attributes| {
            delivery_attributes(attributes, delivery, telemetry);
            stream_offset(attributes, found.stream_offset);
        });
        let delivered = Arc::new(Self {
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

    /// The message, or with `multiple` all up to it, are settled by a call that is not recorded.
    pub(crate) fn mark_settled_elsewhere(&self, multiple: bool) {
        self.span.settles_elsewhere();
        match &self.origin.ledger {
            Some(ledger) if multiple => ledger.remove_settled_elsewhere(self.tag, multiple),
            Some(ledger) => _ = ledger.remove(self.tag, self),
            None => {}
        }
    }

    /// The raw acker is taken from the message: its settlement is not recorded.
    pub(crate) fn mark_released(&self, acker: &lapin::Acker) {
        self.span.settles_elsewhere();
        if let Some(ledger) = &self.origin.ledger
            && ledger.remove(self.tag, self)
        {
            ledger.note_untracked(self.tag, acker);
        }
    }

    /// The context of the message's process span.
    pub(crate) fn span_context(&self) -> SpanContext {
        self.span.context().span().span_context().clone()
    }
}

impl Drop for DeliveredMessage {
    fn drop(&mut self) {
        if let Some(ledger) = &self.origin.ledger {
            ledger.message_dropped(self.tag, self, || UnsettledRemnant {
                context: self.span_context(),
                ids: self.ids.clone(),
                unsettled: self.span.unsettled(),
            });
        }
    }
}

/// Calls the user's delegate inside the process span of the message.
pub(crate) struct TracedDelegate<D> {
    pub(crate) delegate: D,
    pub(crate) source: Arc<Source>,
}

impl<D: ConsumerDelegate> lapin::ConsumerDelegate for TracedDelegate<D> {
    fn on_new_delivery(&self, delivery: lapin::message::DeliveryResult) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let delivery = match delivery {
            Ok(Some(delivery)) => {
                // Clear the current context: it has lapin's I/O span, or the span of the caller of `set_delegate`.
                let _cleared = opentelemetry::Context::new().attach();
                self.source.deliver_to_application(delivery)
            }
            Ok(None) => return self.delegate.on_new_delivery(Ok(None)),
            Err(error) => {
                self.source.record_error(&error);
                return self.delegate.on_new_delivery(Err(error));
            }
        };
        let Some(delivered) = delivery.acker.delivered().cloned() else {
            return self.delegate.on_new_delivery(Ok(Some(delivery)));
        };
        let handler = delivered.span.scope(|| self.delegate.on_new_delivery(Ok(Some(delivery))));
        Box::pin(Handler { span: delivered.span.clone(), handler })
    }

    fn drop_prefetched_messages(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.delegate.drop_prefetched_messages()
    }
}

/// The future of the user's delegate. It keeps the process span of the message open until it ends.
struct Handler {
    span: Arc<ProcessSpan>,
    handler: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Handler {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { span, handler } = &mut *self;
        span.scope(|| handler.as_mut().poll(cx))
    }
}
