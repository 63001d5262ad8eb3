//! Messages of a stream: where they are in it.

use lapin::{
    BasicProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, BasicRejectOptions,
        QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use otel_lapin::{
    Consumer,
    otel::{MessageExt, process_batch},
};
use otel_messaging::semconv::extension;
use support::attribute as value_of;

use crate::{
    harness::{Rabbit, SCOPE, at_peer, long, named, next, table, unique},
    sources::{Source, take},
};

/// Runs a test with a stream of so many messages, which does not go away by itself.
async fn with_stream(messages: usize, test: impl AsyncFnOnce(&Rabbit, &str)) {
    let rabbit = Rabbit::new().await;
    let stream = unique("events");
    let arguments = table([("x-queue-type", long("stream"))]);
    rabbit.raw.queue_declare(stream.as_str().into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
    for _ in 0..messages {
        // As a message has it that was copied from another stream with all its headers.
        let headers = table([("x-stream-offset", AMQPValue::LongLongInt(4_711))]);
        rabbit.publish_raw(&stream, b"1", BasicProperties::default().with_headers(headers)).await;
    }
    // Without a bound the broker sends nothing.
    for channel in [&rabbit.raw, rabbit.channel.get_ref()] {
        channel.basic_qos(10, BasicQosOptions::default()).await.unwrap();
    }
    test(&rabbit, &stream).await;
    rabbit.raw.queue_delete(stream.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
}

/// From the first message on.
async fn consume(rabbit: &Rabbit, stream: &str) -> Consumer {
    let (options, arguments) = (BasicConsumeOptions::default(), table([("x-stream-offset", long("first"))]));
    rabbit.channel.basic_consume(stream.into(), "".into(), options, arguments).await.unwrap()
}

/// The offsets on the spans of this name, or on their links.
fn offsets(rabbit: &Rabbit, name: &str) -> Vec<String> {
    let spans = rabbit.sdk.spans();
    let of = |span: &opentelemetry_sdk::trace::SpanData| {
        let links = span.links.iter().filter_map(|link| support::link_attribute(link, extension::STREAM_OFFSET));
        value_of(span, extension::STREAM_OFFSET).map(ToString::to_string).into_iter().chain(links).collect::<Vec<_>>()
    };
    named(&spans, name).into_iter().flat_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_stream_tells_its_offset_where_it_is_processed_and_settled() {
    let peer = at_peer();
    with_stream(2, async |rabbit, stream| {
        let mut consumer = consume(rabbit, stream).await;
        next(&mut consumer).await.ack(BasicAckOptions::default()).await.unwrap();
        assert_eq!(offsets(rabbit, &format!("ack {stream}")), ["0"]);
        rabbit.sdk.forget();
        let second = next(&mut consumer).await;
        second.process(|| async { assert!(second.ack(BasicAckOptions::default()).await.unwrap()) }).await;
        assert_eq!(
            rabbit.describe(2),
            format!(
                "\
process {stream}
  kind CONSUMER
  {SCOPE}
  root
  status unset
  messaging.destination.name = {stream:?}
  messaging.operation.name = \"process\"
  messaging.operation.type = \"process\"
  messaging.rabbitmq.destination.routing_key = {stream:?}
  messaging.rabbitmq.message.delivery_tag = 2
  messaging.system = \"rabbitmq\"
  otel_messaging.settlement.outcome = \"ack\"
  otel_messaging.stream.offset = 1
  server.address = HOST
  server.port = PORT
ack {stream}
  kind CLIENT
  {SCOPE}
  parent process {stream}
  status unset
  messaging.destination.name = {stream:?}
  messaging.operation.name = \"ack\"
  messaging.operation.type = \"settle\"
  messaging.rabbitmq.message.delivery_tag = 2
  messaging.system = \"rabbitmq\"
{peer}  otel_messaging.settlement.outcome = \"ack\"
  otel_messaging.stream.offset = 1
  server.address = HOST
  server.port = PORT
"
            )
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_is_recorded_however_a_stream_message_is_settled() {
    with_stream(5, async |rabbit, stream| {
        let mut consumer = consume(rabbit, stream).await;
        let mut deliveries = Vec::new();
        for _ in 0..5 {
            deliveries.push(next(&mut consumer).await);
        }
        let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.delivery_tag).collect();
        rabbit.channel.basic_ack(tags[0], BasicAckOptions::default()).await.unwrap();
        drop(deliveries.drain(..2));
        rabbit.channel.basic_ack(tags[1], BasicAckOptions::default()).await.unwrap();
        // The third is gone when it is settled together with the others.
        drop(deliveries.remove(0));
        assert!(deliveries[1].ack(BasicAckOptions { multiple: true }).await.unwrap());
        drop(deliveries);
        assert_eq!(offsets(rabbit, &format!("ack {stream}")), ["0", "1", "2", "3", "4"]);
        let mut processed = offsets(rabbit, &format!("process {stream}"));
        processed.sort_unstable();
        assert_eq!(processed, ["0", "1", "2", "3", "4"]);
    })
    .await;
    // The broker closes the connection of whoever refuses a message of a stream.
    for refusal in ["nack", "reject"] {
        with_stream(1, async |rabbit, stream| {
            let delivery = next(&mut consume(rabbit, stream).await).await;
            let refused = match refusal {
                "nack" => delivery.nack(BasicNackOptions::default()).await,
                _ => delivery.reject(BasicRejectOptions::default()).await,
            };
            assert!(refused.unwrap());
            assert_eq!(offsets(rabbit, &format!("{refusal} {stream}")), ["0"]);
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_stream_that_are_processed_together_have_their_offsets_on_the_links() {
    with_stream(0, async |rabbit, stream| {
        // Only what has a context is linked.
        for _ in 0..2 {
            rabbit.publish(stream, b"1", BasicProperties::default()).await;
        }
        let mut consumer = consume(rabbit, stream).await;
        let deliveries = [next(&mut consumer).await, next(&mut consumer).await];
        process_batch(&deliveries, || async {}).await;
        assert_eq!(offsets(rabbit, &format!("process {stream}")), ["0", "1"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_is_recorded_for_every_source_of_a_stream_message() {
    // A stream has nothing for those that ask for one message.
    for source in [Source::Consumer, Source::IncomingStream, Source::IncomingMessage, Source::Delegate] {
        with_stream(0, async |rabbit, stream| {
            let mut messages = source.open(rabbit, stream).await.messages;
            rabbit.publish_raw(stream, b"1", BasicProperties::default()).await;
            take(&mut messages).await.process(|| async {}).await;
            assert_eq!(offsets(rabbit, &format!("process {stream}")), ["0"], "{source:?}");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_no_offset_says_nothing_and_arrives() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    let mut consumer = rabbit.consume(&queue).await;
    for strange in
        [long("7"), AMQPValue::LongLongInt(-1), AMQPValue::Void, AMQPValue::FieldTable(FieldTable::default())]
    {
        let properties = BasicProperties::default().with_headers(table([("x-stream-offset", strange)]));
        rabbit.publish_raw(&queue, b"1", properties.clone()).await;
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.properties, properties);
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
    assert_eq!(rabbit.sdk.spans().len(), 8);
    for name in ["process", "ack"] {
        assert_eq!(offsets(&rabbit, &format!("{name} {queue}")), Vec::<String>::new());
    }
}
