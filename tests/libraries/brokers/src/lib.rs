//! Real brokers on demand: the one place from which tests, demo and benches get theirs.
//!
//! [`Kafka::start`], [`RabbitMq::start`] and [`Nats::start`] look, in this order, for
//!
//! 1. an address in the environment: `BROKERS_KAFKA` (a `bootstrap.servers`), `BROKERS_AMQP` (a URI), `BROKERS_NATS` (a URL). A
//!    broker that merely listens somewhere is never touched;
//! 2. a Docker engine that answers, and its `docker compose`: the service of the workspace's `docker-compose.yml`;
//! 3. the programs that `make brokers` installed: a child process;
//! 4. for Kafka alone, librdkafka's mock cluster inside this process, which says on stderr what it cannot do.
//!
//! `own()` is always a private child process: for tests that stop, kill or restart a broker. When there is none to be had, the
//! error is [`Missing`]: one sentence with the command that mends it. [`Redis`], which an example needs, has `own()` alone.
//!
//! Ports and folders are free ones, so that two runs side by side do not meet. A broker that was started here ends with its
//! value, and with this process however that ends: at Ctrl-C, at `process::exit`, by `kill -9`.
//!
//! What `make brokers` installs is found in the workspace's `target/brokers`, wherever `CARGO_TARGET_DIR` points; `BROKERS_HOME`
//! names another folder.

mod backing;
mod compose;
mod folder;
mod home;
mod kafka;
mod missing;
mod mock;
mod nats;
mod net;
mod ports;
mod process;
mod rabbitmq;
mod redis;

pub use crate::backing::Source;
pub use crate::kafka::Kafka;
pub use crate::missing::Missing;
pub use crate::nats::Nats;
pub use crate::rabbitmq::RabbitMq;
pub use crate::redis::Redis;
