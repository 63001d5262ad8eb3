use std::time::Duration;

use lapin::{
    BasicProperties, ConnectionProperties,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
        BasicPublishOptions, BasicQosOptions, BasicRecoverOptions, BasicRejectOptions,
    },
    types::FieldTable,
};
use opentelemetry::{
    Context,
    trace::{FutureExt, Status},
};
use opentelemetry_sdk::trace::SpanData;
use otel_lapin::{Connection, Consumer, message::Delivery, otel::MessageExt};
use otel_messaging::semconv::{attribute, extension};
use support::{DEADLINE, Sdk, attribute as value_of};

use crate::harness::{Rabbit, SCOPE, at_peer, named, next, uri};

const MULTIPLE: BasicAckOptions = BasicAckOptions { multiple: true };

/// A client with so many messages in its hands.
async fn deliveries(count: usize) -> (Rabbit, String, Vec<Delivery>) {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    for number in 0..count {
        rabbit.publish_raw(&queue, number.to_string().as_bytes(), BasicProperties::default()).await;
    }
    let mut consumer = rabbit.consume(&queue).await;
    let mut deliveries = Vec::new();
    for _ in 0..count {
        deliveries.push(next(&mut consumer).await);
    }
    // No more of it, also of what is requeued; its deliveries can still be settled.
    rabbit.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await.unwrap();
    (rabbit, queue, deliveries)
}

fn outcome(span: &SpanData) -> String {
    value_of(span, extension::SETTLEMENT_OUTCOME).map_or_else(|| "none".to_owned(), |value| value.as_str().into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_settlement_is_a_child_of_its_messages_span_and_noted_there() {
    let (rabbit, queue, deliveries) = deliveries(6).await;
    let nack = |requeue| BasicNackOptions { requeue, ..BasicNackOptions::default() };
    let reject = |requeue| BasicRejectOptions { requeue };
    assert!(deliveries[0].ack(BasicAckOptions::default()).await.unwrap());
    assert!(deliveries[1].nack(nack(false)).await.unwrap());
    assert!(deliveries[2].nack(nack(true)).await.unwrap());
    assert!(deliveries[3].reject(reject(false)).await.unwrap());
    assert!(deliveries[4].reject(reject(true)).await.unwrap());
    // By an acker that outlives its message.
    let acker = { deliveries }.remove(5).acker;
    assert!(acker.ack(BasicAckOptions::default()).await.unwrap());
    drop(acker);

    let spans = rabbit.sdk.wait_for(12);
    let process = named(&spans, &format!("process {queue}"));
    let expected = [
        ("ack", "ack"),
        ("nack", "nack"),
        ("nack", "requeue"),
        ("reject", "reject"),
        ("reject", "requeue"),
        ("ack", "ack"),
    ];
    for (number, (name, expected)) in expected.into_iter().enumerate() {
        let process = process[number];
        assert_eq!(outcome(process), expected);
        let settle = spans.iter().find(|span| span.parent_span_id == process.span_context.span_id()).unwrap();
        assert_eq!(settle.name, format!("{name} {queue}"));
        assert_eq!(outcome(settle), expected);
        assert_eq!(settle.status, Status::Unset);
    }
    // The broker was told: the two that were requeued are there again.
    for _ in 0..2 {
        rabbit.take_raw(&queue).await;
    }
    assert_eq!(rabbit.raw.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handlers_error_and_the_settlement_are_both_recorded() {
    let (rabbit, queue, deliveries) = deliveries(2).await;
    let (first, second) = (&deliveries[0], &deliveries[1]);
    let nack = async {
        assert!(first.nack(BasicNackOptions::default()).await.unwrap());
        Err::<(), _>("declined")
    };
    assert_eq!(first.process(|| nack).await, Err("declined"));
    let reject = async {
        assert!(second.reject(BasicRejectOptions::default()).await.unwrap());
        Err::<(), _>("declined")
    };
    assert_eq!(second.process(|| reject).await, Err("declined"));
    let spans = rabbit.sdk.spans();
    for (process, settled) in named(&spans, &format!("process {queue}")).into_iter().zip(["nack", "reject"]) {
        assert_eq!((outcome(process), &process.status), (settled.to_owned(), &Status::error("declined")));
        assert_eq!(value_of(process, attribute::ERROR_TYPE), Some(&"&str".into()));
        let [settle] = named(&spans, &format!("{settled} {queue}"))[..] else { panic!("one {settled}") };
        assert_eq!((outcome(settle), &settle.status), (settled.to_owned(), &Status::Unset));
        assert_eq!(settle.parent_span_id, process.span_context.span_id());
    }
    assert_eq!(spans.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_first_is_worked_on_inside_its_span() {
    let (rabbit, queue, deliveries) = deliveries(1).await;
    let onwards = rabbit.queue("shipping").await;
    let work = async {
        assert!(deliveries[0].ack(BasicAckOptions::default()).await.unwrap());
        rabbit.publish(&onwards, b"1", BasicProperties::default()).await;
        let spans = rabbit.sdk.spans();
        let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
        assert_eq!(names, [format!("ack {queue}"), format!("publish {onwards}")], "the process span is open");
    };
    deliveries[0].process(|| work).await;
    let spans = rabbit.sdk.spans();
    let [process, ack, publish] = &spans[..] else { panic!("{}", rabbit.described()) };
    assert_eq!((process.name.as_ref(), outcome(process)), (&*format!("process {queue}"), "ack".to_owned()));
    for inside in [ack, publish] {
        assert_eq!(inside.parent_span_id, process.span_context.span_id(), "{}", inside.name);
        assert!(process.start_time <= inside.start_time && inside.end_time <= process.end_time, "{}", inside.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settling_twice_is_no_error_and_says_so() {
    let (rabbit, queue, deliveries) = deliveries(1).await;
    let clone = deliveries[0].acker.clone();
    assert!(deliveries[0].ack(BasicAckOptions::default()).await.unwrap());
    assert!(!clone.usable());
    assert!(!clone.nack(BasicNackOptions::default()).await.unwrap());
    drop((clone, deliveries));
    let spans = rabbit.sdk.spans();
    let nack = named(&spans, &format!("nack {queue}"))[0];
    assert_eq!((outcome(nack), &nack.status), ("already_settled".to_owned(), &Status::Unset));
    assert_eq!(outcome(named(&spans, &format!("process {queue}"))[0]), "ack");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_tag_the_message_is_found_while_it_is_at_hand() {
    let peer = at_peer();
    let (rabbit, queue, deliveries) = deliveries(1).await;
    let delivery = &deliveries[0];
    rabbit.channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default()).await.unwrap();
    drop(deliveries);
    let described = rabbit.described();
    assert_eq!(
        described,
        format!(
            "\
process {queue}
  kind CONSUMER
  {SCOPE}
  root
  status unset
  messaging.destination.name = {queue:?}
  messaging.operation.name = \"process\"
  messaging.operation.type = \"process\"
  messaging.rabbitmq.destination.routing_key = {queue:?}
  messaging.rabbitmq.message.delivery_tag = 1
  messaging.system = \"rabbitmq\"
  otel_messaging.settlement.outcome = \"ack\"
  server.address = HOST
  server.port = PORT
ack {queue}
  kind CLIENT
  {SCOPE}
  parent process {queue}
  status unset
  messaging.destination.name = {queue:?}
  messaging.operation.name = \"ack\"
  messaging.operation.type = \"settle\"
  messaging.rabbitmq.message.delivery_tag = 1
  messaging.system = \"rabbitmq\"
{peer}  otel_messaging.settlement.outcome = \"ack\"
  server.address = HOST
  server.port = PORT
"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn by_tag_the_message_is_found_when_it_is_gone() {
    let (rabbit, queue, deliveries) = deliveries(2).await;
    let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.delivery_tag).collect();
    drop(deliveries);
    assert_eq!(rabbit.sdk.spans().len(), 2);
    rabbit.channel.basic_reject(tags[0], BasicRejectOptions { requeue: true }).await.unwrap();
    rabbit.channel.basic_nack(tags[1], BasicNackOptions::default()).await.unwrap();
    let spans = rabbit.sdk.spans();
    let process = named(&spans, &format!("process {queue}"));
    for (number, (name, expected)) in [("reject", "requeue"), ("nack", "nack")].into_iter().enumerate() {
        let settle = named(&spans, &format!("{name} {queue}"))[0];
        assert_eq!(settle.parent_span_id, process[number].span_context.span_id());
        assert_eq!(outcome(settle), expected);
        assert_eq!(
            value_of(settle, attribute::MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG),
            Some(&((number + 1) as i64).into())
        );
        // Too late for a span that has ended.
        assert_eq!(outcome(process[number]), "none");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_tag_that_nobody_knows_there_is_no_parent() {
    let peer = at_peer();
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    // Received by lapin's own method: nothing of ours saw it.
    let message =
        rabbit.channel.get_ref().basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap().unwrap();
    rabbit.channel.basic_ack(message.delivery_tag, BasicAckOptions::default()).await.unwrap();
    assert_eq!(
        rabbit.described().replace(
            &crate::harness::uri().split('@').next_back().unwrap().split('/').next().unwrap().to_owned(),
            "ADDRESS"
        ),
        format!(
            "\
ack ADDRESS
  kind CLIENT
  {SCOPE}
  root
  status unset
  messaging.operation.name = \"ack\"
  messaging.operation.type = \"settle\"
  messaging.rabbitmq.message.delivery_tag = 1
  messaging.system = \"rabbitmq\"
{peer}  otel_messaging.settlement.outcome = \"ack\"
  server.address = HOST
  server.port = PORT
"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn several_at_once_are_one_span_that_links_and_counts_them() {
    let (rabbit, queue, mut deliveries) = deliveries(5).await;
    // One is settled before, one is gone, one comes after.
    assert!(deliveries[0].ack(BasicAckOptions::default()).await.unwrap());
    drop(deliveries.remove(1));
    let third = deliveries[2].delivery_tag;
    assert_eq!(third, 4);
    rabbit.channel.basic_ack(third, MULTIPLE).await.unwrap();
    drop(deliveries);

    let spans = rabbit.sdk.wait_for(7);
    let process = named(&spans, &format!("process {queue}"));
    let outcomes: Vec<_> = process.iter().map(|span| outcome(span)).collect();
    assert_eq!(outcomes, ["ack", "none", "ack", "ack", "none"]);
    let ack = named(&spans, &format!("ack {queue}"))[1];
    let linked: Vec<_> = ack.links.iter().map(|link| link.span_context.span_id()).collect();
    let expected: Vec<_> = process[1..4].iter().map(|span| span.span_context.span_id()).collect();
    assert_eq!(linked, expected);
    // What each alone has, stands on its link.
    let tags: Vec<_> = ack
        .links
        .iter()
        .map(|link| support::link_attribute(link, attribute::MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG).unwrap())
        .collect();
    assert_eq!(tags, ["2", "3", "4"]);
    assert_eq!(ack.parent_span_id, opentelemetry::SpanId::INVALID);
    assert_eq!(value_of(ack, attribute::MESSAGING_BATCH_MESSAGE_COUNT), Some(&3.into()));
    assert_eq!(value_of(ack, attribute::MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG), Some(&4.into()));
    assert_eq!(value_of(ack, attribute::MESSAGING_DESTINATION_NAME), Some(&queue.into()));
    assert_eq!(outcome(ack), "ack");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_can_settle_all_before_it_and_tag_0_all_there_are() {
    let (rabbit, queue, deliveries) = deliveries(5).await;
    let multiple = BasicNackOptions { multiple: true, requeue: false };
    assert!(deliveries[1].nack(multiple).await.unwrap());
    rabbit.channel.basic_ack(0, MULTIPLE).await.unwrap();
    // Nothing is left.
    rabbit.channel.basic_ack(0, MULTIPLE).await.unwrap();
    drop(deliveries);
    let spans = rabbit.sdk.wait_for(8);
    let count = |name: String| {
        named(&spans, &name)
            .iter()
            .map(|span| value_of(span, attribute::MESSAGING_BATCH_MESSAGE_COUNT).cloned())
            .collect::<Vec<_>>()
    };
    assert_eq!(count(format!("nack {queue}")), [Some(2.into())]);
    assert_eq!(count(format!("ack {queue}")), [Some(3.into())]);
    let outcomes: Vec<_> = named(&spans, &format!("process {queue}")).iter().map(|span| outcome(span)).collect();
    assert_eq!(outcomes, ["nack", "nack", "ack", "ack", "ack"]);
    let nothing = spans.iter().find(|span| span.name.starts_with("ack 127") || span.name.starts_with("ack localhost"));
    assert_eq!(nothing.map(|span| span.links.len()), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_several_destinations_share_what_they_have_in_common() {
    let peer = at_peer();
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    let exchange = rabbit.exchange("shop", &queue).await;
    for (number, key) in ["a", "b"].into_iter().enumerate() {
        let properties = BasicProperties::default()
            .with_message_id(number.to_string().into())
            .with_correlation_id("conversation".into());
        let publish =
            rabbit.raw.basic_publish(exchange.as_str().into(), key.into(), Default::default(), b"1", properties);
        publish.await.unwrap().await.unwrap();
    }
    let mut consumer = rabbit.consume(&queue).await;
    // One that is gone, and one that is at hand.
    drop(next(&mut consumer).await);
    let second = next(&mut consumer).await;
    rabbit.channel.basic_ack(second.delivery_tag, MULTIPLE).await.unwrap();
    drop(second);
    let described = rabbit.describe(3);
    let link = |key: &str, number: u64| {
        format!(
            "  link process {exchange}:{key}:{queue} {{messaging.destination.name = \"{exchange}:{key}:{queue}\", \
             messaging.message.id = \"{number}\", messaging.rabbitmq.message.delivery_tag = {}}}\n",
            number + 1
        )
    };
    let expected = format!(
        "\
ack {exchange}:{queue}
  kind CLIENT
  {SCOPE}
  root
{}{}  status unset
  messaging.batch.message_count = 2
  messaging.destination.name = \"{exchange}:{queue}\"
  messaging.message.conversation_id = \"conversation\"
  messaging.operation.name = \"ack\"
  messaging.operation.type = \"settle\"
  messaging.rabbitmq.message.delivery_tag = 2
  messaging.system = \"rabbitmq\"
{peer}  otel_messaging.settlement.outcome = \"ack\"
  server.address = HOST
  server.port = PORT
",
        link("a", 0),
        link("b", 1)
    );
    assert!(described.ends_with(&expected), "{described}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_can_be_linked_are_counted_all_the_same() {
    let sdk = Sdk::new();
    let instrumentation = sdk.all_signals_builder().with_max_links(2).build();
    let rabbit = Rabbit::with(sdk, instrumentation).await;
    let queue = rabbit.queue("orders").await;
    for _ in 0..5 {
        rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    }
    let mut consumer = rabbit.consume(&queue).await;
    for _ in 0..5 {
        drop(next(&mut consumer).await);
    }
    rabbit.channel.basic_ack(0, MULTIPLE).await.unwrap();
    let spans = rabbit.sdk.wait_for(6);
    let ack = named(&spans, &format!("ack {queue}"))[0];
    assert_eq!(ack.links.len(), 2);
    assert_eq!(value_of(ack, attribute::MESSAGING_BATCH_MESSAGE_COUNT), Some(&5.into()));
    assert!(rabbit.measured("otel_messaging.deliveries").concat().ends_with(" 5"));
}

/// So many messages a channel remembers.
const REMEMBERED: usize = 4_096;

/// A client that asks for so many messages.
async fn flooded(count: usize) -> (Rabbit, String, Consumer) {
    let rabbit = Rabbit::with_all_signals().await;
    let queue = rabbit.queue("orders").await;
    let mut published = Vec::new();
    for _ in 0..count {
        let publish =
            rabbit.raw.basic_publish("".into(), queue.as_str().into(), Default::default(), b"1", Default::default());
        published.push(publish.await.unwrap());
    }
    for confirm in published {
        confirm.await.unwrap();
    }
    let consumer = rabbit.consume(&queue).await;
    (rabbit, queue, consumer)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_remembered_messages_are_counted_when_more_are_settled() {
    let (rabbit, _, mut consumer) = flooded(REMEMBERED + 2).await;
    // The first two are forgotten, one of them at hand.
    let first = next(&mut consumer).await;
    for _ in 0..REMEMBERED + 1 {
        drop(next(&mut consumer).await);
    }
    assert_eq!(rabbit.sdk.spans().len(), REMEMBERED + 1);
    // One of the forgotten, then the other with one that is known: after these all are known that are left.
    for tag in [1, 3, 4, 6] {
        rabbit.channel.basic_ack(tag, MULTIPLE).await.unwrap();
    }
    rabbit.channel.basic_nack(0, BasicNackOptions { multiple: true, requeue: false }).await.unwrap();
    let spans = rabbit.sdk.spans();
    let recorded: Vec<_> = spans[REMEMBERED + 1..]
        .iter()
        .map(|span| {
            let count = value_of(span, attribute::MESSAGING_BATCH_MESSAGE_COUNT).map(|count| count.to_string());
            (span.links.len(), count, outcome(span))
        })
        .collect();
    let counted = |links: usize, count: usize| (links, Some(count.to_string()), "ack".to_owned());
    let uncounted = |links: usize| (links, None, "ack".to_owned());
    let rest = (128, Some((REMEMBERED - 4).to_string()), "nack".to_owned());
    assert_eq!(recorded, [uncounted(0), uncounted(1), counted(1, 1), counted(2, 2), rest]);
    drop(first);
    let settled: Vec<_> = rabbit
        .measured("otel_messaging.deliveries")
        .iter()
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap())
        .collect();
    assert_eq!(settled, [4, REMEMBERED - 4], "of those that were known");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_message_is_known_when_it_settles_all_before_it() {
    let (rabbit, queue, mut consumer) = flooded(REMEMBERED + 2).await;
    drop(next(&mut consumer).await);
    let second = next(&mut consumer).await;
    for _ in 0..REMEMBERED {
        drop(next(&mut consumer).await);
    }
    assert!(second.ack(MULTIPLE).await.unwrap());
    drop(second);
    let spans = rabbit.sdk.spans();
    let process = named(&spans, &format!("process {queue}"))[1];
    assert_eq!(outcome(process), "ack");
    let [ack] = named(&spans, &format!("ack {queue}"))[..] else { panic!("one ack") };
    let linked: Vec<_> = ack.links.iter().map(|link| link.span_context.span_id()).collect();
    assert_eq!(linked, [process.span_context.span_id()]);
    assert_eq!(value_of(ack, attribute::MESSAGING_BATCH_MESSAGE_COUNT), None);
    let counted = rabbit.measured("otel_messaging.deliveries");
    assert!(counted.len() == 1 && counted[0].ends_with(" 1"), "{counted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_count_is_recorded_after_unrecorded_deliveries() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    for _ in 0..9 {
        rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    }
    let unseen = || otel_messaging::suppress_messaging(&Context::current());
    let get = || rabbit.channel.basic_get(queue.as_str().into(), BasicGetOptions::default());
    let mut got = Vec::new();
    for number in 1..=4 {
        // Asked for while nothing is told, or come then.
        let message = match number {
            3 => {
                let unseen = unseen().attach();
                let message = get();
                drop(unseen);
                message.await
            }
            4 => get().with_context(unseen()).await,
            _ => get().await,
        };
        got.push(message.unwrap().unwrap().delivery);
    }
    let mut consumer = rabbit.consume(&queue).await;
    got.push(next(&mut consumer).with_context(unseen()).await);
    for _ in 6..=9 {
        got.push(next(&mut consumer).await);
    }
    let recorded = async |tag| {
        rabbit.channel.basic_ack(tag, MULTIPLE).await.unwrap();
        let ack = rabbit.sdk.spans().pop().unwrap();
        (ack.links.len(), value_of(&ack, attribute::MESSAGING_BATCH_MESSAGE_COUNT).map(ToString::to_string))
    };
    let counted = |count: usize| (count, Some(count.to_string()));
    // Before them, with each, and beyond.
    assert_eq!(recorded(2).await, counted(2));
    for tag in [3, 4, 5] {
        assert_eq!(recorded(tag).await, (0, None));
    }
    assert_eq!(recorded(6).await, counted(1));
    assert_eq!(recorded(9).await, counted(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_count_is_recorded_after_an_unsettled_message_was_given_away() {
    let (rabbit, _, mut deliveries) = deliveries(5).await;
    let last = deliveries.split_off(3);
    let [first, second, third] = deliveries.try_into().unwrap();
    // One that was settled before is not in doubt.
    assert!(first.ack(BasicAckOptions::default()).await.unwrap());
    let given = [first.into_inner(), third.into_inner()];
    let recorded = async |tag| {
        rabbit.channel.basic_ack(tag, MULTIPLE).await.unwrap();
        let ack = rabbit.sdk.spans().pop().unwrap();
        (ack.links.len(), value_of(&ack, attribute::MESSAGING_BATCH_MESSAGE_COUNT).map(ToString::to_string))
    };
    assert_eq!(recorded(second.delivery_tag).await, (1, Some("1".to_owned())));
    assert_eq!(recorded(last[0].delivery_tag).await, (1, None));
    assert_eq!(recorded(last[1].delivery_tag).await, (1, Some("1".to_owned())));
    drop(given);
}

#[tokio::test(flavor = "multi_thread")]
async fn unrecorded_deliveries_are_forgotten_when_the_channel_recovers() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    for _ in 0..2 {
        rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    }
    let recovering = ConnectionProperties::default().enable_auto_recover();
    let connection = Connection::connect(uri(), recovering).await.unwrap();
    let connection = connection.with_instrumentation(rabbit.sdk.instrumentation());
    let channel = connection.create_channel().await.unwrap();
    let get = || channel.basic_get(queue.as_str().into(), BasicGetOptions::default());
    let unseen = get().with_context(otel_messaging::suppress_messaging(&Context::current())).await.unwrap().unwrap();

    // RabbitMQ does not implement it, and closes the connection.
    let immediate = BasicPublishOptions { mandatory: false, immediate: true };
    _ = channel.get_ref().basic_publish("".into(), "".into(), immediate, b"1", BasicProperties::default()).await;
    support::eventually("the channel breaks", || unseen.delivery.poisoned());
    let recovered = async {
        while channel.basic_qos(0, BasicQosOptions::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, recovered).await.expect("the channel is recovered in time");
    let messages = [get().await.unwrap().unwrap(), get().await.unwrap().unwrap()];
    channel.basic_ack(0, MULTIPLE).await.unwrap();
    let ack = rabbit.sdk.spans().pop().unwrap();
    assert_eq!(value_of(&ack, attribute::MESSAGING_BATCH_MESSAGE_COUNT), Some(&2.into()));
    drop(messages);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_after_the_end_has_its_span_and_leaks_nothing() {
    let (rabbit, queue, deliveries) = deliveries(3).await;
    for delivery in deliveries {
        delivery.process(|| async {}).await;
        assert!(delivery.ack(BasicAckOptions::default()).await.unwrap());
    }
    let spans = rabbit.sdk.wait_for(6);
    let process = named(&spans, &format!("process {queue}"));
    for (number, ack) in named(&spans, &format!("ack {queue}")).into_iter().enumerate() {
        assert_eq!(ack.parent_span_id, process[number].span_context.span_id());
        assert!(process[number].end_time <= ack.start_time);
        // Too late for the span that has ended.
        assert_eq!((outcome(process[number]), outcome(ack)), ("none".to_owned(), "ack".to_owned()));
    }
    // Nothing is remembered of them.
    rabbit.channel.basic_ack(0, MULTIPLE).await.unwrap();
    let nothing = rabbit.sdk.wait_for(7).pop().unwrap();
    assert_eq!((nothing.links.len(), value_of(&nothing, attribute::MESSAGING_BATCH_MESSAGE_COUNT)), (0, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acker_that_was_used_settles_nobody_elses_message() {
    let (rabbit, queue, deliveries) = deliveries(2).await;
    assert!(deliveries[1].ack(BasicAckOptions::default()).await.unwrap());
    assert!(!deliveries[1].ack(MULTIPLE).await.unwrap());
    assert!(deliveries[0].ack(BasicAckOptions::default()).await.unwrap());
    let spans = rabbit.sdk.wait_for(3);
    let recorded: Vec<_> = named(&spans, &format!("ack {queue}")).into_iter().map(outcome).collect();
    assert_eq!(recorded, ["ack", "already_settled", "ack"]);
    assert!(spans.iter().all(|span| value_of(span, attribute::MESSAGING_BATCH_MESSAGE_COUNT).is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_settlement_is_not_counted() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    for _ in 0..2 {
        rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    }
    let no_ack = BasicGetOptions { no_ack: true };
    let got = rabbit.channel.basic_get(queue.as_str().into(), no_ack).await.unwrap().unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut consumer =
        rabbit.channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default()).await.unwrap();
    let consumed = next(&mut consumer).await;
    rabbit.channel.basic_ack(0, MULTIPLE).await.unwrap();
    drop((got, consumed));
    let spans = rabbit.sdk.wait_for(4);
    let ack = spans.iter().find(|span| span.name.starts_with("ack")).unwrap();
    assert_eq!(ack.links.len(), 0);
    assert_eq!(value_of(ack, attribute::MESSAGING_BATCH_MESSAGE_COUNT), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_recover_the_old_tags_are_forgotten() {
    let (rabbit, _, deliveries) = deliveries(2).await;
    rabbit.channel.basic_recover(BasicRecoverOptions { requeue: true }).await.unwrap();
    rabbit.channel.basic_ack(0, MULTIPLE).await.unwrap();
    drop(deliveries);
    let spans = rabbit.sdk.wait_for(3);
    let ack = spans.iter().find(|span| span.name.starts_with("ack")).unwrap();
    assert_eq!(ack.links.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_closed_channel_nothing_is_settled_and_the_message_counts_as_dropped() {
    let rabbit = Rabbit::with_all_signals().await;
    let queue = rabbit.queue("orders").await;
    for _ in 0..2 {
        rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    }
    let mut consumer = rabbit.consume(&queue).await;
    let (first, second) = (next(&mut consumer).await, next(&mut consumer).await);
    assert!(second.ack(BasicAckOptions::default()).await.unwrap());
    rabbit.channel.close(200, "bye".into()).await.unwrap();
    support::eventually("the channel is closed", || first.poisoned());
    // lapin's answers are the user's: no error by the acker, one by the tag.
    assert!(!first.ack(BasicAckOptions::default()).await.unwrap());
    assert!(!first.nack(BasicNackOptions { multiple: true, requeue: true }).await.unwrap());
    let error = rabbit.channel.basic_ack(2, BasicAckOptions::default()).await.unwrap_err();
    assert_eq!(error, rabbit.channel.get_ref().basic_ack(2, BasicAckOptions::default()).await.unwrap_err());
    drop((first, second));
    let spans = rabbit.sdk.wait_for(6);
    let recorded = |span: &SpanData| {
        let error_type = value_of(span, attribute::ERROR_TYPE).map(|value| value.as_str().into_owned());
        (outcome(span), error_type, span.status.clone())
    };
    let gone = |description: &str| {
        let error_type = Some("invalid-channel-state".to_owned());
        ("none".to_owned(), error_type, Status::error(description.to_owned()))
    };
    let by_acker: Vec<_> = ["ack", "nack"].map(|name| named(&spans, &format!("{name} {queue}"))).concat();
    let by_acker: Vec<_> = by_acker.into_iter().map(recorded).collect();
    let settled = ("ack".to_owned(), None, Status::Unset);
    assert_eq!(by_acker, [settled.clone(), gone("the channel is gone"), gone("the channel is gone")]);
    // The channel's tags mean nothing any more.
    let by_tag = spans.iter().find(|span| span.name.starts_with("ack ") && !span.name.contains(&queue)).unwrap();
    assert_eq!(recorded(by_tag), gone(&error.to_string()));
    let mut process: Vec<_> = named(&spans, &format!("process {queue}")).into_iter().map(recorded).collect();
    process.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(process, [settled, ("dropped".to_owned(), None, Status::Unset)]);
    let counted = rabbit.measured("otel_messaging.deliveries");
    let of = |operation: &str, outcome: &str| {
        format!(
            r#"{{messaging.destination.name = "{queue}", messaging.operation.name = "{operation}", otel_messaging.settlement.outcome = "{outcome}"}} 1"#
        )
    };
    assert_eq!(counted, [of("ack", "ack"), of("process", "dropped")]);
    // The broker has it: it was never told.
    rabbit.take_raw(&queue).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_no_number_of_opentelemetrys_is_left_out() {
    let rabbit = Rabbit::new().await;
    rabbit.channel.close(200, "bye".into()).await.unwrap();
    let error = rabbit.channel.basic_ack(u64::MAX, BasicAckOptions::default()).await.unwrap_err();
    let [ack] = &rabbit.sdk.wait_for(1)[..] else { panic!("one span") };
    assert_eq!(ack.status, Status::error(error.to_string()));
    assert_eq!(value_of(ack, attribute::MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG), None);
}
