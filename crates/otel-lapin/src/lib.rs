//! lapin with OpenTelemetry: the same RabbitMQ client, every message a span.
#![deny(hidden_glob_reexports, ambiguous_glob_reexports)]

mod acker;
mod channel;
mod connection;
mod connection_builder;
mod consumer;
mod error;
mod ledger;
mod publisher_confirm;
mod publishes;
mod settle;
mod telemetry;

pub mod headers;
pub mod message;

pub use lapin::*;

pub use crate::{
    acker::Acker,
    channel::Channel,
    connection::{Connect, Connection},
    connection_builder::{ConnectionBuilder, DefaultConnectionBuilder},
    consumer::{Consumer, ConsumerDelegate},
    error::error_type,
    publisher_confirm::{Confirmation, PublisherConfirm},
};

/// What lapin has no counterpart for: configuration, and what received messages can do.
pub mod otel {
    #[doc(no_inline)]
    pub use otel_messaging::{
        CarriedContext, Correlation, Instrumentation, InstrumentationBuilder, MessageExt, Outcome, Processing,
        Sequential, process_batch, sequential, sequential_blocking,
    };
}
