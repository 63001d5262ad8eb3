//! Takes new orders from Kafka, charges the card, and hands paid ones to RabbitMQ. A declined card is tried three times
//! in all, over a topic of its own; then the order goes to the dead-letter queue.

use std::time::Duration;

use otel_lapin::{BasicProperties, Channel, options::BasicPublishOptions};
use otel_messaging::MessageExt;
use otel_rdkafka::{
    ClientConfig, Message,
    consumer::Consumer,
    error::KafkaError,
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer},
};
use tokio::time::sleep;
use tracing::{info, instrument, warn};

use super::{kafka, rabbitmq};
use crate::{
    Error,
    order::{Card, DEAD_LETTER_QUEUE, ORDERS_EXCHANGE, ORDERS_TOPIC, Order, PAID, RETRY_TOPIC},
    service::{self, Stop},
};

/// How often a card is charged before the order is given up.
const ATTEMPTS: u32 = 3;
/// The header that counts attempts; an order without it comes for the first time.
const ATTEMPT: &str = "attempt";
/// How long the bank of a slow card takes.
const SLOW: Duration = Duration::from_millis(300);
/// How long a message may wait for the broker.
const PATIENCE: Duration = Duration::from_secs(5);

struct Payment {
    kafka: FutureProducer,
    rabbitmq: Channel,
}

/// Why an order was not paid.
#[derive(Debug, thiserror::Error)]
enum PaymentError {
    #[error("card declined")]
    Declined,
    #[error("not an order: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error(transparent)]
    RabbitMq(#[from] otel_lapin::Error),
}

pub(crate) async fn run(stop: Stop) -> Result<(), Error> {
    let servers = service::address("KAFKA_BOOTSTRAP_SERVERS")?;
    kafka::topics(&servers).await?;
    let (connection, channel) = rabbitmq::connect().await?;
    let producer = ClientConfig::new().set("bootstrap.servers", &servers).create()?;
    let payment = Payment { kafka: producer, rabbitmq: channel };
    let consumer = kafka::consumer(&servers, "payment")?;
    consumer.subscribe(&[ORDERS_TOPIC, RETRY_TOPIC])?;

    let mut messages = consumer.stream();
    while let Some(message) = service::next(&mut messages, &stop).await {
        let message = message?;
        // The one line of telemetry: everything inside belongs to the message, and its error is the span's.
        match message.process(payment.handle(&message)).await {
            Ok(()) | Err(PaymentError::Declined | PaymentError::Malformed(_)) => {}
            Err(error) => return Err(error.into()),
        }
        consumer.store_offset_from_message(&message)?;
    }
    drop(messages);
    payment.kafka.flush(PATIENCE)?;
    connection.close(200, "stopping".into()).await?;
    Ok(())
}

impl Payment {
    async fn handle(&self, message: &BorrowedMessage<'_>) -> Result<(), PaymentError> {
        let order: Order = serde_json::from_slice(message.payload().unwrap_or_default())?;
        let attempt = attempt(message);
        let charged = charge(&order).await;
        match charged {
            Ok(()) => self.publish(ORDERS_EXCHANGE, PAID, &order).await?,
            Err(PaymentError::Declined) if attempt < ATTEMPTS => self.retry(&order, attempt + 1).await?,
            Err(_) => self.publish("", DEAD_LETTER_QUEUE, &order).await?,
        }
        charged
    }

    async fn publish(&self, exchange: &str, routing_key: &str, order: &Order) -> Result<(), PaymentError> {
        let payload = order.to_json();
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default().with_content_type("application/json".into());
        self.rabbitmq.basic_publish(exchange.into(), routing_key.into(), options, &payload, properties).await?.await?;
        Ok(())
    }

    async fn retry(&self, order: &Order, attempt: u32) -> Result<(), PaymentError> {
        let payload = order.to_json();
        let key = order.id.to_string();
        let attempt = attempt.to_string();
        let headers = OwnedHeaders::new().insert(Header { key: ATTEMPT, value: Some(&attempt) });
        let record = FutureRecord::to(RETRY_TOPIC).key(&key).payload(&payload).headers(headers);
        self.kafka.send(record, PATIENCE).await.map_err(|(error, _)| error)?;
        Ok(())
    }
}

fn attempt(message: &BorrowedMessage<'_>) -> u32 {
    let header = message.headers().and_then(|headers| headers.iter().find(|header| header.key == ATTEMPT));
    header.and_then(|header| str::from_utf8(header.value?).ok()?.parse().ok()).unwrap_or(1)
}

/// Business code knows nothing of queues: a span of `tracing` nests inside the message's.
#[instrument(name = "charge card", skip_all, fields(order.id = order.id))]
async fn charge(order: &Order) -> Result<(), PaymentError> {
    match order.card {
        Card::Paid => {}
        Card::Slow => check_for_fraud().await,
        Card::Declined => {
            warn!(order.id, "card declined");
            return Err(PaymentError::Declined);
        }
    }
    info!(order.id, "paid");
    Ok(())
}

#[instrument(name = "fraud check")]
async fn check_for_fraud() {
    sleep(SLOW).await;
}
