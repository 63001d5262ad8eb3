//! `sequential` around a loop over each stream that delivers messages.

use futures::{FutureExt, Stream, StreamExt};
use opentelemetry::SpanId;
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

use crate::{connect, durable, next, stream_of, unique};

/// The parents of what was published there.
fn parents(sdk: &Sdk, subject: &str) -> Vec<SpanId> {
    let name = format!("publish {subject}");
    sdk.spans().iter().filter(|span| span.name == name).map(|span| span.parent_span_id).collect()
}

/// Asks a stream, which has nothing.
#[track_caller]
fn ask<T>(messages: &mut (impl Stream<Item = T> + Unpin), what: &str) {
    assert!(!matches!(messages.next().now_or_never(), Some(Some(_))), "{what}: an unexpected message");
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
    client.get_ref().publish_with_reply(subject, "unanswered", "1".into()).await.unwrap();
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
