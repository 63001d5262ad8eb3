//! NATS, with JetStream: what its client emits.

mod client;
mod core;
mod jetstream;

use client::{JetStream, Nats};

use crate::{
    broker::{Broker, Started},
    scenario::{Measure, NO_MESSAGE, Operation, PROCESS, left_out},
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
        left_out("messaging.message.envelope.size", "*", "the client does not tell what a message takes on the wire"),
        left_out("messaging.destination.partition.id", "*", "subjects have none"),
        left_out("messaging.message.conversation_id", "*", "NATS has none"),
        left_out(
            "messaging.batch.message_count",
            "publish request respond ack nak term",
            "no call of the client is about several messages",
        ),
        left_out("messaging.batch.message_count", "consume", NO_MESSAGE),
        left_out("messaging.message.body.size", "consume", NO_MESSAGE),
        left_out("messaging.message.id", "consume", NO_MESSAGE),
        left_out("messaging.nats.domain", "consume", NO_MESSAGE),
        left_out("messaging.nats.message.stream_sequence", "consume", NO_MESSAGE),
        left_out("messaging.nats.message.consumer_sequence", "consume", NO_MESSAGE),
        left_out("messaging.nats.message.delivery_count", "consume", NO_MESSAGE),
        left_out("otel_messaging.delivery.attempt", "consume", NO_MESSAGE),
        left_out("otel_messaging.delivery.redelivered", "consume", NO_MESSAGE),
        left_out("otel_messaging.delivery.outcome_unknown", "consume", "it has failed"),
        left_out("messaging.consumer.group.name", "fetch", "pull consumers have none"),
        left_out("messaging.destination.template", "respond", "a response goes to an inbox"),
        left_out("messaging.message.body.size", "create", "the helper is not given the body"),
        left_out("messaging.message.id", "create", "the helper writes headers and reads none"),
        left_out("messaging.nats.message.stream_sequence", "request respond", "nothing is stored"),
        left_out("messaging.nats.stream.name", "request respond", "nothing is stored"),
        left_out("messaging.nats.domain", "request respond", "nothing is stored"),
        left_out("messaging.nats.publish.duplicate", "request respond", "nothing is stored"),
        left_out("otel_messaging.delivery.outcome_unknown", "respond", "nothing is waited for"),
        left_out("otel_messaging.delivery.outcome_unknown", "fetch", "it ends with its batch"),
        left_out("server.address", "create", "the helper has no connection"),
        left_out("server.port", "create", "the helper has no connection"),
        left_out("error.type", "messaging.client.consumed.messages", "what is counted was delivered"),
    ],
    elsewhere: &[
        left_out("messaging.destination.anonymous", "request respond fetch consume", "subjects that are UUIDs"),
        left_out("messaging.destination.temporary", "request fetch consume", "inboxes"),
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
