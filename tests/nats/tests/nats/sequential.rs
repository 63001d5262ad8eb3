//! `sequential` around a loop over each stream that hands messages out.

use std::cell::Cell;

use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use opentelemetry::{SpanId, trace::SpanKind};
use otel_async_nats::{
    Client,
    jetstream::{
        self,
        consumer::{pull, push},
    },
    otel::sequential,
    service::ServiceExt,
};
use support::Sdk;
use tokio::{join, task::yield_now};

use crate::{connect, durable, next, stream_of, unique};

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
