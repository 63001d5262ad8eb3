#![doc = include_str!("../README.md")]

// First, so that its macros are known in the modules below.
#[macro_use]
mod wrapper;

mod catch_panic;
mod deliver_iter;
mod description;
mod handling;
mod propagation;
mod recording;
mod spans;
mod telemetry;

pub mod adapter;

pub use crate::{
    description::{
        attributes::Attributes,
        operation::Operation,
        operation_name::OperationType,
        policy::{AutoCorrelation, CarriedContext, Correlation},
        semconv,
    },
    handling::{
        batch::{process_batch, process_batch_with},
        message_ext::{MessageExt, Processing},
        outcome::Outcome,
        process_each::{MessageStreamExt, ProcessEach},
        received_message::ReceivedMessage,
        sequential::{Sequential, sequential, sequential_blocking},
        stream_item::StreamItem,
    },
    propagation::{propagator::Propagation, w3c::parse_traceparent},
    recording::instrumentation::{Instrumentation, InstrumentationBuilder},
    spans::{
        context_state::{suppress_messaging, without_context, without_span},
        process_span::ProcessSpan,
    },
};

/// The traits for a glob import: `use otel_messaging::prelude::*`, or the adapter's re-export, such as
/// `use otel_rdkafka::otel::prelude::*`.
pub mod prelude {
    pub use crate::{MessageExt, MessageStreamExt, ReceivedMessage};
}

/// The type parameters of the futures that [`process`](MessageExt::process) and [`process_each`](MessageStreamExt::process_each)
/// return. An application needs them only to name the type of such a future.
pub mod handler {
    pub use crate::handling::{
        outcome::{ErrorBy, FindError, ReturnedError},
        process_each::{Observe, Observer},
        stream_item::{AskedFor, ByClient, OnStreamError},
    };
}
