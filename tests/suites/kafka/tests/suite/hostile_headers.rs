//! Headers from the raw client that no instrumentation would write: the message always arrives, and nothing panics.
#![allow(unsafe_code, reason = "a header name that is not UTF-8 can only be written by librdkafka itself")]

use std::time::Duration;

use opentelemetry::trace::{TraceContextExt, TraceId};
use otel_rdkafka::{
    Message,
    consumer::{Consumer, StreamConsumer},
    message::{Header, Headers, OwnedHeaders},
    otel::MessageExt,
    producer::{BaseProducer, BaseRecord, Producer},
};
use rdkafka::bindings::rd_kafka_header_add;

use crate::harness::Test;

const FIRST: &str = "00-11111111111111111111111111111111-1111111111111111-01";
const SECOND: &str = "00-22222222222222222222222222222222-2222222222222222-01";

fn header(headers: OwnedHeaders, name: &str, value: Option<&[u8]>) -> OwnedHeaders {
    headers.insert(Header { key: name, value })
}

fn with(name: &str, value: Option<&[u8]>) -> OwnedHeaders {
    header(OwnedHeaders::new(), name, value)
}

/// A header whose name is any bytes.
fn named(headers: OwnedHeaders, name: &[u8], value: &[u8]) -> OwnedHeaders {
    let list = std::ptr::from_ref(headers.as_borrowed()).cast_mut().cast();
    // SAFETY: the list is alive and ours; name and value are copied, of the lengths given.
    unsafe {
        let (name_len, value_len) = (name.len().cast_signed(), value.len().cast_signed());
        rd_kafka_header_add(list, name.as_ptr().cast(), name_len, value.as_ptr().cast(), value_len);
    }
    headers
}

/// Sends with the raw client, receives with ours; the trace that the message is found to belong to.
async fn trace_of(headers: OwnedHeaders) -> TraceId {
    let test = Test::new();
    let count = headers.count();
    let producer: rdkafka::producer::BaseProducer = test.config().create().unwrap();
    producer.send(BaseRecord::<(), str>::to(&test.topic).payload("four apples").headers(headers)).unwrap();
    rdkafka::producer::Producer::flush(&producer, Duration::from_secs(10)).unwrap();
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    consumer.subscribe(&[&test.topic]).unwrap();
    let consumer = consumer.with_instrumentation(test.sdk.instrumentation());
    let message = consumer.recv().await.unwrap();
    assert_eq!(message.payload(), Some(&b"four apples"[..]));
    assert_eq!(message.headers().map(Headers::count), Some(count), "headers are shown as they arrived");
    assert_eq!(message.detach().headers().map(Headers::count), Some(count));
    message.process(|| async {}).await;
    let trace = message.otel_context().span().span_context().trace_id();
    drop(message);
    let spans = test.sdk.wait_for(1);
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].span_context.trace_id(), trace);
    // What was not understood is not linked either.
    assert_eq!(spans[0].links.len(), usize::from(trace == of(FIRST) || trace == of(SECOND)));
    trace
}

fn of(traceparent: &str) -> TraceId {
    TraceId::from_hex(&traceparent[3..35]).unwrap()
}

#[tokio::test]
async fn what_is_no_context_is_none() {
    let malformed: [&[u8]; 8] = [
        b"",
        b"garbage",
        b"00-00000000000000000000000000000000-1111111111111111-01",
        b"00-11111111111111111111111111111111-1111111111111111",
        b"zz-11111111111111111111111111111111-1111111111111111-01",
        &[0xff, 0xfe, 0x00],
        b"cc-11111111111111111111111111111111-1111111111111111-01-\xff",
        &[b'0'; 65_536],
    ];
    for value in malformed {
        let trace = trace_of(with("traceparent", Some(value))).await;
        assert_ne!(trace, of(FIRST), "{value:?}");
    }
    assert_ne!(trace_of(with("traceparent", None)).await, of(FIRST));
}

#[tokio::test]
async fn of_several_the_last_counts() {
    let both = header(with("traceparent", Some(FIRST.as_bytes())), "traceparent", Some(SECOND.as_bytes()));
    assert_eq!(trace_of(both).await, of(SECOND));
    let nulled = header(with("traceparent", Some(FIRST.as_bytes())), "traceparent", None);
    assert_ne!(trace_of(nulled).await, of(FIRST));
}

#[tokio::test]
async fn any_letter_case_is_found() {
    for name in ["Traceparent", "TRACEPARENT", "TraceParent"] {
        assert_eq!(trace_of(with(name, Some(FIRST.as_bytes()))).await, of(FIRST), "{name}");
    }
    // Not the same name.
    assert_ne!(trace_of(with("xraceparent", Some(FIRST.as_bytes()))).await, of(FIRST));
}

#[tokio::test]
async fn header_names_that_are_not_text_disturb_nothing() {
    let before = named(OwnedHeaders::new(), &[0xff, 0xfe], b"x");
    let around = named(header(before, "traceparent", Some(FIRST.as_bytes())), &[0xc3, 0x28], &[0xff]);
    assert_eq!(trace_of(around).await, of(FIRST));
    let zero = named(OwnedHeaders::new(), b"", b"x");
    assert_eq!(trace_of(header(zero, "traceparent", Some(FIRST.as_bytes()))).await, of(FIRST));
}

#[tokio::test]
async fn other_headers_of_the_context_may_be_anything() {
    for (name, value) in [
        ("tracestate", &[0xff_u8; 3][..]),
        ("tracestate", &[b'='; 65_536]),
        ("baggage", b"=,;%zz"),
        ("baggage", &[b'a'; 65_536]),
    ] {
        let headers = header(with("traceparent", Some(FIRST.as_bytes())), name, Some(value));
        assert_eq!(trace_of(headers).await, of(FIRST), "{name}");
    }
}

#[test]
fn what_cannot_be_read_can_be_sent_on() {
    let test = Test::new();
    let producer: BaseProducer = test.config().create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    let hostile = || {
        let names = named(OwnedHeaders::new(), &[0xff, 0xfe], b"x");
        named(header(names, "traceparent", None), b"", &[0xff])
    };
    producer.send(BaseRecord::<(), str>::to(&test.topic).payload("x").headers(hostile())).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    // The broken traceparent is replaced, the others are as they were.
    let wire = &test.on_the_wire(1)[0];
    let headers = wire.headers().unwrap();
    assert_eq!(headers.count(), 3);
    assert_eq!(headers.get(2).key, "traceparent");
    assert!(test.described(1).contains("kind PRODUCER"));
}
