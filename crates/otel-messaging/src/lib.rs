#![doc = include_str!("../README.md")]

mod arrival;
mod baggage;
mod batch;
mod capture;
mod catch_panic;
mod client_span;
mod context_state;
mod current;
mod deliver_stream;
mod exceptions;
mod forward;
mod header_budget;
mod instrumentation;
mod loops;
mod message_ext;
mod metrics;
mod operation;
mod outcome;
mod pipeline;
mod policy;
mod process_each;
mod process_span;
mod propagation;
mod sequential;
mod source;
mod stream_item;
mod telemetry;
mod w3c;

pub mod adapter;
pub mod semconv;

pub use crate::{
    batch::{process_batch, process_batch_with},
    context_state::suppress_messaging,
    instrumentation::{Instrumentation, InstrumentationBuilder},
    message_ext::{MessageExt, Processing},
    operation::{Attributes, Operation, OperationType},
    outcome::Outcome,
    policy::{AutoCorrelation, CarriedContext, Correlation},
    process_each::{MessageStreamExt, ProcessEach},
    propagation::Propagation,
    sequential::{Sequential, sequential, sequential_blocking},
    stream_item::StreamItem,
    w3c::parse_traceparent,
};

/// What the futures of [`process`](MessageExt::process) and [`process_each`](MessageStreamExt::process_each) are made of: to
/// name their types, nothing else.
pub mod handler {
    pub use crate::{
        outcome::{ErrorBy, FindError, ReturnedError},
        process_each::{Observe, Observer},
        stream_item::{AskedFor, ByClient, OnStreamError},
    };
}
