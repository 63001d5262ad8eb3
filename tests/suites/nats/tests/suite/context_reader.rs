//! A context that the application's function reads, on every way of receiving.

use async_nats::HeaderMap;
use opentelemetry::{propagation::Extractor, trace::SpanContext};
use otel_async_nats::otel::parse_traceparent;
use support::Sdk;

use crate::{connect_with, next, sources::SECRET, unique};

const READ: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The context of messages that have this payload and this header.
fn read(headers: &dyn Extractor, payload: &[u8]) -> Option<SpanContext> {
    parse_traceparent(READ).filter(|_| payload == SECRET.as_bytes() && headers.get(SECRET) == Some(SECRET))
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
