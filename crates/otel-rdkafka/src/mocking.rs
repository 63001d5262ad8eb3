//! A mock cluster: `rdkafka::mocking`, with a [`MockCluster`] whose client has the user's context.

use std::time::Duration;

use otel_messaging::adapter::opaque_debug;
use rdkafka::{
    client::ClientContext,
    error::KafkaResult,
    mocking as raw,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

use crate::context::Traced;

pub use rdkafka::mocking::MockCoordinator;

/// [`rdkafka::mocking::MockCluster`], from [`MockCluster::new`] or
/// [`Client::mock_cluster`](crate::client::Client::mock_cluster). It sends and receives no messages, so it makes no spans.
pub struct MockCluster<'c, C: ClientContext>(Cluster<'c, C>);

enum Cluster<'c, C: ClientContext> {
    Own(raw::MockCluster<'static, DefaultProducerContext>),
    OfClient(raw::MockCluster<'c, Traced<C>>),
}

impl MockCluster<'static, DefaultProducerContext> {
    /// Starts a cluster with this number of brokers. It ends when the value is dropped.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    pub fn new(broker_count: i32) -> KafkaResult<Self> {
        raw::MockCluster::new(broker_count).map(|cluster| Self(Cluster::Own(cluster)))
    }
}

impl<'c, C: ClientContext> MockCluster<'c, C> {
    pub(crate) fn of_client(cluster: raw::MockCluster<'c, Traced<C>>) -> Self {
        Self(Cluster::OfClient(cluster))
    }
}

/// Methods that call rdkafka's on both kinds of cluster.
macro_rules! forward {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $of:ty),*) $(-> $output:ty)?;)*) => {
        impl<C: ClientContext> MockCluster<'_, C> {$(
            $(#[$doc])*
            pub fn $name(&self, $($argument: $of),*) $(-> $output)? {
                match &self.0 {
                    Cluster::Own(cluster) => cluster.$name($($argument),*),
                    Cluster::OfClient(cluster) => cluster.$name($($argument),*),
                }
            }
        )*}
    };
}

forward! {
    /// The addresses of the cluster's brokers, for `bootstrap.servers`.
    fn bootstrap_servers() -> String;

    /// Removes the remaining errors for requests of this kind.
    fn clear_request_errors(api_key: RDKafkaApiKey);

    /// The next requests of this kind fail with these errors, one after the other.
    fn request_errors(api_key: RDKafkaApiKey, errors: &[RDKafkaRespErr]);

    /// The error that metadata requests and additions to a transaction get for a topic.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    fn topic_error(topic: &str, error: RDKafkaRespErr) -> KafkaResult<()>;

    /// Creates a topic.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    fn create_topic(topic: &str, partition_count: i32, replication_factor: i32) -> KafkaResult<()>;

    /// Sets the leader of a partition; `None` leaves it without a leader.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    fn partition_leader(topic: &str, partition: i32, broker_id: Option<i32>) -> KafkaResult<()>;

    /// Sets the preferred follower of a partition.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    fn partition_follower(topic: &str, partition: i32, broker_id: i32) -> KafkaResult<()>;

    /// Sets the first and last offset that a partition's preferred follower has; `None` is the
    /// leader's.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    fn follower_watermarks(
        topic: &str,
        partition: i32,
        low_watermark: Option<i64>,
        high_watermark: Option<i64>
    ) -> KafkaResult<()>;

    /// Disconnects a broker and refuses new connections to it.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    fn broker_down(broker_id: i32) -> KafkaResult<()>;

    /// Accepts connections to a broker again.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    fn broker_up(broker_id: i32) -> KafkaResult<()>;

    /// Sets the round trip time of a broker, in whole milliseconds.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    fn broker_round_trip_time(broker_id: i32, delay: Duration) -> KafkaResult<()>;

    /// Sets the rack of a broker.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    fn broker_rack(broker_id: i32, rack: &str) -> KafkaResult<()>;

    /// Makes a broker the coordinator of a group or of a transaction.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    fn coordinator(coordinator: MockCoordinator, broker_id: i32) -> KafkaResult<()>;

    /// Sets the versions of a request that the brokers take; both `None` disables it.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    fn apiversion(api_key: RDKafkaApiKey, min_version: Option<i16>, max_version: Option<i16>) -> KafkaResult<()>;
}

opaque_debug! {
    [C: ClientContext] MockCluster<'_, C>, "MockCluster", |cluster| bootstrap_servers: cluster.bootstrap_servers()
}
