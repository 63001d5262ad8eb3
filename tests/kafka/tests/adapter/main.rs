//! What otel-rdkafka promises, on a real Apache Kafka.

mod api;
mod broker;
mod cancellation;
mod correlation;
mod faults;
mod hostile_headers;
mod receive;
mod send;
mod sequential;
mod settle;
mod ways;
