//! What the broker says of a message's past, as RabbitMQ itself writes it.

use std::time::{SystemTime, UNIX_EPOCH};

use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicRejectOptions},
    types::AMQPValue,
};
use otel_lapin::message::Delivery;
use otel_messaging::semconv::extension;
use support::attribute as value_of;

use crate::harness::{Rabbit, long, next, table};

/// The attempt and whether it was redelivered, as the process span of the last message tells it.
fn recorded(rabbit: &Rabbit) -> (Option<i64>, bool) {
    let spans = rabbit.sdk.spans();
    let process = spans.iter().rfind(|span| span.name.starts_with("process")).unwrap();
    let attempt = value_of(process, extension::DELIVERY_ATTEMPT).map(|value| match value {
        opentelemetry::Value::I64(attempt) => *attempt,
        other => panic!("{other:?}"),
    });
    (attempt, value_of(process, extension::DELIVERY_REDELIVERED) == Some(&true.into()))
}

const AGAIN: BasicNackOptions = BasicNackOptions { multiple: false, requeue: true };

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_queue_counts_the_attempts() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue_with("orders", table([("x-queue-type", long("quorum"))])).await;
    rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    let mut consumer = rabbit.consume(&queue).await;
    let mut attempts = Vec::new();
    for _ in 0..3 {
        let delivery = next(&mut consumer).await;
        assert!(delivery.nack(AGAIN).await.unwrap());
        drop(delivery);
        attempts.push(recorded(&rabbit));
    }
    assert_eq!(attempts, [(None, false), (Some(2), true), (Some(3), true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_through_dead_letters_counts_rejections_and_not_the_waiting() {
    let rabbit = Rabbit::new().await;
    // Rejected messages wait elsewhere, and come back when their time there is over.
    let waiting = crate::harness::unique("waiting");
    let to = |queue: &str| [("x-dead-letter-exchange", long("")), ("x-dead-letter-routing-key", long(queue))];
    let orders = rabbit.queue_with("orders", table(to(&waiting))).await;
    let [exchange, key] = to(&orders);
    let arguments =
        table([exchange, key, ("x-message-ttl", AMQPValue::LongInt(1)), ("x-expires", AMQPValue::LongInt(60_000))]);
    rabbit
        .raw
        .queue_declare(waiting.as_str().into(), lapin::options::QueueDeclareOptions::durable(), arguments)
        .await
        .unwrap();
    rabbit.publish_raw(&orders, b"1", BasicProperties::default()).await;
    let mut consumer = rabbit.consume(&orders).await;
    let mut attempts = Vec::new();
    for _ in 0..3 {
        let delivery = next(&mut consumer).await;
        assert!(delivery.reject(BasicRejectOptions::default()).await.unwrap());
        drop(delivery);
        attempts.push(recorded(&rabbit));
    }
    // Once more, and back to the same queue.
    for again in [true, false] {
        let delivery = next(&mut consumer).await;
        let settled = if again { delivery.nack(AGAIN).await } else { delivery.ack(BasicAckOptions::default()).await };
        assert!(settled.unwrap());
        drop(delivery);
        attempts.push(recorded(&rabbit));
    }
    assert_eq!(attempts, [(None, false), (Some(2), false), (Some(3), false), (Some(4), false), (Some(5), true)]);
}

async fn get(rabbit: &Rabbit, queue: &str) -> Delivery {
    let get = rabbit.channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap();
    get.expect("a message").delivery
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_time_is_recorded_where_the_sender_wrote_a_timestamp() {
    let rabbit = Rabbit::with_all_signals().await;
    let queue = rabbit.queue("orders").await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // One that can be, and those that cannot: none, none that anybody set, milliseconds, as large as can be.
    for timestamp in [Some(now - 100), None, Some(0), Some(now * 1_000), Some(u64::MAX)] {
        let properties = BasicProperties::default();
        let properties = timestamp.map_or_else(|| properties.clone(), |at| properties.clone().with_timestamp(at));
        rabbit.publish_raw(&queue, b"1", properties.clone()).await;
        assert_eq!(get(&rabbit, &queue).await.properties, properties);
    }
    let measured = rabbit.measured("otel_messaging.queue_time");
    let expected = format!(
        r#"{{messaging.destination.name = "{queue}", messaging.operation.name = "get", otel_messaging.clock = "header"}} 1"#
    );
    assert_eq!(measured, [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_other_shapes_say_nothing_and_arrive() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    let strange = [
        table([("x-delivery-count", long("3"))]),
        table([("x-delivery-count", AMQPValue::LongLongInt(-3))]),
        table([("x-delivery-count", AMQPValue::Void)]),
        table([("x-death", long("rejected"))]),
        table([("x-death", AMQPValue::FieldArray(vec![long("rejected"), AMQPValue::Void].into()))]),
        table([("x-death", AMQPValue::FieldTable(table([("count", AMQPValue::LongInt(9))])))]),
    ];
    for headers in strange {
        let properties = BasicProperties::default().with_headers(headers);
        rabbit.publish_raw(&queue, b"1", properties.clone()).await;
        assert_eq!(get(&rabbit, &queue).await.properties, properties);
        assert_eq!(recorded(&rabbit), (None, false), "{properties:?}");
    }
    for three in [AMQPValue::ShortShortInt(3), AMQPValue::ShortInt(3), AMQPValue::LongInt(3), AMQPValue::LongLongInt(3)]
    {
        let properties = BasicProperties::default().with_headers(table([("x-delivery-count", three)]));
        rabbit.publish_raw(&queue, b"1", properties).await;
        drop(get(&rabbit, &queue).await);
        assert_eq!(recorded(&rabbit), (Some(4), false));
    }
}
