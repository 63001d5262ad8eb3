//! What otel-rdkafka promises, on a real Apache Kafka.

mod ambient;
mod cancellation;
mod create;
mod faults;
mod harness;
mod hostile_headers;
mod limits;
mod loops;
mod metrics;
mod outcome;
mod policies;
mod purge;
mod receive;
mod send;
mod sequential;
mod servers;
mod settle;
mod sources;
mod types;
mod user_code;
mod wait;
mod ways;

use sources::Kafka;

every_broker::tests!(Kafka);
