//! A delivered message: its process span and the attributes of its settlement.

use std::sync::Arc;

use lapin::types::DeliveryTag;
use opentelemetry::trace::{SpanContext, TraceContextExt};
use otel_messaging::adapter::{OperationName, PreparedOperation, ProcessSpan};

use crate::{
    ledger::{Ledger, UnsettledRemnant},
    telemetry::{ClientTelemetry, MessageIds, Route},
};

/// The part of a message that lives from its delivery to the drop of its last handle.
#[derive(Debug)]
pub(crate) struct DeliveredMessage {
    pub(crate) span: Arc<ProcessSpan>,
    pub(crate) origin: Arc<Origin>,
    pub(crate) tag: DeliveryTag,
    pub(crate) ids: MessageIds,
}

/// The data that all messages of one source with the same route share.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) telemetry: Arc<ClientTelemetry>,
    pub(crate) route: Arc<Route>,
    /// None if the messages need no settlement.
    pub(crate) ledger: Option<Arc<Ledger>>,
    pub(crate) process: Arc<PreparedOperation>,
}

impl Origin {
    /// The origin of messages that the operation `process` processes.
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
