//! librdkafka's mock cluster.

use std::{mem, sync::LazyLock, time::Duration};

use rdkafka::{
    config::ClientConfig,
    error::KafkaResult,
    message::{Header, OwnedHeaders},
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord, Producer},
};

use super::{PAYLOAD, headers, key};

/// The topic that producers write to.
pub(crate) const SINK: &str = "orders";

/// The topic that consumers read: [`SOURCE_MESSAGES`] messages are in its only partition.
pub(crate) const SOURCE: &str = "created";

/// How many messages [`SOURCE`] has. The mock keeps 5 MiB of a partition.
pub(crate) const SOURCE_MESSAGES: u32 = 10_000;

/// The addresses of the process's cluster, which lives as long as the process.
pub(crate) fn start() -> KafkaResult<&'static str> {
    static SERVERS: LazyLock<KafkaResult<String>> = LazyLock::new(start_cluster);
    SERVERS.as_deref().map_err(Clone::clone)
}

fn start_cluster() -> KafkaResult<String> {
    let cluster = MockCluster::new(1)?;
    cluster.create_topic(SINK, 1, 1)?;
    cluster.create_topic(SOURCE, 1, 1)?;
    let servers = cluster.bootstrap_servers();

    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &servers).create()?;
    for _ in 0..SOURCE_MESSAGES {
        let headers = headers()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
        let mut record = BaseRecord::<str, _>::to(SOURCE).payload(&PAYLOAD[..]).headers(headers);
        record.key = key();
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(Duration::from_secs(30))?;
    mem::forget(cluster);
    Ok(servers)
}
