//! What otel-async-nats promises, on a real nats-server.

mod acknowledgements;
mod ambient;
mod arbitrary;
mod cancellation;
mod carriers;
mod context_reader;
mod correlation;
mod create;
mod faults;
mod harness;
mod hostile_headers;
mod jetstream;
mod limits;
mod loops;
mod metrics;
mod outcome;
mod own_instrumentation;
mod policies;
mod raw_tcp;
mod receive;
mod republish;
mod send;
mod sequential;
mod servers;
mod service;
mod settle;
mod sources;
mod user_code;
mod ways;

use harness::*;
use sources::Nats;

every_broker::tests!(Nats);
