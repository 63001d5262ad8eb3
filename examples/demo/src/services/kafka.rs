//! What the services that use Kafka share.

use std::{
    thread,
    time::{Duration, Instant},
};

use otel_rdkafka::{
    ClientConfig, ClientContext,
    consumer::{BaseConsumer, ConsumerContext, Rebalance},
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
