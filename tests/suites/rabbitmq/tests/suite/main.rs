//! What otel-lapin promises, on a real RabbitMQ.

mod ambient;
mod cancellation;
mod correlation;
mod create;
mod faults;
mod harness;
mod history;
mod hostile_headers;
mod limits;
mod loops;
mod metrics;
mod policies;
mod raw_settlements;
mod receive;
mod reply;
mod send;
mod sequential;
mod settle;
mod sources;
mod stream;
mod types;
mod user_code;
mod wait;
mod ways;

use harness::Rabbit;

every_broker::tests!(Rabbit);
