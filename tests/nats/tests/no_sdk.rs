//! Without an SDK, with one that comes late, sampled out and suppressed: a process of its own, because it walks through the
//! states of OpenTelemetry's globals.

use std::time::{Duration, Instant};

use brokers::Nats;
use futures::StreamExt;
use opentelemetry::{Context, global, trace::TraceContextExt};
use opentelemetry_sdk::trace::Sampler;
use otel_async_nats::{Client, HeaderMap, Subscriber, jetstream, otel::MessageExt};
use support::{DEADLINE, Sdk, w3c};

async fn round_trip(client: &Client, subscriber: &mut Subscriber) -> otel_async_nats::Message {
    client.publish("orders", "1".into()).await.unwrap();
    tokio::time::timeout(DEADLINE, subscriber.next()).await.unwrap().unwrap()
}

fn sampled_flag(headers: &HeaderMap) -> String {
    headers.get("traceparent").unwrap().as_str().rsplit('-').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_client_works_without_an_sdk_and_follows_one_that_comes_later() {
    let server = Nats::own().unwrap_or_else(|missing| panic!("{missing}"));
    let client = otel_async_nats::connect(&server.url).await.unwrap();
    let mut subscriber = client.subscribe("orders").await.unwrap();
    let context = jetstream::new(client.clone());
    let config = jetstream::stream::Config { name: "S".into(), subjects: vec!["s.>".into()], ..Default::default() };
    let stream = context.create_stream(config).await.unwrap();

    // Nothing is installed: the client's own behaviour, to the byte.
    for _ in 0..3 {
        let message = round_trip(&client, &mut subscriber).await;
        assert_eq!(message.headers, None);
        message.process(async {}).await;
    }
    assert_eq!(context.publish("s.1", "1".into()).await.unwrap().await.unwrap().sequence, 1);
    let consumer = stream
        .create_consumer(jetstream::consumer::pull::Config { durable_name: Some("d".into()), ..Default::default() })
        .await
        .unwrap();
    let mut batch = consumer.fetch().messages().await.unwrap();
    batch.next().await.unwrap().unwrap().double_ack().await.unwrap();
    let error = client.request("nobody", "".into()).await.unwrap_err();
    assert_eq!(error.kind(), otel_async_nats::RequestErrorKind::NoResponders);

    // It comes after the client was built and has sent.
    let sdk = Sdk::new();
    global::set_text_map_propagator(w3c());
    global::set_tracer_provider(sdk.provider());
    let deadline = Instant::now() + DEADLINE;
    while round_trip(&client, &mut subscriber).await.headers.is_none() || sdk.spans().is_empty() {
        assert!(Instant::now() < deadline, "the SDK is never found");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = sdk.spans().len();
    let message = round_trip(&client, &mut subscriber).await;
    assert_eq!(sampled_flag(message.headers.as_ref().unwrap()), "01");
    drop(message);
    assert_eq!(sdk.spans().len(), before + 2);

    // Suppressed: nothing is told and nothing is touched.
    {
        let _quiet = Context::enter_telemetry_suppressed_scope();
        let message = round_trip(&client, &mut subscriber).await;
        assert_eq!(message.headers, None);
        assert!(message.process_span().is_none());
    }
    assert_eq!(sdk.spans().len(), before + 2);

    // Sampled out: nothing is told, and the context says so to those who come next.
    let out = Sdk::with_sampler(Sampler::AlwaysOff);
    let client = client.with_instrumentation(out.instrumentation());
    let mut subscriber = client.subscribe("orders").await.unwrap();
    let message = round_trip(&client, &mut subscriber).await;
    assert_eq!(sampled_flag(message.headers.as_ref().unwrap()), "00");
    let creation = message.process_span().unwrap().creation().unwrap();
    let processing = message.otel_context().span().span_context().clone();
    assert_eq!((processing.trace_id(), processing.is_sampled()), (creation.trace_id(), false));
    assert!(context.with_instrumentation(out.instrumentation()).publish("s.2", "".into()).await.unwrap().await.is_ok());
    drop(message);
    assert_eq!(out.described(), "");
}
