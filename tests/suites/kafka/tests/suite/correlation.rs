//! Parents, links and baggage; contexts that are in a message already.

use std::time::Duration;

use opentelemetry::{
    Context, KeyValue,
    baggage::BaggageExt,
    propagation::{Injector, TextMapPropagator},
    trace::{FutureExt, SpanKind, TraceContextExt},
};
use opentelemetry_sdk::trace::SpanData;
use otel_rdkafka::{
    Message,
    consumer::{Consumer, StreamConsumer},
    message::{Header, OwnedHeaders},
    otel::{HeaderInjector, MessageExt},
    producer::{FutureProducer, FutureRecord},
};
use support::w3c;

use crate::harness::{Test, headers, traceparent};

fn producer(test: &Test) -> FutureProducer {
    let producer: FutureProducer = test.config().create().unwrap();
    producer.with_instrumentation(test.sdk.instrumentation())
}

fn consumer(test: &Test) -> StreamConsumer {
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    consumer.subscribe(&[&test.topic]).unwrap();
    consumer.with_instrumentation(test.sdk.instrumentation())
}

async fn send(test: &Test, headers: Option<OwnedHeaders>, cx: &Context) {
    let producer = producer(test);
    let send = {
        let _attached = cx.clone().attach();
        let record: FutureRecord<'_, (), str> =
            FutureRecord { headers, ..FutureRecord::to(&test.topic).payload("four apples") };
        producer.send(record, Duration::from_secs(5))
    };
    send.with_context(Context::new()).await.unwrap();
}

fn injected(cx: &Context) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new().insert(Header { key: "tenant", value: Some("blue") });
    w3c().inject_context(cx, &mut HeaderInjector(&mut headers));
    headers
}

fn is_child_of(child: &SpanData, parent: &SpanData) -> bool {
    child.parent_span_id == parent.span_context.span_id()
        && child.span_context.trace_id() == parent.span_context.trace_id()
}

fn links(span: &SpanData) -> Vec<opentelemetry::SpanId> {
    span.links.iter().map(|link| link.span_context.span_id()).collect()
}

#[tokio::test]
async fn one_request_is_one_trace_and_its_baggage_arrives() {
    let test = Test::new();
    let cx = test.sdk.app_span("request").with_baggage([KeyValue::new("tenant.id", "blue")]);
    send(&test, None, &cx).await;
    cx.span().end();
    let consumer = consumer(&test);
    let message = consumer.recv().await.unwrap();
    let names: Vec<_> = headers(&message).into_iter().map(|(name, value)| (name, value.len())).collect();
    assert_eq!(names, [("traceparent".to_owned(), 55), ("baggage".to_owned(), 14)]);
    let baggage = message.otel_context().baggage().get("tenant.id").map(ToString::to_string);
    assert_eq!(baggage.as_deref(), Some("blue"));
    drop(message);
    let (request, sent, process) = (test.span("request"), test.span("send orders"), test.span("process orders"));
    assert!(is_child_of(&sent, &request));
    assert!(is_child_of(&process, &sent));
    assert_eq!(links(&process), [sent.span_context.span_id()]);
}

#[tokio::test]
async fn a_context_stored_earlier_is_kept_and_linked() {
    let test = Test::new();
    // Written to an outbox by another request; sent by a relay.
    let stored = test.sdk.app_span("order");
    stored.span().end();
    let relay = test.sdk.app_span("relay");
    send(&test, Some(injected(&stored)), &relay).await;
    relay.span().end();
    let (order, sent) = (test.span("order"), test.span("send orders"));
    assert_eq!(sent.span_kind, SpanKind::Client);
    assert!(is_child_of(&sent, &test.span("relay")));
    assert_eq!(links(&sent), [order.span_context.span_id()]);
    let wire = &test.on_the_wire(1)[0];
    let expected = [("tenant".to_owned(), "blue".to_owned()), ("traceparent".to_owned(), traceparent(&order))];
    assert_eq!(headers(wire), expected);
    let consumer = consumer(&test);
    drop(consumer.recv().await.unwrap());
    assert!(is_child_of(&test.span("process orders"), &order));
}

#[tokio::test]
async fn a_hand_written_injection_is_replaced_and_linked() {
    let test = Test::new();
    let request = test.sdk.app_span("request");
    send(&test, Some(injected(&request)), &request).await;
    request.span().end();
    let (request, sent) = (test.span("request"), test.span("send orders"));
    assert_eq!(sent.span_kind, SpanKind::Producer);
    assert_eq!(links(&sent), [request.span_context.span_id()]);
    let wire = &test.on_the_wire(1)[0];
    let expected = [("tenant".to_owned(), "blue".to_owned()), ("traceparent".to_owned(), traceparent(&sent))];
    assert_eq!(headers(wire), expected);
}

#[tokio::test]
async fn a_forwarded_message_gets_the_forwarders_context() {
    let test = Test::new();
    let target = Test::with_sdk(test.sdk.clone());
    send(&test, Some(OwnedHeaders::new().insert(Header { key: "tenant", value: Some("blue") })), &Context::new()).await;
    let first = test.span("send orders");
    let consumer = consumer(&test);
    let message = consumer.recv().await.unwrap();
    let forwarded = message.headers().map(otel_rdkafka::message::BorrowedHeaders::detach);
    message
        .process(|| async {
            let cx = Context::current();
            send(&target, forwarded, &cx).await;
        })
        .await;
    drop(message);
    let (process, second) = (test.span("process orders"), target.span("send orders"));
    assert!(is_child_of(&process, &first));
    assert!(is_child_of(&second, &process));
    assert_eq!(second.span_kind, SpanKind::Producer);
    assert_eq!(links(&second), [first.span_context.span_id()]);
    let wire = &target.on_the_wire(1)[0];
    let expected = [("tenant".to_owned(), "blue".to_owned()), ("traceparent".to_owned(), traceparent(&second))];
    assert_eq!(headers(wire), expected);
}

#[tokio::test]
async fn context_headers_of_any_case_and_number_are_replaced_by_one() {
    let test = Test::new();
    let request = test.sdk.app_span("request");
    let mut own = OwnedHeaders::new();
    for name in ["traceparent", "TraceParent", "TRACEPARENT"] {
        let mut one = OwnedHeaders::new();
        w3c().inject_context(&request, &mut HeaderInjector(&mut one));
        let value = otel_rdkafka::message::Headers::get(&one, 0).value.unwrap().to_vec();
        own = own.insert(Header { key: name, value: Some(&value) });
    }
    HeaderInjector(&mut own).set("tracestate", "a=1".to_owned());
    send(&test, Some(own), &request).await;
    request.span().end();
    let wire = &test.on_the_wire(1)[0];
    // And the old tracestate went with the old traceparent.
    assert_eq!(headers(wire), [("traceparent".to_owned(), traceparent(&test.span("send orders")))]);
}
