//! librdkafka's mock cluster: the embedded Kafka where there is neither Docker nor Java.

use std::fmt;

use rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{BaseProducer, Producer},
};

use crate::missing::Missing;

/// A mock cluster of one broker. It lives inside the producer that it was asked for with.
pub(crate) struct Mock {
    producer: BaseProducer,
}

const NOT_CREATED: &str = "librdkafka refused a mock cluster";

impl Mock {
    pub(crate) fn start() -> Result<Self, Missing> {
        let producer: BaseProducer =
            ClientConfig::new().set("test.mock.num.brokers", "1").create().map_err(refused(NOT_CREATED))?;
        no_rebalance_delay(&producer);
        Ok(Self { producer })
    }

    pub(crate) fn bootstrap_servers(&self) -> String {
        self.producer.client().mock_cluster().map(|cluster| cluster.bootstrap_servers()).unwrap_or_default()
    }

    /// The broker's port closes; what it holds stays.
    pub(crate) fn stop(&mut self) {
        if let Some(cluster) = self.producer.client().mock_cluster() {
            let _ = cluster.broker_down(1);
        }
    }

    pub(crate) fn restart(&mut self) -> Result<(), Missing> {
        self.producer
            .client()
            .mock_cluster()
            .map_or(Ok(()), |cluster| cluster.broker_up(1))
            .map_err(refused("librdkafka did not restart its mock broker"))
    }
}

impl fmt::Debug for Mock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mock").field("bootstrap_servers", &self.bootstrap_servers()).finish()
    }
}

fn refused(what: &'static str) -> impl FnOnce(KafkaError) -> Missing {
    move |error| Missing::Machine { broker: "Apache Kafka", what, source: std::io::Error::other(error) }
}

/// A group's first consumer otherwise waits three seconds for others. There is no safe call and no configuration for it.
#[allow(unsafe_code, reason = "librdkafka offers this setting as a C function only")]
fn no_rebalance_delay(producer: &BaseProducer) {
    use rdkafka::bindings::{rd_kafka_handle_mock_cluster, rd_kafka_mock_group_initial_rebalance_delay_ms};

    // SAFETY: the client is alive during both calls and owns the cluster, and the second call is made only on a cluster; it
    // takes the cluster's own lock.
    unsafe {
        let cluster = rd_kafka_handle_mock_cluster(producer.client().native_ptr());
        if !cluster.is_null() {
            rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
        }
    }
}
