//! Kafka: what its client emits.

mod client;
mod scenarios;

use client::Kafka;

use crate::{
    broker::{Broker, Started},
    scenario::{LeftOut, Measure, Operation, PROCESS},
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
        LeftOut { attribute: "messaging.message.id", of: "*", why: "Kafka's messages have none" },
        LeftOut { attribute: "messaging.message.conversation_id", of: "*", why: "Kafka's messages have none" },
        LeftOut {
            attribute: "messaging.message.envelope.size",
            of: "*",
            why: "the client does not tell what a message takes on the wire",
        },
        LeftOut {
            attribute: "messaging.destination.subscription.name",
            of: "*",
            why: "the consumer group stands for it",
        },
        LeftOut {
            attribute: "messaging.batch.message_count",
            of: "send poll commit",
            why: "no call of the client is about several messages",
        },
        LeftOut { attribute: "messaging.destination.partition.id", of: "create", why: "nobody knows it yet" },
        LeftOut { attribute: "messaging.kafka.message.key", of: "create", why: "the helper is not given it" },
        LeftOut {
            attribute: "messaging.kafka.message.tombstone",
            of: "create",
            why: "the helper is not given the value",
        },
        LeftOut { attribute: "messaging.message.body.size", of: "create", why: "the helper is not given the value" },
        LeftOut {
            attribute: "server.address",
            of: "create commit otel_messaging.deliveries",
            why: "`create` asks no broker. A commit asks the group's coordinator, which may have moved since \
                  the last report of librdkafka's statistics",
        },
        LeftOut { attribute: "server.port", of: "create commit otel_messaging.deliveries", why: "as `server.address`" },
        LeftOut { attribute: "network.peer.address", of: "commit", why: "as `server.address`" },
        LeftOut { attribute: "network.peer.port", of: "commit", why: "as `server.address`" },
        LeftOut {
            attribute: "error.type",
            of: "messaging.client.consumed.messages",
            why: "what is counted was delivered; a poll that failed brought none",
        },
        LeftOut {
            attribute: "otel_messaging.delivery.outcome_unknown",
            of: "*",
            why: "each send has its report, and each commit its result",
        },
        LeftOut { attribute: "otel_messaging.delivery.redelivered", of: "*", why: "Kafka does not say so" },
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
