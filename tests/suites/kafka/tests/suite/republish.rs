//! Messages that are sent later or again: an outbox, retries, dead letters, transactions.

use std::{collections::HashMap, fs, time::Duration};

use opentelemetry::trace::{SpanKind, TraceContextExt};
use otel_rdkafka::{
    Message,
    consumer::{Consumer, StreamConsumer},
    message::{BorrowedHeaders, Header, OwnedHeaders},
    otel::{Creator, MessageExt},
    producer::{BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer},
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

const ROUNDS: usize = 100;

#[tokio::test]
async fn a_hundred_retries_add_no_header_and_link_the_failure() {
    let test = Test::new();
    let producer = producer(&test);
    let own = || OwnedHeaders::new().insert(Header { key: "tenant", value: Some("blue") });
    let record = |headers| FutureRecord::<(), str> { headers, ..FutureRecord::to(&test.topic).payload("four apples") };
    producer.send(record(Some(own())), Duration::from_secs(5)).await.unwrap();
    let consumer = consumer(&test);
    for round in 0..ROUNDS {
        let message = consumer.recv().await.unwrap();
        let names: Vec<_> = headers(&message).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["tenant", "traceparent"], "round {round}");
        message.process(|| async { Err::<(), _>("no stock") }).await.unwrap_err();
        let copied = message.headers().map(BorrowedHeaders::detach);
        message.republish(|| producer.send(record(copied), Duration::from_secs(5))).await.unwrap();
    }
    let spans = test.sdk.wait_for(2 * ROUNDS + 1);
    let of = |kind| spans.iter().filter(move |span| span.span_kind == kind);
    let sent: Vec<_> = of(SpanKind::Producer).collect();
    let processed: Vec<_> = of(SpanKind::Consumer).collect();
    assert_eq!((sent.len(), processed.len()), (ROUNDS + 1, ROUNDS));
    for (round, (pair, process)) in sent.windows(2).zip(processed).enumerate() {
        let links: Vec<_> = pair[1].links.iter().map(|link| link.span_context.span_id()).collect();
        assert_eq!(links, [pair[0].span_context.span_id(), process.span_context.span_id()], "round {round}");
        assert_eq!(process.parent_span_id, pair[0].span_context.span_id(), "round {round}");
    }
}

#[test]
fn a_message_of_a_transaction_has_a_span_of_its_delivery() {
    let test = Test::new();
    let producer: BaseProducer = test.config().set("transactional.id", &test.topic).create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    producer.init_transactions(Duration::from_secs(20)).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::<(), str>::to(&test.topic).payload("four apples")).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    let span = test.span("send orders");
    producer.commit_transaction(Duration::from_secs(20)).unwrap();
    assert_eq!(test.sdk.spans().len(), 1, "the transaction itself has none");
    assert_eq!(headers(&test.on_the_wire(1)[0]), [("traceparent".to_owned(), traceparent(&span))]);
}
