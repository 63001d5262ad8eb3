//! Our constants against those that OpenTelemetry publishes, which lag by a minor version or two.

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
