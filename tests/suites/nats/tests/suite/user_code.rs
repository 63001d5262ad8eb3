//! Code of the user's that telemetry calls: it may panic, turn operations off, or tell of them itself.

use async_nats::HeaderMap;
use every_broker::user_code::panicking;
use futures::StreamExt;
use opentelemetry::{Context, context::FutureExt};
use otel_async_nats::{
    jetstream,
    otel::{Creator, Instrumentation, MessageExt, suppress_messaging},
    service::ServiceExt,
};
use support::{Sdk, describe};

use crate::{connect, connect_with, durable, end, header, next, stream_of, unique, within};

#[tokio::test]
async fn no_message_is_lost_to_a_panic_and_the_client_lives() {
    for (whose, instrumentation) in panicking() {
        every_message_arrives(whose, instrumentation).await;
    }
}

async fn every_message_arrives(whose: &str, instrumentation: Instrumentation) {
    let client = connect_with(instrumentation).await;
    let subject = unique("orders");
    let mut subscriber = client.subscribe(subject.clone()).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("Colour", "green");
    client.publish_with_headers(subject.clone(), headers, "four apples".into()).await.unwrap();
    let message = next(&mut subscriber).await;
    assert_eq!(message.payload, "four apples", "{whose}");
    assert_eq!(header(&message.headers, "Colour").unwrap(), "green", "{whose}");
    assert_eq!(message.process(|| async { Err::<(), _>("sour") }).await, Err("sour"), "{whose}");
    drop(message);

    let stock = unique("stock");
    let service = client.service_builder().start("stock", "1.0.0").await.unwrap();
    let mut endpoint = service.endpoint(&stock).await.unwrap();
    let (reply, ()) = futures::join!(client.request(stock.clone(), "apples?".into()), async {
        let request = next(&mut endpoint).await;
        request.process(|| request.respond(Ok("four".into()))).await.unwrap();
    });
    assert_eq!(reply.unwrap().payload, "four", "{whose}");

    let context = jetstream::new(client.clone());
    let (stream, name) = stream_of(&context).await;
    context.publish(format!("{name}.paid"), "1".into()).await.unwrap().await.unwrap();
    let mut batch = durable(&stream, "shipping").await.fetch().messages().await.unwrap();
    let stored = next(&mut batch).await.unwrap();
    stored.double_ack().await.unwrap();
    assert_eq!(stored.payload, "1", "{whose}");
    assert!(batch.next().await.is_none());
    client.flush().await.unwrap();
}

#[tokio::test]
async fn whatever_the_client_does_inside_somebody_elses_span_has_none_of_its_own() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let outer = sdk.app_span("framework");
    let everything = async {
        let stock = unique("stock");
        let service = client.service_builder().start("stock", "1.0.0").await.unwrap();
        let mut endpoint = service.endpoint(&stock).await.unwrap();
        let (reply, ()) = futures::join!(client.request(stock.clone(), "apples?".into()), async {
            let request = next(&mut endpoint).await;
            assert_eq!(request.message.headers, None);
            request.process(|| request.respond(Ok("four".into()))).await.unwrap();
        });
        assert_eq!(reply.unwrap().payload, "four");

        let context = jetstream::new(client.clone());
        let (stream, name) = stream_of(&context).await;
        for _ in 0..4 {
            context.publish(format!("{name}.paid"), "1".into()).await.unwrap().await.unwrap();
        }
        let consumer = durable(&stream, "shipping").await;
        let mut batch = consumer.fetch().max_messages(2).messages().await.unwrap();
        let first = next(&mut batch).await.unwrap();
        assert_eq!(first.headers, None);
        first.process(|| first.ack()).await.unwrap();
        let (message, acker) = next(&mut batch).await.unwrap().split();
        acker.double_ack().await.unwrap();
        assert!(batch.next().await.is_none());
        drop((first, message, acker, batch));
        let mut messages = consumer.messages().await.unwrap();
        next(&mut messages).await.unwrap().ack_with(jetstream::AckKind::Term).await.unwrap();
        drop(next(&mut messages).await.unwrap());
        Creator::new(sdk.instrumentation()).create("orders", &mut std::collections::HashMap::new());
    };
    everything.with_context(suppress_messaging(&outer)).await;
    end(&outer);
    assert_eq!(sdk.spans().len(), 1, "{}", sdk.described());
}

/// The message was delivered before telemetry was suppressed.
#[tokio::test]
async fn a_settlement_that_somebody_else_tells_of_is_no_drop() {
    let sdk = Sdk::new();
    let context = jetstream::new(connect(&sdk).await);
    let (stream, name) = stream_of(&context).await;
    context.get_ref().publish(format!("{name}.paid"), "1".into()).await.unwrap().await.unwrap();
    let mut messages = durable(&stream, "shipping").await.messages().await.unwrap();
    let message = next(&mut messages).await.unwrap();
    within(&suppress_messaging(&Context::new()), || message.ack()).await.unwrap();
    drop(message);
    let spans = sdk.spans();
    let [process] = &spans[..] else { panic!("{}", describe(&spans)) };
    assert_eq!(support::attribute(process, "otel_messaging.settlement.outcome"), None);
}
