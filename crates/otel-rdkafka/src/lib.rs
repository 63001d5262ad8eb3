#![doc = include_str!("../README.md")]

mod brokers;
mod cast;
mod context;
mod creator;
mod headers;
mod history;
mod incoming;
mod native;
mod opaque;
mod purges;
mod receive;
mod send;
mod settle;
mod telemetry;

pub mod admin;
pub mod client;
pub mod consumer;
pub mod error;
pub mod message;
pub mod mocking;
pub mod producer;

pub use rdkafka::{
    ClientConfig, ClientContext, IntoOpaque, Message, Offset, Statistics, Timestamp, TopicPartitionList, bindings,
    config, groups, helpers, metadata, statistics, topic_partition_list, types, util,
};

/// The items that `rdkafka` does not have. rdkafka has no module of this name.
pub mod otel {
    pub use otel_messaging::*;
    pub use rdkafka as raw;

    pub use crate::{
        consumer::context::RawConsumerContext,
        context::Traced,
        creator::Creator,
        headers::{HeaderExtractor, HeaderInjector},
        incoming::Incoming,
    };

    #[doc = include_str!("../MIGRATION.md")]
    pub mod migration {}
}
