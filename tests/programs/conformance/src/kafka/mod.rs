//! Kafka: what its client emits.

mod client;
mod scenarios;

use client::Kafka;

use crate::{
    broker::{Broker, Started},
    scenario::{Measure, Operation, PROCESS, left_out},
    scenarios::{correlation, handling, settling, switches},
};

pub(crate) static KAFKA: Broker = Broker {
    name: "kafka",
    scope: "otel-rdkafka",
    operations: &[
        Operation {
            name: "send",
            kind: "send",
            span: "from the call to the delivery report, also that of a purge or of the producer's end; what the application \
                   purged itself has the `error.type` `_PURGE_REQUESTED`",
            always: "messaging.system messaging.operation.name messaging.operation.type messaging.client.id \
                     messaging.destination.name",
            answered: "messaging.destination.partition.id messaging.kafka.offset",
            sometimes: "messaging.kafka.cluster.id messaging.kafka.message.tombstone messaging.destination.anonymous \
                        server.address server.port network.peer.address network.peer.port",
            together: &["server.address server.port", "network.peer.address network.peer.port"],
            asked: "messaging.destination.template messaging.kafka.message.key messaging.message.body.size \
                    otel_messaging.header",
            late: "messaging.destination.partition.id messaging.kafka.offset messaging.kafka.cluster.id server.address \
                   server.port network.peer.address network.peer.port",
        },
        Operation {
            name: "create",
            kind: "create",
            span: "the call",
            always: "messaging.system messaging.operation.name messaging.operation.type messaging.destination.name",
            sometimes: "messaging.destination.anonymous",
            asked: "messaging.destination.template",
            ..Operation::NONE
        },
        Operation {
            name: "poll",
            kind: "receive",
            span: "from the poll's start to the hand-over; only of polls that failed, and where they are asked for",
            always: "messaging.system messaging.operation.name messaging.operation.type messaging.client.id \
                     messaging.consumer.group.name",
            answered: "messaging.destination.name messaging.destination.partition.id messaging.kafka.offset",
            sometimes: "messaging.kafka.cluster.id messaging.kafka.message.tombstone messaging.destination.anonymous \
                        server.address server.port network.peer.address network.peer.port",
            together: &["server.address server.port", "network.peer.address network.peer.port"],
            asked: "messaging.destination.template messaging.kafka.message.key messaging.message.body.size",
            ..Operation::NONE
        },
        Operation {
            name: "process",
            kind: "process",
            span: PROCESS,
            always: "messaging.system messaging.operation.name messaging.operation.type messaging.client.id \
                     messaging.consumer.group.name messaging.destination.name messaging.destination.partition.id \
                     messaging.kafka.offset",
            sometimes: "messaging.kafka.cluster.id messaging.kafka.message.tombstone messaging.destination.anonymous \
                        messaging.batch.message_count otel_messaging.delivery.attempt \
                        otel_messaging.settlement.outcome otel_messaging.wait_time server.address server.port",
            together: &["server.address server.port"],
            asked: "messaging.destination.template messaging.kafka.message.key messaging.message.body.size \
                    otel_messaging.header",
            late: "otel_messaging.settlement.outcome",
            ..Operation::NONE
        },
        Operation {
            name: "commit",
            kind: "settle",
            span: "from the call to the result; asynchronous: to the hand-over. Automatic: only where they are asked for, \
                   or failed",
            always: "messaging.system messaging.operation.name messaging.operation.type messaging.client.id \
                     messaging.consumer.group.name",
            answered: "otel_messaging.settlement.outcome",
            sometimes: "messaging.destination.name messaging.destination.partition.id messaging.kafka.offset \
                        messaging.kafka.cluster.id",
            late: "otel_messaging.settlement.outcome",
            asked: "messaging.destination.template",
            ..Operation::NONE
        },
    ],
    measures: &[
        Measure {
            metric: "messaging.client.operation.duration",
            operations: "send poll commit",
            always: "messaging.system messaging.operation.name messaging.operation.type",
            sometimes: "messaging.destination.name messaging.consumer.group.name server.address server.port error.type",
            asked: "messaging.destination.template messaging.destination.partition.id",
        },
        Measure {
            metric: "messaging.client.sent.messages",
            operations: "send",
            always: "messaging.system messaging.operation.name",
            sometimes: "messaging.destination.name server.address server.port error.type",
            asked: "messaging.destination.template messaging.destination.partition.id",
        },
        Measure {
            metric: "messaging.client.consumed.messages",
            operations: "poll",
            always: "messaging.system messaging.operation.name messaging.consumer.group.name",
            sometimes: "messaging.destination.name server.address server.port",
            asked: "messaging.destination.template messaging.destination.partition.id",
        },
        Measure {
            metric: "messaging.process.duration",
            operations: "process",
            always: "messaging.system messaging.operation.name messaging.consumer.group.name",
            sometimes: "messaging.destination.name server.address server.port error.type",
            asked: "messaging.destination.template messaging.destination.partition.id",
        },
        Measure {
            metric: "otel_messaging.queue_time",
            operations: "poll",
            always: "messaging.system messaging.operation.name messaging.consumer.group.name otel_messaging.clock",
            sometimes: "messaging.destination.name server.address server.port",
            asked: "messaging.destination.template",
        },
        Measure {
            metric: "otel_messaging.wait_time",
            operations: "process",
            always: "messaging.system messaging.operation.name messaging.consumer.group.name",
            sometimes: "messaging.destination.name server.address server.port",
            asked: "messaging.destination.template messaging.destination.partition.id",
        },
        Measure {
            metric: "otel_messaging.deliveries",
            operations: "commit",
            always: "messaging.system messaging.operation.name messaging.consumer.group.name \
                     otel_messaging.settlement.outcome",
            sometimes: "messaging.destination.name",
            asked: "messaging.destination.template",
        },
    ],
    left_out: &[
        left_out("messaging.message.id", "*", "Kafka's messages have none"),
        left_out("messaging.message.conversation_id", "*", "Kafka's messages have none"),
        left_out("messaging.message.envelope.size", "*", "the client does not tell what a message takes on the wire"),
        left_out("messaging.destination.subscription.name", "*", "the consumer group stands for it"),
        left_out(
            "messaging.batch.message_count",
            "send poll commit",
            "no call of the client is about several messages",
        ),
        left_out("messaging.destination.partition.id", "create", "the producer does not know it yet"),
        left_out("messaging.kafka.message.key", "create", "the helper is not given it"),
        left_out("messaging.kafka.message.tombstone", "create", "the helper is not given the value"),
        left_out("messaging.message.body.size", "create", "the helper is not given the value"),
        left_out(
            "server.address",
            "create commit otel_messaging.deliveries",
            "`create` asks no broker. A commit asks the group's coordinator, which may have moved since \
                  the last report of librdkafka's statistics",
        ),
        left_out("server.port", "create commit otel_messaging.deliveries", "as `server.address`"),
        left_out("network.peer.address", "commit", "as `server.address`"),
        left_out("network.peer.port", "commit", "as `server.address`"),
        left_out(
            "error.type",
            "messaging.client.consumed.messages",
            "what is counted was delivered; a poll that failed brought none",
        ),
        left_out(
            "otel_messaging.delivery.outcome_unknown",
            "*",
            "each send has its report, and each commit its result",
        ),
        left_out("otel_messaging.delivery.redelivered", "*", "Kafka does not say so"),
    ],
    elsewhere: &[],
    lacking: &[],
    listed: include_str!("../../scenarios/kafka.txt"),
    performed: &[
        scenarios::ALL,
        handling::all::<Kafka>(),
        correlation::all::<Kafka>(),
        settling::all::<Kafka>(),
        switches::all::<Kafka>(),
    ],
    start: || {
        let kafka = brokers::Kafka::start_real()?;
        Ok(Started { address: kafka.bootstrap_servers.clone(), _running: Box::new(kafka) })
    },
};
