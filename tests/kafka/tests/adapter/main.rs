//! What otel-rdkafka promises, on a real Apache Kafka.

mod again;
mod api;
mod broker;
mod cancellation;
mod correlation;
mod faults;
mod hostile_headers;
mod loops;
mod measured;
mod policy;
mod receive;
mod send;
mod sequential;
mod series;
mod settle;
mod users_code;
mod ways;
