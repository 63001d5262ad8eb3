//! JetStream.

pub mod consumer;
pub mod context;
pub mod message;
pub(crate) mod receive;
pub mod stream;

pub use async_nats::jetstream::*;

pub use crate::jetstream::{
    context::{Context, ContextBuilder},
    message::Message,
};

use crate::Client;

/// A context with the default API prefix.
pub fn new(client: Client) -> Context {
    Context::new(async_nats::jetstream::new(client.get_ref().clone()), client)
}

/// A context of this domain.
pub fn with_domain<T: AsRef<str>>(client: Client, domain: T) -> Context {
    Context::new(async_nats::jetstream::with_domain(client.get_ref().clone(), domain), client)
}

/// A context with this API prefix.
pub fn with_prefix(client: Client, prefix: &str) -> Context {
    Context::new(async_nats::jetstream::with_prefix(client.get_ref().clone(), prefix), client)
}
