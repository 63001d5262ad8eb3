//! What is counted, and under which name.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use futures::{StreamExt, future::join};
use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicRejectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use opentelemetry::{Context, trace::FutureExt};
use otel_lapin::otel::MessageExt;

use crate::harness::{Rabbit, consume, next};

const CONSUMED: &str = "messaging.client.consumed.messages";
const DURATION: &str = "messaging.client.operation.duration";
const DELIVERIES: &str = "otel_messaging.deliveries";

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_counted_once_under_the_name_of_its_source() {
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
    deliveries[1].process(|| async {}).await;
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

/// Does everything there is to be done with a queue, and then has everything fail on a closed channel.
async fn everything(rabbit: &Rabbit, queue: &str) {
    let channel = rabbit.connection.create_channel().await.unwrap();
    let publish = async || {
        let properties = BasicProperties::default().with_timestamp(at_present());
        let published = channel.basic_publish("".into(), queue.into(), Default::default(), b"1", properties).await;
        published?.await
    };
    channel.confirm_select(Default::default()).await.unwrap();
    for _ in 0..7 {
        publish().await.unwrap();
    }
    let get = async || channel.basic_get(queue.into(), BasicGetOptions::default()).await;
    let got = async || get().await.unwrap().unwrap();
    let nack = |requeue| BasicNackOptions { multiple: false, requeue };
    let reject = |requeue| BasicRejectOptions { requeue };
    // Each twice: the second time it was settled before.
    let message = got().await;
    assert!(message.ack(BasicAckOptions::default()).await.unwrap());
    assert!(!message.ack(BasicAckOptions::default()).await.unwrap());
    let message = got().await;
    assert!(message.nack(nack(false)).await.unwrap());
    assert!(!message.nack(nack(false)).await.unwrap());
    let message = got().await;
    assert!(message.reject(reject(false)).await.unwrap());
    assert!(!message.reject(reject(false)).await.unwrap());
    assert!(got().await.nack(nack(true)).await.unwrap());
    assert!(got().await.reject(reject(true)).await.unwrap());
    // What was asked for and what was pushed, let go of; a handler that fails.
    got().await.process(|| async { Err::<(), _>("declined") }).await.unwrap_err();
    let mut consumer = consume(&channel, queue).await;
    drop(next(&mut consumer).await);
    let last = next(&mut consumer).await;

    channel.close(200, "bye".into()).await.unwrap();
    support::eventually("the channel is closed", || last.poisoned());
    assert!(!last.ack(BasicAckOptions::default()).await.unwrap());
    assert!(!last.nack(nack(true)).await.unwrap());
    assert!(!last.reject(reject(true)).await.unwrap());
    publish().await.unwrap_err();
    get().await.unwrap_err();

    // The broker closes a channel, and its consumer fails.
    let channel = rabbit.connection.create_channel().await.unwrap();
    let mut consumer = consume(&channel, queue).await;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("nowhere".into(), passive, FieldTable::default()).await.unwrap_err();
    while consumer.next().await.unwrap().is_ok() {}
}

fn at_present() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What `docs/operation.md` says of this metric for RabbitMQ, with so many destinations and errors.
fn documented(metric: &str, destinations: usize, errors: usize) -> usize {
    let page = include_str!("../../../../../docs/operation.md");
    let row = page.lines().find(|line| line.starts_with(&format!("| `{metric}` |"))).expect("a row of the table");
    let formula = row.split('|').nth(3).expect("RabbitMQ's column").trim();
    let number = |term: &str| {
        let (number, letter) = term.split_at(term.find(char::is_alphabetic).unwrap_or(term.len()));
        let of = match letter {
            "D" => destinations,
            "E" => errors,
            _ => 1,
        };
        let number: usize = if number.is_empty() { 1 } else { number.parse().expect(formula) };
        number * of
    };
    formula.split('·').map(|factor| factor.trim_matches(['(', ')']).split('+').map(number).sum::<usize>()).product()
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_as_many_series_as_the_page_says() {
    let sdk = support::Sdk::new();
    let instrumentation = sdk.all_signals_builder().with_destination_limit(1).build();
    let rabbit = Rabbit::with(sdk, instrumentation).await;
    // One within the bound, and one beyond it.
    for name in ["orders", "refunds"] {
        everything(&rabbit, &rabbit.queue(name).await).await;
    }
    for metric in [
        DURATION,
        "messaging.client.sent.messages",
        CONSUMED,
        "messaging.process.duration",
        "otel_messaging.queue_time",
        "otel_messaging.wait_time",
        DELIVERIES,
    ] {
        let series = rabbit.measured(metric);
        let value = |line: &str, key: &str| {
            let (_, rest) = line.split_once(&format!("{key} = "))?;
            rest.split([',', '}']).next().map(str::to_owned)
        };
        let destinations: BTreeSet<_> =
            series.iter().filter_map(|line| value(line, "messaging.destination.name")).collect();
        let mut errors = BTreeMap::<_, BTreeSet<_>>::new();
        for line in &series {
            let of = errors.entry(value(line, "messaging.operation.name")).or_default();
            of.extend(value(line, "error.type"));
        }
        let errors = errors.values().map(BTreeSet::len).max().unwrap_or(0);
        let expected = documented(metric, destinations.len(), errors);
        assert_eq!(series.len(), expected, "{metric}: {series:#?}");
    }
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
async fn messages_settled_by_tag_under_suppression_are_neither_dropped_nor_counted() {
    let rabbit = Rabbit::with_all_signals().await;
    let queue = rabbit.queue("orders").await;
    for _ in 0..6 {
        rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    }
    let mut consumer = rabbit.consume(&queue).await;
    let mut deliveries = Vec::new();
    for _ in 0..6 {
        deliveries.push(next(&mut consumer).await);
    }
    let suppressed = otel_messaging::suppress_messaging(&Context::current());
    let (one, all) = (BasicAckOptions::default(), BasicAckOptions { multiple: true });
    // By tag, one and several, and by ackers likewise.
    let settled = async {
        rabbit.channel.basic_ack(1, one).await.unwrap();
        rabbit.channel.basic_ack(2, all).await.unwrap();
        assert!(deliveries[2].ack(one).await.unwrap());
        assert!(deliveries[4].ack(all).await.unwrap());
    };
    settled.with_context(suppressed).await;
    drop(deliveries);
    rabbit.channel.basic_ack(0, all).await.unwrap();
    rabbit.channel.close(200, "bye".into()).await.unwrap();
    rabbit.channel.basic_ack(0, all).await.unwrap_err();
    let sixth = r#"messaging.operation.name = "ack", otel_messaging.settlement.outcome = "ack""#;
    assert_eq!(rabbit.measured(DELIVERIES), [format!(r#"{{messaging.destination.name = "{queue}", {sixth}}} 1"#)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_while_it_is_settled_by_its_tag_is_settled_and_not_dropped() {
    let rabbit = Rabbit::with_all_signals().await;
    let queue = rabbit.queue("orders").await;
    rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    let delivery = next(&mut rabbit.consume(&queue).await).await;
    let ack = rabbit.channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default());
    // It has begun when it is polled, and has not ended before this.
    let goes = async { drop(delivery) };
    join(ack, goes).await.0.unwrap();
    rabbit.channel.close(200, "bye".into()).await.unwrap();
    rabbit.channel.basic_ack(0, BasicAckOptions { multiple: true }).await.unwrap_err();
    let acked = r#"messaging.operation.name = "ack", otel_messaging.settlement.outcome = "ack""#;
    assert_eq!(rabbit.measured(DELIVERIES), [format!(r#"{{messaging.destination.name = "{queue}", {acked}}} 1"#)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_are_recorded_on_request() {
    let sdk = support::Sdk::new();
    let instrumentation = sdk.instrumentation_builder().with_captured_sizes(true).build();
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
