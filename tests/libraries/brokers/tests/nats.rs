//! nats-server starts, stops, is killed, comes back with its streams, and ends with its value.

mod node;

use std::time::Duration;

use async_nats::jetstream::{self, stream};
use brokers::{Missing, Nats, Source};
use node::Node;

async fn jetstream(nats: &Nats) -> jetstream::Context {
    jetstream::new(async_nats::connect(&nats.url).await.unwrap())
}

async fn payloads(nats: &Nats) -> Vec<Vec<u8>> {
    let mut stream = jetstream(nats).await.get_stream("orders").await.unwrap();
    let mut payloads = Vec::new();
    for sequence in 1..=stream.info().await.unwrap().state.last_sequence {
        payloads.push(stream.get_raw_message(sequence).await.unwrap().payload.to_vec());
    }
    payloads
}

#[tokio::test]
async fn a_private_server_keeps_its_streams_over_stop_and_kill() {
    let mut nats = Nats::own().unwrap();
    assert_eq!(nats.source(), Source::Process);
    let node = Node::nats(&nats.url);
    let config = stream::Config { name: "orders".to_owned(), ..Default::default() };
    jetstream(&nats).await.create_stream(config).await.unwrap();
    jetstream(&nats).await.publish("orders", "first".into()).await.unwrap().await.unwrap();

    nats.stop();
    assert!(!node.answers());
    nats.restart().unwrap();
    assert_eq!(payloads(&nats).await, [b"first"]);

    jetstream(&nats).await.publish("orders", "second".into()).await.unwrap().await.unwrap();
    nats.kill();
    assert!(!node.answers());
    nats.restart().unwrap();
    assert_eq!(payloads(&nats).await, [&b"first"[..], b"second"]);
}

#[tokio::test]
async fn a_server_takes_further_configuration() {
    let nats = Nats::own_with("max_payload: 1000\njetstream: disabled").unwrap();
    let client = async_nats::connect(&nats.url).await.unwrap();
    assert_eq!(client.server_info().max_payload, 1000);
    assert!(!client.server_info().jetstream);
}

#[test]
fn a_refused_configuration_is_quoted_from_the_log() {
    let missing = Nats::own_with("max_payload: maybe").unwrap_err();
    assert!(matches!(missing, Missing::NotReady { .. }));
    assert!(missing.to_string().contains("nats.conf:3:1: interface conversion"), "{missing}");
}

#[tokio::test]
async fn two_servers_do_not_see_each_other() {
    let (one, two) = (Nats::own().unwrap(), Nats::own().unwrap());
    assert_ne!(one.url, two.url);
    let config = stream::Config { name: "orders".to_owned(), ..Default::default() };
    jetstream(&one).await.create_stream(config).await.unwrap();
    assert!(jetstream(&two).await.get_stream("orders").await.is_err());
}

#[test]
fn a_dropped_server_is_gone_also_when_the_reason_is_a_panic() {
    let nats = Nats::own().unwrap();
    let node = Node::nats(&nats.url);
    let panicked = std::thread::spawn(move || {
        let _running = nats;
        panic!("while it holds a server that runs");
    })
    .join();
    assert!(panicked.is_err());
    assert!(!node.answers());
}

#[test]
fn a_server_that_is_held_is_silent_until_it_goes_on() {
    let nats = Nats::own().unwrap();
    let node = Node::nats(&nats.url);
    nats.pause();
    assert!(node.is_noop(Duration::from_secs(1)));
    nats.resume();
    assert!(node.answers());
}
