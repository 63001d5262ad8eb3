//! Kafka, through whatever has the names of rdkafka.

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use otel_messaging::Instrumentation;

use super::names::{
    instrumented,
    rdkafka::{
        ClientConfig,
        config::RDKafkaLogLevel,
        consumer::{CommitMode, Consumer, StreamConsumer},
        producer::{FutureProducer, FutureRecord},
    },
};
use crate::clients::{Answer, Client, Place, text};

pub(super) struct Kafka {
    topic: String,
    producer: FutureProducer,
    consumer: StreamConsumer,
}

impl Kafka {
    pub(super) fn new(place: &Place, instrumentation: Instrumentation) -> Result<Self, String> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &place.address).set_log_level(RDKafkaLogLevel::Emerg);
        // A broker that is held for ten seconds is given up, and asked again; what waited for it fails.
        config.set("reconnect.backoff.max.ms", "500").set("socket.timeout.ms", "4000");
        let mut sending = config.clone();
        sending.set("acks", "all").set("request.timeout.ms", "4000").set("message.timeout.ms", "6000");
        let producer: FutureProducer = sending.create().map_err(text)?;
        config.set("group.id", &place.destination).set("auto.offset.reset", "earliest");
        config.set("enable.auto.commit", "false").set("session.timeout.ms", "6000");
        let consumer: StreamConsumer = config.create().map_err(text)?;
        let consumer = instrumented!(consumer, instrumentation);
        consumer.subscribe(&[&place.destination]).map_err(text)?;
        Ok(Self { topic: place.destination.clone(), producer: instrumented!(producer, instrumentation), consumer })
    }
}

impl Client for Kafka {
    fn send(&self, payload: Bytes) -> BoxFuture<'_, Result<Answer, String>> {
        Box::pin(async move {
            let record = FutureRecord::<(), [u8]>::to(&self.topic).payload(&payload);
            let report = self.producer.send_result(record).map_err(|(error, _)| text(error))?;
            let answer = report.map(|report| match report {
                Ok(Ok(_)) => Ok(()),
                Ok(Err((error, _))) => Err(text(error)),
                Err(cancelled) => Err(text(cancelled)),
            });
            Ok(answer.boxed())
        })
    }

    fn receive(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async {
            let message = self.consumer.recv().await.map_err(text)?;
            self.consumer.commit_message(&message, CommitMode::Async).map_err(text)
        })
    }
}
