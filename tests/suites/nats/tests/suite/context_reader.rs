//! A context that the application's function reads, on every way of receiving.

use async_nats::HeaderMap;
use opentelemetry::{propagation::Extractor, trace::SpanContext};
use otel_async_nats::otel::{MessageExt, ReceivedMessage, parse_traceparent};
use support::{Sdk, describe};

use crate::{
    connect_with, header, next,
    sources::{ALL, Opened, SECRET, process, take},
    traceparent, unique,
};

const READ: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The context of messages that have this payload and this header.
fn read(headers: &dyn Extractor, payload: &[u8]) -> Option<SpanContext> {
    parse_traceparent(READ).filter(|_| payload == SECRET.as_bytes() && headers.get(SECRET) == Some(SECRET))
}

#[tokio::test]
async fn every_source_reads_it() {
    for source in ALL {
        let sdk = Sdk::new();
        let instrumentation = sdk.all_signals_builder().with_context_reader(read).build();
        let client = connect_with(instrumentation.clone()).await;
        let Opened { mut messages, subject, .. } = source.open(&client, 2, &instrumentation).await;
        for _ in 0..2 {
            let message = take(&mut messages).await;
            message.process(|| async {}).await;
            message.settle().await;
        }
        let process = process(&sdk, &subject);
        assert_eq!(process.len(), 2, "{source:?}");
        let related = "  parent 00f067aa0ba902b7\n  link 00f067aa0ba902b7\n";
        assert_eq!(describe(&process).matches(related).count(), 2, "{source:?}: {}", describe(&process));
        let everything = sdk.everything() + &sdk.events();
        assert!(!everything.contains(SECRET), "{source:?}: {everything}");
    }
}

#[tokio::test]
async fn a_message_without_headers_has_its_payload() {
    let sdk = Sdk::new();
    let of_payload = |_: &dyn Extractor, payload: &[u8]| parse_traceparent(str::from_utf8(payload).ok()?);
    let client = connect_with(sdk.instrumentation_builder().with_context_reader(of_payload).build()).await;
    let subject = unique("orders");
    let mut subscriber = client.subscribe(subject.clone()).await.unwrap();
    client.get_ref().publish(subject.clone(), READ.into()).await.unwrap();
    client.get_ref().publish(subject.clone(), "".into()).await.unwrap();
    let creations = [next(&mut subscriber).await, next(&mut subscriber).await]
        .map(|message| message.process_span().unwrap().creation().map(|creation| creation.span_id().to_string()));
    assert_eq!(creations, [Some("00f067aa0ba902b7".to_owned()), None]);
}

#[tokio::test]
async fn a_forward_keeps_the_header_and_is_a_new_message() {
    let sdk = Sdk::new();
    let of_header = |headers: &dyn Extractor, _: &[u8]| parse_traceparent(headers.get("ce-traceparent")?);
    let client = connect_with(sdk.instrumentation_builder().with_context_reader(of_header).build()).await;
    let [subject, onward] = [unique("orders"), unique("onward")];
    let mut subscriber = client.subscribe(subject.clone()).await.unwrap();
    let mut arriving = client.subscribe(onward.clone()).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("ce-traceparent", READ);
    client.get_ref().publish_with_headers(subject.clone(), headers, "1".into()).await.unwrap();
    let message = next(&mut subscriber).await;
    let forward = message.headers.clone().unwrap();
    message.process(|| async { client.publish_with_headers(onward.clone(), forward, "1".into()).await }).await.unwrap();
    drop(message);
    let spans = sdk.wait_for(2);
    let find = |name: String| spans.iter().find(|span| span.name == name).unwrap();
    let (process, forwarded) = (find(format!("process {subject}")), find(format!("publish {onward}")));
    assert!(forwarded.links.is_empty(), "what was read is no context that it carries when it is sent");
    assert_eq!(forwarded.parent_span_id, process.span_context.span_id());
    let arrived = next(&mut arriving).await;
    assert_eq!(header(&arrived.headers, "ce-traceparent").as_deref(), Some(READ));
    assert_eq!(header(&arrived.headers, "traceparent"), Some(traceparent(&forwarded.span_context)));
    let creation = arrived.process_span().unwrap().creation().unwrap();
    assert_eq!(creation.span_id(), forwarded.span_context.span_id());
}

#[tokio::test]
async fn a_reply_is_linked_by_the_context_that_is_read() {
    let sdk = Sdk::new();
    let client = connect_with(sdk.instrumentation_builder().with_context_reader(read).build()).await;
    let subject = unique("stock");
    let mut requests = client.get_ref().subscribe(subject.clone()).await.unwrap();
    let answer = async {
        let request = next(&mut requests).await;
        let mut headers = HeaderMap::new();
        headers.insert(SECRET, SECRET);
        let reply = request.reply.unwrap();
        client.get_ref().publish_with_headers(reply, headers, SECRET.into()).await.unwrap();
    };
    let (reply, ()) = futures::join!(client.request(subject.clone(), "apples?".into()), answer);
    assert_eq!(reply.unwrap().payload, SECRET);
    let [request] = &sdk.wait_for(1)[..] else { panic!("{}", sdk.described()) };
    assert_eq!(request.name, format!("request {subject}"));
    assert_ne!(request.span_context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    let linked: Vec<_> = request.links.iter().map(|link| link.span_context.span_id().to_string()).collect();
    assert_eq!(linked, ["00f067aa0ba902b7"]);
}
