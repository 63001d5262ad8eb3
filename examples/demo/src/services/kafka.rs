//! What the services that use Kafka share.

use otel_rdkafka::{
    ClientConfig, ClientContext,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, ConsumerContext, Rebalance},
    types::RDKafkaErrorCode,
};
use tracing::warn;

use crate::{
    Error,
    order::{ORDERS_TOPIC, RETRY_TOPIC},
    service,
};

/// Creates the topics where they do not exist; whichever service comes first does it.
pub(crate) async fn create_topics(servers: &str) -> Result<(), Error> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", servers).create()?;
    let topics = [ORDERS_TOPIC, RETRY_TOPIC].map(|name| NewTopic::new(name, 3, TopicReplication::Fixed(1)));
    match admin.create_topics(&topics, &AdminOptions::new()).await {
        Ok(results) => {
            for result in results {
                match result {
                    Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                    Err((topic, error)) => return Err(format!("topic {topic} cannot be created: {error}").into()),
                }
            }
        }
        // librdkafka's mock cluster creates topics when they are first named.
        Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnsupportedFeature) => {
            warn!(%error, "topics are left to the broker");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
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
