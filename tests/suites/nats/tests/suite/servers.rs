//! Which server it was: said only where there is no doubt.

use std::time::{Duration, Instant};

use brokers::Nats;
use futures::StreamExt;
use opentelemetry_sdk::trace::SpanData;
use otel_async_nats::{Client, ConnectOptions};
use support::{DEADLINE, Sdk, attribute};
use tokio::time::timeout;

fn own() -> Nats {
    Nats::own().unwrap_or_else(|missing| panic!("{missing}"))
}

fn options(sdk: &Sdk) -> ConnectOptions {
    ConnectOptions::new().retain_servers_order().with_instrumentation(sdk.instrumentation())
}

/// Whether a span names a server, all of it; one that is named is this one.
fn names(span: &SpanData, server: &Nats) -> bool {
    let (host, port) = server.url.trim_start_matches("nats://").split_once(':').unwrap();
    let named = ["server.address", "network.peer.address", "server.port", "network.peer.port"]
        .map(|key| attribute(span, key).map(ToString::to_string));
    match named {
        [None, None, None, None] => false,
        named => {
            assert_eq!(named, [host, host, port, port].map(|part| Some(part.to_owned())));
            true
        }
    }
}

/// Publishes by `client` until the message arrives at this server; gives the last span.
async fn published_at(sdk: &Sdk, client: &Client, server: &Nats) -> SpanData {
    let mut arriving = async_nats::connect(&server.url).await.unwrap().subscribe("orders").await.unwrap();
    let deadline = Instant::now() + DEADLINE;
    loop {
        client.publish("orders", "1".into()).await.unwrap();
        if timeout(Duration::from_millis(100), arriving.next()).await.is_ok() {
            return sdk.spans().pop().unwrap();
        }
        assert!(Instant::now() < deadline, "it never arrived");
    }
}

#[tokio::test]
async fn after_a_reconnect_to_another_server_the_old_one_is_not_named() {
    let (mut first, second) = (own(), own());
    let sdk = Sdk::new();
    let client = options(&sdk).connect(vec![first.url.clone(), second.url.clone()]).await.unwrap();
    assert!(!names(&published_at(&sdk, &client, &first).await, &first), "it may be the other one");
    first.kill();
    assert!(!names(&published_at(&sdk, &client, &second).await, &second));
}

#[tokio::test]
async fn the_only_server_is_named_also_when_it_came_back() {
    let mut server = own();
    let sdk = Sdk::new();
    let client = options(&sdk).connect(&server.url).await.unwrap();
    assert!(names(&published_at(&sdk, &client, &server).await, &server));
    server.kill();
    server.restart().unwrap_or_else(|missing| panic!("{missing}"));
    assert!(names(&published_at(&sdk, &client, &server).await, &server));
}

#[tokio::test]
async fn all_that_reports_for_a_client_knows_its_other_servers() {
    let (first, second) = (own(), own());
    let (sdk, other_sdk) = (Sdk::new(), Sdk::new());
    let client = options(&sdk).connect(&first.url).await.unwrap();
    let elsewhere = client.clone().with_instrumentation(other_sdk.instrumentation());
    assert!(names(&published_at(&other_sdk, &elsewhere, &first).await, &first));
    client.set_server_pool(vec![second.url.clone()]).await.unwrap();
    client.force_reconnect().await.unwrap();
    assert!(!names(&published_at(&other_sdk, &elsewhere, &second).await, &second));
    assert_eq!(sdk.spans().len(), 0, "each reports to its own");
}
