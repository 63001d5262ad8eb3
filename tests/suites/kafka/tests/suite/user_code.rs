//! What users plug in: suppression, filters, hooks, and code that panics on librdkafka's own threads.

use std::{collections::BTreeSet, time::Duration};

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator, text_map_propagator::FieldIter},
    trace::TraceContextExt,
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use otel_rdkafka::{
    Message,
    consumer::{CommitMode, Consumer, StreamConsumer},
    message::{Header, OwnedHeaders},
    otel::{Instrumentation, MessageExt, Propagation, suppress_messaging},
    producer::{FutureProducer, FutureRecord},
};
use support::attribute;

use crate::harness::{Test, headers, traceparent};

/// One message there and back and committed, by clients of this instrumentation; its headers as they arrived.
async fn round_trip(test: &Test, instrumentation: &Instrumentation) -> Vec<(String, String)> {
    let producer: FutureProducer = test.config().create().unwrap();
    let producer = producer.with_instrumentation(instrumentation.clone());
    let own = OwnedHeaders::new().insert(Header { key: "tenant", value: Some("blue") });
    let record = FutureRecord::to(&test.topic).key("4711").payload("four apples").headers(own);
    producer.send(record, Duration::from_secs(5)).await.unwrap();
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    consumer.subscribe(&[&test.topic]).unwrap();
    let consumer = consumer.with_instrumentation(instrumentation.clone());
    let message = consumer.recv().await.unwrap();
    assert_eq!((message.payload(), message.key()), (Some(&b"four apples"[..]), Some(&b"4711"[..])));
    message.process(|| async {}).await;
    consumer.commit_message(&message, CommitMode::Sync).unwrap();
    headers(&message)
}

fn tenant() -> (String, String) {
    ("tenant".to_owned(), "blue".to_owned())
}

#[tokio::test]
async fn what_somebody_else_tells_of_is_left_alone() {
    let test = Test::new();
    let outer = test.sdk.app_span("publish");
    let headers = {
        use opentelemetry::trace::FutureExt;
        round_trip(&test, &test.sdk.all_signals_builder().build()).with_context(suppress_messaging(&outer)).await
    };
    outer.span().end();
    assert_eq!(headers, [tenant()]);
    assert_eq!(test.sdk.spans().len(), 1, "{}", test.described(1));
    assert_eq!(test.measured(), "");
}

#[tokio::test]
async fn what_is_filtered_hands_contexts_on_and_tells_nothing() {
    let test = Test::new();
    let topic = test.topic.clone();
    let builder = test.sdk.all_signals_builder().with_filter(move |operation| operation.destination() != Some(&topic));
    let request = test.sdk.app_span("request");
    let headers = {
        use opentelemetry::trace::FutureExt;
        round_trip(&test, &builder.build()).with_context(request.clone()).await
    };
    request.span().end();
    assert_eq!(headers, [tenant(), ("traceparent".to_owned(), traceparent(&test.span("request")))]);
    assert_eq!(test.sdk.spans().len(), 1, "{}", test.described(1));
    assert_eq!(test.measured(), "");
}

#[tokio::test]
async fn a_hook_adds_to_every_operation() {
    let test = Test::new();
    let builder = test.sdk.instrumentation_builder();
    let builder =
        builder.with_operation_hook(|operation, attributes| attributes.set("team", operation.name().to_owned()));
    round_trip(&test, &builder.build()).await;
    let team = |name| attribute(&test.span(name), "team").map(ToString::to_string);
    for (span, name) in [("send orders", "send"), ("process orders", "process"), ("commit orders", "commit")] {
        assert_eq!(team(span).as_deref(), Some(name));
    }
}

#[derive(Debug)]
struct Panics;

impl SpanProcessor for Panics {
    fn on_start(&self, _: &mut Span, _: &Context) {
        panic!("a processor, at the start");
    }

    // One that panicked here too would abort: the SDK calls it while the first panic unwinds.
    fn on_end(&self, _: SpanData) {}

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Only at the end, which for a send is on librdkafka's thread.
#[derive(Debug)]
struct PanicsAtTheEnd;

impl SpanProcessor for PanicsAtTheEnd {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, _: SpanData) {
        panic!("a processor, at the end");
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl TextMapPropagator for Panics {
    fn inject_context(&self, _: &Context, _: &mut dyn Injector) {
        panic!("a propagator that injects");
    }

    fn extract_with_context(&self, _: &Context, _: &dyn Extractor) -> Context {
        panic!("a propagator that extracts");
    }

    fn fields(&self) -> FieldIter<'_> {
        FieldIter::new(&[])
    }
}

const MESSAGES: usize = 20;

/// All of a producer's messages arrive, each once, and its threads live on.
async fn survives(what: &str, instrumentation: Instrumentation) {
    let test = Test::new();
    let producer: FutureProducer = test.config().create().unwrap();
    let producer = producer.with_instrumentation(instrumentation.clone());
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    consumer.subscribe(&[&test.topic]).unwrap();
    let consumer = consumer.with_instrumentation(instrumentation);
    let mut arrived = BTreeSet::new();
    for number in 0..MESSAGES {
        let payload = number.to_string();
        let own = OwnedHeaders::new().insert(Header { key: "tenant", value: Some("blue") });
        let record = FutureRecord::to(&test.topic).key("4711").payload(&payload).headers(own);
        let delivery = producer.send(record, Duration::from_secs(5)).await.unwrap();
        assert_eq!(delivery.offset, i64::try_from(number).unwrap(), "{what}");
        let message = consumer.recv().await.unwrap();
        assert_eq!(headers(&message)[0], tenant(), "{what}");
        arrived.insert(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
        message.process(|| async { Err::<(), _>("no stock") }).await.unwrap_err();
        consumer.commit_message(&message, CommitMode::Sync).unwrap();
    }
    assert_eq!(arrived.len(), MESSAGES, "{what}");
}

#[tokio::test]
async fn user_code_that_panics_loses_no_message_and_no_thread() {
    let test = Test::new();
    let with = || test.sdk.all_signals_builder();
    let processed_by = |processor: SdkTracerProvider| with().with_tracer_provider(processor);
    let at_the_start = SdkTracerProvider::builder().with_span_processor(Panics).build();
    let at_the_end = SdkTracerProvider::builder().with_span_processor(PanicsAtTheEnd).build();
    futures::join!(
        survives("processor at the start", processed_by(at_the_start).build()),
        survives("processor at the end", processed_by(at_the_end).build()),
        survives("propagator", with().with_propagation(Propagation::custom(Panics)).build()),
        survives("hook", with().with_operation_hook(|_, _| panic!("a hook")).build()),
        survives("filter", with().with_filter(|_| panic!("a filter")).build()),
        survives("template", with().with_destination_template(|_| panic!("a template")).build()),
        survives("error type", with().with_error_type(|_, _| panic!("an error type")).build()),
        survives(
            "redactor",
            with()
                .with_captured_headers(["*"])
                .with_kafka_captured_key(true)
                .with_redaction(|_, _| panic!("a redactor"))
                .build()
        ),
    );
}
