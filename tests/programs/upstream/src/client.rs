//! The three clients, and what their tests need.

use brokers::{Kafka, RabbitMq};

use crate::Result;

/// A client of which we have a drop-in.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its package.
    pub(crate) name: &'static str,
    /// Our package; it is in the folder of this name in `crates`.
    pub(crate) ours: &'static str,
    /// Features beyond the default ones, without which tests and examples are compiled away.
    pub(crate) features: &'static [&'static str],
    pub(crate) known: Known,
    /// What its tests name and do not publish: a package in this folder.
    pub(crate) helper: Option<&'static str>,
    /// How many of its test programs run at once, and how many tests in each. More than one program where tests mostly wait
    /// and each has a server of its own.
    pub(crate) programs_at_once: usize,
    pub(crate) threads: usize,
    broker: fn() -> Result<Broker>,
}

/// What is known of the package, so that nothing can go missing on all sides at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) examples: usize,
    /// The ignored ones too.
    pub(crate) tests: usize,
}

pub(crate) static CLIENTS: [Client; 3] = [
    Client {
        name: "rdkafka",
        ours: "otel-rdkafka",
        features: &[],
        // One of the examples is the module that the others share.
        known: Known { examples: 10, tests: 51 },
        helper: None,
        programs_at_once: 1,
        threads: 2,
        broker: kafka,
    },
    Client {
        name: "lapin",
        ours: "otel-lapin",
        features: &["tokio", "smol", "async-global-executor"],
        known: Known { examples: 9, tests: 17 },
        helper: None,
        programs_at_once: 1,
        threads: 2,
        broker: rabbitmq,
    },
    Client {
        name: "async-nats",
        ours: "otel-async-nats",
        features: &[],
        known: Known { examples: 80, tests: 330 },
        helper: Some("nats_server"),
        programs_at_once: 4,
        threads: 4,
        broker: || Ok(Broker { environment: Vec::new(), _running: Running::ByTheTests }),
    },
];

impl Client {
    /// A broker that nobody else uses, with what tells the tests where it is.
    pub(crate) fn broker(&self) -> Result<Broker> {
        (self.broker)()
    }
}

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) environment: Vec<(&'static str, String)>,
    _running: Running,
}

#[derive(Debug)]
#[expect(dead_code, reason = "held, so that they run")]
enum Running {
    Kafka(Kafka),
    RabbitMq(RabbitMq),
    ByTheTests,
}

fn kafka() -> Result<Broker> {
    // Some of the tests take no other port.
    let kafka = Kafka::own_at(9092)?;
    Ok(Broker {
        environment: vec![("KAFKA_HOST", kafka.bootstrap_servers.clone()), ("KAFKA_VERSION", "4.1".to_owned())],
        _running: Running::Kafka(kafka),
    })
}

fn rabbitmq() -> Result<Broker> {
    let rabbitmq = RabbitMq::own()?;
    Ok(Broker { environment: vec![("AMQP_ADDR", rabbitmq.uri.clone())], _running: Running::RabbitMq(rabbitmq) })
}
