//! What is counted, and under which name.

use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicGetOptions, BasicNackOptions},
};
use otel_lapin::otel::MessageExt;

use crate::common::{Rabbit, next};

const CONSUMED: &str = "messaging.client.consumed.messages";
const DURATION: &str = "messaging.client.operation.duration";
const DELIVERIES: &str = "otel_messaging.deliveries";

#[tokio::test(flavor = "multi_thread")]
async fn p28_a_message_is_counted_once_under_the_name_of_what_brought_it() {
    let rabbit = Rabbit::with_all_signals().await;
    let queue = rabbit.queue("orders").await;
    for _ in 0..3 {
        rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    }
    let get = async || rabbit.channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap();
    get().await.unwrap().in_scope(|| ());
    let mut consumer = rabbit.consume(&queue).await;
    for _ in 0..2 {
        next(&mut consumer).await.in_scope(|| ());
    }
    assert_eq!(get().await, None);
    let of = |operation: &str| {
        format!(r#"messaging.destination.name = "{queue}", messaging.operation.name = "{operation}""#)
    };
    assert_eq!(rabbit.measured(CONSUMED), [format!("{{{}}} 1", of("get")), format!("{{{}}} 2", of("process"))]);
    // An empty queue is not measured.
    assert_eq!(rabbit.measured(DURATION), [format!(r#"{{{}, messaging.operation.type = "receive"}} 1"#, of("get"))]);
    assert_eq!(rabbit.measured("messaging.process.duration"), [format!("{{{}}} 3", of("process"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_counted_by_what_became_of_them() {
    let rabbit = Rabbit::with_all_signals().await;
    let queue = rabbit.queue("orders").await;
    for _ in 0..7 {
        rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    }
    let mut consumer = rabbit.consume(&queue).await;
    let mut deliveries = Vec::new();
    for _ in 0..7 {
        deliveries.push(next(&mut consumer).await);
    }
    // Before its span has ended, and after.
    assert!(deliveries[0].ack(BasicAckOptions::default()).await.unwrap());
    deliveries[1].process(async {}).await;
    assert!(deliveries[1].nack(BasicNackOptions { multiple: false, requeue: false }).await.unwrap());
    // A second time.
    assert!(!deliveries[1].ack(BasicAckOptions::default()).await.unwrap());
    // Several at once: one that is gone, one that is there.
    drop(deliveries.remove(2));
    let fourth = deliveries[2].delivery_tag;
    rabbit.channel.basic_ack(fourth, BasicAckOptions { multiple: true }).await.unwrap();
    // With everybody gone, the last two can still be settled by their tags, until the channel closes.
    drop(deliveries);
    rabbit.channel.basic_ack(5, BasicAckOptions::default()).await.unwrap();
    let counted = |operation: &str, outcome: &str, count: u32| {
        format!(
            r#"{{messaging.destination.name = "{queue}", messaging.operation.name = "{operation}", otel_messaging.settlement.outcome = "{outcome}"}} {count}"#
        )
    };
    let settled = [counted("ack", "ack", 4), counted("ack", "already_settled", 1), counted("nack", "nack", 1)];
    assert_eq!(rabbit.measured(DELIVERIES), settled);
    rabbit.channel.close(200, "bye".into()).await.unwrap();
    rabbit.channel.basic_ack(0, BasicAckOptions { multiple: true }).await.unwrap_err();
    assert_eq!(
        rabbit.measured(DELIVERIES),
        [&settled[..], &[counted("process", "dropped", 2)]].concat(),
        "what was never settled is known when the channel closes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_settlement_is_never_dropped() {
    let rabbit = Rabbit::with_all_signals().await;
    let queue = rabbit.queue("orders").await;
    rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    let no_ack = BasicGetOptions { no_ack: true };
    drop(rabbit.channel.basic_get(queue.as_str().into(), no_ack).await.unwrap().unwrap());
    rabbit.channel.close(200, "bye".into()).await.unwrap();
    rabbit.channel.basic_ack(0, BasicAckOptions { multiple: true }).await.unwrap_err();
    assert_eq!(rabbit.measured(DELIVERIES), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_away_is_settled_elsewhere() {
    let rabbit = Rabbit::with_all_signals().await;
    let queue = rabbit.queue("orders").await;
    rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    let raw = next(&mut rabbit.consume(&queue).await).await.into_inner();
    assert!(raw.ack(BasicAckOptions::default()).await.unwrap());
    rabbit.channel.close(200, "bye".into()).await.unwrap();
    rabbit.channel.basic_ack(0, BasicAckOptions { multiple: true }).await.unwrap_err();
    assert_eq!(rabbit.measured(DELIVERIES), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_are_told_when_asked_for() {
    let sdk = support::Sdk::new();
    let instrumentation = sdk.instrumentation_builder().capture_sizes(true).build();
    let rabbit = Rabbit::with(sdk, instrumentation).await;
    let queue = rabbit.queue("orders").await;
    rabbit.publish(&queue, b"four apples", BasicProperties::default()).await;
    rabbit.round_trip(&queue).await;
    drop(rabbit.channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap().unwrap());
    let sizes: Vec<_> = rabbit
        .sdk
        .wait_for(3)
        .iter()
        .map(|span| support::attribute(span, "messaging.message.body.size").cloned())
        .collect();
    assert_eq!(sizes, vec![Some(11.into()); 3]);
}
