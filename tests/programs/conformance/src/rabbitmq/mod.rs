//! RabbitMQ: what its client emits.

mod client;
mod scenarios;

use client::Rabbit;

use crate::{
    broker::{Broker, Started},
    scenario::{Lacking, LeftOut, Measure, NO_MESSAGE, Operation, PROCESS},
    scenarios::{correlation, handling, settling, switches},
};

pub(crate) static RABBITMQ: Broker = Broker {
    name: "rabbitmq",
    scope: "otel-lapin",
    operations: &[
        Operation {
            name: "publish",
            kind: "send",
            span: "from the call to the confirm, where the channel confirms; else to the hand-over",
            always: ROUTED,
            sometimes: "messaging.message.id messaging.message.conversation_id messaging.destination.anonymous \
                        messaging.destination.temporary network.peer.address network.peer.port",
            together: PEER,
            asked: "messaging.destination.template messaging.message.body.size otel_messaging.header",
            ..Operation::NONE
        },
        Operation {
            name: "create",
            kind: "create",
            span: "the call",
            always: "messaging.system messaging.operation.name messaging.operation.type messaging.destination.name",
            sometimes: "messaging.destination.anonymous messaging.destination.temporary",
            asked: "messaging.destination.template",
            ..Operation::NONE
        },
        Operation {
            name: "get",
            kind: "receive",
            span: "from the call to the answer; none for an empty queue",
            always: SERVER_AND_NAME,
            answered: "messaging.rabbitmq.destination.routing_key messaging.rabbitmq.message.delivery_tag",
            sometimes: "messaging.message.id messaging.message.conversation_id messaging.destination.anonymous \
                        messaging.destination.temporary network.peer.address network.peer.port",
            together: PEER,
            asked: "messaging.destination.template messaging.message.body.size",
            ..Operation::NONE
        },
        Operation {
            name: "consume",
            kind: "receive",
            span: "an error of a consumer, whose messages the broker pushes; none of what goes well",
            always: SERVER_AND_NAME,
            sometimes: "messaging.destination.anonymous messaging.destination.temporary \
                        network.peer.address network.peer.port",
            together: PEER,
            asked: "messaging.destination.template",
            ..Operation::NONE
        },
        Operation {
            name: "process",
            kind: "process",
            span: PROCESS,
            always: "messaging.system messaging.operation.name messaging.operation.type messaging.destination.name \
                     server.address server.port messaging.rabbitmq.destination.routing_key \
                     messaging.rabbitmq.message.delivery_tag",
            sometimes: "messaging.message.id messaging.message.conversation_id messaging.destination.anonymous \
                        messaging.destination.temporary messaging.batch.message_count \
                        otel_messaging.delivery.attempt otel_messaging.delivery.redelivered \
                        otel_messaging.settlement.outcome otel_messaging.stream.offset otel_messaging.wait_time",
            asked: "messaging.destination.template messaging.message.body.size otel_messaging.header",
            late: "otel_messaging.settlement.outcome",
            ..Operation::NONE
        },
        Operation {
            name: "ack",
            kind: "settle",
            span: SETTLE,
            always: TAGGED,
            answered: "otel_messaging.settlement.outcome",
            sometimes: "messaging.message.id messaging.message.conversation_id messaging.batch.message_count \
                        otel_messaging.stream.offset network.peer.address network.peer.port",
            together: PEER,
            late: "otel_messaging.settlement.outcome",
            asked: "messaging.destination.template",
        },
        Operation {
            name: "nack",
            kind: "settle",
            span: SETTLE,
            always: TAGGED,
            answered: "otel_messaging.settlement.outcome",
            sometimes: "messaging.message.id messaging.message.conversation_id messaging.batch.message_count \
                        otel_messaging.stream.offset network.peer.address network.peer.port",
            together: PEER,
            late: "otel_messaging.settlement.outcome",
            asked: "messaging.destination.template",
        },
        Operation {
            name: "reject",
            kind: "settle",
            span: SETTLE,
            always: TAGGED,
            answered: "otel_messaging.settlement.outcome",
            sometimes: "messaging.message.id messaging.message.conversation_id \
                        otel_messaging.stream.offset network.peer.address network.peer.port",
            together: PEER,
            late: "otel_messaging.settlement.outcome",
            asked: "messaging.destination.template",
        },
    ],
    measures: &[
        Measure {
            metric: "messaging.client.operation.duration",
            operations: "publish get consume ack nack reject",
            always: "messaging.system messaging.operation.name messaging.operation.type server.address server.port",
            sometimes: "messaging.destination.name error.type",
            asked: "messaging.destination.template",
        },
        Measure {
            metric: "messaging.client.sent.messages",
            operations: "publish",
            always: MEASURED,
            sometimes: "messaging.destination.name error.type",
            asked: "messaging.destination.template",
        },
        Measure {
            metric: "messaging.client.consumed.messages",
            operations: "get process",
            always: MEASURED,
            sometimes: "messaging.destination.name",
            asked: "messaging.destination.template",
        },
        Measure {
            metric: "messaging.process.duration",
            operations: "process",
            always: MEASURED,
            sometimes: "messaging.destination.name error.type",
            asked: "messaging.destination.template",
        },
        Measure {
            metric: "otel_messaging.queue_time",
            operations: "get process",
            always: "messaging.system messaging.operation.name server.address server.port otel_messaging.clock",
            sometimes: "messaging.destination.name",
            asked: "messaging.destination.template",
        },
        Measure {
            metric: "otel_messaging.wait_time",
            operations: "process",
            always: MEASURED,
            sometimes: "messaging.destination.name",
            asked: "messaging.destination.template",
        },
        Measure {
            metric: "otel_messaging.deliveries",
            operations: "ack nack reject get process",
            always: "messaging.system messaging.operation.name server.address server.port \
                     otel_messaging.settlement.outcome",
            sometimes: "messaging.destination.name",
            asked: "messaging.destination.template",
        },
    ],
    left_out: &[
        LeftOut {
            attribute: "messaging.client.id",
            of: "*",
            why: "it is a connection's `connection_name`, which lapin takes and does not tell",
        },
        LeftOut { attribute: "messaging.consumer.group.name", of: "*", why: "queues have no groups" },
        LeftOut {
            attribute: "messaging.destination.subscription.name",
            of: "*",
            why: "the queue is the subscription, and a part of the destination's name",
        },
        LeftOut { attribute: "messaging.destination.partition.id", of: "*", why: "queues have none" },
        LeftOut {
            attribute: "messaging.message.envelope.size",
            of: "*",
            why: "the client does not tell what a message takes on the wire",
        },
        LeftOut { attribute: "messaging.message.body.size", of: "create", why: "the helper is not given the body" },
        LeftOut {
            attribute: "messaging.batch.message_count",
            of: "publish get reject",
            why: "no call of the client is about several messages",
        },
        LeftOut { attribute: "messaging.batch.message_count", of: "consume", why: NO_MESSAGE },
        LeftOut { attribute: "messaging.message.id", of: "consume", why: NO_MESSAGE },
        LeftOut { attribute: "messaging.message.conversation_id", of: "consume", why: NO_MESSAGE },
        LeftOut { attribute: "messaging.message.body.size", of: "consume", why: NO_MESSAGE },
        LeftOut { attribute: "messaging.rabbitmq.destination.routing_key", of: "consume", why: NO_MESSAGE },
        LeftOut { attribute: "messaging.rabbitmq.message.delivery_tag", of: "consume", why: NO_MESSAGE },
        LeftOut { attribute: "messaging.message.id", of: "create", why: "the helper is not given the properties" },
        LeftOut {
            attribute: "messaging.message.conversation_id",
            of: "create",
            why: "the helper is not given the properties",
        },
        LeftOut { attribute: "server.address", of: "create", why: "the helper has no connection" },
        LeftOut { attribute: "server.port", of: "create", why: "the helper has no connection" },
        LeftOut {
            attribute: "error.type",
            of: "messaging.client.consumed.messages",
            why: "what is counted was delivered",
        },
        LeftOut {
            attribute: "otel_messaging.delivery.outcome_unknown",
            of: "*",
            why: "a confirm is waited for also when nobody else does",
        },
    ],
    elsewhere: &[],
    lacking: &[
        Lacking {
            attribute: "messaging.rabbitmq.destination.routing_key",
            operations: "publish",
            scenario: "publish_fails",
            why: "the routing key is empty",
        },
        Lacking {
            attribute: "messaging.destination.name",
            operations: "ack nack reject",
            scenario: "settle_fails",
            why: "nothing is known of their tags any more: the channel was closed, and a tag may be another message's by \
                  then",
        },
    ],
    listed: include_str!("../../scenarios/rabbitmq.txt"),
    performed: &[
        scenarios::ALL,
        handling::all::<Rabbit>(),
        correlation::all::<Rabbit>(),
        settling::all::<Rabbit>(),
        switches::all::<Rabbit>(),
    ],
    start: || {
        let rabbitmq = brokers::RabbitMq::start()?;
        Ok(Started { address: rabbitmq.uri.clone(), _running: Box::new(rabbitmq) })
    },
};

const SERVER_AND_NAME: &str = "messaging.system messaging.operation.name messaging.operation.type \
                               messaging.destination.name server.address server.port";

const ROUTED: &str = "messaging.system messaging.operation.name messaging.operation.type messaging.destination.name \
                      server.address server.port messaging.rabbitmq.destination.routing_key";

const TAGGED: &str = "messaging.system messaging.operation.name messaging.operation.type messaging.destination.name \
                      server.address server.port messaging.rabbitmq.message.delivery_tag";

/// Known where the connection's URI has an IP address.
const PEER: &[&str] = &["network.peer.address network.peer.port"];

const MEASURED: &str = "messaging.system messaging.operation.name server.address server.port";

const SETTLE: &str = "from the call to its result";
