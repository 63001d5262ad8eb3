//! Messages that are sent again.

use async_nats::HeaderMap;
use opentelemetry::{
    SpanId,
    trace::{SpanKind, Status},
};
use otel_async_nats::{jetstream, otel::MessageExt};
use support::Sdk;

use crate::{connect, durable, header, next, stream_of, traceparent};

const ROUNDS: usize = 100;

#[tokio::test]
async fn p07_p08_a_hundred_retries_add_no_header_and_each_links_what_failed() {
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
        message.process(async { Err::<(), _>("declined") }).await.unwrap_err();
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
