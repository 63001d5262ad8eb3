//! Scenarios that only JetStream has.

use std::{collections::HashMap, future::Future, pin::pin, time::Duration};

use futures::poll;
use otel_async_nats::{
    HeaderMap,
    jetstream::{
        self, AckKind, Message,
        consumer::{AckPolicy, pull, push},
    },
    otel::{MessageExt, MessageStreamExt},
};
use otel_messaging::{AutoCorrelation, Correlation, Instrumentation};

use super::client::{JetStream, connection, durable, fetch as fetch_from, identified};
use crate::{
    client::Client,
    scenario::{Performed, performed},
    scenarios::next,
    stage::{Stage, until},
};

pub(super) const ALL: &[Performed] = performed! {
    templated, given_up, jetstream_publish, duplicate, scheduled, headers_only, jetstream_publish_fails,
    ack_not_awaited, fetch, fetch_one, fetch_of_several, filtered_consumers, fetch_fails, consumer_deleted,
    heartbeats_missing, settled, settled_in_group, refused_by_the_handler, work_after_ack, settled_after_the_end,
    settle_fails, redelivered, dropped, settled_by_hand, policy_auto, captured_fetch, domain, receive_spans_off,
    receive_spans_on
};

/// A negative acknowledgement after which the message is not delivered again within the scenario.
const LATER: AckKind = AckKind::Nak(Some(Duration::from_secs(60)));

async fn templated(stage: Stage) {
    let instrumentation = stage.builder().with_destination_template(|_| Some("shop.{id}".to_owned())).build();
    let stored = JetStream::connect(&stage, instrumentation.clone()).await.with(3).await;
    JetStream::create(instrumentation, &stored.subject, &mut HashMap::new());
    stored.connection.publish(stage.name("orders"), "".into()).await.expect("published");
    stored.connection.request(stage.name("stock"), "apples?".into()).await.expect_err("no responder");
    for (message, kind) in stored.fetch(3).await.iter().zip([AckKind::Ack, LATER, AckKind::Term]) {
        message.ack_with(kind).await.expect("settled");
    }
}

/// Polls a future once, and drops it.
async fn give_up<F: Future>(future: F) {
    let mut future = pin!(future);
    let answered = poll!(&mut future).is_ready();
    assert!(!answered, "there is no answer yet");
}

async fn given_up(stage: Stage) {
    let stored = JetStream::of(&stage).await.with(3).await;
    let mut stock = stored.connection.subscribe(stage.name("stock")).await.expect("subscribed");
    give_up(stored.connection.request(stage.name("stock"), "apples?".into())).await;
    next(&mut stock).await.end();
    for (message, kind) in stored.fetch(3).await.iter().zip([AckKind::Ack, AckKind::Nak(None), AckKind::Term]) {
        give_up(message.double_ack_with(kind)).await;
    }
}

async fn jetstream_publish(stage: Stage) {
    JetStream::of(&stage).await.publish().await;
}

async fn duplicate(stage: Stage) {
    let stored = JetStream::of(&stage).await;
    for _ in 0..2 {
        stored.send(&stored.subject, identified("17")).await;
    }
}

async fn scheduled(stage: Stage) {
    let builder = stage.builder().with_correlation(Correlation::Auto(AutoCorrelation::default()));
    let context = jetstream::new(connection(&stage, builder.build()).await);
    let name = stage.name("S");
    let config = serde_json::json!({ "name": name, "subjects": [format!("{name}.>")], "allow_msg_schedules": true });
    let _: serde_json::Value = context.request(format!("STREAM.CREATE.{name}"), &config).await.expect("created");
    let due = format!("{name}.due");
    // The server sends at once what is due already.
    let schedule = [("Nats-Schedule", "@at 2026-01-01T00:00:00Z"), ("Nats-Schedule-Target", &*due)];
    let headers = JetStream::headers(schedule);
    let publish = context.publish_with_headers(format!("{name}.later"), headers, "pay".into());
    publish.await.expect("published").await.expect("acknowledged");
    let stream = context.get_stream(&name).await.expect("the stream");
    let config = pull::Config { filter_subject: due, ..durable("shipping") };
    let consumer = stream.create_consumer(config).await.expect("created");
    let message = fetch_from(&consumer, 1).await.remove(0);
    message.process(|| async { message.ack().await }).await.expect("settled");
}

async fn headers_only(stage: Stage) {
    let stored = JetStream::connect(&stage, stage.builder().with_captured_sizes(true).build()).await;
    let publish = stored.context.get_ref().publish(stored.subject.clone(), "four apples".into());
    publish.await.expect("published").await.expect("acknowledged");
    let config = pull::Config { headers_only: true, ..durable("sizes") };
    stored.fetch_by(config).await.ack().await.expect("settled");
}

async fn jetstream_publish_fails(stage: Stage) {
    let JetStream { context, subject, .. } = JetStream::of(&stage).await;
    let nowhere = context.publish(stage.name("nowhere"), "".into()).await.expect("published");
    nowhere.await.expect_err("no stream");
    let wrong = JetStream::headers([("Nats-Expected-Last-Sequence", "17")]);
    let published = context.publish_with_headers(subject, wrong, "".into()).await.expect("published");
    published.await.expect_err("wrong sequence");
}

async fn ack_not_awaited(stage: Stage) {
    let JetStream { context, subject, .. } = JetStream::of(&stage).await;
    drop(context.publish(subject, "".into()).await.expect("published"));
}

async fn fetch(stage: Stage) {
    let stored = JetStream::of(&stage).await;
    for message in stored.receive(2).await {
        message.process(|| stored.settle(&message)).await;
    }
}

async fn fetch_one(stage: Stage) {
    let stored = JetStream::of(&stage).await;
    stored.put(identified("17")).await;
    for kind in [AckKind::Nak(None), AckKind::Ack] {
        stored.fetch(1).await[0].ack_with(kind).await.expect("settled");
    }
}

async fn fetch_of_several(stage: Stage) {
    let stored = JetStream::connect(&stage, stage.builder().with_max_links(2).build()).await;
    for subject in ["paid", "sent", "paid"] {
        stored.send(&stored.subject.replace("paid", subject), HeaderMap::new()).await;
    }
    for (name, filter) in [("of-all", String::new()), ("of-filtered", stored.subject.replace("paid", "*"))] {
        // There is nothing to settle.
        let config = pull::Config { filter_subject: filter, ack_policy: AckPolicy::None, ..durable(name) };
        let consumer = stored.stream.create_consumer(config).await.expect("created");
        assert_eq!(fetch_from(&consumer, 3).await.len(), 3);
    }
}

async fn filtered_consumers(stage: Stage) {
    let stored = JetStream::of(&stage).await.with(1).await;
    for (name, filter) in [("all", stored.subject.replace("paid", "*")), ("paid", stored.subject.clone())] {
        let config = pull::Config { filter_subject: filter, ..durable(name) };
        stored.fetch_by(config).await.ack().await.expect("settled");
    }
    next(&mut stored.pushed(&stage, String::new()).await).await.ack().await.expect("settled");
}

async fn fetch_fails(stage: Stage) {
    let stored = JetStream::of(&stage).await;
    stored.stream.delete_consumer("shipping").await.expect("deleted");
    let mut batch = stored.consumer.fetch().max_messages(1).messages().await.expect("a batch");
    next(&mut batch).await.expect_err("no consumer");
}

async fn consumer_deleted(stage: Stage) {
    let stored = JetStream::of(&stage).await.with(1).await;
    let messages = stored.consumer.messages().await.expect("messages");
    let stream = &stored.stream;
    let handled = messages.process_each(1, |message| async move {
        message.ack().await.expect("settled");
        stream.delete_consumer("shipping").await.expect("deleted");
    });
    let error = handled.await.expect_err("no consumer");
    assert_eq!(error.kind(), pull::MessagesErrorKind::ConsumerDeleted);
}

async fn heartbeats_missing(stage: Stage) {
    let stored = JetStream::of(&stage).await;
    let wildcard = stored.subject.replace("paid", "*");
    for (name, filter, group) in [("all", &wildcard, None), ("paid", &stored.subject, Some("payment"))] {
        let config = push::Config {
            durable_name: Some(name.to_owned()),
            deliver_subject: stage.name(name),
            deliver_group: group.map(str::to_owned),
            filter_subject: filter.clone(),
            // The shortest that the server allows.
            idle_heartbeat: Duration::from_millis(100),
            ..Default::default()
        };
        let consumer = stored.stream.create_consumer(config).await.expect("created");
        let mut messages = consumer.messages().await.expect("messages");
        stored.stream.delete_consumer(name).await.expect("deleted");
        next(&mut messages).await.expect_err("no heartbeat");
    }
}

async fn settled(stage: Stage) {
    let stored = JetStream::of(&stage).await.with(4).await;
    let mut messages = stored.messages().await;
    for kind in [AckKind::Ack, LATER, AckKind::Term] {
        let message = next(&mut messages).await;
        message.ack_with(AckKind::Progress).await.expect("published");
        message.ack_with(kind).await.expect("settled");
    }
    next(&mut messages).await.double_ack().await.expect("settled");
}

async fn settled_in_group(stage: Stage) {
    let stored = JetStream::of(&stage).await;
    let mut messages = stored.pushed(&stage, stored.subject.replace("paid", "*")).await;
    for (kind, id) in [(AckKind::Ack, "17"), (LATER, "18"), (AckKind::Term, "19")] {
        stored.put(identified(id)).await;
        next(&mut messages).await.ack_with(kind).await.expect("settled");
    }
}

async fn refused_by_the_handler(stage: Stage) {
    let stored = JetStream::of(&stage).await.with(1).await;
    let message = next(&mut stored.messages().await).await;
    let declines = async {
        message.ack_with(LATER).await.expect("settled");
        Err::<(), _>("declined")
    };
    message.process(|| declines).await.expect_err("declined");
}

async fn work_after_ack(stage: Stage) {
    let stored = JetStream::of(&stage).await.with(1).await;
    let message = next(&mut stored.messages().await).await;
    let works = async {
        message.ack().await.expect("settled");
        stored.connection.publish(stage.name("shipping"), "".into()).await
    };
    message.process(|| works).await.expect("published");
}

async fn settled_after_the_end(stage: Stage) {
    let stored = JetStream::of(&stage).await.with(1).await;
    let message = next(&mut stored.messages().await).await;
    message.process(|| async {}).await;
    message.ack().await.expect("settled");
}

async fn settle_fails(stage: Stage) {
    let stored = JetStream::of(&stage).await.with(3).await;
    let messages = stored.fetch(3).await;
    let raw = stored.connection.get_ref();
    raw.drain().await.expect("closes");
    until(async || raw.publish(stored.subject.clone(), "".into()).await.err()).await;
    for (message, kind) in messages.into_iter().zip([AckKind::Ack, AckKind::Nak(None), AckKind::Term]) {
        message.ack_with(kind).await.expect_err("closed");
    }
}

/// A message that was refused once. The first delivery has its spans too.
async fn again(stored: &JetStream) -> Message {
    let mut messages = stored.messages().await;
    next(&mut messages).await.ack_with(AckKind::Nak(None)).await.expect("settled");
    next(&mut messages).await
}

async fn redelivered(stage: Stage) {
    let stored = JetStream::of(&stage).await.with(1).await;
    again(&stored).await.ack().await.expect("settled");
}

async fn dropped(stage: Stage) {
    let stored = JetStream::of(&stage).await.with(1).await;
    drop(next(&mut stored.messages().await).await);
    drop(next(&mut stored.pushed(&stage, String::new()).await).await);
}

async fn settled_by_hand(stage: Stage) {
    let stored = JetStream::of(&stage).await.with(3).await;
    let reply = |message: &Message| message.reply.clone().expect("a subject for acknowledgements");
    let mut messages = stored.fetch(3).await.into_iter();
    let mut message = || messages.next().expect("three");
    let handled = message();
    let ack = async { stored.context.publish(reply(&handled), "+ACK".into()).await.map(drop) };
    handled.process(|| ack).await.expect("published");
    let kept = message();
    stored.connection.publish(reply(&kept), "+WPI".into()).await.expect("published");
    stored.connection.request(reply(&kept), "-NAK {\"delay\": 60000000000}".into()).await.expect("settled");
    drop(kept);
    let of_dropped = reply(&message());
    stored.connection.publish(of_dropped, "+TERM sour".into()).await.expect("published");
}

async fn policy_auto(stage: Stage) {
    let builder = stage.builder().with_correlation(Correlation::Auto(AutoCorrelation::default()));
    let stored = JetStream::connect(&stage, builder.build()).await;
    stored.publish().await;
    again(&stored).await.ack().await.expect("settled");
    let replay = stored.stream.create_consumer(durable("replay")).await.expect("created");
    let mut messages = replay.messages().await.expect("messages");
    next(&mut messages).await.expect("a message").ack().await.expect("settled");
}

async fn captured_fetch(stage: Stage) {
    let builder = stage.builder().with_captured_headers(["x-*"]).with_captured_sizes(true);
    let stored = JetStream::connect(&stage, builder.build()).await;
    stored.put(identified("17")).await;
    stored.fetch(1).await[0].ack().await.expect("settled");
}

async fn domain(mut stage: Stage) {
    let start = || brokers::Nats::own_of_domain("hub").unwrap_or_else(|missing| panic!("{missing}"));
    let server = tokio::task::spawn_blocking(start).await.expect("started");
    stage.address = server.url.as_str().into();
    let stored = JetStream::of(&stage).await;
    let messages = stored.receive(3).await;
    for (message, kind) in messages.iter().zip([AckKind::Ack, LATER, AckKind::Term]) {
        message.double_ack_with(kind).await.expect("settled");
    }
}

async fn single_item(stage: Stage, instrumentation: Instrumentation) {
    let stored = JetStream::connect(&stage, instrumentation).await;
    let mut messages = stored.messages().await;
    stored.publish().await;
    next(&mut messages).await.ack().await.expect("settled");
    stored.put(identified("17")).await;
    next(&mut messages).await.ack().await.expect("settled");
}

async fn receive_spans_off(stage: Stage) {
    let instrumentation = stage.instrumentation();
    single_item(stage, instrumentation).await;
}

async fn receive_spans_on(stage: Stage) {
    let instrumentation = stage.builder().with_receive_spans(true).build();
    single_item(stage, instrumentation).await;
}
