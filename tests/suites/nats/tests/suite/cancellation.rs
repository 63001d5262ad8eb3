//! Futures that are dropped: before, during and after.

use std::{pin::pin, task::Poll, time::Duration};

use futures::{StreamExt, future::poll_fn, poll};
use opentelemetry::{context::FutureExt, trace::TraceContextExt};
use otel_async_nats::{ConnectOptions, jetstream};
use support::{Sdk, attribute, describe};

use crate::{connect, connect_with, durable, end, next, server, stream_of, unique, within};

/// Asserts that there is this one span, ended without error, and says whether its outcome is unknown.
fn only_span_is_unknown(sdk: &Sdk, name: &str) -> bool {
    let spans = sdk.spans();
    assert_eq!(spans.iter().map(|span| span.name.as_ref()).collect::<Vec<_>>(), [name]);
    assert_eq!(spans[0].status, opentelemetry::trace::Status::Unset);
    attribute(&spans[0], "otel_messaging.delivery.outcome_unknown").is_some()
}

#[tokio::test]
async fn what_is_never_polled_has_no_span() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("orders");
    let mut arriving = client.get_ref().subscribe(subject.clone()).await.unwrap();
    let context = jetstream::new(client.clone());
    let (stream, _) = stream_of(&context).await;
    drop(client.publish(subject.clone(), "1".into()));
    drop(client.request(subject.clone(), "2".into()));
    drop(context.publish(subject.clone(), "3".into()));
    drop(durable(&stream, "shipping").await.fetch().messages());
    client.get_ref().publish(subject, "4".into()).await.unwrap();
    assert_eq!(next(&mut arriving).await.payload, "4");
    assert_eq!(sdk.described(), "");
}

#[tokio::test]
async fn a_request_dropped_while_it_waits_has_one_span_of_unknown_outcome() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("stock");
    let mut silent = client.get_ref().subscribe(subject.clone()).await.unwrap();
    {
        let mut request = pin!(client.request(subject.clone(), "apples?".into()));
        assert!(poll!(request.as_mut()).is_pending());
        assert_eq!(next(&mut silent).await.payload, "apples?");
        assert!(poll!(request.as_mut()).is_pending());
        assert_eq!(sdk.spans().len(), 0);
    }
    assert!(only_span_is_unknown(&sdk, &format!("request {subject}")));
}

#[tokio::test]
async fn a_publish_dropped_while_the_client_is_full_has_one_span_of_unknown_outcome() {
    let sdk = Sdk::new();
    let options = ConnectOptions::new().client_capacity(1).with_instrumentation(sdk.instrumentation());
    let client = options.connect(&server().url).await.unwrap();
    let subject = unique("orders");
    // The connection's task does not run while nothing here waits, so the second message finds no room.
    client.get_ref().publish(subject.clone(), "1".into()).await.unwrap();
    {
        let mut publish = pin!(client.publish(subject.clone(), "2".into()));
        assert!(poll!(publish.as_mut()).is_pending());
    }
    assert!(only_span_is_unknown(&sdk, &format!("publish {subject}")));
}

#[tokio::test]
async fn an_acknowledgement_nobody_waits_for_is_unknown() {
    let sdk = Sdk::new();
    let context = jetstream::new(connect(&sdk).await);
    let (mut stream, name) = stream_of(&context).await;
    let subject = format!("{name}.paid");
    drop(context.publish(subject.clone(), "1".into()).await.unwrap());
    assert!(only_span_is_unknown(&sdk, &format!("publish {subject}")));
    context.wait_for_acks().await;
    assert_eq!(stream.info().await.unwrap().state.messages, 1, "it was sent");
}

#[tokio::test]
async fn an_acknowledgement_dropped_while_or_after_it_is_awaited_has_one_span() {
    let sdk = Sdk::new();
    let context = jetstream::new(connect(&sdk).await);
    let (_stream, name) = stream_of(&context).await;
    let subject = format!("{name}.paid");
    {
        let mut acknowledged = context.publish(subject.clone(), "1".into()).await.unwrap().into_future();
        assert!(poll!(acknowledged.as_mut()).is_pending());
    }
    assert!(only_span_is_unknown(&sdk, &format!("publish {subject}")));

    let sdk = Sdk::new();
    let context = context.with_instrumentation(sdk.instrumentation());
    let mut acknowledged = context.publish(subject.clone(), "2".into()).await.unwrap().into_future();
    acknowledged.as_mut().await.unwrap();
    drop(acknowledged);
    assert!(!only_span_is_unknown(&sdk, &format!("publish {subject}")));
}

#[tokio::test]
async fn a_stream_that_is_waited_for_in_vain_loses_nothing() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("orders");
    let mut subscriber = client.subscribe(subject.clone()).await.unwrap();
    for _ in 0..3 {
        let waited = tokio::time::timeout(Duration::from_millis(5), subscriber.next()).await;
        assert!(waited.is_err());
    }
    client.get_ref().publish(subject.clone(), "1".into()).await.unwrap();
    assert_eq!(next(&mut subscriber).await.payload, "1");
    assert!(!only_span_is_unknown(&sdk, &format!("process {subject}")));
}

#[tokio::test]
async fn a_stream_that_waits_keeps_no_span_open() {
    let sdk = Sdk::new();
    // Waits are told of where they are measured.
    let context = jetstream::new(connect_with(sdk.all_signals_builder().build()).await);
    let (stream, _) = stream_of(&context).await;
    let mut messages = durable(&stream, "shipping").await.messages().await.unwrap();
    let request = sdk.app_span("request");
    let waits = poll_fn(|cx| Poll::Ready(within(&request, || messages.poll_next_unpin(cx).is_pending()))).await;
    assert!(waits);
    drop(request);
    assert!(!only_span_is_unknown(&sdk, "request"));
}

/// Until it ends, and long after the request that asked for it has.
#[tokio::test]
async fn a_batch_that_waits_keeps_no_span_open() {
    let sdk = Sdk::new();
    let context = jetstream::new(connect(&sdk).await);
    let (stream, name) = stream_of(&context).await;
    let consumer = durable(&stream, "shipping").await;
    let request = sdk.app_span("request");
    let mut batch = within(&request, || consumer.batch().max_messages(1).messages()).await.unwrap();
    drop(request);
    assert!(!only_span_is_unknown(&sdk, "request"));
    context.get_ref().publish(format!("{name}.paid"), "1".into()).await.unwrap().await.unwrap();
    drop(next(&mut batch).await.unwrap());
    drop(batch);
    let spans = sdk.spans();
    let [request, fetch, _process] = &spans[..] else { panic!("{}", describe(&spans)) };
    assert_eq!(fetch.name, format!("fetch {name}.paid"));
    assert_eq!(fetch.parent_span_id, request.span_context.span_id(), "it belongs to who asked for it");
}

#[tokio::test]
async fn a_waiting_sequence_keeps_no_span_open_and_joins_its_caller() {
    let sdk = Sdk::new();
    let options = ConnectOptions::new().client_capacity(1).with_instrumentation(sdk.instrumentation());
    let context = jetstream::new(options.connect(&server().url).await.unwrap());
    let (stream, name) = stream_of(&context).await;
    let mut sequence = durable(&stream, "shipping").await.sequence(1).unwrap();
    let first = sdk.app_span("first");
    // The connection's task does not run while nothing here waits, so there is no room to ask the server.
    context.client().get_ref().publish("elsewhere", "".into()).await.unwrap();
    let waits = poll_fn(|cx| Poll::Ready(within(&first, || sequence.poll_next_unpin(cx).is_pending()))).await;
    assert!(waits);
    drop(first);
    assert!(!only_span_is_unknown(&sdk, "first"));

    let second = sdk.app_span("second");
    let mut batch = next(&mut sequence).with_context(second.clone()).await.unwrap();
    end(&second);
    context.get_ref().publish(format!("{name}.paid"), "1".into()).await.unwrap().await.unwrap();
    drop(next(&mut batch).await.unwrap());
    drop(batch);
    let spans = sdk.spans();
    let fetch = spans.iter().find(|span| span.name.starts_with("fetch")).unwrap();
    assert_eq!(fetch.parent_span_id, second.span().span_context().span_id(), "{}", describe(&spans));
}
