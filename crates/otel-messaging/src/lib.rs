#![doc = include_str!("../README.md")]

mod arrival;
mod batch;
mod capture;
mod client_span;
mod exceptions;
mod handing_out;
mod instrumentation;
mod live;
mod loops;
mod marks;
mod message_ext;
mod metrics;
mod operation;
mod policy;
mod process_each;
mod process_span;
mod propagation;
mod room;
mod sequential;
mod shield;
mod telemetry;
mod w3c;

pub mod adapter;
pub mod semconv;

pub use crate::{
    batch::process_batch,
    instrumentation::{Instrumentation, InstrumentationBuilder},
    marks::suppressed,
    message_ext::{MessageExt, Outcome, Processing},
    operation::{Attributes, Operation, OperationType},
    policy::{Auto, CarriedContext, Correlation},
    process_each::{MessageStreamExt, ProcessEach, Received},
    propagation::Propagation,
    sequential::{Sequential, sequential, sequential_blocking},
};
