//! Names of the semantic conventions, version 1.44.0, and the values that they define.
//!
//! The constants of `opentelemetry-semantic-conventions` are experimental and change between its releases, so this module has its
//! own. A test compares these constants with that crate.

/// The schema URL of every instrumentation scope.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// Attribute names of the convention's registry.
pub mod attribute {
    /// The kind of error that the operation ended with.
    pub const ERROR_TYPE: &str = "error.type";
    /// The text of the error.
    pub const EXCEPTION_MESSAGE: &str = "exception.message";
    /// The kind of the error.
    pub const EXCEPTION_TYPE: &str = "exception.type";
    /// The number of messages of a batch operation.
    pub const MESSAGING_BATCH_MESSAGE_COUNT: &str = "messaging.batch.message_count";
    /// The client's own name for itself.
    pub const MESSAGING_CLIENT_ID: &str = "messaging.client.id";
    /// The consumer group that the message was delivered to.
    pub const MESSAGING_CONSUMER_GROUP_NAME: &str = "messaging.consumer.group.name";
    /// Whether the destination's name was generated, by the broker or by a program for one use.
    pub const MESSAGING_DESTINATION_ANONYMOUS: &str = "messaging.destination.anonymous";
    /// The destination's name.
    pub const MESSAGING_DESTINATION_NAME: &str = "messaging.destination.name";
    /// The partition within the destination.
    pub const MESSAGING_DESTINATION_PARTITION_ID: &str = "messaging.destination.partition.id";
    /// The durable subscription that delivered the message.
    pub const MESSAGING_DESTINATION_SUBSCRIPTION_NAME: &str = "messaging.destination.subscription.name";
    /// The low-cardinality pattern that the destination's name was made from.
    pub const MESSAGING_DESTINATION_TEMPLATE: &str = "messaging.destination.template";
    /// Whether the destination is deleted with its client.
    pub const MESSAGING_DESTINATION_TEMPORARY: &str = "messaging.destination.temporary";
    /// The Kafka cluster's id.
    pub const MESSAGING_KAFKA_CLUSTER_ID: &str = "messaging.kafka.cluster.id";
    /// The Kafka message's key.
    pub const MESSAGING_KAFKA_MESSAGE_KEY: &str = "messaging.kafka.message.key";
    /// Whether the Kafka message has no value.
    pub const MESSAGING_KAFKA_MESSAGE_TOMBSTONE: &str = "messaging.kafka.message.tombstone";
    /// The Kafka message's offset in its partition.
    pub const MESSAGING_KAFKA_OFFSET: &str = "messaging.kafka.offset";
    /// The size of the message's body, in bytes.
    pub const MESSAGING_MESSAGE_BODY_SIZE: &str = "messaging.message.body.size";
    /// The conversation that the message belongs to, for example the AMQP correlation id.
    pub const MESSAGING_MESSAGE_CONVERSATION_ID: &str = "messaging.message.conversation_id";
    /// The message's id, set by its sender.
    pub const MESSAGING_MESSAGE_ID: &str = "messaging.message.id";
    /// The client's name of the operation.
    pub const MESSAGING_OPERATION_NAME: &str = "messaging.operation.name";
    /// The convention's type of the operation.
    pub const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
    /// The RabbitMQ routing key.
    pub const MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY: &str = "messaging.rabbitmq.destination.routing_key";
    /// The RabbitMQ delivery tag.
    pub const MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG: &str = "messaging.rabbitmq.message.delivery_tag";
    /// The messaging system.
    pub const MESSAGING_SYSTEM: &str = "messaging.system";
    /// The peer's address on the network.
    pub const NETWORK_PEER_ADDRESS: &str = "network.peer.address";
    /// The peer's port on the network.
    pub const NETWORK_PEER_PORT: &str = "network.peer.port";
    /// The broker's host name or address.
    pub const SERVER_ADDRESS: &str = "server.address";
    /// The broker's port.
    pub const SERVER_PORT: &str = "server.port";
}

/// Metric names of the convention's registry.
pub mod metric {
    /// Number of messages that were delivered to the application.
    pub const CLIENT_CONSUMED_MESSAGES: &str = "messaging.client.consumed.messages";
    /// Duration of send, receive and settle operations.
    pub const CLIENT_OPERATION_DURATION: &str = "messaging.client.operation.duration";
    /// Number of messages that a producer attempted to send.
    pub const CLIENT_SENT_MESSAGES: &str = "messaging.client.sent.messages";
    /// Duration of the processing of messages.
    pub const PROCESS_DURATION: &str = "messaging.process.duration";
}

/// Names that the convention does not have: those of NATS, and `otel_messaging.*` for every broker.
pub mod extension {
    /// The settlement of a message; see [`Settlement`](crate::adapter::Settlement).
    pub const SETTLEMENT_OUTCOME: &str = "otel_messaging.settlement.outcome";
    /// The number of this delivery of the message, counted from 1.
    pub const DELIVERY_ATTEMPT: &str = "otel_messaging.delivery.attempt";
    /// Whether the broker reports that it delivered the message before.
    pub const DELIVERY_REDELIVERED: &str = "otel_messaging.delivery.redelivered";
    /// The offset of the message in its RabbitMQ stream, counted from 0.
    pub const STREAM_OFFSET: &str = "otel_messaging.stream.offset";
    /// True on an operation that ended before its answer arrived.
    pub const DELIVERY_OUTCOME_UNKNOWN: &str = "otel_messaging.delivery.outcome_unknown";
    /// The prefix of captured headers.
    pub const HEADER: &str = "otel_messaging.header";
    /// The clock that the queue time was measured with.
    pub const CLOCK: &str = "otel_messaging.clock";
    /// The metric of the time from sending a message to its delivery.
    pub const QUEUE_TIME: &str = "otel_messaging.queue_time";
    /// The time that a message waited for its handler, in seconds. Spans have the attribute if the wait was at least one
    /// millisecond. The metric of the same name has every wait.
    pub const WAIT_TIME: &str = "otel_messaging.wait_time";
    /// The metric of the number of messages by settlement outcome.
    pub const DELIVERIES: &str = "otel_messaging.deliveries";
    /// The JetStream stream.
    pub const NATS_STREAM_NAME: &str = "messaging.nats.stream.name";
    /// The message's sequence in its stream.
    pub const NATS_MESSAGE_STREAM_SEQUENCE: &str = "messaging.nats.message.stream_sequence";
    /// The message's sequence at its consumer.
    pub const NATS_MESSAGE_CONSUMER_SEQUENCE: &str = "messaging.nats.message.consumer_sequence";
    /// The number of times that JetStream has delivered the message.
    pub const NATS_MESSAGE_DELIVERY_COUNT: &str = "messaging.nats.message.delivery_count";
    /// True on a publish of a message that the stream already had.
    pub const NATS_PUBLISH_DUPLICATE: &str = "messaging.nats.publish.duplicate";
    /// The JetStream domain.
    pub const NATS_DOMAIN: &str = "messaging.nats.domain";
}

/// The `error.type` of a message that was dropped while its thread was panicking.
pub const ERROR_TYPE_PANIC: &str = "panic";
