//! What a stream, or its consumer, says of a message beyond where it is.

use opentelemetry_sdk::trace::SpanData;
use otel_async_nats::{
    jetstream::{self, consumer::pull},
    otel::{AutoCorrelation, Correlation, MessageExt},
};
use support::{Sdk, attribute, describe};

use crate::{connect, connect_with, headers, next, stream_of, unique};

fn text(span: &SpanData, key: &str) -> Option<String> {
    attribute(span, key).map(ToString::to_string)
}

#[tokio::test]
async fn only_a_publish_of_a_stored_message_is_a_duplicate() {
    let sdk = Sdk::new();
    let context = jetstream::new(connect(&sdk).await);
    let (_stream, name) = stream_of(&context).await;
    let publish = async |id: &str| {
        let headers = headers(&[("Nats-Msg-Id", id)]);
        let stored = context.publish_with_headers(format!("{name}.paid"), headers, "1".into()).await.unwrap();
        stored.await.unwrap();
        let publish = sdk.spans().pop().unwrap();
        let said = ["messaging.nats.publish.duplicate", "messaging.nats.message.stream_sequence"];
        said.map(|key| text(&publish, key))
    };
    let said = |duplicate: Option<&str>, sequence: &str| [duplicate.map(str::to_owned), Some(sequence.to_owned())];
    assert_eq!(publish("one").await, said(None, "1"));
    assert_eq!(publish("one").await, said(Some("true"), "1"));
    assert_eq!(publish("two").await, said(None, "2"));
}

#[tokio::test]
async fn a_message_without_its_body_has_its_bodys_size() {
    let sdk = Sdk::new();
    let instrumentation = sdk.instrumentation_builder().with_captured_sizes(true).with_receive_spans(true).build();
    let context = jetstream::new(connect_with(instrumentation).await);
    let (stream, name) = stream_of(&context).await;
    let config = pull::Config { durable_name: Some("sizes".to_owned()), headers_only: true, ..Default::default() };
    let consumer = stream.create_consumer(config).await.unwrap();
    let whole = pull::Config { durable_name: Some("whole".to_owned()), ..Default::default() };
    let whole = stream.create_consumer(whole).await.unwrap();
    // A sender may write whatever into a header; what the server says goes over it, and is asked of it alone.
    let misleading = headers(&[("Nats-Msg-Size", "4711")]);
    let raw = context.get_ref();
    raw.publish_with_headers(format!("{name}.paid"), misleading, "four apples".into()).await.unwrap().await.unwrap();

    let mut messages = consumer.messages().await.unwrap();
    let message = next(&mut messages).await.unwrap();
    assert_eq!(message.payload, "");
    message.ack().await.unwrap();
    drop((message, messages));
    let mut batch = consumer.fetch().max_messages(1).messages().await.unwrap();
    assert!(futures::StreamExt::next(&mut batch).await.is_none());
    next(&mut whole.messages().await.unwrap()).await.unwrap().ack().await.unwrap();
    let spans = sdk.spans();
    let sizes = |name: &str| {
        let of_name = spans.iter().filter(|span| span.name.starts_with(name));
        of_name.map(|span| text(span, "messaging.message.body.size")).collect::<Vec<_>>()
    };
    let eleven = || Some("11".to_owned());
    assert_eq!(sizes("process"), [eleven(), eleven()], "{}", describe(&spans));
    assert_eq!(sizes("fetch")[..1], [eleven()], "{}", describe(&spans));
}

/// A message that a server of 2.12 or newer has stored by itself at the time that its sender asked for.
#[tokio::test]
async fn a_scheduled_message_has_no_queue_time_and_starts_a_new_trace() {
    let sdk = Sdk::new();
    let auto = Correlation::Auto(AutoCorrelation::default());
    let context = jetstream::new(connect_with(sdk.all_signals_builder().with_correlation(auto).build()).await);
    let name = unique("S");
    let stream = serde_json::json!({
        "name": name, "subjects": [format!("{name}.>")], "allow_msg_schedules": true, "storage": "memory"
    });
    let created: serde_json::Value = context.request(format!("STREAM.CREATE.{name}"), &stream).await.unwrap();
    assert_eq!(created["config"]["allow_msg_schedules"], true, "{created}");
    let stream = context.get_stream(&name).await.unwrap();
    let config = pull::Config { filter_subject: format!("{name}.due"), ..Default::default() };
    let mut messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();

    // What is due already is sent at once.
    let due = format!("{name}.due");
    let schedule = headers(&[("Nats-Schedule", "@at 2026-01-01T00:00:00Z"), ("Nats-Schedule-Target", &due)]);
    let stored = context.publish_with_headers(format!("{name}.later"), schedule, "pay".into()).await.unwrap();
    stored.await.unwrap();
    let message = next(&mut messages).await.unwrap();
    assert_eq!(message.payload, "pay");
    message.process(|| async { message.ack().await }).await.unwrap();
    drop(message);

    let spans = sdk.spans();
    let [publish, process, ack] = &spans[..] else { panic!("{}", describe(&spans)) };
    assert_eq!(process.parent_span_id, opentelemetry::SpanId::INVALID, "{}", describe(&spans));
    let linked: Vec<_> = process.links.iter().map(|link| link.span_context.span_id()).collect();
    assert_eq!(linked, [publish.span_context.span_id()]);
    assert_eq!(ack.parent_span_id, process.span_context.span_id());
    let measured = sdk.measured();
    assert!(measured.contains("messaging.process.duration") && !measured.contains("queue_time"), "{measured}");
}
