//! A second consumer group on the orders topic, in batches: one span each, with a link to every order.

use std::time::Duration;

use otel_messaging::process_batch;
use otel_rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer, StreamConsumer},
    error::KafkaError,
    message::BorrowedMessage,
};
use tokio::time::{Instant, timeout_at};
use tracing::{info, instrument, warn};

use super::kafka::{self, ReadyWhenAssigned};
use crate::{
    Error,
    order::{ORDERS_TOPIC, Order},
    service::{self, Stop},
};

/// So many orders at most are counted together,
const BATCH: usize = 5;
/// and so long the first of them waits for the others.
const LINGER: Duration = Duration::from_millis(250);

pub(crate) async fn run(stop: Stop) -> Result<(), Error> {
    let servers = service::address("KAFKA_BOOTSTRAP_SERVERS")?;
    kafka::topics(&servers).await?;
    let consumer = kafka::consumer(&servers, "analytics")?;
    consumer.subscribe(&[ORDERS_TOPIC])?;

    loop {
        let first = tokio::select! {
            biased;
            () = stop.clone() => return Ok(()),
            first = consumer.recv() => first?,
        };
        let messages = fill(&consumer, first).await?;
        process_batch(&messages, || handle(&consumer, &messages)).await?;
    }
}

async fn handle(
    consumer: &StreamConsumer<ReadyWhenAssigned>,
    messages: &[BorrowedMessage<'_>],
) -> Result<(), KafkaError> {
    count(messages).await;
    let next = messages.iter().map(|message| {
        let partition = (message.topic().to_owned(), message.partition());
        (partition, Offset::Offset(message.offset() + 1))
    });
    consumer.commit(&TopicPartitionList::from_topic_map(&next.collect())?, CommitMode::Async)
}

async fn fill<'a>(
    consumer: &'a StreamConsumer<ReadyWhenAssigned>,
    first: BorrowedMessage<'a>,
) -> Result<Vec<BorrowedMessage<'a>>, KafkaError> {
    let deadline = Instant::now() + LINGER;
    let mut messages = vec![first];
    while messages.len() < BATCH
        && let Ok(next) = timeout_at(deadline, consumer.recv()).await
    {
        messages.push(next?);
    }
    Ok(messages)
}

#[instrument(name = "count orders", skip_all)]
async fn count(messages: &[BorrowedMessage<'_>]) {
    let orders = messages.iter().filter_map(|message| serde_json::from_slice::<Order>(message.payload()?).ok());
    let mut count = 0;
    for order in orders {
        count += 1;
        info!(order.id, "one more {}", order.item);
    }
    if count < messages.len() {
        warn!("{} messages are no orders", messages.len() - count);
    }
}
