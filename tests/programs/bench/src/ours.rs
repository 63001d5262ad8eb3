//! Our crates in the clients' place: the same files as `raw`, compiled under the other names.

use opentelemetry::Context;
use otel_messaging::{Instrumentation, MessageExt};

use crate::{
    path::Path,
    peer,
    subject::{Driven, Failed},
};

mod clients {
    pub(super) use {otel_async_nats as async_nats, otel_lapin as lapin, otel_rdkafka as rdkafka};

    /// What every client passes through when it is made: it is given the instrumentation of the current context.
    macro_rules! instrumented {
        ($client:expr) => {
            match opentelemetry::Context::map_current(|context| {
                context.get::<otel_messaging::Instrumentation>().cloned()
            }) {
                Some(instrumentation) => $client.with_instrumentation(instrumentation),
                None => $client,
            }
        };
    }
    pub(super) use instrumented;
}

#[path = "raw/kafka.rs"]
mod kafka;
#[path = "raw/nats.rs"]
mod nats;
#[path = "raw/rabbitmq.rs"]
mod rabbitmq;

pub(crate) fn driven(path: Path, instrumentation: Instrumentation) -> Result<Box<dyn Driven>, Failed> {
    let _current = Context::new().with_value(instrumentation).attach();
    Ok(match path {
        Path::KafkaSend => Box::new(kafka::Send::new()?),
        Path::KafkaSendFuture => Box::new(kafka::SendFuture::new()?),
        Path::KafkaReceive => Box::new(kafka::Receive::new(|message| message.in_scope(|| ()))?),
        Path::RabbitSend => Box::new(rabbitmq::Send::new()?),
        Path::RabbitReceive => {
            Box::new(rabbitmq::Receive::new(peer::amqp::start()?, |delivery| delivery.in_scope(|| ()))?)
        }
        Path::NatsSend => Box::new(nats::Send::new()?),
        Path::NatsReceive => Box::new(nats::Receive::new(peer::nats::start()?, |message| message.in_scope(|| ()))?),
    })
}
