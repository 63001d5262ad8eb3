//! The builder of contexts.

use std::time::Duration;

use async_nats::jetstream::context::{No, ToAssign, Yes};

use otel_messaging::adapter::{opaque_debug, wrapper};

use crate::{Client, jetstream::Context};

/// Makes contexts: [`async_nats::jetstream::ContextBuilder`].
pub struct ContextBuilder<PREFIX: ToAssign>(async_nats::jetstream::ContextBuilder<PREFIX>);

impl Default for ContextBuilder<Yes> {
    fn default() -> Self {
        Self(async_nats::jetstream::ContextBuilder::default())
    }
}

impl ContextBuilder<Yes> {
    /// Starts from the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// See [`async_nats::jetstream::ContextBuilder::api_prefix`].
    pub fn api_prefix<T: Into<String>>(self, prefix: T) -> ContextBuilder<No> {
        ContextBuilder(self.0.api_prefix(prefix))
    }

    /// See [`async_nats::jetstream::ContextBuilder::domain`].
    pub fn domain<T: Into<String>>(self, domain: T) -> ContextBuilder<No> {
        ContextBuilder(self.0.domain(domain))
    }
}

impl<PREFIX: ToAssign> ContextBuilder<PREFIX> {
    /// See [`async_nats::jetstream::ContextBuilder::timeout`].
    pub fn timeout(self, timeout: Duration) -> ContextBuilder<Yes> {
        ContextBuilder(self.0.timeout(timeout))
    }

    /// See [`async_nats::jetstream::ContextBuilder::ack_timeout`].
    pub fn ack_timeout(self, ack_timeout: Duration) -> ContextBuilder<Yes> {
        ContextBuilder(self.0.ack_timeout(ack_timeout))
    }

    /// See [`async_nats::jetstream::ContextBuilder::max_ack_inflight`].
    pub fn max_ack_inflight(self, capacity: usize) -> ContextBuilder<Yes> {
        ContextBuilder(self.0.max_ack_inflight(capacity))
    }

    /// See [`async_nats::jetstream::ContextBuilder::backpressure_on_inflight`].
    pub fn backpressure_on_inflight(self, enabled: bool) -> ContextBuilder<Yes> {
        ContextBuilder(self.0.backpressure_on_inflight(enabled))
    }

    /// See [`async_nats::jetstream::ContextBuilder::concurrency_limit`].
    pub fn concurrency_limit(self, limit: Option<usize>) -> ContextBuilder<Yes> {
        ContextBuilder(self.0.concurrency_limit(limit))
    }

    /// Makes the context.
    pub fn build(self, client: Client) -> Context {
        Context::new(self.0.build(client.get_ref().clone()), client)
    }
}

wrapper! {
    [PREFIX: ToAssign] ContextBuilder<PREFIX> => async_nats::jetstream::ContextBuilder<PREFIX>, 0:
    /// The builder inside.
    get_ref
    /// The builder inside.
    into_inner
}

opaque_debug! { [PREFIX: ToAssign] ContextBuilder<PREFIX>, "ContextBuilder" }

impl<PREFIX: ToAssign> From<async_nats::jetstream::ContextBuilder<PREFIX>> for ContextBuilder<PREFIX> {
    fn from(inner: async_nats::jetstream::ContextBuilder<PREFIX>) -> Self {
        Self(inner)
    }
}
