//! What the services that use Kafka share.

use std::{
    thread,
    time::{Duration, Instant},
};

use otel_rdkafka::{
    ClientConfig, ClientContext,
    consumer::{BaseConsumer, ConsumerContext, Rebalance, StreamConsumer},
    error::KafkaError,
    producer::{BaseProducer, Producer},
};
use tokio::task::spawn_blocking;

use crate::{
    Error,
    order::{ORDERS_TOPIC, RETRY_TOPIC},
    service,
};

/// How long the topics may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until the topics exist. To ask for one creates it: Kafka's default, and librdkafka's mock cluster knows no other
/// way.
pub(crate) async fn topics(servers: &str) -> Result<(), Error> {
    let client: BaseProducer = ClientConfig::new().set("bootstrap.servers", servers).create()?;
    spawn_blocking(move || {
        let deadline = Instant::now() + PATIENCE;
        for topic in [ORDERS_TOPIC, RETRY_TOPIC] {
            let exists = || {
                let metadata = client.client().fetch_metadata(Some(topic), PATIENCE)?;
                Ok::<_, Error>(metadata.topics().iter().any(|it| it.error().is_none() && !it.partitions().is_empty()))
            };
            while !exists()? {
                if Instant::now() > deadline {
                    return Err(format!("there is no topic {topic} after {PATIENCE:?}").into());
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    })
    .await?
}

/// A consumer in a group, from the beginning of its topics. It commits itself: what it is done with.
pub(crate) fn consumer(servers: &str, group: &str) -> Result<StreamConsumer<ReadyWhenAssigned>, KafkaError> {
    ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // A partition that is assigned while a fetch waits is not in it, and would wait as long.
        .set("fetch.wait.max.ms", "20")
        .create_with_context(ReadyWhenAssigned)
}

/// A consumer's context that says when the group has given it its partitions: from then on nothing waits for it.
pub(crate) struct ReadyWhenAssigned;

impl ClientContext for ReadyWhenAssigned {}

impl ConsumerContext for ReadyWhenAssigned {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Assign(_)) {
            service::ready(None);
        }
    }
}
