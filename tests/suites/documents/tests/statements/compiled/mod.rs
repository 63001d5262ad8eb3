//! What documents state, with what it needs. Compiled, and never run.
//!
//! A file for a document, or for the documents of a package. The body of each function consists of statements, each by itself or, if
//! it is an expression, behind `let _ =`. What compiles but is wrong at run time, which its document says, is in a function
//! `wrong_at_run_time`; what does not compile stands in `src/lib.rs`.

#![allow(dead_code, unused_imports, reason = "nothing is called")]
#![allow(
    clippy::let_unit_value,
    clippy::let_underscore_future,
    reason = "a statement is shown as it stands in its document"
)]

mod architecture;
mod async_nats;
mod decisions;
mod demo;
mod handling;
mod lapin;
mod messaging;
mod operation;
mod rdkafka;

/// The documents whose paths begin with the first, and what of them is compiled.
pub(crate) const COMPILED: [(&str, &str); 9] = [
    ("ARCHITECTURE.md", include_str!("architecture.rs")),
    ("crates/otel-async-nats/", include_str!("async_nats.rs")),
    ("crates/otel-lapin/", include_str!("lapin.rs")),
    ("crates/otel-messaging/", include_str!("messaging.rs")),
    ("crates/otel-rdkafka/", include_str!("rdkafka.rs")),
    ("docs/decisions/", include_str!("decisions.rs")),
    ("docs/handling.md", include_str!("handling.rs")),
    ("docs/operation.md", include_str!("operation.rs")),
    ("examples/demo/", include_str!("demo.rs")),
];
