//! What users plug in: suppression, filters, hooks, and code that panics on librdkafka's own threads.

use std::{collections::BTreeSet, time::Duration};

use every_broker::user_code::panicking;
use futures::future::join_all;
use otel_rdkafka::{
    Message,
    consumer::{CommitMode, Consumer, StreamConsumer},
    message::{Header, OwnedHeaders},
    otel::{Instrumentation, MessageExt},
    producer::{FutureProducer, FutureRecord},
};

use crate::harness::{Test, headers};

fn tenant() -> (String, String) {
    ("tenant".to_owned(), "blue".to_owned())
}

const MESSAGES: usize = 20;

/// All of a producer's messages arrive, each once, and its threads live on.
async fn survives(what: &str, instrumentation: Instrumentation) {
    let test = Test::new();
    let producer: FutureProducer = test.config().create().unwrap();
    let producer = producer.with_instrumentation(instrumentation.clone());
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    consumer.subscribe(&[&test.topic]).unwrap();
    let consumer = consumer.with_instrumentation(instrumentation);
    let mut arrived = BTreeSet::new();
    for number in 0..MESSAGES {
        let payload = number.to_string();
        let own = OwnedHeaders::new().insert(Header { key: "tenant", value: Some("blue") });
        let record = FutureRecord::to(&test.topic).key("4711").payload(&payload).headers(own);
        let delivery = producer.send(record, Duration::from_secs(5)).await.unwrap();
        assert_eq!(delivery.offset, i64::try_from(number).unwrap(), "{what}");
        let message = consumer.recv().await.unwrap();
        assert_eq!(headers(&message)[0], tenant(), "{what}");
        arrived.insert(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
        message.process(|| async { Err::<(), _>("no stock") }).await.unwrap_err();
        consumer.commit_message(&message, CommitMode::Sync).unwrap();
    }
    assert_eq!(arrived.len(), MESSAGES, "{what}");
}

#[tokio::test]
async fn user_code_that_panics_loses_no_message_and_no_thread() {
    join_all(panicking().into_iter().map(|(what, instrumentation)| survives(what, instrumentation))).await;
}
