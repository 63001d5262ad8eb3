//! RabbitMQ: what its client emits.

mod client;
mod scenarios;

use client::Rabbit;

use crate::{
    broker::{Broker, Started},
    scenario::{Lacking, Measure, NO_MESSAGE, Operation, PROCESS, left_out},
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
        Operation { name: "ack", sometimes: SETTLED_TOGETHER, ..SETTLE },
        Operation { name: "nack", sometimes: SETTLED_TOGETHER, ..SETTLE },
        Operation { name: "reject", sometimes: SETTLED, ..SETTLE },
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
        left_out(
            "messaging.client.id",
            "*",
            "it is a connection's `connection_name`, which lapin takes and does not tell",
        ),
        left_out("messaging.consumer.group.name", "*", "queues have no groups"),
        left_out(
            "messaging.destination.subscription.name",
            "*",
            "the queue is the subscription, and a part of the destination's name",
        ),
        left_out("messaging.destination.partition.id", "*", "queues have none"),
        left_out("messaging.message.envelope.size", "*", "the client does not tell what a message takes on the wire"),
        left_out("messaging.message.body.size", "create", "the helper is not given the body"),
        left_out(
            "messaging.batch.message_count",
            "publish get reject",
            "no call of the client is about several messages",
        ),
        left_out("messaging.batch.message_count", "consume", NO_MESSAGE),
        left_out("messaging.message.id", "consume", NO_MESSAGE),
        left_out("messaging.message.conversation_id", "consume", NO_MESSAGE),
        left_out("messaging.message.body.size", "consume", NO_MESSAGE),
        left_out("messaging.rabbitmq.destination.routing_key", "consume", NO_MESSAGE),
        left_out("messaging.rabbitmq.message.delivery_tag", "consume", NO_MESSAGE),
        left_out("messaging.message.id", "create", "the helper is not given the properties"),
        left_out("messaging.message.conversation_id", "create", "the helper is not given the properties"),
        left_out("server.address", "create", "the helper has no connection"),
        left_out("server.port", "create", "the helper has no connection"),
        left_out("error.type", "messaging.client.consumed.messages", "what is counted was delivered"),
        left_out(
            "otel_messaging.delivery.outcome_unknown",
            "*",
            "the channel awaits a confirm, even if the application does not",
        ),
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

/// Known where the connection's URI has an IP address.
const PEER: &[&str] = &["network.peer.address network.peer.port"];

const MEASURED: &str = "messaging.system messaging.operation.name server.address server.port";

const SETTLED: &str = "messaging.message.id messaging.message.conversation_id otel_messaging.stream.offset \
                       network.peer.address network.peer.port";

const SETTLED_TOGETHER: &str = "messaging.message.id messaging.message.conversation_id messaging.batch.message_count \
                                otel_messaging.stream.offset network.peer.address network.peer.port";

const SETTLE: Operation = Operation {
    kind: "settle",
    span: "from the call to its result",
    always: "messaging.system messaging.operation.name messaging.operation.type messaging.destination.name \
             server.address server.port messaging.rabbitmq.message.delivery_tag",
    answered: "otel_messaging.settlement.outcome",
    together: PEER,
    late: "otel_messaging.settlement.outcome",
    asked: "messaging.destination.template",
    ..Operation::NONE
};
