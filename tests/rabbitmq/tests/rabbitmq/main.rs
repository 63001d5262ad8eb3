//! What otel-lapin promises, on a real RabbitMQ.

mod cancellation;
mod common;
mod correlation;
mod faults;
mod hostile_headers;
mod receive;
mod send;
mod settle;
mod types;
