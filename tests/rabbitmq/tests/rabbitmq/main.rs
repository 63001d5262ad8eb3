//! What otel-lapin promises, on a real RabbitMQ.

mod cancellation;
mod common;
mod correlation;
mod faults;
mod hostile_headers;
mod receive;
mod send;
mod sequential;
mod settle;
mod types;
mod ways;
