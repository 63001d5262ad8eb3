//! Kafka, through whatever has the names of rdkafka.

use std::time::Duration;

use super::clients::{
    instrumented,
    rdkafka::{
        Offset, TopicPartitionList,
        config::ClientConfig,
        consumer::{BaseConsumer, Consumer},
        message::BorrowedMessage,
        producer::{BaseProducer, BaseRecord, DeliveryFuture, FutureProducer, FutureRecord, Producer},
    },
};
use crate::{
    peer::{
        PAYLOAD,
        kafka::{SINK, SOURCE, SOURCE_MESSAGES, start},
    },
    subject::{Answers, BATCH, Driven, Failed, PATIENCE},
};

pub(crate) struct Send {
    producer: BaseProducer,
}

pub(crate) struct SendFuture {
    producer: FutureProducer,
    deliveries: Vec<DeliveryFuture>,
}

pub(crate) struct Receive<H> {
    consumer: BaseConsumer,
    handle: H,
    /// How many of the topic's messages are still to come.
    left: u32,
}

/// What producers and consumers are made of.
pub(crate) fn config() -> Result<ClientConfig, Failed> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", start()?).set("client.id", "checkout-1").set("group.id", "billing");
    // All that is fetched stays, so that nothing is fetched while it is measured.
    config.set("queued.min.messages", SOURCE_MESSAGES.to_string()).set("enable.auto.commit", "false");
    Ok(config)
}

impl Send {
    pub(crate) fn new() -> Result<Self, Failed> {
        let producer: BaseProducer = config()?.create()?;
        Ok(Self { producer: instrumented!(producer) })
    }
}

impl Driven for Send {
    fn operate(&mut self, operations: u32) -> Result<(), Failed> {
        for _ in 0..operations {
            let record = BaseRecord::<(), _>::to(SINK).payload(&PAYLOAD[..]);
            self.producer.send(record).map_err(|(error, _)| error)?;
        }
        Ok(())
    }

    fn answers(&mut self) -> Answers {
        let before = self.producer.in_flight_count();
        self.producer.poll(Duration::ZERO);
        match self.producer.in_flight_count() {
            0 => Answers::Complete,
            after if after < before => Answers::Some,
            _ => Answers::None,
        }
    }
}

impl SendFuture {
    pub(crate) fn new() -> Result<Self, Failed> {
        let producer: FutureProducer = config()?.create()?;
        Ok(Self { producer: instrumented!(producer), deliveries: Vec::with_capacity(BATCH as usize) })
    }
}

impl Driven for SendFuture {
    fn operate(&mut self, operations: u32) -> Result<(), Failed> {
        for _ in 0..operations {
            let record = FutureRecord::<(), _>::to(SINK).payload(&PAYLOAD[..]);
            self.deliveries.push(self.producer.send_result(record).map_err(|(error, _)| error)?);
        }
        futures::executor::block_on(async {
            for delivery in self.deliveries.drain(..) {
                delivery.await?.map_err(|(error, _)| error)?;
            }
            Ok(())
        })
    }
}

impl<H: FnMut(&BorrowedMessage<'_>)> Receive<H> {
    pub(crate) fn new(handle: H) -> Result<Self, Failed> {
        let consumer: BaseConsumer = config()?.create()?;
        let consumer = instrumented!(consumer);
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(SOURCE, 0, Offset::Beginning)?;
        consumer.assign(&assignment)?;
        Ok(Self { consumer, handle, left: SOURCE_MESSAGES })
    }

    fn receive(&mut self) -> Result<(), Failed> {
        let message = self.consumer.poll(PATIENCE).ok_or("no message")??;
        (self.handle)(&message);
        self.left -= 1;
        Ok(())
    }
}

impl<H: FnMut(&BorrowedMessage<'_>)> Driven for Receive<H> {
    fn prepare(&mut self, operations: u32) -> Result<(), Failed> {
        if self.left <= operations {
            self.consumer.seek(SOURCE, 0, Offset::Beginning, PATIENCE)?;
            self.left = SOURCE_MESSAGES;
        }
        // The first message is there when its fetch is.
        self.receive()
    }

    fn operate(&mut self, operations: u32) -> Result<(), Failed> {
        for _ in 0..operations {
            self.receive()?;
        }
        Ok(())
    }
}
