//! The clients alone.
//!
//! What is below `raw/` is compiled once more as `ours`, from the same files, with our crates under the clients' names.

use std::hint::black_box;

use crate::{
    path::Path,
    peer,
    subject::{Driven, Failed},
};

mod clients {
    pub(super) use ::{async_nats, lapin, rdkafka};

    /// What every client passes through when it is made. Here it stays what it is.
    macro_rules! instrumented {
        ($client:expr) => {
            std::convert::identity($client)
        };
    }
    pub(super) use instrumented;
}

pub(crate) mod kafka;
pub(crate) mod nats;
pub(crate) mod rabbitmq;

pub(crate) fn driven(path: Path) -> Result<Box<dyn Driven>, Failed> {
    Ok(match path {
        Path::KafkaSend => Box::new(kafka::Send::new()?),
        Path::KafkaSendFuture => Box::new(kafka::SendFuture::new()?),
        Path::KafkaReceive => Box::new(kafka::Receive::new(|message| _ = black_box(message))?),
        Path::RabbitSend => Box::new(rabbitmq::Send::new()?),
        Path::RabbitReceive => {
            Box::new(rabbitmq::Receive::new(peer::amqp::start()?, |message| _ = black_box(message))?)
        }
        Path::NatsSend => Box::new(nats::Send::new()?),
        Path::NatsReceive => Box::new(nats::Receive::new(peer::nats::start()?, |message| _ = black_box(message))?),
    })
}
