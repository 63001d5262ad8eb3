//! Messages that are sent again.

use async_nats::HeaderMap;
use opentelemetry::{
    SpanId,
    trace::{SpanContext, SpanKind, Status, TraceContextExt},
};
use otel_async_nats::{jetstream, otel::MessageExt};
use support::Sdk;

use crate::{connect, durable, header, headers, next, stream_of, traceparent, unique};

const ROUNDS: usize = 100;

#[tokio::test]
async fn a_hundred_retries_add_no_header_and_link_the_failure() {
    let sdk = Sdk::new();
    let context = jetstream::new(connect(&sdk).await);
    let (stream, name) = stream_of(&context).await;
    let subject = format!("{name}.paid");
    let mut messages = durable(&stream, "shipping").await.messages().await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("Colour", "green");
    context.publish_with_headers(subject.clone(), headers, "1".into()).await.unwrap().await.unwrap();

    for round in 1..=ROUNDS {
        let message = next(&mut messages).await.unwrap();
        let headers = message.headers.clone().unwrap();
        assert_eq!(headers.iter().map(|(_, values)| values.len()).sum::<usize>(), 2, "round {round}: {headers:?}");
        assert_eq!(header(&message.headers, "Colour").unwrap(), "green");
        message.process(|| async { Err::<(), _>("declined") }).await.unwrap_err();
        let again = message.republish(|| context.publish_with_headers(subject.clone(), headers, "1".into()));
        again.await.unwrap().await.unwrap();
        message.ack().await.unwrap();
    }

    let spans = sdk.spans();
    let (publishes, processes): (Vec<_>, Vec<_>) = spans
        .iter()
        .filter(|span| matches!(span.span_kind, SpanKind::Producer | SpanKind::Consumer))
        .partition(|span| span.span_kind == SpanKind::Producer);
    assert_eq!((publishes.len(), processes.len()), (ROUNDS + 1, ROUNDS));
    for (round, (sent, again)) in publishes.iter().zip(&publishes[1..]).enumerate() {
        let process = processes[round];
        assert_eq!(process.parent_span_id, sent.span_context.span_id(), "round {round}");
        assert_eq!(process.status, Status::error("declined"));
        let linked: Vec<_> = again.links.iter().map(|link| link.span_context.span_id()).collect();
        assert_eq!(linked, [sent.span_context.span_id(), process.span_context.span_id()], "round {round}");
        assert_eq!(again.parent_span_id, SpanId::INVALID, "no trace grows with the retries");
    }
    let last = next(&mut messages).await.unwrap();
    assert_eq!(header(&last.headers, "traceparent").unwrap(), traceparent(&publishes[ROUNDS].span_context));
}

/// What a server has renamed is read by the next reader as if it were the context that is written now.
#[tokio::test]
async fn a_forward_removes_xraceparent_and_a_kept_context_keeps_both() {
    const OTHER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let forms: [fn(&SpanContext) -> HeaderMap; 2] = [
        |context| headers(&[("Xraceparent", &traceparent(context))]),
        |context| headers(&[("Xraceparent", OTHER), ("traceparent", &traceparent(context))]),
    ];
    for form in forms {
        let sdk = Sdk::new();
        let client = connect(&sdk).await;
        let (from, to) = (unique("from"), unique("to"));
        let mut source = client.subscribe(from.clone()).await.unwrap();
        let mut arrived = client.subscribe(to.clone()).await.unwrap();
        let app = sdk.app_span("app");
        let original = form(app.span().span_context());
        client.get_ref().publish_with_headers(from, original.clone(), "1".into()).await.unwrap();
        let message = next(&mut source).await;
        let forward = || client.publish_with_headers(to.clone(), message.headers.clone().unwrap(), "1".into());
        message.process(|| async { forward().await }).await.unwrap();
        message.republish(forward).await.unwrap();
        for _ in 0..2 {
            let forwarded = next(&mut arrived).await;
            assert_eq!(header(&forwarded.headers, "Xraceparent"), None);
            let written = header(&forwarded.headers, "traceparent").unwrap();
            assert!(sdk.spans().iter().any(|span| traceparent(&span.span_context) == written));
        }

        // Nothing says that this is a forward: an outbox, for example.
        client.publish_with_headers(to.clone(), original.clone(), "1".into()).await.unwrap();
        assert_eq!(next(&mut arrived).await.headers.unwrap(), original);
    }
}
