#![doc = include_str!("../README.md")]

mod batch;
mod client_span;
mod handing_out;
mod instrumentation;
mod live;
mod message_ext;
mod operation;
mod process_each;
mod process_span;
mod processed;
mod sequential;
mod shield;
mod telemetry;

pub mod adapter;
pub mod semconv;

pub use crate::{
    batch::process_batch,
    instrumentation::{CarriedContext, Correlation, Instrumentation, InstrumentationBuilder},
    message_ext::{MessageExt, Outcome, Processing},
    process_each::{MessageStreamExt, ProcessEach, Received},
    sequential::{Sequential, sequential, sequential_blocking},
};
