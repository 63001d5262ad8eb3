//! Where a process span stands, by the policy, what was current, and what the message brought: the table is `support`'s.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use otel_rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer as _, StreamConsumer},
    message::{Header, OwnedHeaders, OwnedMessage},
    producer::BaseRecord,
};
use rdkafka::producer::{BaseProducer, Producer as _};
use support::{
    DEADLINE,
    correlation::{Consumer, Given, Message, check},
};

use crate::harness::Test;

/// A topic of its own, which the raw client sends to.
struct Topic {
    test: Test,
    producer: BaseProducer,
    consumer: StreamConsumer,
}

impl Topic {
    async fn of(given: Given) -> Self {
        let test = Test::with_sdk(given.sdk);
        let consumer: StreamConsumer = test.consumer_config().create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&test.topic, 0, Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let producer = test.config().create().unwrap();
        Self { test, producer, consumer: consumer.with_instrumentation(given.own) }
    }
}

impl Consumer for Topic {
    type Message = OwnedMessage;

    async fn make(&mut self, message: Message, headers: &[(&str, String)]) {
        let mut record = BaseRecord::<(), str>::to(&self.test.topic).payload("four apples");
        let mut all = OwnedHeaders::new();
        for (key, value) in headers {
            all = all.insert(Header { key, value: Some(value) });
        }
        match message {
            // What Spring's retry topics and dead letters have.
            Message::Redelivered => {
                all = all.insert(Header { key: "retry_topic-attempts", value: Some(&[0_u8, 0, 0, 2]) });
            }
            Message::DeadLettered => {
                all = all.insert(Header { key: "kafka_dlt-original-topic", value: Some("orders") });
            }
            Message::Old => {
                let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - Duration::from_secs(2 * 3_600);
                record = record.timestamp(at.as_millis().try_into().unwrap());
            }
            _ => (),
        }
        if message != Message::Absent {
            record = record.headers(all);
        }
        self.producer.send(record).unwrap();
        self.producer.flush(DEADLINE).unwrap();
    }

    async fn next(&mut self, _: Message) -> OwnedMessage {
        self.consumer.recv().await.unwrap().detach()
    }
}

#[tokio::test]
async fn a_consumers_policy_decides() {
    check("Kafka", Topic::of).await;
}
