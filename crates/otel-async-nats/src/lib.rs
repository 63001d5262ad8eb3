#![doc = include_str!("../README.md")]
#![deny(hidden_glob_reexports, ambiguous_glob_reexports)]

mod creator;
mod headers;
mod history;
mod incoming;
// Without JetStream's types the application can still publish acknowledgements.
#[cfg_attr(not(feature = "jetstream"), allow(dead_code))]
mod ledger;
mod options;
mod origin;
mod receive;
mod send;
mod server_info;
#[cfg_attr(not(feature = "jetstream"), allow(dead_code))]
mod settle;
mod subjects;
mod subscriber;
mod telemetry;
mod wrap;

pub mod client;
pub mod error;
#[cfg(feature = "jetstream")]
pub mod jetstream;
pub mod message;
#[cfg(feature = "service")]
pub mod service;

pub use async_nats::*;

pub use crate::{
    client::Client,
    message::Message,
    options::{ConnectOptions, connect, connect_with_options},
    subscriber::Subscriber,
};

/// The items that this crate adds to async-nats: spans of messages, and the instrumentation that they go to.
pub mod otel {
    pub use async_nats as raw;
    pub use otel_messaging::*;

    #[cfg(feature = "jetstream")]
    pub use crate::incoming::IncomingJetStream;
    pub use crate::{
        creator::Creator,
        headers::{HeaderCase, HeaderExtractor, HeaderInjector},
        incoming::Incoming,
    };

    #[doc = include_str!("../MIGRATION.md")]
    pub mod migration {}
}
