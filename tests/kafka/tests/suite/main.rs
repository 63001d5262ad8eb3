//! What otel-rdkafka promises, on a real Apache Kafka.

mod again;
mod ambient;
mod api;
mod broker;
mod cancellation;
mod context_reader;
mod correlation;
mod faults;
mod hostile_headers;
mod limits;
mod loops;
mod measured;
mod outcome;
mod policy;
mod purge;
mod receive;
mod send;
mod sequential;
mod series;
mod server;
mod settle;
mod users_code;
mod wait;
mod ways;
