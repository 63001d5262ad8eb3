//! RabbitMQ, through whatever has the names of lapin.

use std::net::SocketAddr;

use futures::{StreamExt, future::try_join_all};
use tokio::runtime::Runtime;

use super::clients::{
    instrumented,
    lapin::{
        self, BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
        message::Delivery,
        options::{BasicConsumeOptions, BasicPublishOptions, BasicQosOptions},
        types::FieldTable,
    },
};
use crate::{
    peer::{
        PAYLOAD, PUSH,
        amqp::{EXCHANGE, ROUTING_KEY, start},
    },
    subject::{Driven, Failed},
};

/// The queue that deliveries come from.
pub(crate) const QUEUE: &str = "billing";

/// A connection with one channel, and the runtime both live in. lapin reads and writes on a thread of its own.
pub(crate) struct Client {
    pub(crate) runtime: Runtime,
    pub(crate) channel: Channel,
    _connection: Connection,
}

pub(crate) struct Send {
    client: Client,
}

pub(crate) struct Receive<H> {
    client: Client,
    consumer: Consumer,
    handle: H,
}

impl Client {
    /// Connects to the peer at this address.
    pub(crate) fn new(address: SocketAddr) -> Result<Self, Failed> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (connection, channel) = runtime.block_on(async {
            let connection = Connection::connect(&format!("amqp://{address}"), ConnectionProperties::default()).await?;
            let connection = instrumented!(connection);
            let channel = connection.create_channel().await?;
            Ok::<_, Failed>((connection, channel))
        })?;
        Ok(Self { runtime, channel, _connection: connection })
    }
}

impl Send {
    pub(crate) fn new() -> Result<Self, Failed> {
        Ok(Self { client: Client::new(start()?)? })
    }
}

impl Driven for Send {
    fn operate(&mut self, operations: u32) -> Result<(), Failed> {
        let Client { runtime, channel, .. } = &self.client;
        runtime.block_on(try_join_all((0..operations).map(|_| publish(channel))))?;
        Ok(())
    }
}

async fn publish(channel: &Channel) -> lapin::Result<()> {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let confirm = channel.basic_publish(EXCHANGE.into(), ROUTING_KEY.into(), options, &PAYLOAD, properties).await?;
    confirm.await?;
    Ok(())
}

impl<H: FnMut(&Delivery)> Receive<H> {
    pub(crate) fn new(address: SocketAddr, handle: H) -> Result<Self, Failed> {
        let client = Client::new(address)?;
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consumer = client.runtime.block_on(client.channel.basic_consume(
            QUEUE.into(),
            "".into(),
            options,
            FieldTable::default(),
        ))?;
        Ok(Self { client, consumer, handle })
    }
}

impl<H: FnMut(&Delivery)> Driven for Receive<H> {
    fn prepare(&mut self, operations: u32) -> Result<(), Failed> {
        let Client { runtime, channel, .. } = &self.client;
        runtime.block_on(async {
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            let payload = operations.to_string();
            channel.basic_publish("".into(), PUSH.into(), options, payload.as_bytes(), properties).await?.await?;
            // Its answer comes after the deliveries.
            channel.basic_qos(0, BasicQosOptions::default()).await?;
            Ok(())
        })
    }

    fn operate(&mut self, operations: u32) -> Result<(), Failed> {
        self.client.runtime.block_on(async {
            for _ in 0..operations {
                let delivery = self.consumer.next().await.ok_or("no delivery")??;
                (self.handle)(&delivery);
            }
            Ok(())
        })
    }
}
