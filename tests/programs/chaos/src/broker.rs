//! A broker of a run's own, with the proxy before it.

use std::{io, time::Duration};

use brokers::{Kafka, Missing, Nats, RabbitMq};
use tokio::task::block_in_place;

use crate::{
    clients::Place,
    proxy::{Port, Proxy},
};

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Kafka,
    RabbitMq,
    Nats,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Kafka, Self::RabbitMq, Self::Nats];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::RabbitMq => "rabbitmq",
            Self::Nats => "nats",
        }
    }
}

pub(crate) struct Broker {
    kind: Kind,
    process: Process,
    port: u16,
    pub(crate) proxy: Proxy,
}

enum Process {
    Kafka(Kafka),
    RabbitMq(RabbitMq),
    Nats(Nats),
}

/// To `RabbitMq`, `Kafka` or `Nats`, whichever it is.
macro_rules! each {
    ($process:expr, $broker:ident => $call:expr) => {
        match $process {
            Process::Kafka($broker) => $call,
            Process::RabbitMq($broker) => $call,
            Process::Nats($broker) => $call,
        }
    };
}

impl Broker {
    pub(crate) async fn start(kind: Kind) -> Result<Self, String> {
        let no_port = |error: io::Error| format!("there is no port for a proxy: {error}");
        let listening = Port::open().await.map_err(no_port)?;
        let port = listening.address().map_err(no_port)?.port();
        let process = block_in_place(|| {
            Ok(match kind {
                Kind::Kafka => {
                    let (kafka, address) = Kafka::own_behind(port)?;
                    (Process::Kafka(kafka), address)
                }
                Kind::RabbitMq => {
                    let rabbitmq = RabbitMq::own()?;
                    let address = rabbitmq.uri.trim_start_matches("amqp://guest:guest@").trim_end_matches("/%2f");
                    let address = address.to_owned();
                    (Process::RabbitMq(rabbitmq), address)
                }
                Kind::Nats => {
                    let nats = Nats::own()?;
                    let address = nats.url.trim_start_matches("nats://").to_owned();
                    (Process::Nats(nats), address)
                }
            })
        });
        let (process, address) = process.map_err(|missing: Missing| missing.to_string())?;
        Ok(Self { kind, process, port, proxy: listening.pass_on_to(address) })
    }

    /// Behind the proxy.
    pub(crate) fn place(&self, destination: String) -> Place {
        let address = match self.kind {
            Kind::Kafka => format!("127.0.0.1:{}", self.port),
            Kind::RabbitMq => format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port),
            Kind::Nats => format!("nats://127.0.0.1:{}", self.port),
        };
        Place { kind: self.kind, address, destination }
    }

    /// Kills it and starts it again on its data after this time.
    pub(crate) fn kill(&mut self, away: Duration) -> Result<(), String> {
        block_in_place(|| {
            each!(&mut self.process, broker => broker.kill());
            std::thread::sleep(away);
            each!(&mut self.process, broker => broker.restart()).map_err(|missing| missing.to_string())
        })
    }

    /// Makes a new destination outlive a kill. RabbitMQ 3.10 writes its metadata with a delay: after a kill that follows a
    /// declaration within two seconds, later under load, a declared binding can be missing. An orderly stop writes all.
    pub(crate) fn persist(&mut self) -> Result<(), String> {
        let Process::RabbitMq(broker) = &mut self.process else { return Ok(()) };
        block_in_place(|| broker.restart()).map_err(|missing| missing.to_string())
    }

    /// Holds it until [`resume`](Self::resume).
    pub(crate) fn hold(&self) {
        block_in_place(|| each!(&self.process, broker => broker.pause()));
    }

    pub(crate) fn resume(&self) {
        block_in_place(|| each!(&self.process, broker => broker.resume()));
    }
}
