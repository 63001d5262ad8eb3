//! No context makes a message too long that is none without it.

use std::cell::Cell;

use bytes::Bytes;
use opentelemetry::{Context, trace::SpanKind};
use otel_async_nats::{
    HeaderMap,
    jetstream::{self, stream},
    otel::{HeaderCase, Instrumentation, Propagation},
};
use proptest::{prelude::*, sample::select, test_runner::TestRunner};
use support::{
    Sdk,
    contexts::{context, longest},
    w3c,
};

use crate::{connect_with, unique, within};

/// What a stream takes of headers, and what this test's own stream takes of a whole message.
const MAX_HEADERS: usize = 65_535;
const OF_STREAM: usize = 40_000;

/// Everything that takes room in a message.
#[derive(Debug)]
struct Message {
    context: Context,
    headers: HeaderMap,
    body: usize,
    case: HeaderCase,
    propagation: Option<Propagation>,
}

/// How many bytes are left to a limit: mostly about as many as a short context takes.
fn left() -> impl Strategy<Value = usize> {
    prop_oneof![2 => 0..4_usize, 3 => 0..200_usize, 2 => 0..9_000_usize, 2 => 0..60_000_usize]
}

/// The longest context, written twice where about as much is left: 2 * (74 + 16,461 + 8,203) bytes and 12 around them.
fn longest_twice() -> impl Strategy<Value = (Context, usize, HeaderCase)> {
    (49_300..49_600_usize).prop_map(|left| (longest(), left, HeaderCase::Both))
}

/// So many bytes of headers on the wire, or none where that is too few for one.
fn padded(length: usize) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(value) = length.checked_sub(12 + "Padding".len() + 4) {
        headers.insert("Padding", "x".repeat(value));
    }
    headers
}

/// A message of which so many bytes are left, of the headers or of the whole, to a limit of this many bytes.
fn message(limit: usize, in_headers: bool) -> impl Strategy<Value = Message> {
    let case = select(vec![HeaderCase::Lower, HeaderCase::Canonical, HeaderCase::Both]);
    let written = prop_oneof![4 => (context(), left(), case), 1 => longest_twice()];
    let propagation = select(vec![None, Some(Propagation::W3c)]);
    (written, 0..2_000_usize, propagation).prop_map(move |((context, left, case), own, propagation)| {
        let length = limit.saturating_sub(left);
        let (headers, body) = if in_headers { (length, 4) } else { (own.min(length), length - own.min(length)) };
        let headers = padded(headers);
        let body = if !in_headers && headers.is_empty() { length } else { body };
        Message { context, headers, body, case, propagation }
    })
}

/// Each message is sent on the client itself, which takes it, and on ours.
fn takes_what_it_takes_without_us(in_headers: bool, of_stream: Option<usize>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _runtime = runtime.enter();
    let sdk = Sdk::new();
    let (name, client) = (unique("S"), runtime.block_on(connect_with(sdk.instrumentation())));
    let config = stream::Config {
        name: name.clone(),
        subjects: vec![name.clone()],
        max_message_size: of_stream.map_or(-1, |bytes| bytes.try_into().unwrap()),
        max_messages: 1,
        ..Default::default()
    };
    runtime.block_on(jetstream::new(client.clone()).create_stream(config)).unwrap();
    let limit = if in_headers { MAX_HEADERS } else { of_stream.unwrap_or(client.max_payload()) };
    let (without, with) = (Cell::new(0), Cell::new(0));
    let both_take = |message: Message| {
        let Message { context, headers, body, case, propagation } = message;
        let body = Bytes::from(vec![b'x'; body]);
        let instrumentation = Instrumentation::builder().with_tracer_provider(sdk.provider());
        let instrumentation = match propagation {
            Some(propagation) => instrumentation.with_propagation(propagation),
            None => instrumentation.with_propagation(Propagation::custom(w3c())),
        };
        let mut client = client.clone().with_instrumentation(instrumentation.build()).with_header_case(case);
        if let Some(bytes) = of_stream {
            client = client.with_message_limit(bytes);
        }
        let ours = jetstream::new(client);
        let raw = ours.get_ref();
        runtime.block_on(async {
            let stored = raw.publish_with_headers(name.clone(), headers.clone(), body.clone()).await.unwrap().await;
            stored.expect("the message itself is within the limit");
            let publish = within(&context, || ours.publish_with_headers(name.clone(), headers, body));
            let stored = async { publish.await?.await }.await;
            prop_assert!(stored.is_ok(), "{stored:?}");
            Ok(())
        })?;
        let span = sdk.spans().pop().unwrap();
        let count = if span.span_kind == SpanKind::Producer { &with } else { &without };
        count.set(count.get() + 1);
        sdk.forget();
        Ok(())
    };
    let config = ProptestConfig { cases: 200, ..Default::default() };
    TestRunner::new(config).run(&message(limit, in_headers), both_take).unwrap();
    let (without, with) = (without.get(), with.get());
    assert!(without > 20 && with > 20, "{without} had no room for a context, {with} had");
}

#[test]
fn a_stream_takes_the_headers_of_every_message_that_it_takes_without_a_context() {
    takes_what_it_takes_without_us(true, None);
}

#[test]
fn the_client_takes_every_message_that_it_takes_without_a_context() {
    takes_what_it_takes_without_us(false, None);
}

#[test]
fn a_stream_of_named_limit_takes_the_same_messages_without_a_context() {
    takes_what_it_takes_without_us(false, Some(OF_STREAM));
}
