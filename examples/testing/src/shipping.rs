//! RabbitMQ: packs an order.

use std::io;

use otel_lapin::{Result, message::Delivery, options::BasicAckOptions, otel::MessageExt};

/// Packs an order, and acknowledges it where that went well.
///
/// # Errors
///
/// The client's.
pub async fn ship(order: Delivery) -> Result<()> {
    if order.process(|| pack(&order.data)).await.is_ok() {
        order.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

async fn pack(order: &[u8]) -> io::Result<()> {
    if order.is_empty() { Err(io::Error::other("nothing to pack")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use opentelemetry::propagation::TextMapPropagator;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use otel_lapin::{
        BasicProperties,
        otel::{HeaderInjector, Incoming, raw},
        types::FieldTable,
    };

    use super::*;
    use crate::recorded::Recorded;

    /// What RabbitMQ would have delivered, sent inside a span of the test's.
    fn delivery(recorded: &Recorded, data: &[u8]) -> Delivery {
        let mut headers = FieldTable::default();
        let sender = recorded.span("place order");
        TraceContextPropagator::new().inject_context(&sender, &mut HeaderInjector::new(&mut headers));
        let mut delivery = raw::message::Delivery::mock(1, "shop".into(), "orders".into(), false, data.to_vec());
        delivery.properties = BasicProperties::default().with_headers(headers);
        let incoming = Incoming::of_queue("shipping").with_instrumentation(recorded.instrumentation());
        incoming.message(delivery)
    }

    #[tokio::test]
    async fn an_order_is_packed_in_the_trace_of_its_sender() {
        let recorded = Recorded::new();
        ship(delivery(&recorded, b"four apples")).await.unwrap();
        let lines = [
            "place order Internal",
            "  process shop:orders:shipping Consumer, links place order",
            "    ack shop:orders:shipping Client",
        ];
        assert_eq!(recorded.trace(3, &[]), lines);
    }

    #[tokio::test]
    async fn an_empty_order_fails_and_is_not_acknowledged() {
        let recorded = Recorded::new();
        ship(delivery(&recorded, b"")).await.unwrap();
        let failed = "error: nothing to pack, error.type=std::io::error::Error";
        let process = format!("  process shop:orders:shipping Consumer, links place order, {failed}");
        assert_eq!(recorded.trace(2, &["error.type"]), ["place order Internal", &process]);
    }
}
