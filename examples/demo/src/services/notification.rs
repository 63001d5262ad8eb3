//! Tells customers what became of their orders: the end of every trace. Shipped ones come from JetStream, those that
//! could not be paid from RabbitMQ.

use otel_async_nats::jetstream::{
    self, AckKind,
    consumer::{AckPolicy, pull},
};
use otel_lapin::{
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions},
    types::FieldTable,
};
use otel_messaging::MessageExt;
use tracing::{info, instrument, warn};

use super::{rabbitmq, shipping};
use crate::{
    Error,
    order::{DEAD_LETTER_QUEUE, NOTIFICATIONS_STREAM, Order},
    service::{self, Said, Stop, say},
};

/// Why a customer was not told.
#[derive(Debug, thiserror::Error)]
enum NotificationError {
    #[error("not an order: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error(transparent)]
    Nats(otel_async_nats::Error),
    #[error(transparent)]
    RabbitMq(#[from] otel_lapin::Error),
}

pub(crate) async fn run(stop: Stop) -> Result<(), Error> {
    let nats = otel_async_nats::connect(service::address("NATS_URL")?).await?;
    let jetstream = jetstream::new(nats.clone());
    jetstream.get_or_create_stream(shipping::notifications()).await?;
    let durable = pull::Config {
        durable_name: Some("notification".to_owned()),
        ack_policy: AckPolicy::Explicit,
        ..Default::default()
    };
    let consumer = jetstream.create_consumer_on_stream(durable, NOTIFICATIONS_STREAM).await?;
    let mut shipped = consumer.messages().await?;

    let (connection, channel) = rabbitmq::connect().await?;
    let consume = BasicConsumeOptions::default();
    let mut unpaid =
        channel.basic_consume(DEAD_LETTER_QUEUE.into(), "notification".into(), consume, FieldTable::default()).await?;
    service::ready(None);

    let shipped = async {
        while let Some(message) = service::next(&mut shipped, &stop).await {
            let message = message?;
            unless_malformed(message.process(|| notify_shipped(&message)).await)?;
        }
        Ok::<_, Error>(())
    };
    let unpaid = async {
        while let Some(delivery) = service::next(&mut unpaid, &stop).await {
            let delivery = delivery?;
            unless_malformed(delivery.process(|| notify_unpaid(&delivery)).await)?;
        }
        Ok(())
    };
    tokio::try_join!(shipped, unpaid)?;
    nats.flush().await?;
    connection.close(200, "stopping".into()).await?;
    Ok(())
}

/// What is no order is given up, and is no reason to stop.
fn unless_malformed(recorded: Result<(), NotificationError>) -> Result<(), NotificationError> {
    match recorded {
        Err(NotificationError::Malformed(_)) => Ok(()),
        recorded => recorded,
    }
}

async fn notify_shipped(message: &jetstream::Message) -> Result<(), NotificationError> {
    let order = match serde_json::from_slice(&message.payload) {
        Ok(order) => order,
        Err(error) => {
            warn!(%error, "not an order");
            message.ack_with(AckKind::Term).await.map_err(NotificationError::Nats)?;
            return Err(error.into());
        }
    };
    send_mail(&order, "is on its way");
    message.ack().await.map_err(NotificationError::Nats)
}

async fn notify_unpaid(delivery: &Delivery) -> Result<(), NotificationError> {
    let order = rabbitmq::order_in::<NotificationError>(delivery).await?;
    send_mail(&order, "could not be paid");
    delivery.ack(BasicAckOptions::default()).await?;
    Ok(())
}

#[instrument(name = "send mail", skip_all, fields(order.id = order.id))]
fn send_mail(order: &Order, what: &str) {
    info!(order.id, "your {} {what}", order.item);
    say(&Said::Notified { id: order.id });
}
