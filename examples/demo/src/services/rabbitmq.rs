//! What the services that use RabbitMQ share.

use otel_lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    message::Delivery,
    options::{
        BasicRejectOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tracing::warn;

use crate::{
    Error,
    order::{DEAD_LETTER_QUEUE, ORDERS_EXCHANGE, Order, PAID, REVIEW_QUEUE, SHIPPING_QUEUE},
    service,
};

/// Connects, and declares exchange and queues where they do not exist. The broker confirms what is published.
pub(crate) async fn connect() -> Result<(Connection, Channel), Error> {
    let uri = service::address("RABBITMQ_URI")?;
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;

    let exchange = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let queue = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(ORDERS_EXCHANGE.into(), ExchangeKind::Direct, exchange, FieldTable::default()).await?;
    channel.queue_declare(SHIPPING_QUEUE.into(), queue, FieldTable::default()).await?;
    channel.queue_declare(DEAD_LETTER_QUEUE.into(), queue, FieldTable::default()).await?;
    let mut dead_letters = FieldTable::default();
    dead_letters.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
    dead_letters.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString(DEAD_LETTER_QUEUE.into()));
    channel.queue_declare(REVIEW_QUEUE.into(), queue, dead_letters).await?;
    let bind = QueueBindOptions::default();
    channel.queue_bind(SHIPPING_QUEUE.into(), ORDERS_EXCHANGE.into(), PAID.into(), bind, FieldTable::default()).await?;
    Ok((connection, channel))
}

/// The order in a delivery. What is none is given up: delivered again it would be no better.
pub(crate) async fn order_in<E>(delivery: &Delivery) -> Result<Order, E>
where
    E: From<serde_json::Error> + From<otel_lapin::Error>,
{
    match serde_json::from_slice(&delivery.data) {
        Ok(order) => Ok(order),
        Err(error) => {
            warn!(%error, "not an order");
            delivery.reject(BasicRejectOptions { requeue: false }).await?;
            Err(error.into())
        }
    }
}
