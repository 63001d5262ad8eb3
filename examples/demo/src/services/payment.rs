//! Takes new orders from Kafka, charges the card, and hands paid ones to RabbitMQ. A declined card is tried three times
//! in all, over a topic of its own; then the order goes to RabbitMQ for review, which puts it back once, and then rejects
//! it: RabbitMQ moves it to the dead letters.

use std::{future::Future, time::Duration};

use otel_lapin::{
    BasicProperties, Channel, PublisherConfirm,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, BasicRejectOptions},
    types::FieldTable,
};
use otel_messaging::MessageExt;
use otel_rdkafka::{
    ClientConfig, Message,
    consumer::{CommitMode, Consumer, StreamConsumer},
    error::KafkaError,
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer},
};
use tokio::time::sleep;
use tracing::{info, instrument, warn};

use super::{
    kafka::{self, ReadyWhenAssigned},
    rabbitmq,
};
use crate::{
    Error,
    order::{Card, ORDERS_EXCHANGE, ORDERS_TOPIC, Order, PAID, RETRY_TOPIC, REVIEW_QUEUE},
    service::{self, Stop},
};

/// How often a card is charged before the order goes to review.
const ATTEMPTS: u32 = 3;
/// The header that counts attempts; an order without it comes for the first time. Kafka has no count of its own, so our
/// crate reads Spring's header, and a name of one's own would not show in the spans.
const ATTEMPT: &str = "retry_topic-attempts";
/// How long the bank of a slow card takes.
const SLOW: Duration = Duration::from_millis(300);
/// How long a message may wait for the broker.
const PATIENCE: Duration = Duration::from_secs(5);

struct Payment {
    orders: StreamConsumer<ReadyWhenAssigned>,
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
    #[error("RabbitMQ does not take the order")]
    NotTaken,
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error(transparent)]
    RabbitMq(#[from] otel_lapin::Error),
}

pub(crate) async fn run(stop: Stop) -> Result<(), Error> {
    let servers = service::address("KAFKA_BOOTSTRAP_SERVERS")?;
    kafka::topics(&servers).await?;
    let (connection, channel) = rabbitmq::connect().await?;
    let kafka = ClientConfig::new().set("bootstrap.servers", &servers).create()?;
    let orders = kafka::consumer(&servers, "payment")?;
    orders.subscribe(&[ORDERS_TOPIC, RETRY_TOPIC])?;
    let consume = BasicConsumeOptions::default();
    let mut reviews =
        channel.basic_consume(REVIEW_QUEUE.into(), "payment".into(), consume, FieldTable::default()).await?;
    let payment = Payment { orders, kafka, rabbitmq: channel };

    let mut messages = payment.orders.stream();
    let charged = async {
        while let Some(message) = service::next(&mut messages, &stop).await {
            let message = message?;
            // The one line of telemetry: everything inside belongs to the message, and its error is the span's.
            unless_unpaid(message.process(|| payment.handle(&message)).await)?;
        }
        Ok::<_, Error>(())
    };
    let reviewed = async {
        while let Some(delivery) = service::next(&mut reviews, &stop).await {
            let delivery = delivery?;
            unless_unpaid(delivery.process(|| payment.review(&delivery)).await)?;
        }
        Ok(())
    };
    tokio::try_join!(charged, reviewed)?;
    drop((messages, reviews));
    payment.kafka.flush(PATIENCE)?;
    connection.close(200, "stopping".into()).await?;
    Ok(())
}

/// An order that is not paid is no reason to stop.
fn unless_unpaid(handled: Result<(), PaymentError>) -> Result<(), PaymentError> {
    match handled {
        Err(PaymentError::Declined | PaymentError::Malformed(_)) => Ok(()),
        handled => handled,
    }
}

impl Payment {
    async fn handle(&self, message: &BorrowedMessage<'_>) -> Result<(), PaymentError> {
        let payload = message.payload().unwrap_or_default();
        let order = match serde_json::from_slice(payload) {
            Ok(order) => order,
            // Charged again it would be no better.
            Err(error) => {
                warn!(%error, "not an order");
                self.orders.commit_message(message, CommitMode::Async)?;
                return Err(error.into());
            }
        };
        let attempt = attempt(message);
        let charged = charge(&order).await;
        match charged {
            Ok(()) => {
                taken(self.publish(ORDERS_EXCHANGE, PAID, payload).await?).await?;
            }
            // Sent again, which is linked to how the order came and to the attempt that failed.
            Err(PaymentError::Declined) if attempt < ATTEMPTS => self.retry(message, &order, attempt + 1).await?,
            Err(_) => {
                taken(message.republish(|| self.publish("", REVIEW_QUEUE, payload)).await?).await?;
            }
        }
        self.orders.commit_message(message, CommitMode::Async)?;
        charged
    }

    /// Back into the queue the first time, to the dead letters the second.
    async fn review(&self, delivery: &Delivery) -> Result<(), PaymentError> {
        let order = rabbitmq::order_in::<PaymentError>(delivery).await?;
        let charged = charge(&order).await;
        if charged.is_ok() {
            taken(self.publish(ORDERS_EXCHANGE, PAID, &delivery.data).await?).await?;
            delivery.ack(BasicAckOptions::default()).await?;
        } else if delivery.redelivered {
            delivery.reject(BasicRejectOptions { requeue: false }).await?;
        } else {
            delivery.nack(BasicNackOptions { requeue: true, ..Default::default() }).await?;
        }
        charged
    }

    /// What it returns is the broker's confirm, once there is one to wait for.
    fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        order: &[u8],
    ) -> impl Future<Output = otel_lapin::Result<PublisherConfirm>> {
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default().with_content_type("application/json".into());
        self.rabbitmq.basic_publish(exchange.into(), routing_key.into(), options, order, properties)
    }

    async fn retry(&self, message: &BorrowedMessage<'_>, order: &Order, attempt: u32) -> Result<(), PaymentError> {
        let payload = order.to_json();
        let key = order.id.to_string();
        let attempt = attempt.to_string();
        let headers = OwnedHeaders::new().insert(Header { key: ATTEMPT, value: Some(&attempt) });
        let record = FutureRecord::to(RETRY_TOPIC).key(&key).payload(&payload).headers(headers);
        message.republish(|| self.kafka.send(record, PATIENCE)).await.map_err(|(error, _)| error)?;
        Ok(())
    }
}

/// An error unless the broker has the order: until then it must not be committed or acked.
async fn taken(confirm: PublisherConfirm) -> Result<(), PaymentError> {
    if confirm.await?.is_ack() { Ok(()) } else { Err(PaymentError::NotTaken) }
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
