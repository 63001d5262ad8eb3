//! NATS, with JetStream.

use std::{collections::HashMap, future::Future, pin::pin, time::Duration};

use futures::{Stream, StreamExt, poll};
use opentelemetry::trace::{FutureExt, TraceContextExt};
use otel_async_nats::{
    Client, ConnectOptions, HeaderMap,
    jetstream::{
        self, AckKind, Message,
        consumer::{AckPolicy, pull, push},
        stream,
    },
    otel::{Creator, MessageExt, MessageStreamExt, process_batch},
    service::{self, ServiceExt},
};
use otel_messaging::{AutoCorrelation, CarriedContext, Correlation, Instrumentation, InstrumentationBuilder};

use crate::{
    broker::{Broker, Started},
    handler,
    scenario::{LeftOut, Measure, NO_MESSAGE, Operation, PROCESS, panics, scenario},
    stage::{Stage, until},
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
        settle("ack", "from the call to the publish, also by hand, or to the answer of a double acknowledgement or a request"),
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
    scenarios: &[
        scenario!(
            publish_and_process,
            "a message is published, and handled by a subscriber",
            "
             PRODUCER publish orders < request
             CONSUMER process orders < publish orders ~ publish orders"
        ),
        scenario!(
            publish_fails,
            "a message is larger than the server allows",
            "
             CLIENT publish orders ! max_payload_exceeded"
        ),
        scenario!(
            publish_with_id,
            "a message has an id",
            "
             PRODUCER publish orders [message.id=17]
             CONSUMER process orders < publish orders ~ publish orders [message.id=17]"
        ),
        scenario!(
            handler_fails,
            "a handler gives an error, another panics",
            "
             2 x PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders ! &str
             CONSUMER process orders < publish orders ~ publish orders ! panic"
        ),
        scenario!(
            outcomes,
            "a function finds what failed: of a handler, of one that is synchronous, of one of a stream, of one of a batch; \
             another handler gives `None`, which is no failure",
            "
             5 x PRODUCER publish orders
             3 x CONSUMER process orders < publish orders ~ publish orders ! declined
             CONSUMER process orders < publish orders ~ publish orders
             CONSUMER process orders ~ publish orders ! declined [batch.message_count=1]"
        ),
        scenario!(
            handler_waits,
            "two messages wait for their handlers",
            "
             2 x PRODUCER publish orders
             2 x CONSUMER process orders < publish orders ~ publish orders"
        ),
        scenario!(
            batch_waits,
            "three messages wait until they are handled together",
            "
             3 x PRODUCER publish orders
             CONSUMER process orders ~ publish orders, publish orders, publish orders [batch.message_count=3]"
        ),
        scenario!(
            context_before_handler,
            "a message waits for its handler, and its context is asked for before: the span starts with the delivery",
            "
             PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders"
        ),
        scenario!(
            handled_at_once,
            "`process_each`: the delivery is the handler's start",
            "
             2 x PRODUCER publish orders
             2 x CONSUMER process orders < publish orders ~ publish orders"
        ),
        scenario!(
            wildcard_in_group,
            "a queue group subscribes to a wildcard",
            "
             PRODUCER publish orders.4711
             CONSUMER process orders.* < publish orders.4711 ~ publish orders.4711 [destination.template=orders.* consumer.group.name=payment]"
        ),
        scenario!(
            request_and_reply,
            "a request is answered by a subscriber",
            "
             PRODUCER publish < process stock [destination.temporary=true]
             PRODUCER request stock < order ~ publish
             CONSUMER process stock < request stock ~ request stock"
        ),
        scenario!(
            request_fails,
            "nobody answers",
            "
             PRODUCER request stock ! no_responders"
        ),
        scenario!(
            service,
            "a service's endpoint responds",
            "
             PRODUCER request stock
             CONSUMER process stock < request stock ~ request stock [consumer.group.name=q]
             CLIENT respond < process stock [destination.temporary=true]"
        ),
        scenario!(
            respond_fails,
            "a response is larger than the server allows",
            "
             PRODUCER request stock
             CONSUMER process stock < request stock ~ request stock ! async_nats::error::Error<async_nats::client::PublishErrorKind> [consumer.group.name=q]
             CLIENT respond < process stock ! max_payload_exceeded [destination.temporary=true]"
        ),
        scenario!(
            service_error,
            "a service's endpoint responds with an error, and so does a service that is not ours, with a code that is none",
            "
             PRODUCER request prices ! _OTHER
             PRODUCER request stock ! 404
             CONSUMER process stock < request stock ~ request stock ! 404 [consumer.group.name=q]
             CLIENT respond < process stock [destination.temporary=true]"
        ),
        scenario!(
            answered,
            "who asks chooses the subject of the answer",
            "
             PRODUCER publish < process stock [destination.temporary=true]
             CONSUMER process stock"
        ),
        scenario!(
            captured_response,
            "a service's endpoint responds with headers: they, ids and sizes are told",
            "
             PRODUCER request stock ~ respond [message.body.size=7 message.id=17 header.x-tenant=blue]
             PRODUCER respond < process stock [destination.temporary=true message.body.size=4 message.id=18 header.x-tenant=blue]
             CONSUMER process stock < request stock ~ request stock [message.body.size=7 message.id=17 header.x-tenant=blue consumer.group.name=q]"
        ),
        scenario!(
            inbox,
            "a message to an inbox",
            "
             PRODUCER publish [destination.temporary=true]
             CONSUMER process < publish ~ publish [destination.temporary=true]"
        ),
        scenario!(
            templated,
            "`destination_template` knows the pattern of subjects",
            "
             PRODUCER create shop.{id} [destination.template=shop.{id}]
             PRODUCER publish shop.{id} [destination.template=shop.{id}]
             PRODUCER request shop.{id} ! no_responders [destination.template=shop.{id}]
             CONSUMER process shop.{id} [destination.template=shop.{id} delivery.attempt=1 settlement.outcome=ack]
             CONSUMER process shop.{id} [destination.template=shop.{id} delivery.attempt=1 settlement.outcome=nack]
             CONSUMER process shop.{id} [destination.template=shop.{id} delivery.attempt=1 settlement.outcome=term]
             CLIENT ack shop.{id} < process shop.{id} [destination.template=shop.{id} settlement.outcome=ack]
             CLIENT fetch shop.{id} [batch.message_count=3 destination.template=shop.{id} delivery.attempt=1]
             CLIENT nak shop.{id} < process shop.{id} [destination.template=shop.{id} settlement.outcome=nack]
             CLIENT term shop.{id} < process shop.{id} [destination.template=shop.{id} settlement.outcome=term]"
        ),
        scenario!(
            anonymous_subject,
            "a subject that a program named for one use, and messages that are made for it and for an inbox",
            "
             PRODUCER create [destination.anonymous=true]
             PRODUCER create [destination.temporary=true]
             PRODUCER publish [destination.anonymous=true]
             CONSUMER process < publish ~ publish [destination.anonymous=true]"
        ),
        scenario!(
            given_up,
            "nobody waits for a reply, nor for what a stream answers to its acknowledgements",
            "
             PRODUCER request stock [delivery.outcome_unknown=true]
             3 x CONSUMER process S.paid [delivery.attempt=1]
             CONSUMER process stock < request stock ~ request stock
             CLIENT ack S.paid < process S.paid [delivery.outcome_unknown=true]
             CLIENT fetch S.paid [batch.message_count=3 delivery.attempt=1]
             CLIENT nak S.paid < process S.paid [delivery.outcome_unknown=true]
             CLIENT term S.paid < process S.paid [delivery.outcome_unknown=true]"
        ),
        scenario!(
            jetstream_publish,
            "a stream acknowledges a publish",
            "
             PRODUCER publish S.paid"
        ),
        scenario!(
            duplicate,
            "a stream has a message with this id already",
            "
             PRODUCER publish S.paid [message.id=17]
             PRODUCER publish S.paid [message.id=17 nats.publish.duplicate=true]"
        ),
        scenario!(
            scheduled,
            "a schedule of the server sends a message, and the policy is `Auto`",
            "
             PRODUCER publish S.later
             CONSUMER process S.due ~ publish S.later [delivery.attempt=1 settlement.outcome=ack]
             CLIENT ack S.due < process S.due [settlement.outcome=ack]
             CLIENT fetch S.due ~ publish S.later [batch.message_count=1 delivery.attempt=1]
             metric messaging.client.consumed.messages fetch x1
             metric messaging.client.operation.duration ack x1
             metric messaging.client.operation.duration fetch x1
             metric messaging.client.operation.duration publish x1
             metric messaging.client.sent.messages publish x1
             metric messaging.process.duration process x1
             metric otel_messaging.deliveries ack [settlement.outcome=ack] x1
             metric otel_messaging.wait_time process x1"
        ),
        scenario!(
            headers_only,
            "a consumer that gets no bodies: the size is that of the body",
            "
             CONSUMER process S.paid [message.body.size=11 delivery.attempt=1 settlement.outcome=ack]
             CLIENT ack S.paid < process S.paid [settlement.outcome=ack]
             CLIENT fetch S.paid [batch.message_count=1 message.body.size=11 delivery.attempt=1]"
        ),
        scenario!(
            jetstream_publish_fails,
            "no stream listens, and a sequence is expected that is not",
            "
             PRODUCER publish S.paid ! wrong_last_sequence
             PRODUCER publish nowhere ! stream_not_found"
        ),
        scenario!(
            ack_not_awaited,
            "nobody waits for the stream's acknowledgement",
            "
             PRODUCER publish S.paid [delivery.outcome_unknown=true]"
        ),
        scenario!(
            fetch,
            "a batch of two is fetched",
            "
             2 x PRODUCER publish S.paid
             2 x CONSUMER process S.paid < publish S.paid ~ publish S.paid [delivery.attempt=1 settlement.outcome=ack]
             2 x CLIENT ack S.paid < process S.paid [settlement.outcome=ack]
             CLIENT fetch S.paid ~ publish S.paid {nats.message.stream_sequence nats.message.consumer_sequence}, publish S.paid {nats.message.stream_sequence nats.message.consumer_sequence} [batch.message_count=2 delivery.attempt=1]"
        ),
        scenario!(
            fetch_one,
            "a message with an id is fetched, refused, and fetched again",
            "
             CONSUMER process S.paid [message.id=17 delivery.attempt=1 settlement.outcome=nack]
             CONSUMER process S.paid [message.id=17 delivery.attempt=2 delivery.redelivered=true settlement.outcome=ack]
             CLIENT ack S.paid < process S.paid [message.id=17 settlement.outcome=ack]
             CLIENT fetch S.paid [batch.message_count=1 message.id=17 delivery.attempt=1]
             CLIENT fetch S.paid [batch.message_count=1 message.id=17 delivery.attempt=2 delivery.redelivered=true]
             CLIENT nak S.paid < process S.paid [message.id=17 settlement.outcome=nack]"
        ),
        scenario!(
            fetch_of_several,
            "three messages of two subjects, of which two may be linked",
            "
             2 x PRODUCER publish S.paid
             PRODUCER publish S.sent
             2 x CONSUMER process S.* < publish S.paid ~ publish S.paid [destination.template=S.* delivery.attempt=1]
             CONSUMER process S.* < publish S.sent ~ publish S.sent [destination.template=S.* delivery.attempt=1]
             2 x CONSUMER process S.paid < publish S.paid ~ publish S.paid [delivery.attempt=1]
             CONSUMER process S.sent < publish S.sent ~ publish S.sent [delivery.attempt=1]
             CLIENT fetch S.* ~ publish S.paid {destination.name nats.message.stream_sequence nats.message.consumer_sequence}, publish S.sent {destination.name nats.message.stream_sequence nats.message.consumer_sequence} [batch.message_count=3 destination.template=S.* delivery.attempt=1]
             CLIENT fetch SERVER ~ publish S.paid {destination.name nats.message.stream_sequence nats.message.consumer_sequence}, publish S.sent {destination.name nats.message.stream_sequence nats.message.consumer_sequence} [batch.message_count=3 delivery.attempt=1]"
        ),
        scenario!(
            filtered_consumers,
            "a wildcard, an exact subject, and a group that is delivered to",
            "
             CONSUMER process S.* [destination.template=S.* delivery.attempt=1 settlement.outcome=ack]
             CONSUMER process S.paid [delivery.attempt=1 settlement.outcome=ack consumer.group.name=payment]
             CONSUMER process S.paid [delivery.attempt=1 settlement.outcome=ack]
             CLIENT ack S.* < process S.* [destination.template=S.* settlement.outcome=ack]
             CLIENT ack S.paid < process S.paid [settlement.outcome=ack consumer.group.name=payment]
             CLIENT ack S.paid < process S.paid [settlement.outcome=ack]
             CLIENT fetch S.* [batch.message_count=1 destination.template=S.* delivery.attempt=1]
             CLIENT fetch S.paid [batch.message_count=1 delivery.attempt=1]"
        ),
        scenario!(
            fetch_fails,
            "the consumer is gone",
            "
             CLIENT fetch SERVER ! _OTHER [batch.message_count=0]"
        ),
        scenario!(
            consumer_deleted,
            "a pull consumer is deleted while its messages are handled: `process_each` ends with the error",
            "
             CONSUMER process S.paid [delivery.attempt=1 settlement.outcome=ack]
             CLIENT ack S.paid < process S.paid [settlement.outcome=ack]
             CLIENT fetch SERVER ! consumer_deleted"
        ),
        scenario!(
            heartbeats_missing,
            "push consumers are deleted, of an exact subject and of a wildcard: the server's heartbeats are missing",
            "
             CLIENT consume S.* ! missing_heartbeat [destination.template=S.*]
             CLIENT consume S.paid ! missing_heartbeat [consumer.group.name=payment]"
        ),
        scenario!(
            settled,
            "ack, double ack, nak, term, and a progress that settles nothing",
            "
             2 x CONSUMER process S.paid [delivery.attempt=1 settlement.outcome=ack]
             CONSUMER process S.paid [delivery.attempt=1 settlement.outcome=nack]
             CONSUMER process S.paid [delivery.attempt=1 settlement.outcome=term]
             2 x CLIENT ack S.paid < process S.paid [settlement.outcome=ack]
             CLIENT nak S.paid < process S.paid [settlement.outcome=nack]
             CLIENT term S.paid < process S.paid [settlement.outcome=term]"
        ),
        scenario!(
            settled_in_group,
            "messages with ids, of a wildcard and a group, are settled in all ways",
            "
             CONSUMER process S.* [destination.template=S.* message.id=17 delivery.attempt=1 settlement.outcome=ack consumer.group.name=payment]
             CONSUMER process S.* [destination.template=S.* message.id=18 delivery.attempt=1 settlement.outcome=nack consumer.group.name=payment]
             CONSUMER process S.* [destination.template=S.* message.id=19 delivery.attempt=1 settlement.outcome=term consumer.group.name=payment]
             CLIENT ack S.* < process S.* [destination.template=S.* message.id=17 settlement.outcome=ack consumer.group.name=payment]
             CLIENT nak S.* < process S.* [destination.template=S.* message.id=18 settlement.outcome=nack consumer.group.name=payment]
             CLIENT term S.* < process S.* [destination.template=S.* message.id=19 settlement.outcome=term consumer.group.name=payment]"
        ),
        scenario!(
            refused_by_the_handler,
            "a handler refuses its message and gives an error",
            "
             CONSUMER process S.paid ! &str [delivery.attempt=1 settlement.outcome=nack]
             CLIENT nak S.paid < process S.paid [settlement.outcome=nack]"
        ),
        scenario!(
            work_after_ack,
            "a handler acknowledges first and goes on working",
            "
             PRODUCER publish shipping < process S.paid
             CONSUMER process S.paid [delivery.attempt=1 settlement.outcome=ack]
             CLIENT ack S.paid < process S.paid [settlement.outcome=ack]"
        ),
        scenario!(
            settled_after_the_end,
            "handled first, acknowledged then",
            "
             CONSUMER process S.paid [delivery.attempt=1]
             CLIENT ack S.paid < process S.paid [settlement.outcome=ack]"
        ),
        scenario!(
            settle_fails,
            "the connection is closed",
            "
             3 x CONSUMER process S.paid [delivery.attempt=1]
             CLIENT ack S.paid < process S.paid ! send
             CLIENT fetch S.paid [batch.message_count=3 delivery.attempt=1]
             CLIENT nak S.paid < process S.paid ! send
             CLIENT term S.paid < process S.paid ! send
             metric messaging.client.consumed.messages fetch x3
             metric messaging.client.operation.duration ack ! send x1
             metric messaging.client.operation.duration fetch x1
             metric messaging.client.operation.duration nak ! send x1
             metric messaging.client.operation.duration term ! send x1
             metric messaging.process.duration process x3
             metric otel_messaging.deliveries fetch [settlement.outcome=dropped] x3
             metric otel_messaging.queue_time fetch [clock=broker] x3"
        ),
        scenario!(
            redelivered,
            "a message comes again",
            "
             CONSUMER process S.paid [delivery.attempt=1 settlement.outcome=nack]
             CONSUMER process S.paid [delivery.attempt=2 delivery.redelivered=true settlement.outcome=ack]
             CLIENT ack S.paid < process S.paid [settlement.outcome=ack]
             CLIENT nak S.paid < process S.paid [settlement.outcome=nack]"
        ),
        scenario!(
            dropped,
            "a message is let go of unsettled: one that was asked for, one that was pushed",
            "
             CONSUMER process S.paid [delivery.attempt=1 consumer.group.name=payment]
             CONSUMER process S.paid [delivery.attempt=1]
             metric messaging.client.consumed.messages fetch x1
             metric messaging.client.consumed.messages process [consumer.group.name=payment] x1
             metric messaging.client.operation.duration fetch x1
             metric messaging.process.duration process [consumer.group.name=payment] x1
             metric messaging.process.duration process x1
             metric otel_messaging.deliveries fetch [settlement.outcome=dropped] x1
             metric otel_messaging.deliveries process [settlement.outcome=dropped consumer.group.name=payment] x1
             metric otel_messaging.queue_time fetch [clock=broker] x1
             metric otel_messaging.queue_time process [clock=broker consumer.group.name=payment] x1"
        ),
        scenario!(
            settled_by_hand,
            "acknowledgements are published, and requested, by the subject that a message wants them on: in its handler, after it, \
             and when the message is gone; one that only asks for time settles nothing",
            "
             CONSUMER process S.paid [delivery.attempt=1 settlement.outcome=ack]
             CONSUMER process S.paid [delivery.attempt=1 settlement.outcome=nack]
             CONSUMER process S.paid [delivery.attempt=1]
             CLIENT ack S.paid < process S.paid [settlement.outcome=ack]
             CLIENT fetch S.paid [batch.message_count=3 delivery.attempt=1]
             CLIENT nak S.paid < process S.paid [settlement.outcome=nack]
             CLIENT term S.paid < process S.paid [settlement.outcome=term]
             metric messaging.client.consumed.messages fetch x3
             metric messaging.client.operation.duration ack x1
             metric messaging.client.operation.duration fetch x1
             metric messaging.client.operation.duration nak x1
             metric messaging.client.operation.duration term x1
             metric messaging.process.duration process x3
             metric otel_messaging.deliveries ack [settlement.outcome=ack] x1
             metric otel_messaging.deliveries nak [settlement.outcome=nack] x1
             metric otel_messaging.deliveries term [settlement.outcome=term] x1
             metric otel_messaging.queue_time fetch [clock=broker] x3
             metric otel_messaging.wait_time process x1"
        ),
        scenario!(
            batch,
            "three messages are handled together",
            "
             3 x PRODUCER publish S.paid
             CONSUMER process S.paid ~ publish S.paid {nats.message.stream_sequence nats.message.consumer_sequence}, publish S.paid {nats.message.stream_sequence nats.message.consumer_sequence}, publish S.paid {nats.message.stream_sequence nats.message.consumer_sequence} [batch.message_count=3 delivery.attempt=1 settlement.outcome=ack]
             3 x CLIENT ack S.paid < process S.paid [settlement.outcome=ack]
             CLIENT fetch S.paid ~ publish S.paid {nats.message.stream_sequence nats.message.consumer_sequence}, publish S.paid {nats.message.stream_sequence nats.message.consumer_sequence}, publish S.paid {nats.message.stream_sequence nats.message.consumer_sequence} [batch.message_count=3 delivery.attempt=1]"
        ),
        scenario!(
            batch_beyond_links,
            "three messages are handled together, and two links are allowed",
            "
             3 x PRODUCER publish S.paid
             CONSUMER process S.paid ~ publish S.paid {nats.message.stream_sequence nats.message.consumer_sequence}, publish S.paid {nats.message.stream_sequence nats.message.consumer_sequence} [batch.message_count=3 delivery.attempt=1 settlement.outcome=ack]
             3 x CLIENT ack S.paid < process S.paid [settlement.outcome=ack]
             CLIENT fetch S.paid ~ publish S.paid {nats.message.stream_sequence nats.message.consumer_sequence}, publish S.paid {nats.message.stream_sequence nats.message.consumer_sequence} [batch.message_count=3 delivery.attempt=1]"
        ),
        scenario!(
            create,
            "a message is made now and sent later",
            "
             PRODUCER create orders < request
             CONSUMER process orders < create orders ~ create orders
             CLIENT publish orders ~ create orders"
        ),
        scenario!(
            carried_replaced,
            "the same, and the send replaces the context",
            "
             PRODUCER create orders < request
             PRODUCER publish orders ~ create orders
             CONSUMER process orders < publish orders ~ publish orders"
        ),
        scenario!(
            forwarded,
            "a handler sends on what it got, headers and all",
            "
             PRODUCER publish orders
             PRODUCER publish shipping < process orders ~ publish orders
             CONSUMER process orders < publish orders ~ publish orders"
        ),
        scenario!(
            renamed_forwarded,
            "a message whose context was renamed by a server is published onwards with its headers",
            "
             PRODUCER publish shipping < process orders ~ sender
             CONSUMER process orders < sender ~ sender
             CONSUMER process shipping < publish shipping ~ publish shipping"
        ),
        scenario!(
            republished,
            "a failed message is sent again",
            "
             PRODUCER publish dead ~ publish orders, process orders
             PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders ! &str"
        ),
        scenario!(
            policy_default,
            "ParentIfNoAmbient: inside a span, and without one",
            "
             2 x PRODUCER publish orders
             CONSUMER process orders < loop ~ publish orders
             CONSUMER process orders < publish orders ~ publish orders"
        ),
        scenario!(
            policy_link,
            "Link: inside a span, and without one",
            "
             2 x PRODUCER publish orders
             CONSUMER process orders < loop ~ publish orders
             CONSUMER process orders ~ publish orders"
        ),
        scenario!(
            policy_parent,
            "Parent: inside a span, and without one",
            "
             2 x PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders
             CONSUMER process orders < publish orders ~ publish orders, loop"
        ),
        scenario!(
            policy_auto,
            "Auto: a usual message, one that comes again, and one that is replayed",
            "
             PRODUCER publish S.paid
             CONSUMER process S.paid < publish S.paid ~ publish S.paid [delivery.attempt=1 settlement.outcome=nack]
             CONSUMER process S.paid ~ publish S.paid [delivery.attempt=1 settlement.outcome=ack]
             CONSUMER process S.paid ~ publish S.paid [delivery.attempt=2 delivery.redelivered=true settlement.outcome=ack]
             2 x CLIENT ack S.paid < process S.paid [settlement.outcome=ack]
             CLIENT nak S.paid < process S.paid [settlement.outcome=nack]"
        ),
        scenario!(
            context_read,
            "a function reads the context that a connector left in a form of its own",
            "
             CONSUMER process orders < connector ~ connector"
        ),
        scenario!(
            untrusted,
            "the source is not trusted",
            "
             2 x PRODUCER publish orders
             CONSUMER process orders < loop ~ publish orders
             CONSUMER process orders ~ publish orders"
        ),
        scenario!(
            captured,
            "headers and sizes are asked for",
            "
             PRODUCER publish < process orders [destination.temporary=true message.body.size=4]
             PRODUCER publish orders [message.body.size=11 header.x-tenant=blue]
             PRODUCER request orders ~ publish [message.body.size=7 header.x-tenant=blue]
             CONSUMER process orders < publish orders ~ publish orders [message.body.size=11 header.x-tenant=blue]
             CONSUMER process orders < request orders ~ request orders [message.body.size=7 header.x-tenant=blue]"
        ),
        scenario!(
            captured_fetch,
            "the same of a message that is fetched",
            "
             CONSUMER process S.paid [message.body.size=4 message.id=17 delivery.attempt=1 header.x-tenant=blue settlement.outcome=ack]
             CLIENT ack S.paid < process S.paid [message.id=17 settlement.outcome=ack]
             CLIENT fetch S.paid [batch.message_count=1 message.body.size=4 message.id=17 delivery.attempt=1]"
        ),
        scenario!(
            domain,
            "JetStream has a domain",
            "
             3 x PRODUCER publish S.paid [nats.domain=hub]
             CONSUMER process S.paid < publish S.paid ~ publish S.paid [nats.domain=hub delivery.attempt=1 settlement.outcome=ack]
             CONSUMER process S.paid < publish S.paid ~ publish S.paid [nats.domain=hub delivery.attempt=1 settlement.outcome=nack]
             CONSUMER process S.paid < publish S.paid ~ publish S.paid [nats.domain=hub delivery.attempt=1 settlement.outcome=term]
             CLIENT ack S.paid < process S.paid [nats.domain=hub settlement.outcome=ack]
             CLIENT fetch S.paid ~ publish S.paid {nats.message.stream_sequence nats.message.consumer_sequence}, publish S.paid {nats.message.stream_sequence nats.message.consumer_sequence}, publish S.paid {nats.message.stream_sequence nats.message.consumer_sequence} [batch.message_count=3 nats.domain=hub delivery.attempt=1]
             CLIENT nak S.paid < process S.paid [nats.domain=hub settlement.outcome=nack]
             CLIENT term S.paid < process S.paid [nats.domain=hub settlement.outcome=term]"
        ),
        scenario!(
            receive_spans_off,
            "a single item of a stream, by default",
            "
             PRODUCER publish S.paid
             CONSUMER process S.paid < publish S.paid ~ publish S.paid [delivery.attempt=1 settlement.outcome=ack]
             CONSUMER process S.paid [message.id=17 delivery.attempt=1 settlement.outcome=ack]
             CLIENT ack S.paid < process S.paid [message.id=17 settlement.outcome=ack]
             CLIENT ack S.paid < process S.paid [settlement.outcome=ack]"
        ),
        scenario!(
            receive_spans_on,
            "the same with `receive_spans`",
            "
             PRODUCER publish S.paid
             CONSUMER process S.paid < publish S.paid ~ publish S.paid [delivery.attempt=1 settlement.outcome=ack]
             CONSUMER process S.paid [message.id=17 delivery.attempt=1 settlement.outcome=ack]
             CLIENT ack S.paid < process S.paid [message.id=17 settlement.outcome=ack]
             CLIENT ack S.paid < process S.paid [settlement.outcome=ack]
             CLIENT fetch S.paid [message.id=17 delivery.attempt=1]
             CLIENT fetch S.paid ~ publish S.paid [delivery.attempt=1]"
        ),
        scenario!(
            without_logger,
            "a failure, and no logger provider",
            "
             PRODUCER request stock ! no_responders"
        ),
        scenario!(
            sampled_out,
            "nothing is sampled",
            "
             metric messaging.client.consumed.messages fetch x1
             metric messaging.client.operation.duration ack x1
             metric messaging.client.operation.duration fetch x1
             metric messaging.client.operation.duration publish x1
             metric messaging.client.operation.duration request ! no_responders x1
             metric messaging.client.sent.messages publish x1
             metric messaging.client.sent.messages request ! no_responders x1
             metric messaging.process.duration process x1
             metric otel_messaging.deliveries ack [settlement.outcome=ack] x1
             metric otel_messaging.queue_time fetch [clock=broker] x1
             metric otel_messaging.wait_time process x1"
        ),
        scenario!(
            without_spans,
            "metrics only",
            "
             metric messaging.client.consumed.messages fetch x1
             metric messaging.client.operation.duration ack x1
             metric messaging.client.operation.duration fetch x1
             metric messaging.client.operation.duration publish x1
             metric messaging.client.operation.duration request ! no_responders x1
             metric messaging.client.sent.messages publish x1
             metric messaging.client.sent.messages request ! no_responders x1
             metric messaging.process.duration process x1
             metric otel_messaging.deliveries ack [settlement.outcome=ack] x1
             metric otel_messaging.queue_time fetch [clock=broker] x1
             metric otel_messaging.wait_time process x1"
        ),
        scenario!(
            without_metrics,
            "spans only",
            "
             PRODUCER publish S.paid
             PRODUCER request stock ! no_responders
             CONSUMER process S.paid < publish S.paid ~ publish S.paid [delivery.attempt=1 settlement.outcome=ack]
             CLIENT ack S.paid < process S.paid [settlement.outcome=ack]
             CLIENT fetch S.paid ~ publish S.paid [batch.message_count=1 delivery.attempt=1]"
        ),
        scenario!(
            destination_limit,
            "a second subject beyond a bound of one",
            "
             PRODUCER publish
             PRODUCER publish orders"
        ),
        scenario!(
            filtered,
            "a filter turns the publishes to a subject off",
            "
             PRODUCER publish orders"
        ),
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

/// Far more than the server allows.
const TOO_MUCH: usize = 8 * 1024 * 1024;

async fn connect(stage: &Stage, instrumentation: Instrumentation) -> Client {
    let options = ConnectOptions::new().name("shop").with_instrumentation(instrumentation);
    options.connect(&*stage.address).await.expect("the server is there")
}

async fn client(stage: &Stage) -> Client {
    connect(stage, stage.instrumentation()).await
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> S::Item {
    stream.next().await.expect("one more")
}

/// A stream, a durable consumer of it, and the subject that both are about.
struct Stored {
    client: Client,
    context: jetstream::Context,
    stream: stream::Stream,
    consumer: jetstream::consumer::PullConsumer,
    subject: String,
}

impl Stored {
    async fn new(stage: &Stage, instrumentation: Instrumentation) -> Self {
        let client = connect(stage, instrumentation).await;
        let context = jetstream::new(client.clone());
        let name = stage.name("S");
        let config = stream::Config { name: name.clone(), subjects: vec![format!("{name}.>")], ..Default::default() };
        let stream = context.create_stream(config).await.expect("created");
        let config = pull::Config { durable_name: Some("shipping".to_owned()), ..Default::default() };
        let consumer = stream.create_consumer(config).await.expect("created");
        Self { client, context, stream, consumer, subject: format!("{name}.paid") }
    }

    async fn of(stage: &Stage) -> Self {
        Self::new(stage, stage.instrumentation()).await
    }

    /// Sent by the client inside: what the consumer does is all that is told.
    async fn with(self, count: usize) -> Self {
        for number in 0..count {
            let publish = self.context.get_ref().publish(self.subject.clone(), number.to_string().into());
            publish.await.expect("published").await.expect("acknowledged");
        }
        self
    }

    /// A message that the server pushed to a group.
    async fn pushed(&self, stage: &Stage) -> Message {
        let config = push::Config {
            durable_name: Some("pushed".to_owned()),
            deliver_subject: stage.name("deliver"),
            deliver_group: Some("payment".to_owned()),
            ..Default::default()
        };
        let consumer = self.stream.create_consumer(config).await.expect("created");
        let mut messages = consumer.messages().await.expect("messages");
        next(&mut messages).await.expect("a message")
    }

    /// One with these headers, sent in the same way.
    async fn put(&self, headers: HeaderMap) {
        let publish = self.context.get_ref().publish_with_headers(self.subject.clone(), headers, "four".into());
        publish.await.expect("published").await.expect("acknowledged");
    }

    async fn fetch(&self, count: usize) -> Vec<Message> {
        let batch = self.consumer.batch().max_messages(count).messages().await.expect("a batch");
        batch.map(|message| message.expect("a message")).collect().await
    }
}

async fn publish_and_process(stage: Stage) {
    let client = client(&stage).await;
    let subject = stage.name("orders");
    let mut orders = client.subscribe(subject.clone()).await.expect("subscribed");
    let request = stage.app("request");
    request.calls(|| client.publish(subject, "four apples".into())).await.expect("published");
    next(&mut orders).await.process(|| async {}).await;
}

async fn publish_fails(stage: Stage) {
    let client = client(&stage).await;
    client.publish(stage.name("orders"), vec![0; TOO_MUCH].into()).await.expect_err("too large");
}

async fn publish_with_id(stage: Stage) {
    let client = client(&stage).await;
    let subject = stage.name("orders");
    let mut orders = client.subscribe(subject.clone()).await.expect("subscribed");
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", "17");
    client.publish_with_headers(subject, headers, "".into()).await.expect("published");
    next(&mut orders).await.end();
}

async fn handler_fails(stage: Stage) {
    let client = client(&stage).await;
    let subject = stage.name("orders");
    let mut orders = client.subscribe(subject.clone()).await.expect("subscribed");
    for _ in 0..2 {
        client.publish(subject.clone(), "".into()).await.expect("published");
    }
    next(&mut orders).await.process(|| async { Err::<(), _>("declined") }).await.expect_err("declined");
    let message = next(&mut orders).await;
    tokio::spawn(async move { message.process(|| async { panics() }).await }).await.expect_err("panicked");
}

/// So many, published and received.
async fn messages(stage: &Stage, count: usize) -> Vec<otel_async_nats::Message> {
    let client = client(stage).await;
    let subject = stage.name("orders");
    let orders = client.subscribe(subject.clone()).await.expect("subscribed");
    for _ in 0..count {
        client.publish(subject.clone(), "".into()).await.expect("published");
    }
    orders.take(count).collect().await
}

async fn outcomes(stage: Stage) {
    handler::outcomes(&messages(&stage, 5).await).await;
}

async fn handler_waits(stage: Stage) {
    handler::late(&messages(&stage, 2).await).await;
}

async fn batch_waits(stage: Stage) {
    handler::late_together(&messages(&stage, 3).await).await;
}

async fn context_before_handler(stage: Stage) {
    for message in messages(&stage, 1).await {
        handler::context_first(&message).await;
    }
}

async fn handled_at_once(stage: Stage) {
    let client = client(&stage).await;
    let subject = stage.name("orders");
    let orders = client.subscribe(subject.clone()).await.expect("subscribed");
    for _ in 0..2 {
        client.publish(subject.clone(), "".into()).await.expect("published");
    }
    orders.take(2).process_each(1, |_| async {}).await;
}

async fn wildcard_in_group(stage: Stage) {
    let client = client(&stage).await;
    let subject = stage.name("orders");
    let mut orders = client.queue_subscribe(format!("{subject}.*"), "payment".to_owned()).await.expect("subscribed");
    client.publish(format!("{subject}.4711"), "".into()).await.expect("published");
    next(&mut orders).await.process(|| async {}).await;
}

async fn request_and_reply(stage: Stage) {
    let client = client(&stage).await;
    let subject = stage.name("stock");
    let mut stock = client.subscribe(subject.clone()).await.expect("subscribed");
    let order = stage.app("order");
    let answer = async {
        let question = next(&mut stock).await;
        let inbox = question.reply.clone().expect("a request");
        question.process(|| async { client.publish(inbox, "four".into()).await }).await.expect("published");
    };
    let (reply, ()) = tokio::join!(order.calls(|| client.request(subject, "apples?".into())), answer);
    reply.expect("a reply");
}

async fn request_fails(stage: Stage) {
    let client = client(&stage).await;
    client.request(stage.name("stock"), "apples?".into()).await.expect_err("nobody is there");
}

async fn service(stage: Stage) {
    respond(stage, "four".into()).await;
}

async fn respond_fails(stage: Stage) {
    respond(stage, vec![0; TOO_MUCH]).await;
}

async fn respond(stage: Stage, response: Vec<u8>) {
    let client = client(&stage).await;
    let subject = stage.name("stock");
    let service = client.service_builder().start("stock", "1.0.0").await.expect("started");
    let mut endpoint = service.endpoint(&subject).await.expect("added");
    let fails = response.len() == TOO_MUCH;
    let answer = async {
        let request = next(&mut endpoint).await;
        let _ = request.process(|| async { request.respond(Ok(response.into())).await }).await;
        if fails { request.message.reply.clone().map(|reply| client.get_ref().publish(reply, "".into())) } else { None }
    };
    let (reply, empty) = tokio::join!(client.request(subject.clone(), "apples?".into()), async {
        match answer.await {
            Some(publish) => Some(publish.await),
            None => None,
        }
    });
    reply.expect("a reply");
    empty.transpose().expect("published");
}

async fn service_error(stage: Stage) {
    let client = client(&stage).await;
    let subject = stage.name("stock");
    let service = client.service_builder().start("stock", "1.0.0").await.expect("started");
    let mut endpoint = service.endpoint(&subject).await.expect("added");
    let answer = async {
        let request = next(&mut endpoint).await;
        let error = service::error::Error { code: 404, status: "no such order".to_owned() };
        request.process(|| async { request.respond(Err(error)).await }).await.expect("sent");
    };
    let (reply, ()) = tokio::join!(client.request(subject, "apples?".into()), answer);
    reply.expect("a reply");

    let (raw, subject) = (client.get_ref(), stage.name("prices"));
    let mut prices = raw.subscribe(subject.clone()).await.expect("subscribed");
    let answer = async {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Service-Error-Code", "order 4711 is gone");
        headers.insert("Nats-Service-Error", "gone");
        let reply = next(&mut prices).await.reply.expect("a request");
        raw.publish_with_headers(reply, headers, "".into()).await.expect("published");
    };
    let (reply, ()) = tokio::join!(client.request(subject, "apples?".into()), answer);
    reply.expect("a reply");
}

async fn answered(stage: Stage) {
    let client = client(&stage).await;
    let (subject, answers) = (stage.name("stock"), stage.name("answers"));
    let mut stock = client.subscribe(subject.clone()).await.expect("subscribed");
    client.get_ref().publish_with_reply(subject, answers, "apples?".into()).await.expect("published");
    let question = next(&mut stock).await;
    let answers = question.reply.clone().expect("a subject for answers");
    question.process(|| async { client.publish(answers, "four".into()).await }).await.expect("published");
}

async fn captured_response(stage: Stage) {
    let client =
        connect(&stage, stage.builder().with_captured_headers(["x-*"]).with_captured_sizes(true).build()).await;
    let subject = stage.name("stock");
    let service = client.service_builder().start("stock", "1.0.0").await.expect("started");
    let mut endpoint = service.endpoint(&subject).await.expect("added");
    let question = client.request_with_headers(subject.clone(), identified("17"), "apples?".into());
    let answer = async {
        let request = next(&mut endpoint).await;
        let respond = async { request.respond_with_headers(Ok("four".into()), identified("18")).await };
        request.process(|| respond).await.expect("published");
    };
    let (reply, ()) = tokio::join!(question, answer);
    reply.expect("a reply");
}

/// Headers with a message's id, and one to capture.
fn identified(id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id);
    headers.insert("x-tenant", "blue");
    headers
}

async fn inbox(stage: Stage) {
    let client = client(&stage).await;
    let inbox = client.new_inbox();
    let mut messages = client.subscribe(inbox.clone()).await.expect("subscribed");
    client.publish(inbox, "".into()).await.expect("published");
    next(&mut messages).await.end();
}

async fn templated(stage: Stage) {
    let instrumentation = stage.builder().with_destination_template(|_| Some("shop.{id}".to_owned())).build();
    let stored = Stored::new(&stage, instrumentation.clone()).await.with(3).await;
    Creator::new(instrumentation).create(&stored.subject, &mut HashMap::<String, String>::new());
    stored.client.publish(stage.name("orders"), "".into()).await.expect("published");
    stored.client.request(stage.name("stock"), "apples?".into()).await.expect_err("nobody is there");
    let mut messages = stored.fetch(3).await.into_iter();
    for kind in [AckKind::Ack, AckKind::Nak(Some(Duration::from_secs(60))), AckKind::Term] {
        messages.next().expect("three").ack_with(kind).await.expect("settled");
    }
}

async fn anonymous_subject(stage: Stage) {
    let client = client(&stage).await;
    let subject = stage.uuid();
    let creator = Creator::new(stage.instrumentation());
    for made_for in [&client.new_inbox(), &subject] {
        creator.create(made_for, &mut HashMap::<String, String>::new());
    }
    let mut messages = client.subscribe(subject.clone()).await.expect("subscribed");
    client.publish(subject, "".into()).await.expect("published");
    next(&mut messages).await.end();
}

/// Polled once, and dropped.
async fn give_up<F: Future>(future: F) {
    let mut future = pin!(future);
    let answered = poll!(&mut future).is_ready();
    assert!(!answered, "there is no answer yet");
}

async fn given_up(stage: Stage) {
    let stored = Stored::of(&stage).await.with(3).await;
    let mut stock = stored.client.subscribe(stage.name("stock")).await.expect("subscribed");
    let request = stored.client.request(stage.name("stock"), "apples?".into());
    give_up(request).await;
    next(&mut stock).await.end();
    let mut messages = stored.fetch(3).await.into_iter();
    for kind in [AckKind::Ack, AckKind::Nak(None), AckKind::Term] {
        let message = messages.next().expect("three");
        give_up(message.double_ack_with(kind)).await;
    }
}

async fn jetstream_publish(stage: Stage) {
    let Stored { context, subject, .. } = Stored::of(&stage).await;
    context.publish(subject, "".into()).await.expect("published").await.expect("acknowledged");
}

async fn duplicate(stage: Stage) {
    let Stored { context, subject, .. } = Stored::of(&stage).await;
    for _ in 0..2 {
        let publish = context.publish_with_headers(subject.clone(), identified("17"), "".into());
        publish.await.expect("published").await.expect("acknowledged");
    }
}

async fn scheduled(stage: Stage) {
    let client =
        connect(&stage, stage.builder().with_correlation(Correlation::Auto(AutoCorrelation::default())).build()).await;
    let context = jetstream::new(client);
    let name = stage.name("S");
    let config = serde_json::json!({ "name": name, "subjects": [format!("{name}.>")], "allow_msg_schedules": true });
    let _: serde_json::Value = context.request(format!("STREAM.CREATE.{name}"), &config).await.expect("created");
    let due = format!("{name}.due");
    let mut headers = HeaderMap::new();
    // What is due already is sent at once.
    headers.insert("Nats-Schedule", "@at 2026-01-01T00:00:00Z");
    headers.insert("Nats-Schedule-Target", &*due);
    let publish = context.publish_with_headers(format!("{name}.later"), headers, "pay".into());
    publish.await.expect("published").await.expect("acknowledged");
    let stream = context.get_stream(&name).await.expect("the stream");
    let config = pull::Config { durable_name: Some("shipping".to_owned()), filter_subject: due, ..Default::default() };
    let consumer = stream.create_consumer(config).await.expect("created");
    let mut batch = consumer.batch().max_messages(1).messages().await.expect("a batch");
    let message = next(&mut batch).await.expect("a message");
    message.process(|| async { message.ack().await }).await.expect("settled");
    assert_eq!(batch.count().await, 0);
}

async fn headers_only(stage: Stage) {
    let stored = Stored::new(&stage, stage.builder().with_captured_sizes(true).build()).await;
    stored
        .context
        .get_ref()
        .publish(stored.subject.clone(), "four apples".into())
        .await
        .expect("published")
        .await
        .expect("acknowledged");
    let config = pull::Config { durable_name: Some("sizes".to_owned()), headers_only: true, ..Default::default() };
    let consumer = stored.stream.create_consumer(config).await.expect("created");
    let mut batch = consumer.batch().max_messages(1).messages().await.expect("a batch");
    next(&mut batch).await.expect("a message").ack().await.expect("settled");
    assert_eq!(batch.count().await, 0);
}

async fn jetstream_publish_fails(stage: Stage) {
    let Stored { context, subject, .. } = Stored::of(&stage).await;
    let nowhere = context.publish(stage.name("nowhere"), "".into()).await.expect("published");
    nowhere.await.expect_err("no stream");
    let mut wrong = HeaderMap::new();
    wrong.insert("Nats-Expected-Last-Sequence", "17");
    let published = context.publish_with_headers(subject, wrong, "".into()).await.expect("published");
    published.await.expect_err("wrong sequence");
}

async fn ack_not_awaited(stage: Stage) {
    let Stored { context, subject, .. } = Stored::of(&stage).await;
    drop(context.publish(subject, "".into()).await.expect("published"));
}

async fn fetch(stage: Stage) {
    let stored = Stored::of(&stage).await;
    for _ in 0..2 {
        stored
            .context
            .publish(stored.subject.clone(), "".into())
            .await
            .expect("published")
            .await
            .expect("acknowledged");
    }
    let messages = stored.fetch(2).await;
    for message in messages {
        message.process(|| async { message.ack().await }).await.expect("acknowledged");
    }
}

async fn fetch_one(stage: Stage) {
    let stored = Stored::of(&stage).await;
    stored.put(identified("17")).await;
    for kind in [AckKind::Nak(None), AckKind::Ack] {
        let [message] = &stored.fetch(1).await[..] else { panic!("one message") };
        message.ack_with(kind).await.expect("settled");
    }
}

async fn fetch_of_several(stage: Stage) {
    let stored = Stored::new(&stage, stage.builder().with_max_links(2).build()).await;
    for subject in ["paid", "sent", "paid"] {
        let subject = stored.subject.replace("paid", subject);
        stored.context.publish(subject, "".into()).await.expect("published").await.expect("acknowledged");
    }
    for (name, filter) in [("of-all", String::new()), ("of-filtered", stored.subject.replace("paid", "*"))] {
        let config = pull::Config {
            durable_name: Some(name.to_owned()),
            filter_subject: filter,
            // There is nothing to settle.
            ack_policy: AckPolicy::None,
            ..Default::default()
        };
        let consumer = stored.stream.create_consumer(config).await.expect("created");
        let batch = consumer.batch().max_messages(3).messages().await.expect("a batch");
        assert_eq!(batch.count().await, 3);
    }
}

async fn filtered_consumers(stage: Stage) {
    let stored = Stored::of(&stage).await.with(1).await;
    let durable = |name: &str| Some(name.to_owned());
    for (name, filter) in [("all", stored.subject.replace("paid", "*")), ("paid", stored.subject.clone())] {
        let config = pull::Config { durable_name: durable(name), filter_subject: filter, ..Default::default() };
        let consumer = stored.stream.create_consumer(config).await.expect("created");
        let batch = consumer.batch().max_messages(1).messages().await.expect("a batch");
        let messages: Vec<_> = batch.map(|message| message.expect("a message")).collect().await;
        messages[0].ack().await.expect("settled");
    }
    stored.pushed(&stage).await.ack().await.expect("settled");
}

async fn fetch_fails(stage: Stage) {
    let stored = Stored::of(&stage).await;
    stored.stream.delete_consumer("shipping").await.expect("deleted");
    let mut batch = stored.consumer.fetch().max_messages(1).messages().await.expect("a batch");
    next(&mut batch).await.expect_err("no consumer");
}

async fn consumer_deleted(stage: Stage) {
    let stored = Stored::of(&stage).await.with(1).await;
    let messages = stored.consumer.messages().await.expect("messages");
    let stream = &stored.stream;
    let handled = messages.process_each(1, |message| async move {
        message.ack().await.expect("settled");
        stream.delete_consumer("shipping").await.expect("deleted");
    });
    let error = handled.await.expect_err("no consumer");
    assert_eq!(error.kind(), pull::MessagesErrorKind::ConsumerDeleted);
}

async fn heartbeats_missing(stage: Stage) {
    let stored = Stored::of(&stage).await;
    let wildcard = stored.subject.replace("paid", "*");
    for (name, filter, group) in [("all", &wildcard, None), ("paid", &stored.subject, Some("payment"))] {
        let config = push::Config {
            durable_name: Some(name.to_owned()),
            deliver_subject: stage.name(name),
            deliver_group: group.map(str::to_owned),
            filter_subject: filter.clone(),
            // The shortest that the server allows.
            idle_heartbeat: Duration::from_millis(100),
            ..Default::default()
        };
        let consumer = stored.stream.create_consumer(config).await.expect("created");
        let mut messages = consumer.messages().await.expect("messages");
        stored.stream.delete_consumer(name).await.expect("deleted");
        next(&mut messages).await.expect_err("no heartbeat");
    }
}

async fn settled(stage: Stage) {
    let stored = Stored::of(&stage).await.with(4).await;
    let later = AckKind::Nak(Some(Duration::from_secs(60)));
    let mut messages = stored.consumer.messages().await.expect("messages");
    for kind in [AckKind::Ack, later, AckKind::Term] {
        let message = next(&mut messages).await.expect("a message");
        message.ack_with(AckKind::Progress).await.expect("told");
        message.ack_with(kind).await.expect("settled");
    }
    next(&mut messages).await.expect("a message").double_ack().await.expect("settled");
}

async fn settled_in_group(stage: Stage) {
    let stored = Stored::of(&stage).await;
    let config = push::Config {
        durable_name: Some("pushed".to_owned()),
        deliver_subject: stage.name("deliver"),
        deliver_group: Some("payment".to_owned()),
        filter_subject: stored.subject.replace("paid", "*"),
        ..Default::default()
    };
    let consumer = stored.stream.create_consumer(config).await.expect("created");
    let mut messages = consumer.messages().await.expect("messages");
    let later = AckKind::Nak(Some(Duration::from_secs(60)));
    for (kind, id) in [(AckKind::Ack, "17"), (later, "18"), (AckKind::Term, "19")] {
        stored.put(identified(id)).await;
        next(&mut messages).await.expect("a message").ack_with(kind).await.expect("settled");
    }
}

async fn refused_by_the_handler(stage: Stage) {
    let stored = Stored::of(&stage).await.with(1).await;
    let mut messages = stored.consumer.messages().await.expect("messages");
    let message = next(&mut messages).await.expect("a message");
    let declines = async {
        message.ack_with(AckKind::Nak(Some(Duration::from_secs(60)))).await.expect("settled");
        Err::<(), _>("declined")
    };
    message.process(|| declines).await.expect_err("declined");
}

async fn work_after_ack(stage: Stage) {
    let stored = Stored::of(&stage).await.with(1).await;
    let mut messages = stored.consumer.messages().await.expect("messages");
    let message = next(&mut messages).await.expect("a message");
    let works = async {
        message.ack().await.expect("settled");
        stored.client.publish(stage.name("shipping"), "".into()).await
    };
    message.process(|| works).await.expect("published");
}

async fn settled_after_the_end(stage: Stage) {
    let stored = Stored::of(&stage).await.with(1).await;
    let mut messages = stored.consumer.messages().await.expect("messages");
    let message = next(&mut messages).await.expect("a message");
    message.process(|| async {}).await;
    message.ack().await.expect("settled");
}

async fn settle_fails(stage: Stage) {
    let stored = Stored::of(&stage).await.with(3).await;
    let mut messages = stored.fetch(3).await.into_iter();
    let raw = stored.client.get_ref();
    raw.drain().await.expect("closes");
    until(async || raw.publish(stored.subject.clone(), "".into()).await.err()).await;
    for kind in [AckKind::Ack, AckKind::Nak(None), AckKind::Term] {
        messages.next().expect("three").ack_with(kind).await.expect_err("closed");
    }
}

/// A message that was refused once; its first delivery is told too.
async fn again(stored: &Stored) -> Message {
    let mut messages = stored.consumer.messages().await.expect("messages");
    let message = next(&mut messages).await.expect("a message");
    message.ack_with(AckKind::Nak(None)).await.expect("settled");
    drop(message);
    next(&mut messages).await.expect("a message")
}

async fn redelivered(stage: Stage) {
    let stored = Stored::of(&stage).await.with(1).await;
    again(&stored).await.ack().await.expect("settled");
}

async fn dropped(stage: Stage) {
    let stored = Stored::of(&stage).await.with(1).await;
    let mut messages = stored.consumer.messages().await.expect("messages");
    drop(next(&mut messages).await.expect("a message"));
    drop(stored.pushed(&stage).await);
}

async fn settled_by_hand(stage: Stage) {
    let stored = Stored::of(&stage).await.with(3).await;
    let reply = |message: &Message| message.reply.clone().expect("a subject for acknowledgements");
    let mut messages = stored.fetch(3).await.into_iter();
    let mut message = || messages.next().expect("three");
    let handled = message();
    let ack = async { stored.context.publish(reply(&handled), "+ACK".into()).await.map(drop) };
    handled.process(|| ack).await.expect("published");
    let kept = message();
    stored.client.publish(reply(&kept), "+WPI".into()).await.expect("published");
    stored.client.request(reply(&kept), "-NAK {\"delay\": 60000000000}".into()).await.expect("settled");
    drop(kept);
    let gone = reply(&message());
    stored.client.publish(gone, "+TERM sour".into()).await.expect("published");
}

async fn batch(stage: Stage) {
    batch_of_three(&stage, stage.instrumentation()).await;
}

async fn batch_beyond_links(stage: Stage) {
    batch_of_three(&stage, stage.builder().with_max_links(2).build()).await;
}

async fn batch_of_three(stage: &Stage, instrumentation: Instrumentation) {
    let stored = Stored::new(stage, instrumentation).await;
    for _ in 0..3 {
        stored
            .context
            .publish(stored.subject.clone(), "".into())
            .await
            .expect("published")
            .await
            .expect("acknowledged");
    }
    let messages = stored.fetch(3).await;
    process_batch(&messages, || async {
        for message in &messages {
            message.ack().await.expect("settled");
        }
    })
    .await;
}

/// Made in one place, published by a client in another.
async fn outbox(stage: Stage, instrumentation: Instrumentation) {
    let creator = Creator::new(stage.instrumentation());
    let subject = stage.name("orders");
    let mut stored = HashMap::<String, String>::new();
    stage.app("request").calls(|| creator.create(&subject, &mut stored));
    let client = connect(&stage, instrumentation).await;
    let mut orders = client.subscribe(subject.clone()).await.expect("subscribed");
    let mut headers = HeaderMap::new();
    for (name, value) in stored {
        headers.insert(name, value);
    }
    client.publish_with_headers(subject, headers, "".into()).await.expect("published");
    next(&mut orders).await.process(|| async {}).await;
}

async fn create(stage: Stage) {
    let instrumentation = stage.instrumentation();
    outbox(stage, instrumentation).await;
}

async fn carried_replaced(stage: Stage) {
    let instrumentation = stage.builder().with_carried_context(CarriedContext::Replace).build();
    outbox(stage, instrumentation).await;
}

async fn forwarded(stage: Stage) {
    let client = client(&stage).await;
    let (subject, onwards) = (stage.name("orders"), stage.name("shipping"));
    let mut orders = client.subscribe(subject.clone()).await.expect("subscribed");
    client.publish(subject, "".into()).await.expect("published");
    let order = next(&mut orders).await;
    let headers = order.headers.clone().expect("a context");
    order
        .process(|| async { client.publish_with_headers(onwards, headers, "".into()).await })
        .await
        .expect("published");
}

async fn renamed_forwarded(stage: Stage) {
    let client = client(&stage).await;
    let (subject, onwards) = (stage.name("orders"), stage.name("shipping"));
    let mut orders = client.subscribe(subject.clone()).await.expect("subscribed");
    let mut shipping = client.subscribe(onwards.clone()).await.expect("subscribed");
    let sender = stage.app("sender");
    let span = sender.0.span().span_context().clone();
    let mut headers = HeaderMap::new();
    headers.insert("Xraceparent", format!("00-{}-{}-01", span.trace_id(), span.span_id()));
    client.get_ref().publish_with_headers(subject, headers, "".into()).await.expect("published");
    let order = next(&mut orders).await;
    let headers = order.headers.clone().expect("a context");
    order
        .process(|| async { client.publish_with_headers(onwards, headers, "".into()).await })
        .await
        .expect("published");
    let arrived = next(&mut shipping).await;
    let names = arrived.headers.as_ref().expect("a context").iter().map(|(name, _)| name.to_string());
    assert_eq!(names.collect::<Vec<_>>(), ["traceparent"]);
    arrived.end();
}

async fn republished(stage: Stage) {
    let client = client(&stage).await;
    let (subject, dead) = (stage.name("orders"), stage.name("dead"));
    let mut orders = client.subscribe(subject.clone()).await.expect("subscribed");
    client.publish(subject, "".into()).await.expect("published");
    let order = next(&mut orders).await;
    order.process(|| async { Err::<(), _>("declined") }).await.expect_err("declined");
    let headers = order.headers.clone().expect("a context");
    order.republish(|| client.publish_with_headers(dead, headers, "".into())).await.expect("published");
}

/// One message is delivered inside a span, and one is not.
async fn policy(stage: Stage, configure: impl FnOnce(InstrumentationBuilder) -> InstrumentationBuilder) {
    let client = connect(&stage, configure(stage.builder()).build()).await;
    let subject = stage.name("orders");
    let mut orders = client.subscribe(subject.clone()).await.expect("subscribed");
    for _ in 0..2 {
        client.publish(subject.clone(), "".into()).await.expect("published");
    }
    let outer = stage.app("loop");
    next(&mut orders).with_context(outer.0.clone()).await.process(|| async {}).await;
    next(&mut orders).await.process(|| async {}).await;
}

async fn policy_default(stage: Stage) {
    policy(stage, |builder| builder).await;
}

async fn policy_link(stage: Stage) {
    policy(stage, |builder| builder.with_correlation(Correlation::Link)).await;
}

async fn policy_parent(stage: Stage) {
    policy(stage, |builder| builder.with_correlation(Correlation::Parent)).await;
}

async fn context_read(stage: Stage) {
    let client = connect(&stage, stage.reading()).await;
    let subject = stage.name("orders");
    let mut orders = client.subscribe(subject.clone()).await.expect("subscribed");
    let connector = stage.app("connector");
    let publish = connector.sends_otherwise(|context| {
        let mut headers = HeaderMap::new();
        headers.insert("ce_traceparent", context);
        client.publish_with_headers(subject.clone(), headers, "".into())
    });
    publish.await.expect("published");
    next(&mut orders).await.process(|| async {}).await;
}

async fn untrusted(stage: Stage) {
    policy(stage, |builder| builder.with_correlation(Correlation::Parent).with_untrusted_source(true)).await;
}

async fn policy_auto(stage: Stage) {
    let stored =
        Stored::new(&stage, stage.builder().with_correlation(Correlation::Auto(AutoCorrelation::default())).build())
            .await;
    stored.context.publish(stored.subject.clone(), "".into()).await.expect("published").await.expect("acknowledged");
    again(&stored).await.ack().await.expect("settled");
    let config = pull::Config { durable_name: Some("replay".to_owned()), ..Default::default() };
    let mut messages =
        stored.stream.create_consumer(config).await.expect("created").messages().await.expect("messages");
    next(&mut messages).await.expect("a message").ack().await.expect("settled");
}

async fn captured_fetch(stage: Stage) {
    let stored =
        Stored::new(&stage, stage.builder().with_captured_headers(["x-*"]).with_captured_sizes(true).build()).await;
    stored.put(identified("17")).await;
    let [message] = &stored.fetch(1).await[..] else { panic!("one message") };
    message.ack().await.expect("settled");
}

async fn domain(mut stage: Stage) {
    let start = || brokers::Nats::own_of_domain("hub").unwrap_or_else(|missing| panic!("{missing}"));
    let server = tokio::task::spawn_blocking(start).await.expect("started");
    stage.address = server.url.as_str().into();
    let stored = Stored::of(&stage).await;
    for _ in 0..3 {
        let publish = stored.context.publish(stored.subject.clone(), "".into());
        publish.await.expect("published").await.expect("acknowledged");
    }
    let mut messages = stored.fetch(3).await.into_iter();
    for kind in [AckKind::Ack, AckKind::Nak(Some(Duration::from_secs(60))), AckKind::Term] {
        messages.next().expect("three").double_ack_with(kind).await.expect("settled");
    }
}

async fn captured(stage: Stage) {
    let client =
        connect(&stage, stage.builder().with_captured_headers(["x-*"]).with_captured_sizes(true).build()).await;
    let subject = stage.name("orders");
    let mut orders = client.subscribe(subject.clone()).await.expect("subscribed");
    let mut headers = HeaderMap::new();
    headers.insert("x-tenant", "blue");
    let answer = async {
        let question = next(&mut orders).await;
        let inbox = question.reply.clone().expect("a request");
        question.process(|| async { client.publish(inbox, "four".into()).await }).await.expect("published");
    };
    let request = client.request_with_headers(subject.clone(), headers.clone(), "apples?".into());
    let (reply, ()) = tokio::join!(request, answer);
    reply.expect("a reply");
    client.publish_with_headers(subject, headers, "four apples".into()).await.expect("published");
    next(&mut orders).await.end();
}

async fn single_item(stage: Stage, receive_spans: bool) {
    let stored = Stored::new(&stage, stage.builder().with_receive_spans(receive_spans).build()).await;
    stored.context.publish(stored.subject.clone(), "".into()).await.expect("published").await.expect("acknowledged");
    let mut messages = stored.consumer.messages().await.expect("messages");
    next(&mut messages).await.expect("a message").ack().await.expect("settled");
    stored.put(identified("17")).await;
    next(&mut messages).await.expect("a message").ack().await.expect("settled");
}

async fn receive_spans_off(stage: Stage) {
    single_item(stage, false).await;
}

async fn receive_spans_on(stage: Stage) {
    single_item(stage, true).await;
}

async fn without_logger(stage: Stage) {
    let client = connect(&stage, stage.without_logger().build()).await;
    client.request(stage.name("stock"), "apples?".into()).await.expect_err("nobody is there");
}

/// Something of everything.
async fn there_and_back(stage: &Stage, instrumentation: Instrumentation) {
    let stored = Stored::new(stage, instrumentation).await;
    stored.context.publish(stored.subject.clone(), "".into()).await.expect("published").await.expect("acknowledged");
    for message in stored.fetch(1).await {
        message.process(|| async { message.ack().await }).await.expect("acknowledged");
    }
    stored.client.request(stage.name("stock"), "".into()).await.expect_err("nobody is there");
}

async fn sampled_out(stage: Stage) {
    there_and_back(&stage, stage.sampled_out().build()).await;
}

async fn without_spans(stage: Stage) {
    there_and_back(&stage, stage.builder().with_spans(false).build()).await;
}

async fn without_metrics(stage: Stage) {
    there_and_back(&stage, stage.builder().with_metrics(false).build()).await;
}

async fn destination_limit(stage: Stage) {
    let client = connect(&stage, stage.builder().with_destination_limit(1).build()).await;
    for name in ["orders", "shipping"] {
        client.publish(stage.name(name), "".into()).await.expect("published");
    }
}

async fn filtered(stage: Stage) {
    let quiet = stage.name("quiet");
    let off = quiet.clone();
    let wanted = move |operation: &otel_messaging::Operation| operation.destination() != Some(&*off);
    let client = connect(&stage, stage.builder().with_filter(wanted).build()).await;
    client.publish(quiet, "".into()).await.expect("published");
    client.publish(stage.name("orders"), "".into()).await.expect("published");
}
