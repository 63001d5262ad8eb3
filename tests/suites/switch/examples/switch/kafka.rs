//! A producer that waits for its reports, and a consumer that commits.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Message,
    consumer::{CommitMode, Consumer, StreamConsumer},
    message::{Header, Headers, OwnedHeaders},
    producer::{FutureProducer, FutureRecord, Producer},
};

use crate::{PAYLOADS, Result};

pub(crate) async fn run(bootstrap_servers: &str, topic: &str) -> Result {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap_servers);
    let producer: FutureProducer = config.create()?;
    for payload in PAYLOADS {
        let headers = OwnedHeaders::new().insert(Header { key: "fruit", value: Some("yes") });
        let record = FutureRecord::to(topic).key("4711").payload(payload).partition(0).headers(headers);
        let sent = producer.send(record, Duration::from_secs(20)).await.map_err(|(error, _record)| error)?;
        println!("kafka sent {} {}", sent.partition, sent.offset);
    }
    producer.flush(Duration::from_secs(20))?;
    println!("kafka in flight {}", producer.in_flight_count());

    config.set("group.id", topic).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    let consumer: StreamConsumer = config.create()?;
    consumer.subscribe(&[topic])?;
    for _ in PAYLOADS {
        let message = consumer.recv().await?;
        let payload = message.payload_view::<str>().transpose()?;
        let key = message.key_view::<str>().transpose()?;
        let fruit = message.headers().is_some_and(|headers| headers.iter().any(|header| header.key == "fruit"));
        println!("kafka got {} {payload:?} {key:?} {fruit}", message.offset());
        consumer.commit_message(&message, CommitMode::Sync)?;
    }
    // By the client itself: what it says of a topic that cannot be depends on what it has heard of it by then.
    let too_large = vec![0; 2_000_000];
    let record = FutureRecord::<(), [u8]>::to(topic).payload(&too_large);
    let refused = producer.send(record, Duration::ZERO).await;
    println!("kafka refused {:?}", refused.map_err(|(error, record)| (error, record.payload().map(<[u8]>::len))));
    Ok(())
}
