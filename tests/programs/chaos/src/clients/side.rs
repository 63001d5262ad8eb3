//! The three of one side.

use otel_messaging::Instrumentation;

use super::{kafka::Kafka, nats::Nats, rabbitmq::RabbitMq};
use crate::{
    broker::Kind,
    clients::{Client, Place},
};

pub(in crate::clients) async fn connect(
    place: &Place,
    instrumentation: Instrumentation,
) -> Result<Box<dyn Client>, String> {
    Ok(match place.kind {
        Kind::Kafka => Box::new(Kafka::new(place, instrumentation)?),
        Kind::RabbitMq => Box::new(RabbitMq::new(place, instrumentation)),
        Kind::Nats => Box::new(Nats::new(place, instrumentation).await?),
    })
}
