//! RabbitMQ starts, stops, is killed, comes back with its queues, and ends with its value.

mod node;

use std::time::Duration;

use brokers::{RabbitMq, Source};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use node::Node;

async fn channel(rabbitmq: &RabbitMq) -> (Connection, Channel) {
    let connection = Connection::connect(&rabbitmq.uri, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare("orders".into(), durable, FieldTable::default()).await.unwrap();
    (connection, channel)
}

async fn publish(rabbitmq: &RabbitMq, payload: &str) {
    let (_connection, channel) = channel(rabbitmq).await;
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    let confirm = channel.basic_publish("".into(), "orders".into(), options, payload.as_bytes(), persistent).await;
    assert_eq!(confirm.unwrap().await.unwrap(), Confirmation::Ack(None));
}

/// What is in the queue; it stays there.
async fn payloads(rabbitmq: &RabbitMq) -> Vec<Vec<u8>> {
    let (_connection, channel) = channel(rabbitmq).await;
    let mut payloads = Vec::new();
    while let Some(message) = channel.basic_get("orders".into(), BasicGetOptions::default()).await.unwrap() {
        payloads.push(message.delivery.data);
    }
    payloads
}

#[tokio::test]
async fn a_private_node_keeps_its_queues_over_stop_and_kill() {
    let mut rabbitmq = RabbitMq::own().unwrap();
    assert_eq!(rabbitmq.source(), Source::Process);
    let node = Node::rabbitmq(&rabbitmq.uri);
    publish(&rabbitmq, "first").await;

    rabbitmq.stop();
    assert!(!node.answers());
    rabbitmq.restart().unwrap();
    assert_eq!(payloads(&rabbitmq).await, [b"first"]);

    publish(&rabbitmq, "second").await;
    rabbitmq.kill();
    assert!(!node.answers());
    rabbitmq.restart().unwrap();
    assert_eq!(payloads(&rabbitmq).await, [&b"first"[..], b"second"]);
}

#[test]
fn a_dropped_node_is_gone_also_when_the_reason_is_a_panic() {
    let rabbitmq = RabbitMq::own().unwrap();
    let node = Node::rabbitmq(&rabbitmq.uri);
    let panicked = std::thread::spawn(move || {
        let _running = rabbitmq;
        panic!("while it holds a node that runs");
    })
    .join();
    assert!(panicked.is_err());
    assert!(!node.answers());
}

#[test]
fn a_node_that_is_held_is_silent_until_it_goes_on() {
    let rabbitmq = RabbitMq::own().unwrap();
    let node = Node::rabbitmq(&rabbitmq.uri);
    rabbitmq.pause();
    assert!(node.is_noop(Duration::from_secs(1)));
    rabbitmq.resume();
    assert!(node.answers());
}
