//! What goes wrong: the client's own error comes back unchanged, and the span tells it.

use std::{fmt::Display, time::Duration};

use async_nats::HeaderMap;
use brokers::Nats;
use futures::StreamExt;
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::trace::SpanData;
use otel_async_nats::{
    Client, ConnectOptions, Request,
    client::{PublishErrorKind, RequestErrorKind},
    jetstream::{self, context, message::PublishMessage},
};
use support::{DEADLINE, Sdk, attribute, describe};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    time::{Instant, timeout},
};

use crate::{connect, durable, header, next, stream_of, unique};

/// A server of this test's own, with more configuration.
fn own(config: &str) -> Nats {
    Nats::own_with(config).unwrap_or_else(|missing| panic!("{missing}"))
}

async fn connect_to(server: &Nats, sdk: &Sdk) -> Client {
    ConnectOptions::new().with_instrumentation(sdk.instrumentation()).connect(&server.url).await.unwrap()
}

/// Takes the only span there is, and checks that it says this error and nothing else.
#[track_caller]
fn failed(sdk: &Sdk, name: &str, error_type: &str, error: &impl Display) -> SpanData {
    let mut spans = sdk.spans();
    assert_eq!(spans.len(), 1, "{}", describe(&spans));
    let span = spans.remove(0);
    assert_eq!(span.name, name);
    assert_eq!(attribute(&span, "error.type").expect("failed").to_string(), error_type);
    assert_eq!(span.status, Status::error(error.to_string()));
    span
}

#[tokio::test]
async fn nobody_responds() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("stock");
    let error = client.request(subject.clone(), "1".into()).await.unwrap_err();
    let raw = client.get_ref().request(subject.clone(), "1".into()).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (RequestErrorKind::NoResponders, raw.to_string()));
    failed(&sdk, &format!("request {subject}"), "no_responders", &error);
}

#[tokio::test]
async fn a_reply_does_not_come_in_time() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("stock");
    let _silent = client.get_ref().subscribe(subject.clone()).await.unwrap();
    let request = || Request::new().payload("1".into()).timeout(Some(Duration::from_millis(30)));
    let error = client.send_request(subject.clone(), request()).await.unwrap_err();
    let raw = client.get_ref().send_request(subject.clone(), request()).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (RequestErrorKind::TimedOut, raw.to_string()));
    failed(&sdk, &format!("request {subject}"), "timed_out", &error);
}

#[tokio::test]
async fn no_stream_listens() {
    let sdk = Sdk::new();
    let context = jetstream::new(connect(&sdk).await);
    let subject = unique("orders");
    let error = context.publish(subject.clone(), "1".into()).await.unwrap().await.unwrap_err();
    assert_eq!(error.kind(), context::PublishErrorKind::StreamNotFound);
    let span = failed(&sdk, &format!("publish {subject}"), "stream_not_found", &error);
    assert_eq!(attribute(&span, "messaging.nats.stream.name"), None);
}

#[tokio::test]
async fn a_publish_that_the_stream_refuses_fails() {
    let sdk = Sdk::new();
    let context = jetstream::new(connect(&sdk).await);
    let (_stream, name) = stream_of(&context).await;
    let subject = format!("{name}.paid");
    let message = || PublishMessage::build().expected_last_sequence(17);
    let error = context.send_publish(subject.clone(), message()).await.unwrap().await.unwrap_err();
    let raw = context.get_ref().send_publish(subject.clone(), message()).await.unwrap().await.unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (context::PublishErrorKind::WrongLastSequence, raw.to_string()));
    failed(&sdk, &format!("publish {subject}"), "wrong_last_sequence", &error);
}

#[tokio::test]
async fn a_subject_is_none() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let error = client.publish("not a subject", "1".into()).await.unwrap_err();
    let raw = client.get_ref().publish("not a subject", "1".into()).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (PublishErrorKind::InvalidSubject, raw.to_string()));
    failed(&sdk, "publish not a subject", "invalid_subject", &error);

    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let error = client.publish_with_reply("orders", "not a subject", "1".into()).await.unwrap_err();
    assert_eq!(error.kind(), PublishErrorKind::InvalidSubject);
    failed(&sdk, "publish orders", "invalid_subject", &error);
}

#[tokio::test]
async fn a_message_is_too_large() {
    let server = own("max_payload: 1024");
    let sdk = Sdk::new();
    let client = connect_to(&server, &sdk).await;
    let error = client.publish("orders", vec![0; 1025].into()).await.unwrap_err();
    let raw = client.get_ref().publish("orders", vec![0; 1025].into()).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (PublishErrorKind::MaxPayloadExceeded, raw.to_string()));
    failed(&sdk, "publish orders", "max_payload_exceeded", &error);

    let sdk = Sdk::new();
    let client = connect_to(&server, &sdk).await;
    let error = client.request("orders", vec![0; 1025].into()).await.unwrap_err();
    assert_eq!(error.kind(), RequestErrorKind::MaxPayloadExceeded);
    failed(&sdk, "request orders", "max_payload_exceeded", &error);

    let sdk = Sdk::new();
    let context = jetstream::new(connect_to(&server, &sdk).await);
    let error = context.publish("orders", vec![0; 1025].into()).await.unwrap_err();
    assert_eq!(error.kind(), context::PublishErrorKind::MaxPayloadExceeded);
    failed(&sdk, "publish orders", "max_payload_exceeded", &error);
}

/// `NATS/1.0`, `traceparent: ` and its value, two empty lines.
const INJECTED: usize = 12 + 11 + 55 + 4;

#[tokio::test]
async fn a_message_that_would_be_too_large_with_a_context_goes_without() {
    let server = own("max_payload: 1024");
    let sdk = Sdk::new();
    let client = connect_to(&server, &sdk).await;
    let mut arriving = client.get_ref().subscribe("orders").await.unwrap();
    for (size, carried) in [(1024 - INJECTED, true), (1024 - INJECTED + 1, false), (1024, false)] {
        client.publish("orders", vec![b'x'; size].into()).await.unwrap();
        let message = next(&mut arriving).await;
        assert_eq!(message.payload, vec![b'x'; size]);
        assert_eq!(message.headers.is_some(), carried, "{size}");
        let kind = if carried { SpanKind::Producer } else { SpanKind::Client };
        assert_eq!(sdk.spans().last().unwrap().span_kind, kind, "{size}");
    }

    // `Colour: green` and the preamble are there already.
    let headers = || {
        let mut headers = HeaderMap::new();
        headers.insert("Colour", "green");
        headers
    };
    let room = 1024 - INJECTED - (6 + 5 + 4);
    for (size, carried) in [(room, true), (room + 1, false)] {
        client.publish_with_headers("orders", headers(), vec![b'x'; size].into()).await.unwrap();
        let message = next(&mut arriving).await;
        assert_eq!(message.payload.len(), size);
        assert_eq!(header(&message.headers, "Colour").unwrap(), "green");
        assert_eq!(header(&message.headers, "traceparent").is_some(), carried, "{size}");
    }

    let twice = client.clone().with_header_case(otel_async_nats::otel::HeaderCase::Both);
    let twice_as_much = 2 * INJECTED - 12;
    for (size, carried) in [(1024 - twice_as_much, true), (1024 - twice_as_much + 1, false)] {
        twice.publish("orders", vec![b'x'; size].into()).await.unwrap();
        assert_eq!(next(&mut arriving).await.headers.is_some(), carried, "{size}");
    }

    let context = jetstream::new(client.clone());
    let config = jetstream::stream::Config { name: "S".into(), subjects: vec!["s".into()], ..Default::default() };
    let stream = context.create_stream(config).await.unwrap();
    context.publish("s", vec![b'x'; 1024].into()).await.unwrap().await.unwrap();
    assert_eq!(stream.get_raw_message(1).await.unwrap().payload.len(), 1024);
    let mut requests = client.get_ref().subscribe("r").await.unwrap();
    let (reply, ()) = tokio::join!(client.request("r", vec![b'x'; 1024].into()), async {
        let request = next(&mut requests).await;
        assert_eq!((request.payload.len(), request.headers), (1024, None));
        client.get_ref().publish(request.reply.unwrap(), "".into()).await.unwrap();
    });
    reply.unwrap();
    assert!(sdk.spans().iter().all(|span| span.status == Status::Unset));
}

/// A stream's limit is its own: only the application can know it.
#[tokio::test]
async fn a_message_that_a_stream_would_refuse_with_a_context_goes_without() {
    let sdk = Sdk::new();
    let unlimited = jetstream::new(connect(&sdk).await);
    let name = unique("S");
    let config = jetstream::stream::Config {
        name: name.clone(),
        subjects: vec![name.clone()],
        max_message_size: 1024,
        ..Default::default()
    };
    let stream = unlimited.create_stream(config).await.unwrap();
    let refused = unlimited.publish(name.clone(), vec![b'x'; 1024 - INJECTED + 1].into()).await.unwrap();
    refused.await.expect_err("what the limit is named for");

    let sdk = Sdk::new();
    let context = jetstream::new(connect(&sdk).await.with_message_limit(1024));
    let sizes = [(1, 1024 - INJECTED, true), (2, 1024 - INJECTED + 1, false), (3, 1024, false)];
    for (sequence, size, carried) in sizes {
        let publish = context.publish(name.clone(), vec![b'x'; size].into());
        assert_eq!(publish.await.unwrap().await.unwrap().sequence, sequence);
        let stored = stream.get_raw_message(sequence).await.unwrap();
        assert_eq!((stored.payload.len(), stored.headers.is_empty()), (size, !carried));
        let kind = if carried { SpanKind::Producer } else { SpanKind::Client };
        assert_eq!(sdk.spans().last().unwrap().span_kind, kind, "{size}");
    }
    let raw = context.get_ref().publish(name.clone(), vec![b'x'; 1025].into()).await.unwrap().await.unwrap_err();
    let error = context.publish(name, vec![b'x'; 1025].into()).await.unwrap().await.unwrap_err();
    assert_eq!(error.to_string(), raw.to_string(), "the limit itself refuses nothing");
}

/// The server tells it only after the client has stopped to listen.
#[tokio::test]
async fn a_message_that_an_account_may_not_send_with_a_context_goes_without() {
    let server = own("accounts { A: { users: [{ user: a, password: a }], limits: { max_payload: 1024 } } }");
    let sdk = Sdk::new();
    let options = ConnectOptions::with_user_and_password("a".into(), "a".into());
    let options = options.with_message_limit(1024).with_instrumentation(sdk.instrumentation());
    let client = options.connect(&server.url).await.unwrap();
    assert_eq!(client.max_payload(), 1024 * 1024);
    let mut arriving = client.get_ref().subscribe("orders").await.unwrap();
    for (size, carried) in [(1024 - INJECTED, true), (1024 - INJECTED + 1, false), (1024, false)] {
        client.publish("orders", vec![b'x'; size].into()).await.unwrap();
        assert_eq!(next(&mut arriving).await.headers.is_some(), carried, "{size}");
    }
}

/// `Padding: x…`, so that the message's own headers take so many bytes on the wire.
fn padded(length: usize) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Padding", "x".repeat(length - 12 - (7 + 4)));
    headers
}

#[tokio::test]
async fn headers_that_a_stream_would_refuse_with_a_context_go_without() {
    let sdk = Sdk::new();
    let context = jetstream::new(connect(&sdk).await);
    let (stream, name) = stream_of(&context).await;
    let subject = format!("{name}.paid");
    let room = 65_535 - (INJECTED - 12);
    for (sequence, length, carried) in [(1, room, true), (2, room + 1, false), (3, 65_535, false)] {
        let publish = context.publish_with_headers(subject.clone(), padded(length), "".into());
        assert_eq!(publish.await.unwrap().await.unwrap().sequence, sequence);
        let stored = stream.get_raw_message(sequence).await.unwrap();
        assert_eq!(stored.headers.get("traceparent").is_some(), carried, "{length}");
        let kind = if carried { SpanKind::Producer } else { SpanKind::Client };
        assert_eq!(sdk.spans().last().unwrap().span_kind, kind, "{length}");
    }
    let raw = context.get_ref().publish_with_headers(subject, padded(65_536), "".into()).await.unwrap();
    raw.await.expect_err("no stream takes more");
}

/// nats-server itself refuses this client when it is configured so.
#[tokio::test]
async fn a_server_without_headers_gets_none() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let mut connection = BufReader::new(listener.accept().await.unwrap().0);
        let info = r#"{"server_id":"old","version":"2.1.9","max_payload":1048576,"headers":false}"#;
        connection.write_all(format!("INFO {info}\r\n").as_bytes()).await.unwrap();
        let mut line = String::new();
        while !line.contains("PUB") {
            line.clear();
            connection.read_line(&mut line).await.unwrap();
            if line == "PING\r\n" {
                connection.write_all(b"PONG\r\n").await.unwrap();
            }
        }
        line
    });
    let sdk = Sdk::new();
    let options = ConnectOptions::new().with_instrumentation(sdk.instrumentation());
    let client = options.connect(&address).await.unwrap();
    client.publish("orders", "1".into()).await.unwrap();
    assert_eq!(timeout(DEADLINE, server).await.unwrap().unwrap(), "PUB orders 1\r\n");
    let spans = sdk.spans();
    assert_eq!((spans[0].span_kind.clone(), spans[0].status.clone()), (SpanKind::Client, Status::Unset));
}

#[tokio::test]
async fn the_server_cannot_be_reached() {
    let sdk = Sdk::new();
    let nowhere = "127.0.0.1:1";
    let options = ConnectOptions::new().with_instrumentation(sdk.instrumentation());
    let error = options.connect(nowhere).await.unwrap_err();
    let raw = async_nats::connect(nowhere).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (raw.kind(), raw.to_string()));

    // The client connects in the background: whether there will be headers is not known yet.
    let options = ConnectOptions::new().retry_on_initial_connect().with_instrumentation(sdk.instrumentation());
    let client = options.connect(nowhere).await.unwrap();
    client.publish("orders", "1".into()).await.unwrap();
    let spans = sdk.spans();
    assert_eq!((spans.len(), spans[0].span_kind.clone()), (1, SpanKind::Client));
}

#[tokio::test]
async fn the_server_goes_away() {
    let mut server = Nats::own().unwrap_or_else(|missing| panic!("{missing}"));
    let sdk = Sdk::new();
    let client = connect_to(&server, &sdk).await;
    let mut subscriber = client.subscribe("orders").await.unwrap();
    client.flush().await.unwrap();
    server.kill();
    let request = || Request::new().timeout(Some(Duration::from_millis(50)));
    let error = client.send_request("stock", request()).await.unwrap_err();
    assert_eq!(error.kind(), RequestErrorKind::TimedOut);
    failed(&sdk, "request stock", "timed_out", &error);

    let mut context = jetstream::new(client.clone());
    context.set_timeout(Duration::from_millis(50));
    let error = context.publish("orders", "lost?".into()).await.unwrap().await.unwrap_err();
    assert_eq!(error.kind(), context::PublishErrorKind::TimedOut);
    let publish = sdk.spans().pop().unwrap();
    assert_eq!(attribute(&publish, "error.type").unwrap().to_string(), "timed_out");

    server.restart().unwrap_or_else(|missing| panic!("{missing}"));
    let deadline = Instant::now() + DEADLINE;
    loop {
        client.publish("orders", "again".into()).await.unwrap();
        if let Ok(message) = timeout(Duration::from_millis(100), subscriber.next()).await {
            let message = message.unwrap();
            assert!(header(&message.headers, "traceparent").is_some());
            break;
        }
        assert!(Instant::now() < deadline, "it never came back");
    }
}

#[tokio::test]
async fn the_client_is_closed() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    client.drain().await.unwrap();
    let subject = unique("orders");
    let deadline = Instant::now() + DEADLINE;
    let error = loop {
        match client.publish(subject.clone(), "1".into()).await {
            Err(error) => break error,
            Ok(()) => assert!(Instant::now() < deadline, "it never closed"),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(error.kind(), PublishErrorKind::Send);
    let last = sdk.spans().pop().unwrap();
    assert_eq!(attribute(&last, "error.type").unwrap().to_string(), "send");
    assert_eq!(last.status, Status::error(error.to_string()));
}

#[tokio::test]
async fn a_fetch_fails() {
    let sdk = Sdk::new();
    let context = jetstream::new(connect(&sdk).await);
    let (stream, _) = stream_of(&context).await;
    let consumer = durable(&stream, "shipping").await;
    stream.delete_consumer("shipping").await.unwrap();
    let mut batch = consumer.fetch().messages().await.unwrap();
    let error = next(&mut batch).await.unwrap_err();
    let raw = next(&mut consumer.get_ref().fetch().messages().await.unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), raw.to_string());
    assert!(batch.next().await.is_none());
    drop(batch);
    let spans = sdk.spans();
    assert_eq!(spans.len(), 1);
    assert_eq!(attribute(&spans[0], "error.type").unwrap().to_string(), "_OTHER");
    assert_eq!(attribute(&spans[0], "messaging.batch.message_count").unwrap().to_string(), "0");
    assert_eq!(spans[0].status, Status::error(error.to_string()));
}

/// Nobody asked for spans of such waits, or measures them; a failure is told all the same.
#[tokio::test]
async fn a_wait_for_a_message_fails() {
    let sdk = Sdk::new();
    let context = jetstream::new(connect(&sdk).await);
    let (stream, _) = stream_of(&context).await;
    let mut messages = durable(&stream, "shipping").await.messages().await.unwrap();
    stream.delete_consumer("shipping").await.unwrap();
    let error = next(&mut messages).await.unwrap_err();
    let spans = sdk.spans();
    assert_eq!(spans.len(), 1, "{}", describe(&spans));
    assert_eq!((spans[0].span_kind.clone(), &spans[0].status), (SpanKind::Client, &Status::error(error.to_string())));
    assert!(spans[0].name.starts_with("fetch"));
}
