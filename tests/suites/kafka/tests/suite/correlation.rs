//! Parents, links and baggage; contexts that are in a message already.

use std::time::Duration;

use opentelemetry::{
    Context,
    propagation::{Injector, TextMapPropagator},
    trace::{FutureExt, TraceContextExt},
};
use otel_rdkafka::{
    Message,
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
