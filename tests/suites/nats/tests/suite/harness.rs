//! A server for all tests of this process, and what they do with it again and again.

use std::{
    process,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use opentelemetry::{Context, trace::TraceContextExt};
use otel_async_nats::{
    Client, ConnectOptions,
    jetstream::{self, consumer::pull, stream},
    otel::Instrumentation,
};
use support::Sdk;
use tokio::time::timeout;

/// The server that the tests of this process share.
pub(crate) fn server() -> &'static brokers::Nats {
    static SERVER: OnceLock<brokers::Nats> = OnceLock::new();
    SERVER.get_or_init(|| brokers::Nats::start().unwrap_or_else(|missing| panic!("{missing}")))
}

/// A client with a name, reporting to this SDK.
pub(crate) async fn connect(sdk: &Sdk) -> Client {
    connect_with(sdk.instrumentation()).await
}

pub(crate) async fn connect_with(instrumentation: Instrumentation) -> Client {
    let options = ConnectOptions::new().name("shop").with_instrumentation(instrumentation);
    options.connect(&server().url).await.expect("the server is there")
}

/// A name that no other test has.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{name}-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What every span of [`connect`]'s clients says of the server.
pub(crate) fn at_server() -> String {
    let (_, address) = server().url.rsplit_once('/').expect("a URL");
    let (host, port) = address.rsplit_once(':').expect("with a port");
    format!("  server.address = {host:?}\n  server.port = {port}\n")
}

/// What the spans say of it that ask the server for something, where its address is one of the network.
pub(crate) fn at_peer() -> String {
    let (_, address) = server().url.rsplit_once('/').expect("a URL");
    let (host, port) = address.rsplit_once(':').expect("with a port");
    match host.parse::<std::net::IpAddr>() {
        Ok(_) => format!("  network.peer.address = {host:?}\n  network.peer.port = {port}\n"),
        Err(_) => String::new(),
    }
}

/// The next item of a stream, which has to come.
pub(crate) async fn next<S: futures::Stream + Unpin>(stream: &mut S) -> S::Item {
    timeout(support::DEADLINE, stream.next()).await.expect("in time").expect("one more")
}

/// Returns when the server has handled what this client has asked for so far, and knows its subscriptions: `flush` waits for
/// the socket alone.
pub(crate) async fn round_trip(client: &Client) {
    let error = client.get_ref().request(unique("nobody"), "".into()).await.unwrap_err();
    assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders);
}

/// The value of a header as it arrived, whatever the case of its name.
pub(crate) fn header(headers: &Option<async_nats::HeaderMap>, name: &str) -> Option<String> {
    let headers = headers.as_ref()?;
    let value = headers.iter().find(|(key, _)| key.to_string() == name).and_then(|(_, values)| values.last())?;
    Some(value.to_string())
}

/// Headers with these names and values.
pub(crate) fn headers(pairs: &[(&str, &str)]) -> async_nats::HeaderMap {
    let mut headers = async_nats::HeaderMap::new();
    pairs.iter().for_each(|(name, value)| headers.insert(*name, *value));
    headers
}

/// How many messages were settled with this outcome, by the metric.
pub(crate) fn counted(sdk: &Sdk, outcome: &str) -> u64 {
    let outcome = format!("otel_messaging.settlement.outcome = {outcome:?}");
    let measured = sdk.measured();
    let lines =
        measured.lines().filter(|line| line.starts_with("otel_messaging.deliveries ") && line.contains(&outcome));
    lines.map(|line| line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a count")).sum()
}

/// What a `traceparent` says that is a copy of this span's context.
pub(crate) fn traceparent(context: &opentelemetry::trace::SpanContext) -> String {
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8())
}

/// Runs the synchronous part of a call inside a context.
pub(crate) fn within<T>(context: &Context, call: impl FnOnce() -> T) -> T {
    let _current = context.clone().attach();
    call()
}

/// Ends an application's span.
pub(crate) fn end(context: &Context) {
    context.span().end();
}

/// A stream of its own that listens to `{name}.>`, and its name.
pub(crate) async fn stream_of(context: &jetstream::Context) -> (stream::Stream, String) {
    let name = unique("S");
    let config = stream::Config { name: name.clone(), subjects: vec![format!("{name}.>")], ..Default::default() };
    (context.create_stream(config).await.expect("created"), name)
}

/// A durable pull consumer of everything in the stream.
pub(crate) async fn durable(stream: &stream::Stream, name: &str) -> jetstream::consumer::PullConsumer {
    let config =
        pull::Config { durable_name: Some(name.to_owned()), ack_wait: Duration::from_secs(60), ..Default::default() };
    stream.create_consumer(config).await.expect("created")
}
