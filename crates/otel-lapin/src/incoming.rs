//! Wraps deliveries that lapin itself received.

use std::sync::Arc;

use futures_core::Stream;
use lapin::types::ShortString;
use otel_messaging::{Instrumentation, adapter::DeliverStream};

use crate::{message::Delivery, receive::Source, telemetry::ClientTelemetry};

/// Gives process spans to deliveries that other code received with lapin itself.
///
/// A delivery gets its process span when it passes, as if a [`Consumer`](crate::Consumer) delivered it. A raw consumer needs
/// no `Incoming`: use `Consumer::from(raw)`.
///
/// ```no_run
/// use futures::{Stream, StreamExt};
/// use otel_lapin::{
///     options::BasicAckOptions,
///     otel::{Incoming, MessageExt, raw},
/// };
///
/// # async fn pack(_: &[u8]) -> Result<(), std::io::Error> { Ok(()) }
/// // A stream from a crate that knows lapin and not this one.
/// async fn ship(deliveries: impl Stream<Item = raw::Result<raw::message::Delivery>> + Unpin) -> raw::Result<()> {
///     let mut deliveries = Incoming::of_queue("shipping").stream(deliveries);
///     while let Some(delivery) = deliveries.next().await {
///         let delivery = delivery?;
///         let _ = delivery.process(|| pack(&delivery.data)).await;
///         delivery.ack(BasicAckOptions::default()).await?;
///     }
///     Ok(())
/// }
///
/// // One delivery, in a handler that a framework calls.
/// async fn on_delivery(delivery: raw::message::Delivery) -> Result<(), std::io::Error> {
///     let delivery = Incoming::of_queue("shipping").message(delivery);
///     delivery.process(|| pack(&delivery.data)).await
/// }
/// ```
///
/// Keep one `Incoming` for each queue: it builds names and attributes once. The server's address is unknown, and a settlement
/// with `multiple` is recorded for its own message only.
#[derive(Debug, Clone)]
pub struct Incoming(Arc<Source>);

impl Incoming {
    /// For deliveries from this queue.
    #[must_use]
    pub fn of_queue(queue: impl Into<ShortString>) -> Self {
        Self(Arc::new(Source::new(ClientTelemetry::for_raw_handles(), queue.into(), None)))
    }

    /// Uses this instrumentation instead of the default one.
    #[must_use]
    pub fn with_instrumentation(self, instrumentation: Instrumentation) -> Self {
        Self(Arc::new(self.0.instrumented(instrumentation)))
    }

    /// Wraps a delivery.
    #[must_use]
    pub fn message(&self, delivery: lapin::message::Delivery) -> Delivery {
        self.0.deliver_to_application(delivery)
    }

    /// Wraps the deliveries of a stream as the stream is polled. Errors pass through.
    pub fn stream<S, E>(&self, deliveries: S) -> impl Stream<Item = Result<Delivery, E>> + use<S, E>
    where
        S: Stream<Item = Result<lapin::message::Delivery, E>>,
    {
        let source = self.0.clone();
        DeliverStream::new(source.id(), deliveries, move |delivery: Result<_, E>| {
            delivery.map(|delivery| source.deliver_to_application(delivery))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_instrumentation_is_used() {
        let sizes = Instrumentation::builder().with_captured_sizes(true).build();
        let incoming = Incoming::of_queue("orders").with_instrumentation(Instrumentation::default());
        let later = incoming.clone().with_instrumentation(sizes);
        assert!(later.0.telemetry.core.captures_sizes() && !incoming.0.telemetry.core.captures_sizes());
    }
}
