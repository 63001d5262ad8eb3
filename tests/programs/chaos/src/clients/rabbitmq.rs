//! RabbitMQ, through whatever has the names of lapin.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use otel_messaging::Instrumentation;
use tokio::time::{sleep, timeout};

use super::names::{
    instrumented,
    lapin::{
        self, BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
        options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions},
        types::FieldTable,
    },
};
use crate::{
    at_broker::worked_on,
    clients::{Answer, Client, Place, text},
};

/// How long a connection may take before another is tried: a broker that is held takes connections and says nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a consumer may be silent before another is made.
const SILENCE: Duration = Duration::from_secs(15);

pub(super) struct RabbitMq {
    place: Place,
    instrumentation: Instrumentation,
    /// lapin's connections stay broken.
    sending: Mutex<Option<(Channel, Connection)>>,
    receiving: tokio::sync::Mutex<Option<(Consumer, Channel, Connection)>>,
}

impl RabbitMq {
    pub(super) fn new(place: &Place, instrumentation: Instrumentation) -> Self {
        Self {
            place: place.clone(),
            instrumentation,
            sending: Mutex::default(),
            receiving: tokio::sync::Mutex::default(),
        }
    }

    async fn connect(&self) -> lapin::Result<(Channel, Connection)> {
        let connection = Connection::connect(&self.place.address, ConnectionProperties::default()).await?;
        let connection = instrumented!(connection, self.instrumentation);
        Ok((connection.create_channel().await?, connection))
    }

    async fn connect_to_send(&self) -> lapin::Result<(Channel, Connection)> {
        let (channel, connection) = self.connect().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok((channel, connection))
    }

    async fn connect_to_receive(&self) -> lapin::Result<(Consumer, Channel, Connection)> {
        let (channel, connection) = self.connect().await?;
        channel.basic_qos(50, BasicQosOptions::default()).await?;
        let (queue, options) = (worked_on(&self.place.destination), BasicConsumeOptions::default());
        let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
        Ok((consumer, channel, connection))
    }

    fn sending(&self) -> MutexGuard<'_, Option<(Channel, Connection)>> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn channel(&self) -> Option<Channel> {
        self.sending().as_ref().map(|(channel, _)| channel.clone())
    }
}

impl Client for RabbitMq {
    fn ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            while !self.channel().is_some_and(|channel| channel.status().connected()) {
                match timeout(PATIENCE, self.connect_to_send()).await {
                    Ok(Ok(connected)) => *self.sending() = Some(connected),
                    Ok(Err(_)) | Err(_) => sleep(Duration::from_millis(50)).await,
                }
            }
        })
    }

    /// Not `mandatory`. The exchange and its queues are durable, the message is persistent.
    fn send(&self, payload: Bytes) -> BoxFuture<'_, Result<Answer, String>> {
        Box::pin(async move {
            let channel = self.channel().ok_or("there never was a channel")?;
            let (exchange, options) = (self.place.destination.as_str(), BasicPublishOptions::default());
            let persistent = BasicProperties::default().with_delivery_mode(2);
            let confirm = channel.basic_publish(exchange.into(), "".into(), options, &payload, persistent);
            let answer = confirm.await.map_err(text)?.map(|answer| match answer {
                Ok(Confirmation::Ack(_)) => Ok(()),
                Ok(Confirmation::Nack(_)) => Err("refused by the broker".to_owned()),
                Ok(Confirmation::NotRequested) => Err("the channel does not confirm".to_owned()),
                Err(error) => Err(text(error)),
            });
            Ok(answer.boxed())
        })
    }

    fn receive(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            let mut receiving = self.receiving.lock().await;
            let (consumer, _, _) = match &mut *receiving {
                Some(connected) => connected,
                none => none.insert(timeout(PATIENCE, self.connect_to_receive()).await.map_err(text)?.map_err(text)?),
            };
            let settled = match timeout(SILENCE, consumer.next()).await {
                Ok(Some(Ok(delivery))) => delivery.ack(BasicAckOptions::default()).await.map(drop).map_err(text),
                Ok(Some(Err(error))) => Err(text(error)),
                Ok(None) => Err("the consumer ended".to_owned()),
                Err(silent) => Err(text(silent)),
            };
            if settled.is_err() {
                *receiving = None;
            }
            settled
        })
    }
}
