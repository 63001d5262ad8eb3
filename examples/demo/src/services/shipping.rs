//! Takes paid orders from RabbitMQ, reserves the goods with a request over NATS, and leaves word for the customer in
//! JetStream.

use otel_async_nats::{
    Client,
    jetstream::{self, context::PublishError, stream},
};
use otel_lapin::{
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use otel_messaging::MessageExt;
use tracing::info;

use super::rabbitmq;
use crate::{
    Error,
    order::{NOTIFICATIONS_STREAM, NOTIFICATIONS_SUBJECT, RESERVE_SUBJECT, SHIPPING_QUEUE},
    service::{self, Stop},
};

struct Shipping {
    nats: Client,
    jetstream: jetstream::Context,
}

/// Why an order was not shipped.
#[derive(Debug, thiserror::Error)]
enum ShippingError {
    #[error("not an order: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the inventory does not answer: {0}")]
    Inventory(#[from] otel_async_nats::RequestError),
    #[error("no word for the customer: {0}")]
    Notification(#[from] PublishError),
    #[error(transparent)]
    RabbitMq(#[from] otel_lapin::Error),
}

pub(crate) async fn run(stop: Stop) -> Result<(), Error> {
    let nats = otel_async_nats::connect(service::address("NATS_URL")?).await?;
    let jetstream = jetstream::new(nats.clone());
    jetstream.get_or_create_stream(notifications()).await?;
    let shipping = Shipping { nats, jetstream };

    let (connection, channel) = rabbitmq::connect().await?;
    channel.basic_qos(16, BasicQosOptions::default()).await?;
    let consume = BasicConsumeOptions::default();
    let mut deliveries =
        channel.basic_consume(SHIPPING_QUEUE.into(), "shipping".into(), consume, FieldTable::default()).await?;
    service::ready(None);

    while let Some(delivery) = service::next(&mut deliveries, &stop).await {
        let delivery = delivery?;
        match delivery.process(|| shipping.handle(&delivery)).await {
            Ok(()) | Err(ShippingError::Malformed(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    drop(deliveries);
    shipping.nats.flush().await?;
    connection.close(200, "stopping".into()).await?;
    Ok(())
}

/// The stream that shipping writes to and notification reads from; whichever comes first creates it.
pub(super) fn notifications() -> stream::Config {
    stream::Config {
        name: NOTIFICATIONS_STREAM.to_owned(),
        subjects: vec![NOTIFICATIONS_SUBJECT.to_owned()],
        ..Default::default()
    }
}

impl Shipping {
    async fn handle(&self, delivery: &Delivery) -> Result<(), ShippingError> {
        let order = rabbitmq::order_in::<ShippingError>(delivery).await?;
        let payload = order.to_json();
        let reservation = self.nats.request(RESERVE_SUBJECT, payload.clone().into()).await?;
        info!(order.id, "reserved: {}", String::from_utf8_lossy(&reservation.payload));
        self.jetstream.publish(NOTIFICATIONS_SUBJECT, payload.into()).await?.await?;
        // Inside the handler, so that the message's span shows how it was settled.
        delivery.ack(BasicAckOptions::default()).await?;
        Ok(())
    }
}
