//! NATS: reserves what was ordered, and says so.

use otel_async_nats::{Client, Message, client::PublishError, otel::MessageExt};

/// Works on one order.
///
/// # Errors
///
/// The client's.
pub async fn reserve(client: &Client, order: Message) -> Result<(), PublishError> {
    order.process(|| async { client.publish("reserved", order.payload.clone()).await }).await
}

#[cfg(test)]
mod tests {
    use opentelemetry::propagation::TextMapPropagator;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use otel_async_nats::{
        HeaderMap,
        otel::{HeaderInjector, Incoming, raw},
    };
    use tokio::{
        io::{AsyncWriteExt, copy, sink},
        net::TcpListener,
    };

    use super::*;
    use crate::recorded::Recorded;

    /// As much of a NATS server as a client needs to connect and to publish.
    async fn server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let (mut input, mut output) = client.split();
            output.write_all(b"INFO {\"headers\":true,\"max_payload\":1048576}\r\nPONG\r\n").await.unwrap();
            copy(&mut input, &mut sink()).await
        });
        address.to_string()
    }

    /// What NATS would have delivered, sent inside a span of the test's.
    fn message(recorded: &Recorded, client: &Client) -> Message {
        let mut headers = HeaderMap::new();
        let sender = recorded.span("place order");
        TraceContextPropagator::new().inject_context(&sender, &mut HeaderInjector::new(&mut headers));
        let message = raw::Message {
            subject: "orders.4711".into(),
            reply: None,
            payload: "four apples".into(),
            headers: Some(headers),
            status: None,
            description: None,
            length: 0,
        };
        Incoming::queue_subscription(client, "orders.*", "inventory").message(message)
    }

    #[tokio::test]
    async fn an_order_is_reserved_in_the_trace_of_its_sender() {
        let recorded = Recorded::new();
        let client = otel_async_nats::connect(server().await).await.unwrap();
        let client = client.with_instrumentation(recorded.instrumentation());

        reserve(&client, message(&recorded, &client)).await.unwrap();

        let attributes = ["messaging.destination.name", "messaging.destination.template"];
        assert_eq!(
            recorded.trace(3, &attributes),
            [
                "place order Internal",
                "  process orders.* Consumer, links place order, \
                 messaging.destination.name=orders.4711, messaging.destination.template=orders.*",
                "    publish reserved Producer, messaging.destination.name=reserved",
            ]
        );
    }
}
