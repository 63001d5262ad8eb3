//! NATS, with JetStream: what its client emits.

mod client;
mod core;
mod jetstream;

use client::{JetStream, Nats};

use crate::{
    broker::{Broker, Started},
    scenario::{LeftOut, Measure, NO_MESSAGE, Operation, PROCESS},
    scenarios::{correlation, handling, settling, switches},
};

pub(crate) static NATS: Broker = Broker {
    name: "nats",
    scope: "otel-async-nats",
    operations: &[
        Operation {
            name: "publish",
            kind: "send",
            span: "from the call to the hand-over; JetStream: to the acknowledgement, or to the drop of its future",
            always: SEND,
            sometimes: "messaging.message.id messaging.destination.temporary messaging.destination.anonymous \
                        messaging.nats.stream.name messaging.nats.message.stream_sequence messaging.nats.domain \
                        messaging.nats.publish.duplicate otel_messaging.delivery.outcome_unknown",
            together: &["messaging.nats.stream.name messaging.nats.message.stream_sequence"],
            asked: "messaging.destination.template messaging.message.body.size otel_messaging.header",
            late: "messaging.nats.stream.name messaging.nats.message.stream_sequence messaging.nats.domain \
                   messaging.nats.publish.duplicate otel_messaging.delivery.outcome_unknown",
            ..Operation::NONE
        },
        Operation {
            name: "request",
            kind: "send",
            span: "from the call to the reply, which is linked when it carries a context",
            always: SEND,
            sometimes: "messaging.message.id otel_messaging.delivery.outcome_unknown",
            asked: "messaging.destination.template messaging.message.body.size otel_messaging.header",
            late: "otel_messaging.delivery.outcome_unknown links",
            ..Operation::NONE
        },
        Operation {
            name: "respond",
            kind: "send",
            span: "from the call to the hand-over; carries a context only where the response has headers already",
            always: "messaging.system messaging.operation.name messaging.operation.type messaging.client.id \
                     server.address server.port network.peer.address network.peer.port",
            sometimes: "messaging.destination.name messaging.destination.temporary messaging.message.id",
            asked: "messaging.message.body.size otel_messaging.header",
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
            name: "fetch",
            kind: "receive",
            span: "from the call to the end of the batch; single items of a stream only where they are asked for",
            always: "messaging.system messaging.operation.name messaging.operation.type messaging.client.id \
                     messaging.destination.subscription.name messaging.nats.stream.name server.address server.port \
                     network.peer.address network.peer.port",
            sometimes: "messaging.batch.message_count messaging.destination.name messaging.destination.template \
                        messaging.message.id messaging.nats.domain messaging.nats.message.stream_sequence \
                        messaging.nats.message.consumer_sequence messaging.nats.message.delivery_count \
                        otel_messaging.delivery.attempt otel_messaging.delivery.redelivered",
            together: &[
                "messaging.nats.message.stream_sequence messaging.nats.message.consumer_sequence",
                "messaging.nats.message.delivery_count otel_messaging.delivery.attempt",
            ],
            asked: "messaging.message.body.size",
            ..Operation::NONE
        },
        Operation {
            name: "consume",
            kind: "receive",
            span: "an error of a push consumer; none of what goes well",
            always: "messaging.system messaging.operation.name messaging.operation.type messaging.client.id \
                     messaging.destination.subscription.name messaging.nats.stream.name server.address server.port \
                     network.peer.address network.peer.port",
            sometimes: "messaging.destination.name messaging.destination.template messaging.consumer.group.name",
            ..Operation::NONE
        },
        Operation {
            name: "process",
            kind: "process",
            span: PROCESS,
            always: "messaging.system messaging.operation.name messaging.operation.type messaging.client.id \
                     server.address server.port",
            sometimes: "messaging.destination.name messaging.destination.template messaging.consumer.group.name \
                        messaging.destination.temporary messaging.destination.anonymous \
                        messaging.destination.subscription.name messaging.message.id messaging.batch.message_count \
                        messaging.nats.stream.name messaging.nats.message.stream_sequence \
                        messaging.nats.message.consumer_sequence messaging.nats.message.delivery_count \
                        messaging.nats.domain otel_messaging.delivery.attempt otel_messaging.delivery.redelivered \
                        otel_messaging.settlement.outcome otel_messaging.wait_time",
            together: &["messaging.nats.stream.name messaging.destination.subscription.name \
                         messaging.nats.message.stream_sequence messaging.nats.message.consumer_sequence \
                         messaging.nats.message.delivery_count otel_messaging.delivery.attempt"],
            asked: "messaging.message.body.size otel_messaging.header",
            late: "otel_messaging.settlement.outcome",
            ..Operation::NONE
        },
        settle(
            "ack",
            "from the call to the publish, also by hand, or to the answer of a double acknowledgement or a request",
        ),
        settle("nak", "as ack"),
        settle("term", "as ack"),
    ],
    measures: &[
        Measure {
            metric: "messaging.client.operation.duration",
            operations: "publish request respond fetch consume ack nak term",
            always: "messaging.system messaging.operation.name messaging.operation.type server.address server.port",
            sometimes: "messaging.destination.name messaging.destination.template messaging.consumer.group.name \
                        messaging.destination.subscription.name error.type",
            asked: "",
        },
        Measure {
            metric: "messaging.client.sent.messages",
            operations: "publish request respond",
            always: MEASURED,
            sometimes: "messaging.destination.name error.type",
            asked: "messaging.destination.template",
        },
        Measure {
            metric: "messaging.client.consumed.messages",
            operations: "fetch process",
            always: MEASURED,
            sometimes: "messaging.destination.name messaging.destination.template messaging.consumer.group.name \
                        messaging.destination.subscription.name",
            asked: "",
        },
        Measure {
            metric: "messaging.process.duration",
            operations: "process",
            always: MEASURED,
            sometimes: "messaging.destination.name messaging.destination.template messaging.consumer.group.name \
                        messaging.destination.subscription.name error.type",
            asked: "",
        },
        Measure {
            metric: "otel_messaging.queue_time",
            operations: "fetch process",
            always: "messaging.system messaging.operation.name server.address server.port otel_messaging.clock",
            sometimes: "messaging.destination.name messaging.destination.template messaging.consumer.group.name \
                        messaging.destination.subscription.name",
            asked: "",
        },
        Measure {
            metric: "otel_messaging.wait_time",
            operations: "process",
            always: MEASURED,
            sometimes: "messaging.destination.name messaging.destination.template messaging.consumer.group.name \
                        messaging.destination.subscription.name",
            asked: "",
        },
        Measure {
            metric: "otel_messaging.deliveries",
            operations: "ack nak term fetch process",
            always: "messaging.system messaging.operation.name server.address server.port \
                     otel_messaging.settlement.outcome",
            sometimes: "messaging.destination.name messaging.destination.template messaging.consumer.group.name \
                        messaging.destination.subscription.name",
            asked: "",
        },
    ],
    left_out: &[
        LeftOut {
            attribute: "messaging.message.envelope.size",
            of: "*",
            why: "the client does not tell what a message takes on the wire",
        },
        LeftOut { attribute: "messaging.destination.partition.id", of: "*", why: "subjects have none" },
        LeftOut { attribute: "messaging.message.conversation_id", of: "*", why: "NATS has none" },
        LeftOut {
            attribute: "messaging.batch.message_count",
            of: "publish request respond ack nak term",
            why: "no call of the client is about several messages",
        },
        LeftOut { attribute: "messaging.batch.message_count", of: "consume", why: NO_MESSAGE },
        LeftOut { attribute: "messaging.message.body.size", of: "consume", why: NO_MESSAGE },
        LeftOut { attribute: "messaging.message.id", of: "consume", why: NO_MESSAGE },
        LeftOut { attribute: "messaging.nats.domain", of: "consume", why: NO_MESSAGE },
        LeftOut { attribute: "messaging.nats.message.stream_sequence", of: "consume", why: NO_MESSAGE },
        LeftOut { attribute: "messaging.nats.message.consumer_sequence", of: "consume", why: NO_MESSAGE },
        LeftOut { attribute: "messaging.nats.message.delivery_count", of: "consume", why: NO_MESSAGE },
        LeftOut { attribute: "otel_messaging.delivery.attempt", of: "consume", why: NO_MESSAGE },
        LeftOut { attribute: "otel_messaging.delivery.redelivered", of: "consume", why: NO_MESSAGE },
        LeftOut { attribute: "otel_messaging.delivery.outcome_unknown", of: "consume", why: "it has failed" },
        LeftOut { attribute: "messaging.consumer.group.name", of: "fetch", why: "pull consumers have none" },
        LeftOut { attribute: "messaging.destination.template", of: "respond", why: "a response goes to an inbox" },
        LeftOut { attribute: "messaging.message.body.size", of: "create", why: "the helper is not given the body" },
        LeftOut { attribute: "messaging.message.id", of: "create", why: "the helper writes headers and reads none" },
        LeftOut {
            attribute: "messaging.nats.message.stream_sequence",
            of: "request respond",
            why: "nothing is stored",
        },
        LeftOut { attribute: "messaging.nats.stream.name", of: "request respond", why: "nothing is stored" },
        LeftOut { attribute: "messaging.nats.domain", of: "request respond", why: "nothing is stored" },
        LeftOut { attribute: "messaging.nats.publish.duplicate", of: "request respond", why: "nothing is stored" },
        LeftOut { attribute: "otel_messaging.delivery.outcome_unknown", of: "respond", why: "nothing is waited for" },
        LeftOut { attribute: "otel_messaging.delivery.outcome_unknown", of: "fetch", why: "it ends with its batch" },
        LeftOut { attribute: "server.address", of: "create", why: "the helper has no connection" },
        LeftOut { attribute: "server.port", of: "create", why: "the helper has no connection" },
        LeftOut {
            attribute: "error.type",
            of: "messaging.client.consumed.messages",
            why: "what is counted was delivered",
        },
    ],
    elsewhere: &[
        LeftOut {
            attribute: "messaging.destination.anonymous",
            of: "request respond fetch consume",
            why: "subjects that are UUIDs",
        },
        LeftOut { attribute: "messaging.destination.temporary", of: "request fetch consume", why: "inboxes" },
    ],
    lacking: &[],
    listed: include_str!("../../scenarios/nats.txt"),
    performed: &[
        core::ALL,
        jetstream::ALL,
        handling::all::<Nats>(),
        correlation::all::<Nats>(),
        settling::all::<JetStream>(),
        switches::all::<Nats>(),
    ],
    start: || {
        let nats = brokers::Nats::start()?;
        Ok(Started { address: nats.url.clone(), _running: Box::new(nats) })
    },
};

const SEND: &str = "messaging.system messaging.operation.name messaging.operation.type messaging.client.id \
                    messaging.destination.name server.address server.port network.peer.address network.peer.port";

const MEASURED: &str = "messaging.system messaging.operation.name server.address server.port";

const fn settle(name: &'static str, span: &'static str) -> Operation {
    Operation {
        name,
        kind: "settle",
        span,
        always: "messaging.system messaging.operation.name messaging.operation.type messaging.client.id \
                 messaging.destination.name messaging.destination.subscription.name messaging.nats.stream.name \
                 server.address server.port network.peer.address network.peer.port",
        sometimes: "messaging.destination.template messaging.consumer.group.name messaging.message.id \
                    messaging.nats.domain otel_messaging.settlement.outcome otel_messaging.delivery.outcome_unknown",
        late: "otel_messaging.settlement.outcome otel_messaging.delivery.outcome_unknown",
        ..Operation::NONE
    }
}
