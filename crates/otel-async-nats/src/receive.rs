//! Delivers messages to the application: process spans, and the spans of fetches and polls.

#[cfg(feature = "jetstream")]
use std::iter;
use std::{sync::Arc, time::Duration};

use async_nats::Subject;
#[cfg(feature = "jetstream")]
use otel_messaging::adapter::{Batch, ClientSpan, OperationStart};
use otel_messaging::{
    Instrumentation,
    adapter::{Arrival, OperationName, PreparedOperation, ProcessSpan, SourceId},
    semconv::extension,
};

#[cfg(feature = "jetstream")]
use crate::telemetry::{CONSUME, FETCH};
use crate::{
    headers::{HeaderExtractor, ScannedHeaders},
    history::DeliveryHistory,
    ledger::{DeliveredMessage, MessageDescription},
    origin::{Origin, SourceDescription},
    telemetry::{ClientTelemetry, PROCESS, PROCESS_FETCHED},
};

/// A subscription or a consumer, as the source of messages.
#[derive(Debug)]
pub(crate) struct Source {
    telemetry: Arc<ClientTelemetry>,
    id: SourceId,
    origin: Arc<Origin>,
}

impl Source {
    /// A subscription, which is its own source of messages.
    pub(crate) fn subscription(
        telemetry: &Arc<ClientTelemetry>,
        subject: &str,
        queue_group: Option<&str>,
    ) -> Arc<Self> {
        let (subject, group) = (Some(subject.into()), queue_group.map(Arc::from));
        let description = SourceDescription { subject, group, ..SourceDescription::default() };
        Arc::new(Self::new(telemetry.clone(), SourceId::new(), description))
    }

    /// A consumer of a stream: each look-up gives the same source.
    #[cfg(feature = "jetstream")]
    pub(crate) fn consumer(telemetry: Arc<ClientTelemetry>, consumer: &str, description: SourceDescription) -> Self {
        let stream = description.stream.as_deref().unwrap_or_default();
        let id = telemetry.source.named(stream).named(consumer);
        Self::new(telemetry, id, description)
    }

    fn new(telemetry: Arc<ClientTelemetry>, id: SourceId, description: SourceDescription) -> Self {
        Self { telemetry, id, origin: Arc::new(Origin::new(description)) }
    }

    pub(crate) fn id(&self) -> SourceId {
        self.id
    }

    /// The same source, reported to another instrumentation.
    pub(crate) fn with_instrumentation(&self, instrumentation: Instrumentation) -> Self {
        self.with_telemetry(Arc::new(self.telemetry.with_instrumentation(instrumentation)))
    }

    /// The same source, with this telemetry.
    pub(crate) fn with_telemetry(&self, telemetry: Arc<ClientTelemetry>) -> Self {
        Self { telemetry, id: self.id, origin: self.origin.clone() }
    }

    #[inline]
    fn operation(&self, name: OperationName, subject: Option<&str>) -> Arc<PreparedOperation> {
        self.telemetry.operation_at(name, &self.origin, subject)
    }

    /// Delivers a message to the application. `history` is called where telemetry is on.
    #[inline]
    pub(crate) fn deliver_message<'a>(
        &self,
        message: &'a async_nats::Message,
        history: impl FnOnce() -> DeliveryHistory<'a>,
    ) -> Option<NewDelivery> {
        // The client's own signals: no responders, heartbeats.
        if message.status.is_some() {
            return None;
        }
        let start = self.telemetry.start_on_message()?;
        let name = if self.origin.description.pulled { PROCESS_FETCHED } else { PROCESS };
        let operation = self.operation(name, Some(&message.subject));
        let mut scanned = ScannedHeaders::default();
        if let Some(headers) = &message.headers {
            scanned.scan(headers);
        }
        let history = history();
        let domain: Option<Arc<str>> = history.domain.map(Arc::from);
        let size = if history.headers_only { scanned.size } else { Some(message.payload.len()) };
        let id: Option<Arc<str>> = scanned.id.map(|id| id.as_str().into());
        let headers = message.headers.as_ref().map(HeaderExtractor::new);
        let mut arrival = Arrival::new(self.id, headers.as_ref().map(|headers| headers as _))
            .context_headers(&scanned.contexts)
            .payload(&message.payload)
            .history(history.for_arrival(scanned.scheduled))
            .awaits_settlement(history.awaits_settlement);
        if let (Some(reply), None) = (&message.reply, history.stored) {
            arrival = arrival.reply_to(reply);
        }
        let process = self.telemetry.core.deliver(start, operation, arrival, |attributes| {
            self.telemetry.set_message(attributes, id.clone(), size);
            history.set_attributes(attributes);
            attributes.set_opt(extension::NATS_DOMAIN, domain.clone());
        });
        Some(NewDelivery { process, id, domain })
    }

    /// Starts the span of a receive operation with these messages.
    #[cfg(feature = "jetstream")]
    pub(crate) fn received(&self, start: OperationStart, messages: Batch) -> ClientSpan {
        let operation = self.operation(FETCH, messages.destination().as_deref());
        self.telemetry.core.receive_batch(start, &operation, messages)
    }

    /// Starts the span of a poll that failed.
    #[cfg(feature = "jetstream")]
    pub(crate) fn failed_poll(&self, start: OperationStart) -> ClientSpan {
        let name = if self.origin.description.pulled { FETCH } else { CONSUME };
        let operation = self.operation(name, None);
        self.telemetry.core.receive(start, &operation, iter::empty(), |_| ())
    }

    /// Records the poll for one message.
    #[cfg(feature = "jetstream")]
    pub(crate) fn record_poll(&self, start: OperationStart, subject: &str, message: &MessageTelemetry) {
        let operation = self.operation(FETCH, Some(subject));
        self.telemetry.core.polled(start, &operation, message.process(), |attributes| {
            message.process().own_attributes(attributes);
        });
    }
}

/// A message at its delivery.
#[cfg_attr(not(feature = "jetstream"), allow(dead_code))]
pub(crate) struct NewDelivery {
    process: Arc<ProcessSpan>,
    id: Option<Arc<str>>,
    domain: Option<Arc<str>>,
}

#[cfg_attr(not(feature = "jetstream"), allow(dead_code))]
impl NewDelivery {
    /// The message can be settled on this reply subject, as long as the server waits for it.
    pub(crate) fn make_settleable(
        self,
        reply: Subject,
        ack_wait: Duration,
        subject: &Subject,
        source: &Source,
    ) -> MessageTelemetry {
        let Self { process: span, id, domain } = self;
        let description = MessageDescription { origin: source.origin.clone(), subject: subject.clone(), id, domain };
        let ledger = source.telemetry.ledger.clone();
        let delivered = Arc::new(DeliveredMessage { span, description, reply, ack_wait, ledger });
        delivered.ledger.enter(&delivered);
        MessageTelemetry::Settleable(delivered)
    }
}

impl From<NewDelivery> for MessageTelemetry {
    fn from(NewDelivery { process, .. }: NewDelivery) -> Self {
        Self::ProcessOnly(process)
    }
}

/// The telemetry that a received message carries.
#[derive(Debug, Clone)]
pub(crate) enum MessageTelemetry {
    ProcessOnly(Arc<ProcessSpan>),
    /// It can be settled.
    Settleable(Arc<DeliveredMessage>),
}

impl MessageTelemetry {
    #[inline]
    pub(crate) fn process(&self) -> &Arc<ProcessSpan> {
        match self {
            Self::ProcessOnly(process) => process,
            Self::Settleable(delivered) => &delivered.span,
        }
    }
}
