//! Our constants against those that OpenTelemetry publishes, which lag by a minor version or two, and all of them against
//! the registries.

use std::collections::BTreeSet;

use conventions::{Convention, Source};
use opentelemetry_semantic_conventions::attribute as published;
use otel_messaging::semconv::attribute as own;

#[test]
fn names_are_those_of_the_convention() {
    macro_rules! same {
        ($($name:ident)*) => { $(assert_eq!(own::$name, published::$name);)* };
    }
    same! {
        ERROR_TYPE MESSAGING_BATCH_MESSAGE_COUNT MESSAGING_CLIENT_ID MESSAGING_CONSUMER_GROUP_NAME
        MESSAGING_DESTINATION_ANONYMOUS MESSAGING_DESTINATION_NAME MESSAGING_DESTINATION_PARTITION_ID
        MESSAGING_DESTINATION_SUBSCRIPTION_NAME MESSAGING_DESTINATION_TEMPLATE MESSAGING_DESTINATION_TEMPORARY
        MESSAGING_KAFKA_MESSAGE_KEY MESSAGING_KAFKA_MESSAGE_TOMBSTONE MESSAGING_KAFKA_OFFSET
        MESSAGING_MESSAGE_CONVERSATION_ID MESSAGING_MESSAGE_ID MESSAGING_OPERATION_NAME MESSAGING_OPERATION_TYPE
        MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG MESSAGING_SYSTEM
        NETWORK_PEER_ADDRESS NETWORK_PEER_PORT SERVER_ADDRESS SERVER_PORT
    }
    // New in 1.44, and not published yet.
    assert_eq!(own::MESSAGING_KAFKA_CLUSTER_ID, "messaging.kafka.cluster.id");
}

/// The names in a module of `semconv.rs`.
fn constants(module: &str) -> BTreeSet<&'static str> {
    let source = include_str!("../../src/description/semconv.rs");
    let (_, from) = source.split_once(&format!("pub mod {module} {{")).expect("the module is there");
    let (module, _) = from.split_once("\n}").expect("it ends");
    let values = module.lines().filter(|line| line.trim_start().starts_with("pub const"));
    values.filter_map(|line| line.split('"').nth(1)).collect()
}

#[test]
fn names_are_those_of_the_registries() {
    let convention = Convention::get();
    for name in constants("attribute") {
        assert_eq!(convention.attribute(name).map(|it| it.source), Some(Source::Convention), "{name}");
    }
    let metrics = |source| convention.metrics().filter(move |(_, it)| it.source == source).map(|(name, _)| name);
    assert_eq!(constants("metric"), metrics(Source::Convention).collect());
    let ours = convention.attributes(Source::Ours).map(|(name, _)| name).chain(metrics(Source::Ours));
    assert_eq!(constants("extension"), ours.collect());
}
