//! The hand-written instrumentation, driven exactly as the raw clients are.

use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;
use futures::future::try_join_all;
use lapin::BasicProperties;
use rdkafka::{error::KafkaResult, producer::future_producer::Delivery};
use tokio::task::unconstrained;

use crate::{
    by_hand,
    path::Path,
    peer::{
        PAYLOAD,
        amqp::{self, EXCHANGE, ROUTING_KEY},
        kafka::SINK,
        nats,
    },
    raw,
    subject::{Answers, BATCH, Driven, Failed},
};

pub(crate) fn driven(path: Path) -> Result<Box<dyn Driven>, Failed> {
    Ok(match path {
        Path::KafkaSend => Box::new(KafkaSend(by_hand::kafka::TracedProducer::new(&raw::kafka::config()?)?)),
        Path::KafkaSendFuture => kafka_send_future()?,
        Path::KafkaReceive => {
            let handler = by_hand::kafka::TracedHandler::new(&raw::kafka::config()?);
            Box::new(raw::kafka::Receive::new(move |message| handler.process(message, || ()))?)
        }
        Path::RabbitSend => {
            let address = amqp::start()?;
            let (host, port) = (address.ip().to_string(), address.port());
            let client = raw::rabbitmq::Client::new(address)?;
            let publisher = by_hand::rabbitmq::TracedPublisher::new(client.channel.clone(), &host, port);
            Box::new(RabbitSend { client, publisher })
        }
        Path::RabbitReceive => {
            let address = amqp::start()?;
            let (host, port) = (address.ip().to_string(), address.port());
            let handler = by_hand::rabbitmq::TracedHandler::new(raw::rabbitmq::QUEUE, &host, port);
            Box::new(raw::rabbitmq::Receive::new(address, move |delivery| handler.process(delivery, || ()))?)
        }
        Path::NatsSend => {
            let address = nats::start()?;
            let (host, port) = (address.ip().to_string(), address.port());
            let client = raw::nats::Client::new(address)?;
            let publisher = by_hand::nats::TracedPublisher::new(client.client.clone(), &host, port);
            Box::new(NatsSend { client, publisher, payload: Bytes::from_static(&PAYLOAD) })
        }
        Path::NatsReceive => {
            let address = nats::start()?;
            let (host, port) = (address.ip().to_string(), address.port());
            let handler = by_hand::nats::TracedHandler::new(&host, port);
            Box::new(raw::nats::Receive::new(address, move |message| handler.process(message, || ()))?)
        }
    })
}

struct KafkaSend(by_hand::kafka::TracedProducer);

struct RabbitSend {
    client: raw::rabbitmq::Client,
    publisher: by_hand::rabbitmq::TracedPublisher,
}

struct NatsSend {
    client: raw::nats::Client,
    publisher: by_hand::nats::TracedPublisher,
    payload: Bytes,
}

/// Deliveries are of a type without a name.
struct KafkaSendFuture<S, D> {
    send: S,
    deliveries: Vec<D>,
}

fn kafka_send_future() -> Result<Box<dyn Driven>, Failed> {
    let producer = by_hand::kafka::TracedFutureProducer::new(&raw::kafka::config()?)?;
    let send = move || producer.send(SINK, &PAYLOAD);
    Ok(Box::new(KafkaSendFuture { send, deliveries: Vec::with_capacity(BATCH as usize) }))
}

impl Driven for KafkaSend {
    fn operate(&mut self, operations: u32) -> Result<(), Failed> {
        for _ in 0..operations {
            self.0.send(SINK, &PAYLOAD)?;
        }
        Ok(())
    }

    fn answers(&mut self) -> Answers {
        let before = self.0.in_flight_count();
        self.0.poll(Duration::ZERO);
        match self.0.in_flight_count() {
            0 => Answers::Complete,
            after if after < before => Answers::Some,
            _ => Answers::None,
        }
    }
}

impl<S, D> Driven for KafkaSendFuture<S, D>
where
    S: FnMut() -> KafkaResult<D>,
    D: Future<Output = KafkaResult<Delivery>>,
{
    fn operate(&mut self, operations: u32) -> Result<(), Failed> {
        for _ in 0..operations {
            self.deliveries.push((self.send)()?);
        }
        futures::executor::block_on(async {
            for delivery in self.deliveries.drain(..) {
                delivery.await?;
            }
            Ok(())
        })
    }
}

impl Driven for RabbitSend {
    fn operate(&mut self, operations: u32) -> Result<(), Failed> {
        let publish = |_| self.publisher.publish(EXCHANGE, ROUTING_KEY, &PAYLOAD, BasicProperties::default());
        self.client.runtime.block_on(try_join_all((0..operations).map(publish)))?;
        Ok(())
    }
}

impl Driven for NatsSend {
    fn operate(&mut self, operations: u32) -> Result<(), Failed> {
        self.client.runtime.block_on(unconstrained(async {
            for _ in 0..operations {
                self.publisher.publish(Subject::from_static(raw::nats::SUBJECT), self.payload.clone()).await?;
            }
            Ok(())
        }))
    }

    fn settle(&mut self) -> Result<(), Failed> {
        self.client.flush()
    }
}
