//! `sequential` around a loop over each stream that delivers messages.

use std::cell::Cell;

use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use opentelemetry::{SpanId, trace::SpanKind};
use otel_async_nats::{
    Client,
    jetstream::{
        self,
        consumer::{pull, push},
    },
    otel::{sequential, sequential_blocking},
    service::ServiceExt,
};
use support::Sdk;
use tokio::{
    join,
    runtime::Handle,
    task::{block_in_place, yield_now},
};

use crate::{
    connect, durable, next,
    sources::{ALL, Opened, Source, take},
    stream_of, unique,
};

const MESSAGES: usize = 3;

/// Sends onward for each of three messages, with a heartbeat beside the loop: what is sent onward belongs to the message in
/// hand, and nothing that is sent while the next one is asked for, nor the heartbeat, belongs to one.
async fn check<T>(sdk: &Sdk, client: &Client, mut messages: impl Stream<Item = T> + Unpin) {
    let subjects @ [onward, idle, beat] = &["onward", "idle", "beat"].map(unique);
    let send = async |subject: &String| client.publish(subject.clone(), "1".into()).await.unwrap();
    let done = Cell::new(false);
    let work = sequential(async {
        for number in 1..=MESSAGES {
            let message = next(&mut messages).await;
            send(onward).await;
            yield_now().await;
            send(onward).await;
            if number == MESSAGES {
                assert!(messages.next().now_or_never().is_none(), "there were only three");
                send(idle).await;
            }
            drop(message);
        }
        done.set(true);
    });
    let heartbeat = async {
        while !done.get() {
            send(beat).await;
            yield_now().await;
        }
    };
    join!(work, heartbeat);

    let spans = sdk.spans();
    let [onward, idle, beat] = subjects.each_ref().map(|subject| {
        let name = format!("publish {subject}");
        spans.iter().filter(|span| span.name == name).map(|span| span.parent_span_id).collect::<Vec<_>>()
    });
    let handled = spans.iter().filter(|span| span.span_kind == SpanKind::Consumer && span.name.starts_with("process"));
    let handled: Vec<_> = handled.map(|span| span.span_context.span_id()).collect();
    assert_eq!(handled.len(), MESSAGES);
    assert_eq!(onward, handled.iter().flat_map(|&id| [id, id]).collect::<Vec<_>>());
    assert_eq!(idle, [SpanId::INVALID]);
    assert!(beat.len() > MESSAGES, "{beat:?}");
    assert!(beat.iter().all(|&parent| parent == SpanId::INVALID), "{beat:?}");
}

/// Sends the messages without spans. Somewhere to answer makes a request of each.
async fn send_raw(client: &Client, subject: &str) {
    for _ in 0..MESSAGES {
        client.get_ref().publish_with_reply(subject.to_owned(), "nobody", "1".into()).await.unwrap();
    }
}

/// A stream with the messages in it, and its subject.
async fn stored(client: &Client) -> (jetstream::stream::Stream, String) {
    let (stream, name) = stream_of(&jetstream::new(client.clone())).await;
    let context = async_nats::jetstream::new(client.get_ref().clone());
    for _ in 0..MESSAGES {
        context.publish(format!("{name}.orders"), "1".into()).await.unwrap().await.unwrap();
    }
    (stream, name)
}

#[tokio::test]
async fn subscription() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("orders");
    let messages = client.subscribe(subject.clone()).await.unwrap();
    send_raw(&client, &subject).await;
    check(&sdk, &client, messages).await;
}

#[tokio::test]
async fn service_endpoint() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("stock");
    let service = client.service_builder().start("stock", "1.0.0").await.unwrap();
    let requests = service.endpoint(&subject).await.unwrap();
    send_raw(&client, &subject).await;
    check(&sdk, &client, requests).await;
}

#[tokio::test]
async fn pull_consumer() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let (stream, name) = stored(&client).await;
    let consumer = durable(&stream, &name).await;
    check(&sdk, &client, consumer.messages().await.unwrap()).await;
}

#[tokio::test]
async fn batch() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let (stream, name) = stored(&client).await;
    let consumer = durable(&stream, &name).await;
    // One more than there are, so that it is still asked for.
    let batch = consumer.batch().max_messages(MESSAGES + 1).messages().await.unwrap();
    check(&sdk, &client, batch).await;
}

#[tokio::test]
async fn sequence_of_batches() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let (stream, name) = stored(&client).await;
    let consumer = durable(&stream, &name).await;
    // Of one message each, so that it is the sequence that is asked for the next.
    let sequence = consumer.sequence(1).unwrap();
    let messages = sequence.map_err(async_nats::Error::from).try_flatten();
    check(&sdk, &client, messages).await;
}

#[tokio::test]
async fn ordered_pull_consumer() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let (stream, _) = stored(&client).await;
    let consumer = stream.create_consumer(pull::OrderedConfig::default()).await.unwrap();
    check(&sdk, &client, consumer.messages().await.unwrap()).await;
}

#[tokio::test]
async fn push_consumer() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let (stream, _) = stored(&client).await;
    let config = push::Config { deliver_subject: unique("deliver"), ..push::Config::default() };
    let consumer = stream.create_consumer(config).await.unwrap();
    check(&sdk, &client, consumer.messages().await.unwrap()).await;
}

#[tokio::test]
async fn ordered_push_consumer() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let (stream, _) = stored(&client).await;
    let config = push::OrderedConfig { deliver_subject: unique("deliver"), ..push::OrderedConfig::default() };
    let consumer = stream.create_consumer(config).await.unwrap();
    check(&sdk, &client, consumer.messages().await.unwrap()).await;
}

/// The parents of what was published there.
fn parents(sdk: &Sdk, subject: &str) -> Vec<SpanId> {
    let name = format!("publish {subject}");
    sdk.spans().iter().filter(|span| span.name == name).map(|span| span.parent_span_id).collect()
}

/// The spans of a subject's messages.
fn processed(sdk: &Sdk, subject: &str) -> Vec<SpanId> {
    let name = format!("process {subject}");
    sdk.spans().iter().filter(|span| span.name == name).map(|span| span.span_context.span_id()).collect()
}

/// Asks a stream, which has nothing.
#[track_caller]
fn ask<T>(messages: &mut (impl Stream<Item = T> + Unpin), what: &str) {
    assert!(!matches!(messages.next().now_or_never(), Some(Some(_))), "{what}: a message of nobody's");
}

/// Takes messages one after the other. While each is in hand other sources are asked in vain, then its own.
async fn ask_others_and_it(client: &Client, source: Source, opened: Opened, [onward, idle]: &[String; 2]) {
    let Opened { mut messages, same, .. } = opened;
    let publish = async |subject: &String| client.publish(subject.clone(), "1".into()).await.unwrap();
    let mut other = client.subscribe(unique("other")).await.unwrap();
    let (stream, _) = stream_of(&jetstream::new(client.clone())).await;
    let (packing, shipping) = (durable(&stream, "packing").await, durable(&stream, "shipping").await);
    let mut shipped = shipping.messages().await.unwrap();
    for (way, same) in same {
        let in_hand = take(&mut messages).await;
        assert!(packing.fetch().messages().await.unwrap().next().await.is_none(), "the stream is empty");
        tokio::select! {
            biased;
            _ = other.next() => panic!("{source:?}: a message of nobody's"),
            _ = shipped.next() => panic!("{source:?}: a message of nobody's"),
            () = yield_now() => {}
        }
        publish(onward).await;
        ask(&mut same.await, way);
        publish(idle).await;
        drop(in_hand);
    }
    // Its own stream is its source, too.
    let in_hand = take(&mut messages).await;
    ask(&mut other, "another subscription");
    publish(onward).await;
    if !matches!(source, Source::IncomingMessage | Source::JetStreamMessage) {
        ask(&mut messages, "itself");
        publish(idle).await;
    }
    drop(in_hand);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_in_hand_until_its_own_source_is_polled() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    for source in ALL {
        for blocking in [false, true] {
            let ways = source.open(&client, 0, &sdk.instrumentation()).await.same.len();
            let opened = source.open(&client, ways + 1, &sdk.instrumentation()).await;
            let (subject, sent) = (opened.subject.clone(), ["onward", "idle"].map(unique));
            let work = ask_others_and_it(&client, source, opened, &sent);
            match blocking {
                false => sequential(work).await,
                true => block_in_place(|| sequential_blocking(|| Handle::current().block_on(work))),
            }
            let (messages, [onward, idle]) = (processed(&sdk, &subject), sent);
            assert_eq!(messages.len(), ways + 1, "{source:?}, {blocking}");
            assert_eq!(parents(&sdk, &onward), messages, "{source:?}, {blocking}");
            let asked = if matches!(source, Source::IncomingMessage | Source::JetStreamMessage) { 0 } else { ways + 1 };
            assert_eq!(parents(&sdk, &idle), vec![SpanId::INVALID; asked], "{source:?}, {blocking}");
        }
    }
}

/// Has a stream reported by another instrumentation while a message of its is in hand, and asks it.
async fn asked_as_another<T, S>(sdk: &Sdk, client: &Client, mut messages: S, other: impl FnOnce(S) -> S)
where
    S: Stream<Item = T> + Unpin,
{
    let sent @ [onward, idle] = &["onward", "idle"].map(unique);
    sequential(async {
        let _in_hand = next(&mut messages).await;
        let mut messages = other(messages);
        client.publish(onward.clone(), "1".into()).await.unwrap();
        ask(&mut messages, "itself");
        client.publish(idle.clone(), "1".into()).await.unwrap();
    })
    .await;
    let [onward, idle] = sent.each_ref().map(|subject| parents(sdk, subject));
    assert_eq!((onward.len(), onward.contains(&SpanId::INVALID), idle), (1, false, vec![SpanId::INVALID]));
}

#[tokio::test]
async fn a_stream_is_the_same_source_with_another_instrumentation() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let again = || sdk.instrumentation();
    let subject = unique("orders");
    let plain = client.subscribe(subject.clone()).await.unwrap();
    let in_group = client.queue_subscribe(subject.clone(), "workers".to_owned()).await.unwrap();
    let service = client.service_builder().start("stock", "1.0.0").await.unwrap();
    let requests = service.endpoint(&subject).await.unwrap();
    client.get_ref().publish_with_reply(subject, "nobody", "1".into()).await.unwrap();
    asked_as_another(&sdk, &client, plain, |messages| messages.with_instrumentation(again())).await;
    asked_as_another(&sdk, &client, in_group, |messages| messages.with_instrumentation(again())).await;
    asked_as_another(&sdk, &client, requests, |messages| messages.with_instrumentation(again())).await;

    let context = jetstream::new(client.clone());
    let (stream, name) = stream_of(&context).await;
    context.get_ref().publish(format!("{name}.orders"), "1".into()).await.unwrap().await.unwrap();
    let deliver = || unique("deliver");
    let pulled = durable(&stream, "pulled").await.messages().await.unwrap();
    asked_as_another(&sdk, &client, pulled, |messages| messages.with_instrumentation(again())).await;
    let batch = durable(&stream, "batch").await.batch().max_messages(2).messages().await.unwrap();
    asked_as_another(&sdk, &client, batch, |messages| messages.with_instrumentation(again())).await;
    let ordered = stream.create_consumer(pull::OrderedConfig::default()).await.unwrap().messages().await.unwrap();
    asked_as_another(&sdk, &client, ordered, |messages| messages.with_instrumentation(again())).await;
    let config = push::Config { deliver_subject: deliver(), ..push::Config::default() };
    let pushed = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    asked_as_another(&sdk, &client, pushed, |messages| messages.with_instrumentation(again())).await;
    let config = push::OrderedConfig { deliver_subject: deliver(), ..push::OrderedConfig::default() };
    let pushed = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    asked_as_another(&sdk, &client, pushed, |messages| messages.with_instrumentation(again())).await;
}
