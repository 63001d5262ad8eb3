#![doc = include_str!("../README.md")]
#![deny(hidden_glob_reexports, ambiguous_glob_reexports)]

mod acker;
mod channel;
mod confirmation;
mod confirms;
mod connection;
mod connection_builder;
mod consumer;
mod creator;
mod delivered;
mod error;
mod headers;
mod history;
mod incoming;
mod ledger;
mod publisher_confirm;
mod receive;
mod returns;
mod send;
mod settle;
mod telemetry;
mod wire_size;

pub mod message;

pub use lapin::*;

pub use crate::{
    acker::Acker,
    channel::Channel,
    confirmation::Confirmation,
    connection::{Connect, Connection},
    connection_builder::{ConnectionBuilder, DefaultConnectionBuilder},
    consumer::{Consumer, ConsumerDelegate},
    publisher_confirm::PublisherConfirm,
};

/// The items of this crate that `lapin` does not have. The module's name is not used by `lapin`.
pub mod otel {
    pub use lapin as raw;
    pub use otel_messaging::*;

    pub use crate::{
        creator::Creator,
        headers::{HeaderExtractor, HeaderInjector},
        incoming::Incoming,
    };

    #[doc = include_str!("../MIGRATION.md")]
    pub mod migration {}
}
