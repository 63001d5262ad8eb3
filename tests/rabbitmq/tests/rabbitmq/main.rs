//! What otel-lapin promises, on a real RabbitMQ.

mod ambient;
mod bystanders;
mod cancellation;
mod common;
mod correlation;
mod create;
mod faults;
mod hostile_headers;
mod limits;
mod lineage;
mod loops;
mod metrics;
mod outcome;
mod policies;
mod raw_settlements;
mod receive;
mod reply;
mod republish;
mod send;
mod sequential;
mod settle;
mod sources;
mod stream;
mod types;
mod wait;
mod ways;
