//! Kafka: takes an order, and sends what was paid.

use std::time::Duration;

use otel_rdkafka::{
    consumer::{CommitMode, Consumer, StreamConsumer},
    error::KafkaResult,
    message::Message,
    otel::MessageExt,
    producer::{FutureProducer, FutureRecord},
};

/// Works on the next order.
///
/// # Errors
///
/// The client's.
pub async fn next_order(orders: &StreamConsumer, producer: &FutureProducer) -> KafkaResult<()> {
    let order = orders.recv().await?;
    let paid = FutureRecord::<(), _>::to("paid").payload(order.payload().unwrap_or_default());
    let sent = async { producer.send(paid, Duration::from_secs(5)).await.map_err(|(error, _record)| error) };
    order.process(|| sent).await?;
    orders.commit_message(&order, CommitMode::Sync)
}

#[cfg(test)]
mod tests {
    use otel_rdkafka::{ClientConfig, Offset, TopicPartitionList, mocking::MockCluster};

    use super::*;
    use crate::recorded::Recorded;

    #[tokio::test]
    async fn an_order_is_one_trace() {
        let recorded = Recorded::new();
        // librdkafka's own Kafka, in this process.
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("orders", 1, 1).unwrap();
        cluster.create_topic("paid", 1, 1).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers()).set("group.id", "payment");
        let producer = config.create::<FutureProducer>().unwrap().with_instrumentation(recorded.instrumentation());
        let orders = config.create::<StreamConsumer>().unwrap().with_instrumentation(recorded.instrumentation());
        // Not subscribed: a new group would wait three seconds for more members.
        let mut partition = TopicPartitionList::new();
        partition.add_partition_offset("orders", 0, Offset::Beginning).unwrap();
        orders.assign(&partition).unwrap();

        // Nobody awaits it: the delivery report ends this span, on the producer's thread.
        drop(producer.send_result(FutureRecord::to("orders").key("4711").payload("four apples")).unwrap());
        next_order(&orders, &producer).await.unwrap();

        let attributes = ["messaging.consumer.group.name", "messaging.kafka.offset"];
        assert_eq!(
            recorded.trace(4, &attributes),
            [
                "send orders Producer, messaging.kafka.offset=0",
                "  process orders Consumer, links send orders, messaging.consumer.group.name=payment, messaging.kafka.offset=0",
                "    send paid Producer, messaging.kafka.offset=0",
                "    commit orders Client, messaging.consumer.group.name=payment, messaging.kafka.offset=0",
            ]
        );
    }
}
