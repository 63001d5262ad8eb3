//! What is at the broker, made and read by fresh raw clients.

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, consumer::pull::OrderedConfig};
use futures::StreamExt;
use lapin::{
    Connection, ConnectionProperties, ExchangeKind,
    options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer},
};
use tokio::{task::block_in_place, time::timeout};

use crate::{broker::Kind, clients::Place};

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// How long a broker that is well may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// RabbitMQ's queue that the service receives from. The other one has the exchange's name, and keeps what is to be read.
pub(crate) fn worked_on(destination: &str) -> String {
    format!("{destination}-worked-on")
}

/// Makes a destination that outlives its broker.
pub(crate) async fn declare(place: &Place) -> Result<(), String> {
    let declared = match place.kind {
        Kind::Kafka => timeout(PATIENCE, declare_topic(place)).await,
        Kind::RabbitMq => timeout(PATIENCE, declare_queues(place)).await,
        Kind::Nats => timeout(PATIENCE, declare_stream(place)).await,
    };
    declared.map_err(Failed::from).flatten().map_err(|error| format!("{}: {error}", place.destination))
}

/// The payloads at a destination, in the broker's order. RabbitMQ's queue is empty then.
pub(crate) async fn read(place: &Place) -> Result<Vec<Vec<u8>>, String> {
    let payloads = match place.kind {
        Kind::Kafka => block_in_place(|| read_topic(place)),
        Kind::RabbitMq => read_queue(place).await,
        Kind::Nats => read_stream(place).await,
    };
    payloads.map_err(|error| format!("{} cannot be read: {error}", place.destination))
}

fn config(place: &Place) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &place.address).set("group.id", "reader").set_log_level(RDKafkaLogLevel::Emerg);
    config
}

/// One partition: messages have an order.
async fn declare_topic(place: &Place) -> Result<(), Failed> {
    let admin: AdminClient<_> = config(place).create()?;
    let topic = NewTopic::new(&place.destination, 1, TopicReplication::Fixed(1));
    for made in admin.create_topics([&topic], &AdminOptions::new()).await? {
        made.map_err(|(topic, code)| format!("{topic}: {code}"))?;
    }
    Ok(())
}

fn read_topic(place: &Place) -> Result<Vec<Vec<u8>>, Failed> {
    let consumer: BaseConsumer = config(place).create()?;
    let (_, end) = consumer.fetch_watermarks(&place.destination, 0, PATIENCE)?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(&place.destination, 0, Offset::Beginning)?;
    consumer.assign(&from)?;
    let (mut payloads, start) = (Vec::new(), Instant::now());
    while payloads.len() < usize::try_from(end)? {
        match consumer.poll(Duration::from_secs(1)) {
            Some(message) => payloads.push(message?.payload().unwrap_or_default().to_vec()),
            None if start.elapsed() > PATIENCE => return Err(format!("{} of {end} come", payloads.len()).into()),
            None => {}
        }
    }
    Ok(payloads)
}

async fn declare_queues(place: &Place) -> Result<(), Failed> {
    let connection = Connection::connect(&place.address, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let exchange = place.destination.as_str();
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(exchange.into(), ExchangeKind::Fanout, durable, FieldTable::default()).await?;
    for queue in [exchange, &worked_on(exchange)] {
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(queue.into(), durable, FieldTable::default()).await?;
        let bind = channel.queue_bind(
            queue.into(),
            exchange.into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bind.await?;
    }
    Ok(())
}

async fn read_queue(place: &Place) -> Result<Vec<Vec<u8>>, Failed> {
    let connection = Connection::connect(&place.address, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let mut payloads = Vec::new();
    let next = || channel.basic_get(place.destination.as_str().into(), BasicGetOptions { no_ack: true });
    while let Some(message) = timeout(PATIENCE, next()).await?? {
        payloads.push(message.delivery.data);
    }
    Ok(payloads)
}

/// The state of the queue that the service receives from, as RabbitMQ reports it. Empty for other brokers.
pub(crate) async fn queue_state(place: &Place) -> String {
    if place.kind != Kind::RabbitMq {
        return String::new();
    }
    match timeout(PATIENCE, count_queue(place)).await.map_err(Failed::from).flatten() {
        Ok((messages, consumers)) => format!("; its queue has {messages} messages and {consumers} consumers"),
        Err(error) => format!("; the state of its queue is unknown: {error}"),
    }
}

/// The messages that no consumer has, and the consumers.
async fn count_queue(place: &Place) -> Result<(u32, u32), Failed> {
    let connection = Connection::connect(&place.address, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let queue = channel.queue_declare(worked_on(&place.destination).into(), passive, FieldTable::default()).await?;
    Ok((queue.message_count(), queue.consumer_count()))
}

async fn declare_stream(place: &Place) -> Result<(), Failed> {
    let context = jetstream::new(async_nats::connect(&place.address).await?);
    let (name, subjects) = (place.destination.clone(), vec![place.destination.clone()]);
    context.create_stream(jetstream::stream::Config { name, subjects, ..Default::default() }).await?;
    Ok(())
}

async fn read_stream(place: &Place) -> Result<Vec<Vec<u8>>, Failed> {
    let context = jetstream::new(async_nats::connect(&place.address).await?);
    let mut stream = context.get_stream(&place.destination).await?;
    let count = stream.info().await?.state.messages;
    let mut messages = stream.create_consumer(OrderedConfig::default()).await?.messages().await?;
    let mut payloads = Vec::new();
    while payloads.len() < usize::try_from(count)? {
        let message = timeout(PATIENCE, messages.next()).await?.ok_or("the stream ended")??;
        payloads.push(message.payload.to_vec());
    }
    Ok(payloads)
}
