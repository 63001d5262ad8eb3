//! Headers that nobody should write: the message arrives as it is, and nothing panics.

use std::time::{Duration, Instant};

use futures::StreamExt;
use otel_async_nats::{
    jetstream,
    otel::{MessageExt, ReceivedMessage},
};
use support::Sdk;

use crate::{connect, durable, next, raw_tcp::Publisher, round_trip, stream_of, unique};

const FIRST: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const LAST: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-03";

/// Header lines, and the span that the process span is a child of.
fn cases() -> Vec<(String, Option<&'static str>)> {
    let of_first = Some("00f067aa0ba902b7");
    let of_last = Some("00f067aa0ba902b8");
    let long = "x".repeat(64 * 1024);
    vec![
        (format!("traceparent: {FIRST}\r\n"), of_first),
        (format!("Traceparent: {FIRST}\r\n"), of_first),
        (format!("TRACEPARENT: {FIRST}\r\n"), of_first),
        (format!("Xraceparent: {FIRST}\r\n"), of_first),
        (format!("Xraceparent: {FIRST}\r\ntraceparent: {LAST}\r\n"), of_last),
        (format!("traceparent: {FIRST}\r\ntraceparent: {LAST}\r\n"), of_last),
        (format!("Traceparent: {FIRST}\r\ntraceparent: {LAST}\r\n"), of_last),
        (format!("traceparent: {FIRST}\r\ntraceparent: garbage\r\n"), None),
        (format!("traceparent:{FIRST}\r\n"), of_first),
        (format!("traceparent: {FIRST}\r\ntracestate: \r\nbaggage: \r\n"), of_first),
        (format!("traceparent: {FIRST}\r\ntracestate: ,,=,\r\nbaggage: ;=;%zz=%ff\r\n"), of_first),
        ("traceparent: \r\n".to_owned(), None),
        ("traceparent: garbage\r\n".to_owned(), None),
        ("traceparent: 00-00000000000000000000000000000000-0000000000000000-01\r\n".to_owned(), None),
        (format!("traceparent: {long}\r\n"), None),
        (format!("traceparent: {FIRST}\r\nbaggage: k={long}\r\ntracestate: k={long}\r\n"), of_first),
        ("traceparent: \u{1F34E}\r\n".to_owned(), None),
    ]
}

#[tokio::test]
async fn every_message_arrives_with_the_headers_it_was_sent_with() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("orders");
    let mut subscriber = client.subscribe(subject.clone()).await.unwrap();
    let mut raw = client.get_ref().subscribe(subject.clone()).await.unwrap();
    // The messages come by another connection.
    round_trip(&client).await;
    let mut publisher = Publisher::connect().await;
    for (number, (lines, parent)) in cases().into_iter().enumerate() {
        publisher.publish(&subject, lines.as_bytes(), b"four apples").await;
        let message = next(&mut subscriber).await;
        let same = next(&mut raw).await;
        let shown = &lines[..lines.len().min(80)];
        assert_eq!((&message.payload, &message.headers), (&same.payload, &same.headers), "{shown}");
        message.in_scope(|| ());
        drop(message);
        let spans = sdk.spans();
        assert_eq!(spans.len(), number + 1, "{shown}");
        let process = spans.last().unwrap();
        let expected = parent.map_or(opentelemetry::SpanId::INVALID, |id| opentelemetry::SpanId::from_hex(id).unwrap());
        assert_eq!(process.parent_span_id, expected, "{shown}");
        assert_eq!(process.links.len(), usize::from(parent.is_some()), "{shown}");
    }
}

#[tokio::test]
async fn of_stored_messages_too() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let context = jetstream::new(client);
    let (stream, name) = stream_of(&context).await;
    let subject = format!("{name}.paid");
    let mut publisher = Publisher::connect().await;
    // No server stores headers of 64 KiB.
    let cases: Vec<_> = cases().into_iter().filter(|(lines, _)| lines.len() < 64 * 1024).collect();
    assert!(cases.len() > 12);
    for (lines, _) in &cases {
        publisher.publish(&subject, lines.as_bytes(), b"four apples").await;
    }
    let mut messages = durable(&stream, "shipping").await.messages().await.unwrap();
    for (number, (_, parent)) in cases.into_iter().enumerate() {
        let message = next(&mut messages).await.unwrap();
        assert_eq!(message.payload, "four apples");
        message.ack().await.unwrap();
        drop(message);
        let spans = sdk.spans();
        assert_eq!(spans.len(), 2 * (number + 1));
        let process = spans.iter().rfind(|span| span.name.starts_with("process")).unwrap();
        assert_eq!(process.links.len(), usize::from(parent.is_some()));
    }
}

/// async-nats gives up the connection for bytes that are not UTF-8, and makes it anew. So it is with us.
#[tokio::test]
async fn what_the_client_cannot_read_costs_the_connection_and_no_more() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let mut publisher = Publisher::connect().await;
    let later = b"traceparent: cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-\xff\r\n".as_slice();
    for lines in [b"traceparent: \xff\xfe\r\n".as_slice(), b"trace\xffparent: x\r\n", later] {
        let subject = unique("orders");
        let mut subscriber = client.subscribe(subject.clone()).await.unwrap();
        round_trip(&client).await;
        publisher.publish(&subject, lines, b"lost").await;
        let deadline = Instant::now() + support::DEADLINE;
        let message = loop {
            publisher.publish(&subject, format!("traceparent: {FIRST}\r\n").as_bytes(), b"found").await;
            match tokio::time::timeout(Duration::from_millis(200), subscriber.next()).await {
                Ok(message) => break message.unwrap(),
                Err(_) => assert!(Instant::now() < deadline, "it never came back"),
            }
        };
        assert_eq!(message.payload, "found");
        assert_eq!(message.process_span().unwrap().creation().unwrap().span_id().to_string(), "00f067aa0ba902b7");
    }
}
