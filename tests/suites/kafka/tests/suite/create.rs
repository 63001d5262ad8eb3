//! Messages that are created now and sent later.

use std::{collections::HashMap, fs, time::Duration};

use opentelemetry::trace::TraceContextExt;
use otel_rdkafka::{
    consumer::{Consumer, StreamConsumer},
    message::{Header, OwnedHeaders},
    otel::Creator,
    producer::{FutureProducer, FutureRecord},
};

use crate::harness::{Test, headers, traceparent};

fn producer(test: &Test) -> FutureProducer {
    let producer: FutureProducer = test.config().create().unwrap();
    producer.with_instrumentation(test.sdk.instrumentation())
}

fn consumer(test: &Test) -> StreamConsumer {
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    consumer.subscribe(&[&test.topic]).unwrap();
    consumer.with_instrumentation(test.sdk.instrumentation())
}

/// The creation is in one life of the process, the send in another; between them is text in a file.
#[tokio::test]
async fn a_message_created_now_and_sent_later_keeps_its_creation() {
    let test = Test::new();
    let outbox = std::env::temp_dir().join(format!("outbox-{}", test.topic));
    {
        let request = test.sdk.app_span("request");
        let mut stored = HashMap::from([("tenant".to_owned(), "blue".to_owned())]);
        {
            let _attached = request.clone().attach();
            Creator::new(test.sdk.instrumentation()).create(&test.topic, &mut stored);
        }
        request.span().end();
        let mut lines: Vec<_> = stored.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        lines.sort();
        fs::write(&outbox, lines.concat()).unwrap();
    }
    let text = fs::read_to_string(&outbox).unwrap();
    fs::remove_file(&outbox).unwrap();
    let stored = text.lines().map(|line| line.split_once(": ").unwrap());
    let own = stored.fold(OwnedHeaders::new(), |own, (key, value)| own.insert(Header { key, value: Some(value) }));
    let record: FutureRecord<'_, (), str> = FutureRecord::to(&test.topic).payload("four apples").headers(own);
    producer(&test).send(record, Duration::from_secs(5)).await.unwrap();
    drop(consumer(&test).recv().await.unwrap());
    assert_eq!(
        test.described(4),
        r#"request
  kind INTERNAL
  scope app
  root
  status unset
create orders
  kind PRODUCER
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  parent request
  status unset
  messaging.destination.name = "orders"
  messaging.operation.name = "create"
  messaging.operation.type = "create"
  messaging.system = "kafka"
send orders
  kind CLIENT
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  root
  link create orders
  status unset
  messaging.client.id = "shop"
  messaging.destination.name = "orders"
  messaging.destination.partition.id = "0"
  messaging.kafka.cluster.id = "harbour"
  messaging.kafka.offset = 0
  messaging.operation.name = "send"
  messaging.operation.type = "send"
  messaging.system = "kafka"
process orders
  kind CONSUMER
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  parent create orders
  link create orders
  status unset
  messaging.client.id = "shop"
  messaging.consumer.group.name = "payment"
  messaging.destination.name = "orders"
  messaging.destination.partition.id = "0"
  messaging.kafka.cluster.id = "harbour"
  messaging.kafka.offset = 0
  messaging.operation.name = "process"
  messaging.operation.type = "process"
  messaging.system = "kafka"
"#
    );
    let created = ("traceparent".to_owned(), traceparent(&test.span("create orders")));
    assert_eq!(headers(&test.on_the_wire(1)[0]), [("tenant".to_owned(), "blue".to_owned()), created]);
}
