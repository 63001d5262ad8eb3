use std::{
    future::Future,
    pin::pin,
    task::{Context as TaskContext, Poll, Waker},
    time::Instant,
};

use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions},
};
use opentelemetry::trace::Status;
use opentelemetry_sdk::trace::SpanData;
use otel_messaging::semconv::{attribute, extension};
use support::{DEADLINE, attribute as value_of};

use crate::harness::{Rabbit, named, next, unique};

const MANDATORY: BasicPublishOptions = BasicPublishOptions { mandatory: true, immediate: false };

/// Polls a future once and drops it.
pub(crate) fn abandon<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut TaskContext::from_waker(Waker::noop()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_future_that_was_never_polled_did_nothing_and_has_no_span() {
    let rabbit = Rabbit::confirming().await;
    let queue = rabbit.queue("orders").await;
    let key = || queue.as_str().into();
    drop(rabbit.channel.basic_publish("".into(), key(), MANDATORY, b"1", BasicProperties::default()));
    drop(rabbit.channel.basic_get(key(), BasicGetOptions::default()));
    drop(rabbit.channel.basic_ack(1, BasicAckOptions::default()));
    assert_eq!(rabbit.described(), "");

    rabbit.publish_raw(&queue, b"2", BasicProperties::default()).await;
    let delivery = next(&mut rabbit.consume(&queue).await).await;
    assert_eq!(delivery.data, b"2");
    drop(delivery.ack(BasicAckOptions::default()));
    assert!(delivery.usable());
    drop(delivery);
    assert_eq!(rabbit.sdk.wait_for(1).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_dropped_midway_has_one_span_of_unknown_outcome() {
    for confirms in [false, true] {
        let rabbit = if confirms { Rabbit::confirming().await } else { Rabbit::new().await };
        let queue = rabbit.queue("orders").await;
        // More than a socket takes at once.
        let payload = vec![7; 8 << 20];
        // lapin may have been faster nevertheless: then it was sent, and not dropped midway.
        let mut pending = 0;
        for number in 0..10 {
            let options = BasicPublishOptions { mandatory: number % 2 == 0, immediate: false };
            let properties = BasicProperties::default().with_message_id(number.to_string().into());
            let publish = rabbit.channel.basic_publish("".into(), queue.as_str().into(), options, &payload, properties);
            match abandon(publish) {
                Poll::Pending => pending += 1,
                Poll::Ready(confirm) => drop(confirm.unwrap().await.unwrap()),
            }
            // It was sent in either case, as lapin does it.
            assert_eq!(rabbit.take_raw(&queue).await.data, payload);
        }
        let spans = rabbit.sdk.wait_for(10);
        assert_eq!(spans.len(), 10);
        assert!(spans.iter().all(|span| span.status == Status::Unset));
        let unknown = spans
            .iter()
            .filter(|span| value_of(span, extension::DELIVERY_OUTCOME_UNKNOWN) == Some(&true.into()))
            .count();
        assert_eq!(unknown, pending);
        assert!(pending > 0);
        // Nothing is left of them: a later publish is told of at once.
        let after =
            rabbit.channel.basic_publish("".into(), queue.as_str().into(), MANDATORY, b"2", BasicProperties::default());
        after.await.unwrap().await.unwrap();
        assert_eq!(rabbit.sdk.spans().len(), 11);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_return_of_a_publish_dropped_midway_is_what_was_sent() {
    const PUBLISHES: usize = 4;

    let rabbit = Rabbit::confirming().await;
    let nowhere = unique("nowhere");
    // More than a socket takes at once.
    let payload = vec![7; 8 << 20];
    let mut pending = 0;
    for _ in 0..PUBLISHES {
        let properties = BasicProperties::default().with_app_id("shop".into());
        let publish = rabbit.channel.basic_publish("".into(), nowhere.as_str().into(), MANDATORY, &payload, properties);
        pending += usize::from(abandon(publish).is_pending());
    }
    assert!(pending > 0);
    let mut returned = Vec::new();
    let deadline = Instant::now() + DEADLINE;
    while returned.len() < PUBLISHES {
        returned.extend(rabbit.channel.wait_for_confirms().await.unwrap());
        assert!(Instant::now() < deadline, "{} came back", returned.len());
        tokio::task::yield_now().await;
    }
    for message in returned {
        assert_eq!(message.properties, BasicProperties::default().with_app_id("shop".into()));
    }
    let spans = rabbit.sdk.wait_for(PUBLISHES);
    let unknown = |span: &&SpanData| value_of(span, extension::DELIVERY_OUTCOME_UNKNOWN) == Some(&true.into());
    assert_eq!((spans.len(), spans.iter().filter(unknown).count()), (PUBLISHES, pending));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirm_that_is_dropped_after_its_answer_has_one_span_with_that_answer() {
    let rabbit = Rabbit::confirming().await;
    let (queue, nowhere) = (rabbit.queue("orders").await, unique("nowhere"));
    let publish =
        |key: &str| rabbit.channel.basic_publish("".into(), key.into(), MANDATORY, b"1", BasicProperties::default());
    let (first, second) = (publish(&queue).await.unwrap(), publish(&nowhere).await.unwrap());
    publish(&queue).await.unwrap().await.unwrap();
    rabbit.round_trip(&queue).await;
    drop((first, second));
    let spans = rabbit.sdk.spans();
    assert_eq!(spans.len(), 3);
    assert_eq!(named(&spans, &format!("publish {nowhere}"))[0].status, Status::error("NO_ROUTE"));
    for span in named(&spans, &format!("publish {queue}")) {
        assert_eq!(span.status, Status::Unset);
        assert_eq!(value_of(span, extension::DELIVERY_OUTCOME_UNKNOWN), None);
    }
    let returned = rabbit.channel.wait_for_confirms().await.unwrap();
    assert_eq!(returned.len(), 1);
    assert_eq!(returned[0].routing_key.as_str(), nowhere);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirm_dropped_while_it_is_awaited_is_recorded_later() {
    let rabbit = Rabbit::confirming().await;
    let queue = rabbit.queue("orders").await;
    let publish =
        rabbit.channel.basic_publish("".into(), queue.as_str().into(), MANDATORY, b"1", BasicProperties::default());
    let polled = abandon(publish.await.unwrap());
    assert_eq!(rabbit.wait_for_confirms(1).await, []);
    let spans = rabbit.sdk.wait_for(1);
    assert_eq!((spans.len(), &spans[0].status), (1, &Status::Unset), "after {polled:?}");
    assert_eq!(value_of(&spans[0], extension::DELIVERY_OUTCOME_UNKNOWN), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_that_is_dropped_midway_has_one_span_with_an_unknown_outcome() {
    const MESSAGES: usize = 20;

    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    for _ in 0..MESSAGES {
        rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    }
    let mut consumer = rabbit.consume(&queue).await;
    // lapin may have been faster: then it was settled, and not dropped midway.
    let mut pending = 0;
    for number in 0..MESSAGES {
        let delivery = next(&mut consumer).await;
        let acked = if number % 2 == 0 {
            abandon(delivery.ack(BasicAckOptions::default())).is_ready()
        } else {
            abandon(rabbit.channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default())).is_ready()
        };
        pending += usize::from(!acked);
    }
    let spans = rabbit.sdk.wait_for(2 * MESSAGES);
    assert_eq!(spans.len(), 2 * MESSAGES);
    let unknown =
        spans.iter().filter(|span| value_of(span, extension::DELIVERY_OUTCOME_UNKNOWN) == Some(&true.into())).count();
    assert_eq!(unknown, pending);
    assert!(pending > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_dropped_midway_leaves_its_messages_neither_dropped_nor_counted() {
    const ROUNDS: usize = 5;

    let rabbit = Rabbit::with_all_signals().await;
    let queue = rabbit.queue("orders").await;
    for _ in 0..6 * ROUNDS + 1 {
        rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    }
    // lapin does not promise to write what was given up before what comes after it (`raw_settlements.rs`), and the broker
    // refuses what `multiple` has settled already. Two messages at a time: the third one comes when the first one is settled.
    rabbit.channel.basic_qos(2, BasicQosOptions::default()).await.unwrap();
    let (one, all) = (BasicAckOptions::default(), BasicAckOptions { multiple: true });
    let mut consumer = rabbit.consume(&queue).await;
    // lapin may have been faster: then they were settled.
    let (mut settled, mut unknown) = (0, 0);
    let mut abandoned = |polled: Poll<()>, messages: usize| match polled {
        Poll::Ready(()) => settled += messages,
        Poll::Pending => unknown += messages,
    };
    for _ in 0..ROUNDS {
        let delivery = next(&mut consumer).await;
        abandoned(abandon(rabbit.channel.basic_ack(delivery.delivery_tag, one)).map(Result::unwrap), 1);
        // One that is gone, and one that is at hand.
        drop(next(&mut consumer).await);
        let delivery = next(&mut consumer).await;
        abandoned(abandon(rabbit.channel.basic_ack(delivery.delivery_tag, all)).map(Result::unwrap), 2);
        let delivery = next(&mut consumer).await;
        abandoned(abandon(delivery.ack(one)).map(|acked| assert!(acked.unwrap())), 1);
        drop(next(&mut consumer).await);
        let delivery = next(&mut consumer).await;
        abandoned(abandon(delivery.ack(all)).map(|acked| assert!(acked.unwrap())), 2);
    }
    assert!(next(&mut consumer).await.ack(one).await.unwrap());
    abandoned(Poll::Ready(()), 1);
    assert!(unknown > 0);
    rabbit.channel.basic_ack(0, all).await.unwrap();
    let last = rabbit.sdk.spans().pop().unwrap();
    assert_eq!((last.links.len(), value_of(&last, attribute::MESSAGING_BATCH_MESSAGE_COUNT)), (0, None));
    rabbit.channel.close(200, "bye".into()).await.unwrap();
    rabbit.channel.basic_ack(0, all).await.unwrap_err();

    let counted = rabbit.measured("otel_messaging.deliveries");
    let acked = r#"messaging.operation.name = "ack", otel_messaging.settlement.outcome = "ack""#;
    let acked = format!(r#"{{messaging.destination.name = "{queue}", {acked}}} {settled}"#);
    assert_eq!(counted, [acked]);
    let spans = rabbit.sdk.spans();
    let process = named(&spans, &format!("process {queue}"));
    let outcomes = process.iter().filter_map(|span| value_of(span, extension::SETTLEMENT_OUTCOME));
    assert!(outcomes.clone().all(|outcome| outcome.as_str() == "ack"), "{}", rabbit.described());
    assert!(outcomes.count() <= settled);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_message_can_be_given_up_without_losing_one() {
    use futures::{FutureExt, StreamExt};

    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    let mut consumer = rabbit.consume(&queue).await;
    assert!(consumer.next().now_or_never().is_none());
    rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    assert_eq!(next(&mut consumer).await.data, b"1");
    assert_eq!(rabbit.sdk.wait_for(1).len(), 1);
}
