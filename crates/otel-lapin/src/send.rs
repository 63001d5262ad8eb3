//! Starts the span of a publish and ends it with the answer of lapin or of the broker.

use std::{mem, sync::Arc};

use lapin::{BasicProperties, Result};
use otel_messaging::adapter::{ClientSpan, OperationStart, PreparedOperation};

use crate::{
    confirms::{ConfirmHandle, PendingConfirms},
    error::error_type,
    headers::OutgoingHeaders,
    publisher_confirm::PublisherConfirm,
    telemetry::{ClientTelemetry, message_attributes},
};

/// Starts the span of a publish and writes its context into the message's headers.
///
/// `confirms` is `Some` if the channel is in confirm mode; `returnable` says that the broker may return the message.
pub(crate) fn start_send(
    start: OperationStart,
    operation: &Arc<PreparedOperation>,
    telemetry: &ClientTelemetry,
    confirms: Option<&Arc<PendingConfirms>>,
    returnable: bool,
    payload: &[u8],
    properties: &mut BasicProperties,
) -> SendInFlight {
    let mut outgoing = OutgoingHeaders::new(properties, telemetry.frame_max(), confirms.is_some() && returnable);
    let span = telemetry.core.send(start, operation, Some(&mut outgoing), |attributes| {
        message_attributes(attributes, properties, payload, telemetry);
    });
    let (headers, injected) = outgoing.finish();
    if let Some(headers) = headers {
        *properties = mem::take(properties).with_headers(headers);
    }
    match confirms {
        Some(confirms) => SendInFlight::AwaitsConfirm(confirms.add(span, injected)),
        None => SendInFlight::Sent(span),
    }
}

/// A publish that lapin is sending.
pub(crate) enum SendInFlight {
    /// Nothing is recorded.
    Untraced,
    /// The span ends when lapin has sent the message.
    Sent(ClientSpan),
    /// The span ends with the broker's answer.
    AwaitsConfirm(ConfirmHandle),
}

impl SendInFlight {
    /// Ends the span with lapin's answer, or passes it on to the confirm.
    pub(crate) fn finish_send(self, published: Result<lapin::PublisherConfirm>) -> Result<PublisherConfirm> {
        match (self, published) {
            (Self::Untraced, published) => published.map(PublisherConfirm::from),
            (Self::Sent(span), published) => {
                span.report(&published, error_type);
                published.map(PublisherConfirm::from)
            }
            (Self::AwaitsConfirm(publish), Ok(confirm)) => Ok(PublisherConfirm::new(confirm, publish)),
            (Self::AwaitsConfirm(publish), Err(error)) => {
                publish.publish_failed(&error);
                Err(error)
            }
        }
    }
}
