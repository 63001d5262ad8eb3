//! Common client functionality: `rdkafka::client`, with a [`Client`] whose context is the user's.

use std::sync::Arc;

use otel_messaging::adapter::{opaque_debug, wrapper};
use rdkafka::{
    ClientConfig, client as raw,
    config::NativeClientConfig,
    error::{KafkaResult, RDKafkaErrorCode},
    groups::GroupList,
    metadata::Metadata,
    types::{RDKafka, RDKafkaType},
    util::Timeout,
};

use crate::{cast::transparent, context::Traced, mocking::MockCluster};

pub use rdkafka::client::{ClientContext, DefaultClientContext, NativeClient, OAuthToken};

transparent! {
    /// A low-level rdkafka client; see `rdkafka::client::Client`. It sends and receives no messages, so it makes no spans.
    pub struct Client<C: ClientContext = DefaultClientContext>(raw::Client<Traced<C>>);
}

impl<C: ClientContext> Client<C> {
    /// Creates a new client given a configuration, a client type and a context.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    pub fn new(
        config: &ClientConfig,
        native_config: NativeClientConfig,
        rd_kafka_type: RDKafkaType,
        context: C,
    ) -> KafkaResult<Self> {
        raw::Client::new(config, native_config, rd_kafka_type, Traced::new(context)).map(Self)
    }

    /// The native client.
    pub fn native_client(&self) -> &NativeClient {
        self.0.native_client()
    }

    /// The pointer to the native client.
    pub fn native_ptr(&self) -> *mut RDKafka {
        self.0.native_ptr()
    }

    /// The context that the client was made with.
    pub fn context(&self) -> &Arc<C> {
        self.0.context().user()
    }

    /// The metadata of a topic, or of all topics.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    pub fn fetch_metadata<T: Into<Timeout>>(&self, topic: Option<&str>, timeout: T) -> KafkaResult<Metadata> {
        self.0.fetch_metadata(topic, timeout)
    }

    /// The lowest and highest offset of a partition.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    pub fn fetch_watermarks<T: Into<Timeout>>(
        &self,
        topic: &str,
        partition: i32,
        timeout: T,
    ) -> KafkaResult<(i64, i64)> {
        self.0.fetch_watermarks(topic, partition, timeout)
    }

    /// The cluster's id, if it is known in time.
    pub fn fetch_cluster_id<T: Into<Timeout>>(&self, timeout: T) -> Option<String> {
        self.0.fetch_cluster_id(timeout)
    }

    /// The members of a group, or of all groups.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    pub fn fetch_group_list<T: Into<Timeout>>(&self, group: Option<&str>, timeout: T) -> KafkaResult<GroupList> {
        self.0.fetch_group_list(group, timeout)
    }

    /// The first fatal error of this client, if there was one.
    pub fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.0.fatal_error()
    }

    /// The mock cluster of a client configured with `test.mock.num.brokers`.
    pub fn mock_cluster(&self) -> Option<MockCluster<'_, C>> {
        self.0.mock_cluster().map(MockCluster::of_client)
    }
}

wrapper! {
    [C: ClientContext] Client<C> => raw::Client<Traced<C>>, 0:
    /// The raw client.
    get_ref
    /// The raw client.
    into_inner
}

opaque_debug! { [C: ClientContext] Client<C>, "Client", |client| context: client.0.context() }

/// A raw client over a [`Traced`] context.
impl<C: ClientContext> From<raw::Client<Traced<C>>> for Client<C> {
    fn from(raw: raw::Client<Traced<C>>) -> Self {
        Self(raw)
    }
}
