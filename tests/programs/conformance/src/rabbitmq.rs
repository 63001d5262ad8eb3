//! RabbitMQ.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use futures::StreamExt;
use opentelemetry::trace::FutureExt;
use otel_lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind,
    message::{Delivery, DeliveryResult},
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
        BasicRejectOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    otel::{Creator, HeaderInjector, MessageExt, MessageStreamExt, process_batch},
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use otel_messaging::{AutoCorrelation, CarriedContext, Correlation, Instrumentation, InstrumentationBuilder};
use tokio::sync::mpsc::unbounded_channel;

use crate::{
    broker::{Broker, Started},
    handler,
    scenario::{Lacking, LeftOut, Measure, NO_MESSAGE, Operation, PROCESS, panics, scenario},
    stage::Stage,
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
        LeftOut { attribute: "messaging.client.id", of: "*", why: "it is a connection's `connection_name`, which lapin takes and does not tell" },
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
    scenarios: &[
        scenario!(
            publish_and_process,
            "a message is published and confirmed, handled and acknowledged",
            "
             PRODUCER publish orders < request
             CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=ack]
             CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            publish_without_confirms,
            "the channel does not confirm",
            "
             PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=ack]
             CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            publish_to_exchange,
            "a topic exchange routes the message",
            "
             PRODUCER publish shop:order.paid
             CONSUMER process shop:order.paid:orders < publish shop:order.paid ~ publish shop:order.paid [settlement.outcome=ack]
             CLIENT ack shop:order.paid:orders < process shop:order.paid:orders [settlement.outcome=ack]"
        ),
        scenario!(
            publish_with_ids,
            "the message has an id and a correlation id",
            "
             3 x PRODUCER publish orders [message.conversation_id=c-17 message.id=17]
             CONSUMER process orders < publish orders ~ publish orders [message.conversation_id=c-17 message.id=17 settlement.outcome=ack]
             CONSUMER process orders < publish orders ~ publish orders [message.conversation_id=c-17 message.id=17 settlement.outcome=nack]
             CONSUMER process orders < publish orders ~ publish orders [message.conversation_id=c-17 message.id=17 settlement.outcome=reject]
             CLIENT ack orders < process orders [message.conversation_id=c-17 message.id=17 settlement.outcome=ack]
             CLIENT get orders ~ publish orders [message.conversation_id=c-17 message.id=17]
             CLIENT nack orders < process orders [message.conversation_id=c-17 message.id=17 settlement.outcome=nack]
             CLIENT reject orders < process orders [message.conversation_id=c-17 message.id=17 settlement.outcome=reject]"
        ),
        scenario!(
            publish_refused,
            "the queue is full",
            "
             PRODUCER publish orders
             PRODUCER publish orders ! nack"
        ),
        scenario!(
            publish_returned,
            "no queue is bound",
            "
             PRODUCER publish nowhere ! no-route"
        ),
        scenario!(
            publish_fails,
            "there is no such exchange",
            "
             PRODUCER publish nowhere ! not-found"
        ),
        scenario!(
            confirm_not_awaited,
            "nobody waits for the confirm",
            "
             PRODUCER publish orders"
        ),
        scenario!(
            templated,
            "`destination_template` knows the pattern of names",
            "
             PRODUCER create orders.{id} [destination.template=orders.{id}]
             3 x PRODUCER publish orders.{id} [destination.template=orders.{id}]
             CONSUMER process orders.{id} < publish orders.{id} ~ publish orders.{id} [destination.template=orders.{id} settlement.outcome=ack]
             CONSUMER process orders.{id} < publish orders.{id} ~ publish orders.{id} [destination.template=orders.{id} settlement.outcome=nack]
             CONSUMER process orders.{id} < publish orders.{id} ~ publish orders.{id} [destination.template=orders.{id} settlement.outcome=reject]
             CLIENT ack orders.{id} < process orders.{id} [destination.template=orders.{id} settlement.outcome=ack]
             CLIENT consume orders.{id} ! not-found [destination.template=orders.{id}]
             CLIENT get orders.{id} ~ publish orders.{id} [destination.template=orders.{id}]
             CLIENT nack orders.{id} < process orders.{id} [destination.template=orders.{id} settlement.outcome=nack]
             CLIENT reject orders.{id} < process orders.{id} [destination.template=orders.{id} settlement.outcome=reject]"
        ),
        scenario!(
            exclusive_queue,
            "a queue that the server named goes away with its connection",
            "
             PRODUCER publish [destination.anonymous=true destination.temporary=true]
             CONSUMER process < publish ~ publish [destination.anonymous=true destination.temporary=true settlement.outcome=ack]
             CLIENT ack < process [settlement.outcome=ack]"
        ),
        scenario!(
            exclusive_queue_got,
            "messages are made for a queue that the server named, and for a reply; the first is sent, and got",
            "
             PRODUCER create [destination.anonymous=true]
             PRODUCER create [destination.anonymous=true destination.temporary=true]
             CONSUMER process < create ~ create [destination.anonymous=true destination.temporary=true settlement.outcome=ack]
             CLIENT ack < process [settlement.outcome=ack]
             CLIENT get ~ create [destination.anonymous=true destination.temporary=true]
             CLIENT publish ~ create [destination.anonymous=true destination.temporary=true]"
        ),
        scenario!(
            answered,
            "a handler answers where the message asks, at once and by a message that is made for later",
            "
             PRODUCER create < process orders [destination.temporary=true]
             PRODUCER publish < process orders [destination.temporary=true]
             PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=ack]
             CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            delegate,
            "a delegate handles the message",
            "
             PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=ack]
             CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            handler_fails,
            "a handler gives an error, another panics",
            "
             2 x PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders ! &str
             CONSUMER process orders < publish orders ~ publish orders ! panic
             2 x CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            outcomes,
            "a function finds what failed: of a handler, of one that is synchronous, of one of a stream, of one of a batch; \
             another handler gives `None`, which is no failure",
            "
             5 x PRODUCER publish orders
             3 x CONSUMER process orders < publish orders ~ publish orders ! declined
             CONSUMER process orders < publish orders ~ publish orders
             CONSUMER process orders ~ publish orders ! declined [batch.message_count=1]
             5 x CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            handler_waits,
            "two messages wait for their handlers",
            "
             2 x PRODUCER publish orders
             2 x CONSUMER process orders < publish orders ~ publish orders
             2 x CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            batch_waits,
            "three messages wait until they are handled together",
            "
             3 x PRODUCER publish orders
             CONSUMER process orders ~ publish orders {rabbitmq.message.delivery_tag}, publish orders {rabbitmq.message.delivery_tag}, publish orders {rabbitmq.message.delivery_tag} [batch.message_count=3]
             3 x CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            context_before_handler,
            "a message waits for its handler, and its context is asked for before: the span starts with the delivery",
            "
             PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders
             CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            handled_at_once,
            "`process_each`: the delivery is the handler's start",
            "
             2 x PRODUCER publish orders
             2 x CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=ack]
             2 x CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            consumer_fails,
            "the broker closes a channel with two consumers: `process_each` ends with the error",
            "
             PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=ack]
             CLIENT ack orders < process orders [settlement.outcome=ack]
             CLIENT consume ! not-found [destination.anonymous=true destination.temporary=true]
             CLIENT consume orders ! not-found"
        ),
        scenario!(
            refused_by_the_handler,
            "a handler refuses the message and gives an error: both are told",
            "
             2 x PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders ! &str [settlement.outcome=nack]
             CONSUMER process orders < publish orders ~ publish orders ! &str [settlement.outcome=reject]
             CLIENT nack orders < process orders [settlement.outcome=nack]
             CLIENT reject orders < process orders [settlement.outcome=reject]"
        ),
        scenario!(
            acknowledged_then_worked_on,
            "a handler acknowledges first: what it sends then is inside the span still",
            "
             PRODUCER publish orders
             PRODUCER publish shipping < process orders
             CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=ack]
             CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            get,
            "a message is got, and another that is not there",
            "
             PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=ack]
             CLIENT ack orders < process orders [settlement.outcome=ack]
             CLIENT get orders ~ publish orders"
        ),
        scenario!(
            get_fails,
            "there is no such queue",
            "
             CLIENT get nowhere ! not-found"
        ),
        scenario!(
            settled,
            "ack, nack and reject, with and without requeue",
            "
             5 x PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=ack]
             CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=nack]
             CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=reject]
             2 x CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=requeue]
             CLIENT ack orders < process orders [settlement.outcome=ack]
             5 x CLIENT get orders ~ publish orders
             CLIENT nack orders < process orders [settlement.outcome=nack]
             CLIENT nack orders < process orders [settlement.outcome=requeue]
             CLIENT reject orders < process orders [settlement.outcome=reject]
             CLIENT reject orders < process orders [settlement.outcome=requeue]"
        ),
        scenario!(
            settled_twice,
            "the second settlement changes nothing",
            "
             PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=ack]
             CLIENT ack orders < process orders [settlement.outcome=ack]
             CLIENT ack orders < process orders [settlement.outcome=already_settled]"
        ),
        scenario!(
            settled_after_the_end,
            "handled first, acknowledged then",
            "
             PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders
             CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            settled_by_tag,
            "by tag, after the message is gone",
            "
             PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders
             CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            settled_together,
            "several at once: ack, then nack",
            "
             4 x PRODUCER publish orders
             2 x CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=ack]
             2 x CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=nack]
             CLIENT ack orders ~ process orders {rabbitmq.message.delivery_tag}, process orders {rabbitmq.message.delivery_tag} [batch.message_count=2 settlement.outcome=ack]
             CLIENT nack orders ~ process orders {rabbitmq.message.delivery_tag}, process orders {rabbitmq.message.delivery_tag} [batch.message_count=2 settlement.outcome=nack]"
        ),
        scenario!(
            settle_fails,
            "the channel is closed",
            "
             3 x PRODUCER publish orders
             3 x CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=dropped]
             CLIENT ack orders < process orders ! invalid-channel-state
             CLIENT ack SERVER ! invalid-channel-state
             CLIENT nack SERVER ! invalid-channel-state
             CLIENT reject SERVER ! invalid-channel-state"
        ),
        scenario!(
            redelivered,
            "a message comes again",
            "
             PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders [delivery.redelivered=true settlement.outcome=ack]
             CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=requeue]
             CLIENT ack orders < process orders [settlement.outcome=ack]
             CLIENT nack orders < process orders [settlement.outcome=requeue]"
        ),
        scenario!(
            quorum,
            "a message comes again from a queue that counts",
            "
             PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders [delivery.attempt=2 delivery.redelivered=true settlement.outcome=ack]
             CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=requeue]
             CLIENT ack orders < process orders [settlement.outcome=ack]
             CLIENT nack orders < process orders [settlement.outcome=requeue]"
        ),
        scenario!(
            stream,
            "messages of a stream are acknowledged, one alone and two together; the first one is refused by others, for which \
             the broker closes their connections",
            "
             3 x PRODUCER publish events
             CONSUMER process events < publish events ~ publish events [settlement.outcome=ack stream.offset=0]
             CONSUMER process events < publish events ~ publish events [settlement.outcome=ack stream.offset=1]
             CONSUMER process events < publish events ~ publish events [settlement.outcome=ack stream.offset=2]
             CONSUMER process events < publish events ~ publish events [settlement.outcome=nack stream.offset=0]
             CONSUMER process events < publish events ~ publish events [settlement.outcome=reject stream.offset=0]
             CLIENT ack events < process events [settlement.outcome=ack stream.offset=0]
             CLIENT ack events ~ process events {rabbitmq.message.delivery_tag stream.offset}, process events {rabbitmq.message.delivery_tag stream.offset} [batch.message_count=2 settlement.outcome=ack]
             CLIENT nack events < process events [settlement.outcome=nack stream.offset=0]
             CLIENT reject events < process events [settlement.outcome=reject stream.offset=0]"
        ),
        scenario!(
            dropped,
            "a message is let go of unsettled",
            "
             PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders
             metric messaging.client.consumed.messages process x1
             metric messaging.client.operation.duration publish x1
             metric messaging.client.sent.messages publish x1
             metric messaging.process.duration process x1
             metric otel_messaging.deliveries process [settlement.outcome=dropped] x1"
        ),
        scenario!(
            got_and_dropped,
            "the same after a get",
            "
             PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders
             CLIENT get orders ~ publish orders
             metric messaging.client.consumed.messages get x1
             metric messaging.client.operation.duration get x1
             metric messaging.client.operation.duration publish x1
             metric messaging.client.sent.messages publish x1
             metric messaging.process.duration process x1
             metric otel_messaging.deliveries get [settlement.outcome=dropped] x1
             metric otel_messaging.queue_time get [clock=header] x1"
        ),
        scenario!(
            batch,
            "three messages are handled together",
            "
             3 x PRODUCER publish orders
             CONSUMER process orders ~ publish orders {rabbitmq.message.delivery_tag}, publish orders {rabbitmq.message.delivery_tag}, publish orders {rabbitmq.message.delivery_tag} [batch.message_count=3 settlement.outcome=ack]
             CLIENT ack orders < process orders [batch.message_count=3 settlement.outcome=ack]"
        ),
        scenario!(
            batch_beyond_links,
            "three messages are handled together, and two links are allowed",
            "
             3 x PRODUCER publish orders
             CONSUMER process orders ~ publish orders {rabbitmq.message.delivery_tag}, publish orders {rabbitmq.message.delivery_tag} [batch.message_count=3 settlement.outcome=ack]
             CLIENT ack orders < process orders [batch.message_count=3 settlement.outcome=ack]"
        ),
        scenario!(
            batch_of_routing_keys,
            "messages by two routing keys of one queue are handled together",
            "
             PRODUCER publish shop:order.paid
             PRODUCER publish shop:order.sent
             CONSUMER process shop:orders ~ publish shop:order.paid {destination.name rabbitmq.destination.routing_key rabbitmq.message.delivery_tag}, publish shop:order.sent {destination.name rabbitmq.destination.routing_key rabbitmq.message.delivery_tag} [batch.message_count=2 settlement.outcome=ack]
             CLIENT ack shop:orders < process shop:orders [batch.message_count=2 settlement.outcome=ack]"
        ),
        scenario!(
            create,
            "a message is made now and published later",
            "
             PRODUCER create orders < request
             CONSUMER process orders < create orders ~ create orders [settlement.outcome=ack]
             CLIENT ack orders < process orders [settlement.outcome=ack]
             CLIENT publish orders ~ create orders"
        ),
        scenario!(
            carried_replaced,
            "the same, and the publish replaces the context",
            "
             PRODUCER create orders < request
             PRODUCER publish orders ~ create orders
             CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=ack]
             CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            forwarded,
            "a handler sends on what it got, headers and all",
            "
             PRODUCER publish orders
             PRODUCER publish shipping < process orders ~ publish orders
             CONSUMER process orders < publish orders ~ publish orders
             CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            republished,
            "a failed message is sent again",
            "
             PRODUCER publish dead ~ publish orders, process orders
             PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders ! &str
             CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            policy_default,
            "ParentIfNoAmbient: inside a span, and without one",
            "
             2 x PRODUCER publish orders
             CONSUMER process orders < loop ~ publish orders [settlement.outcome=ack]
             CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=ack]
             2 x CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            policy_link,
            "Link: inside a span, and without one",
            "
             2 x PRODUCER publish orders
             CONSUMER process orders < loop ~ publish orders [settlement.outcome=ack]
             CONSUMER process orders ~ publish orders [settlement.outcome=ack]
             2 x CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            policy_parent,
            "Parent: inside a span, and without one",
            "
             2 x PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=ack]
             CONSUMER process orders < publish orders ~ publish orders, loop [settlement.outcome=ack]
             2 x CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            policy_auto,
            "Auto: a usual message, and the same again",
            "
             PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=requeue]
             CONSUMER process orders ~ publish orders [delivery.redelivered=true settlement.outcome=ack]
             CLIENT ack orders < process orders [settlement.outcome=ack]
             CLIENT nack orders < process orders [settlement.outcome=requeue]"
        ),
        scenario!(
            context_read,
            "a function reads the context that a connector left in a form of its own",
            "
             CONSUMER process orders < connector ~ connector [settlement.outcome=ack]
             CLIENT get orders ~ connector
             CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            untrusted,
            "the source is not trusted",
            "
             2 x PRODUCER publish orders
             CONSUMER process orders < loop ~ publish orders [settlement.outcome=ack]
             CONSUMER process orders ~ publish orders [settlement.outcome=ack]
             2 x CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            captured,
            "headers and sizes are asked for",
            "
             2 x PRODUCER publish orders [message.body.size=11 header.x-tenant=blue]
             2 x CONSUMER process orders < publish orders ~ publish orders [message.body.size=11 header.x-tenant=blue settlement.outcome=ack]
             2 x CLIENT ack orders < process orders [settlement.outcome=ack]
             CLIENT get orders ~ publish orders [message.body.size=11]"
        ),
        scenario!(
            without_logger,
            "a failure, and no logger provider",
            "
             PRODUCER publish nowhere ! no-route"
        ),
        scenario!(
            sampled_out,
            "nothing is sampled",
            "
             metric messaging.client.consumed.messages process x1
             metric messaging.client.operation.duration ack x1
             metric messaging.client.operation.duration publish ! no-route x1
             metric messaging.client.operation.duration publish x1
             metric messaging.client.sent.messages publish ! no-route x1
             metric messaging.client.sent.messages publish x1
             metric messaging.process.duration process x1
             metric otel_messaging.deliveries ack [settlement.outcome=ack] x1
             metric otel_messaging.queue_time process [clock=header] x1
             metric otel_messaging.wait_time process x1"
        ),
        scenario!(
            without_spans,
            "metrics only",
            "
             metric messaging.client.consumed.messages process x1
             metric messaging.client.operation.duration ack x1
             metric messaging.client.operation.duration publish ! no-route x1
             metric messaging.client.operation.duration publish x1
             metric messaging.client.sent.messages publish ! no-route x1
             metric messaging.client.sent.messages publish x1
             metric messaging.process.duration process x1
             metric otel_messaging.deliveries ack [settlement.outcome=ack] x1
             metric otel_messaging.queue_time process [clock=header] x1
             metric otel_messaging.wait_time process x1"
        ),
        scenario!(
            without_metrics,
            "spans only",
            "
             PRODUCER publish nowhere ! no-route
             PRODUCER publish orders
             CONSUMER process orders < publish orders ~ publish orders [settlement.outcome=ack]
             CLIENT ack orders < process orders [settlement.outcome=ack]"
        ),
        scenario!(
            destination_limit,
            "a second queue beyond a bound of one",
            "
             PRODUCER publish
             PRODUCER publish orders"
        ),
        scenario!(
            filtered,
            "a filter turns the publishes to a queue off",
            "
             PRODUCER publish orders"
        ),
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

const ACK: BasicAckOptions = BasicAckOptions { multiple: false };

/// A connection with one channel that confirms, and a queue.
struct Rabbit {
    connection: Connection,
    channel: Channel,
    queue: String,
}

impl Rabbit {
    async fn new(stage: &Stage, instrumentation: Instrumentation) -> Self {
        Self::with_queue(stage, instrumentation, FieldTable::default()).await
    }

    async fn of(stage: &Stage) -> Self {
        Self::new(stage, stage.instrumentation()).await
    }

    async fn with_queue(stage: &Stage, instrumentation: Instrumentation, arguments: FieldTable) -> Self {
        let connection = Connection::connect(&stage.address, ConnectionProperties::default()).await.expect("connected");
        let connection = connection.with_instrumentation(instrumentation);
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("it confirms");
        let rabbit = Self { connection, channel, queue: stage.name("orders") };
        rabbit.declare(&rabbit.queue, arguments).await;
        rabbit
    }

    async fn declare(&self, queue: &str, mut arguments: FieldTable) {
        arguments.insert("x-expires".into(), AMQPValue::LongInt(60_000));
        let declared = self.channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await;
        declared.expect("declared");
    }

    async fn declare_exclusive(&self) -> String {
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare("".into(), options, FieldTable::default()).await.expect("declared");
        declared.name().as_str().to_owned()
    }

    async fn publish(&self) {
        self.publish_with(&self.queue, BasicProperties::default()).await;
    }

    async fn publish_with(&self, queue: &str, properties: BasicProperties) {
        let options = BasicPublishOptions::default();
        let published = self.channel.basic_publish("".into(), queue.into(), options, b"four apples", properties).await;
        published.expect("published").await.expect("confirmed");
    }

    async fn get(&self) -> Delivery {
        let got = self.channel.basic_get(self.queue.as_str().into(), BasicGetOptions::default()).await;
        got.expect("an answer").expect("a message").delivery
    }

    async fn consume(&self) -> Consumer {
        self.consume_from(&self.queue).await
    }

    async fn consume_from(&self, queue: &str) -> Consumer {
        let options = BasicConsumeOptions::default();
        let consumer = self.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        consumer.await.expect("a consumer")
    }

    /// So many, published and taken.
    async fn deliveries(&self, count: usize) -> Vec<Delivery> {
        for _ in 0..count {
            self.publish().await;
        }
        let consumer = self.consume().await;
        consumer.take(count).map(|delivery| delivery.expect("a delivery")).collect().await
    }
}

async fn next(consumer: &mut Consumer) -> Delivery {
    consumer.next().await.expect("one more").expect("a delivery")
}

fn headers<const N: usize>(entries: [(&str, &str); N]) -> BasicProperties {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), AMQPValue::LongString(LongString::from(value)));
    }
    BasicProperties::default().with_headers(table)
}

async fn publish_and_process(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let request = stage.app("request");
    let queue: ShortString = rabbit.queue.as_str().into();
    let options = BasicPublishOptions::default();
    let publish = request
        .calls(|| rabbit.channel.basic_publish("".into(), queue, options, b"four apples", BasicProperties::default()));
    publish.await.expect("published").await.expect("confirmed");
    let delivery = next(&mut rabbit.consume().await).await;
    delivery.process(|| delivery.ack(ACK)).await.expect("acknowledged");
}

async fn publish_without_confirms(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let channel = rabbit.connection.create_channel().await.expect("a channel");
    let options = BasicPublishOptions::default();
    let publish =
        channel.basic_publish("".into(), rabbit.queue.as_str().into(), options, b"", BasicProperties::default());
    publish.await.expect("published").await.expect("nothing to wait for");
    let delivery = next(&mut rabbit.consume().await).await;
    delivery.ack(ACK).await.expect("acknowledged");
}

/// A topic exchange that routes everything to the queue.
async fn exchange(stage: &Stage, rabbit: &Rabbit) -> String {
    let (exchange, queue) = (stage.name("shop"), rabbit.queue.as_str());
    let options = ExchangeDeclareOptions { auto_delete: true, ..ExchangeDeclareOptions::default() };
    let declared =
        rabbit.channel.exchange_declare(exchange.as_str().into(), ExchangeKind::Topic, options, FieldTable::default());
    declared.await.expect("declared");
    let bound = rabbit.channel.queue_bind(
        queue.into(),
        exchange.as_str().into(),
        "#".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.expect("bound");
    exchange
}

async fn publish_by(rabbit: &Rabbit, exchange: &str, routing_key: &str) {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let publish = rabbit.channel.basic_publish(exchange.into(), routing_key.into(), options, b"", properties);
    publish.await.expect("published").await.expect("confirmed");
}

async fn publish_to_exchange(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let exchange = exchange(&stage, &rabbit).await;
    publish_by(&rabbit, &exchange, "order.paid").await;
    let delivery = next(&mut rabbit.consume().await).await;
    delivery.ack(ACK).await.expect("acknowledged");
}

async fn publish_with_ids(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let ids = || BasicProperties::default().with_message_id("17".into()).with_correlation_id("c-17".into());
    for _ in 0..3 {
        rabbit.publish_with(&rabbit.queue, ids()).await;
    }
    let got = rabbit.channel.basic_get(rabbit.queue.as_str().into(), BasicGetOptions::default()).await;
    got.expect("an answer").expect("a message").delivery.ack(ACK).await.expect("acknowledged");
    let mut consumer = rabbit.consume().await;
    next(&mut consumer).await.nack(BasicNackOptions::default()).await.expect("refused");
    next(&mut consumer).await.reject(BasicRejectOptions::default()).await.expect("refused");
}

async fn publish_refused(stage: Stage) {
    let mut limits = FieldTable::default();
    limits.insert("x-max-length".into(), AMQPValue::LongInt(1));
    limits.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let rabbit = Rabbit::with_queue(&stage, stage.instrumentation(), limits).await;
    rabbit.publish().await;
    rabbit.publish().await;
}

/// To a queue that does not exist.
async fn nowhere(stage: &Stage, instrumentation: Instrumentation) {
    let rabbit = Rabbit::new(stage, instrumentation).await;
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let to = stage.name("nowhere").as_str().into();
    let publish = rabbit.channel.basic_publish("".into(), to, mandatory, b"", BasicProperties::default());
    publish.await.expect("published").await.expect("confirmed, and returned");
}

async fn publish_returned(stage: Stage) {
    nowhere(&stage, stage.instrumentation()).await;
}

async fn publish_fails(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let exchange = stage.name("nowhere").as_str().into();
    let options = BasicPublishOptions::default();
    let publish = rabbit.channel.basic_publish(exchange, "".into(), options, b"", BasicProperties::default());
    publish.await.expect("published").await.expect_err("no such exchange");
}

async fn confirm_not_awaited(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let options = BasicPublishOptions::default();
    let to = rabbit.queue.as_str().into();
    drop(
        rabbit.channel.basic_publish("".into(), to, options, b"", BasicProperties::default()).await.expect("published"),
    );
    rabbit.channel.wait_for_confirms().await.expect("confirmed");
}

async fn templated(stage: Stage) {
    let instrumentation = stage.builder().with_destination_template(|_| Some("orders.{id}".to_owned())).build();
    let rabbit = Rabbit::new(&stage, instrumentation.clone()).await;
    Creator::new(instrumentation).create("", &rabbit.queue, &mut HashMap::<String, String>::new());
    for _ in 0..3 {
        rabbit.publish_with(&rabbit.queue, stamped()).await;
    }
    let got = rabbit.get().await;
    got.process(|| got.ack(ACK)).await.expect("acknowledged");
    let mut consumer = rabbit.consume().await;
    next(&mut consumer).await.nack(BasicNackOptions::default()).await.expect("refused");
    next(&mut consumer).await.reject(BasicRejectOptions::default()).await.expect("refused");
    close_channel(&stage, &rabbit).await;
    consumer.next().await.expect("one more").expect_err("the channel is closed");
}

/// Has the broker close the channel.
async fn close_channel(stage: &Stage, rabbit: &Rabbit) {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let nowhere = stage.name("nowhere").as_str().into();
    rabbit.channel.queue_declare(nowhere, options, FieldTable::default()).await.expect_err("no such queue");
}

/// The queue is one that the server names and that goes away with the connection.
async fn with_exclusive_queue(stage: &Stage) -> Rabbit {
    let mut rabbit = Rabbit::of(stage).await;
    rabbit.queue = rabbit.declare_exclusive().await;
    rabbit
}

async fn exclusive_queue(stage: Stage) {
    for delivery in with_exclusive_queue(&stage).await.deliveries(1).await {
        delivery.ack(ACK).await.expect("acknowledged");
    }
}

async fn exclusive_queue_got(stage: Stage) {
    let rabbit = with_exclusive_queue(&stage).await;
    let creator = Creator::new(stage.instrumentation());
    creator.create("", "amq.rabbitmq.reply-to.g1h2AA", &mut HashMap::<String, String>::new());
    let mut stored = HashMap::<String, String>::new();
    creator.create("", &rabbit.queue, &mut stored);
    rabbit.publish_with(&rabbit.queue, with_context(stored)).await;
    rabbit.get().await.ack(ACK).await.expect("acknowledged");
}

async fn answered(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let replies = stage.name("replies");
    rabbit.declare(&replies, FieldTable::default()).await;
    let asking = BasicProperties::default().with_reply_to(replies.as_str().into());
    rabbit.publish_with(&rabbit.queue, asking).await;
    let delivery = next(&mut rabbit.consume().await).await;
    let answer = async {
        rabbit.publish_with(&replies, BasicProperties::default()).await;
        let creator = Creator::new(stage.instrumentation());
        creator.create("", &replies, &mut HashMap::<String, String>::new());
        delivery.ack(ACK).await.expect("acknowledged");
    };
    delivery.process(|| answer).await;
}

async fn delegate(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    rabbit.publish().await;
    let (done, mut handled) = unbounded_channel();
    rabbit.consume().await.set_delegate(move |delivery: DeliveryResult| {
        let done = done.clone();
        async move {
            // The last that it is called for is the connection's end.
            let Ok(Some(delivery)) = delivery else { return };
            delivery.ack(ACK).await.expect("acknowledged");
            drop(delivery);
            let _ = done.send(());
        }
    });
    handled.recv().await.expect("handled");
}

async fn handler_fails(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let mut deliveries = rabbit.deliveries(2).await.into_iter();
    let (declined, panicking) = (deliveries.next().expect("two"), deliveries.next().expect("two"));
    declined.process(|| async { Err::<(), _>("declined") }).await.expect_err("declined");
    declined.ack(ACK).await.expect("acknowledged");
    let acker = panicking.acker.clone();
    tokio::spawn(async move { panicking.process(|| async { panics() }).await }).await.expect_err("panicked");
    acker.ack(ACK).await.expect("acknowledged");
}

async fn ack_all(deliveries: &[Delivery]) {
    for delivery in deliveries {
        delivery.ack(ACK).await.expect("settled");
    }
}

async fn outcomes(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let deliveries = rabbit.deliveries(5).await;
    handler::outcomes(&deliveries).await;
    ack_all(&deliveries).await;
}

async fn handler_waits(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let deliveries = rabbit.deliveries(2).await;
    handler::late(&deliveries).await;
    ack_all(&deliveries).await;
}

async fn batch_waits(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let deliveries = rabbit.deliveries(3).await;
    handler::late_together(&deliveries).await;
    ack_all(&deliveries).await;
}

async fn context_before_handler(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let deliveries = rabbit.deliveries(1).await;
    handler::context_first(&deliveries[0]).await;
    ack_all(&deliveries).await;
}

async fn handled_at_once(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    rabbit.publish().await;
    rabbit.publish().await;
    let deliveries = rabbit.consume().await.take(2);
    let handled = deliveries.process_each(1, |delivery| async move { delivery.ack(ACK).await });
    handled.await.expect("no error");
}

async fn consumer_fails(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    rabbit.publish().await;
    let orders = rabbit.consume().await;
    let mut replies = rabbit.consume_from(&rabbit.declare_exclusive().await).await;
    let (stage, rabbit) = (&stage, &rabbit);
    let handled = orders.process_each(1, |delivery| async move {
        delivery.ack(ACK).await.expect("settled");
        close_channel(stage, rabbit).await;
    });
    handled.await.expect_err("the channel is closed");
    replies.next().await.expect("one more").expect_err("the channel is closed");
}

async fn refused_by_the_handler(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let deliveries = rabbit.deliveries(2).await;
    let (nacked, rejected) = (&deliveries[0], &deliveries[1]);
    let nack = async {
        assert!(nacked.nack(BasicNackOptions::default()).await.expect("refused"));
        Err::<(), _>("declined")
    };
    nacked.process(|| nack).await.expect_err("declined");
    let reject = async {
        assert!(rejected.reject(BasicRejectOptions::default()).await.expect("refused"));
        Err::<(), _>("declined")
    };
    rejected.process(|| reject).await.expect_err("declined");
}

async fn acknowledged_then_worked_on(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let onwards = stage.name("shipping");
    rabbit.declare(&onwards, FieldTable::default()).await;
    for delivery in rabbit.deliveries(1).await {
        let work = async {
            delivery.ack(ACK).await.expect("acknowledged");
            rabbit.publish_with(&onwards, BasicProperties::default()).await;
        };
        delivery.process(|| work).await;
    }
}

async fn get(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    rabbit.publish().await;
    let get = || rabbit.channel.basic_get(rabbit.queue.as_str().into(), BasicGetOptions::default());
    let message = get().await.expect("an answer").expect("a message");
    message.delivery.ack(ACK).await.expect("acknowledged");
    assert!(get().await.expect("an answer").is_none());
}

async fn get_fails(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let got = rabbit.channel.basic_get(stage.name("nowhere").as_str().into(), BasicGetOptions::default()).await;
    got.expect_err("no such queue");
}

async fn settled(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    for _ in 0..5 {
        rabbit.publish().await;
    }
    let get = || rabbit.channel.basic_get(rabbit.queue.as_str().into(), BasicGetOptions::default());
    let mut deliveries = Vec::new();
    for _ in 0..5 {
        deliveries.push(get().await.expect("an answer").expect("a message").delivery);
    }
    let nack = |requeue| BasicNackOptions { requeue, ..BasicNackOptions::default() };
    deliveries[0].ack(ACK).await.expect("settled");
    deliveries[1].nack(nack(false)).await.expect("settled");
    deliveries[2].nack(nack(true)).await.expect("settled");
    deliveries[3].reject(BasicRejectOptions { requeue: false }).await.expect("settled");
    deliveries[4].reject(BasicRejectOptions { requeue: true }).await.expect("settled");
}

async fn settled_twice(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    for delivery in rabbit.deliveries(1).await {
        assert!(delivery.ack(ACK).await.expect("settled"));
        assert!(!delivery.ack(ACK).await.expect("nothing to do"));
    }
}

async fn settled_after_the_end(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    for delivery in rabbit.deliveries(1).await {
        delivery.process(|| async {}).await;
        delivery.ack(ACK).await.expect("settled");
    }
}

async fn settled_by_tag(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let tags: Vec<_> = rabbit.deliveries(1).await.iter().map(|delivery| delivery.delivery_tag).collect();
    rabbit.channel.basic_ack(tags[0], ACK).await.expect("settled");
}

async fn settled_together(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let deliveries = rabbit.deliveries(4).await;
    deliveries[1].ack(BasicAckOptions { multiple: true }).await.expect("settled");
    deliveries[3].nack(BasicNackOptions { multiple: true, requeue: false }).await.expect("settled");
}

async fn settle_fails(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let deliveries = rabbit.deliveries(3).await;
    rabbit.channel.close(200, "done".into()).await.expect("closed");
    // An acker gives `Ok(false)` then; by tag it is an error.
    assert!(!deliveries[0].ack(ACK).await.expect("no error"));
    let [first, second, third] = [0, 1, 2].map(|number: usize| deliveries[number].delivery_tag);
    rabbit.channel.basic_ack(first, ACK).await.expect_err("closed");
    rabbit.channel.basic_nack(second, BasicNackOptions::default()).await.expect_err("closed");
    rabbit.channel.basic_reject(third, BasicRejectOptions::default()).await.expect_err("closed");
}

/// One delivery after another of one message.
async fn twice(rabbit: &Rabbit) {
    rabbit.publish().await;
    let mut consumer = rabbit.consume().await;
    let requeue = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
    next(&mut consumer).await.nack(requeue).await.expect("settled");
    next(&mut consumer).await.ack(ACK).await.expect("settled");
}

async fn redelivered(stage: Stage) {
    twice(&Rabbit::of(&stage).await).await;
}

async fn quorum(stage: Stage) {
    let mut counts = FieldTable::default();
    counts.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    twice(&Rabbit::with_queue(&stage, stage.instrumentation(), counts).await).await;
}

/// A stream does not go away by itself.
async fn stream(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let stream = stage.name("events");
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    let declared = rabbit.channel.queue_declare(stream.as_str().into(), QueueDeclareOptions::durable(), arguments);
    declared.await.expect("declared");
    for _ in 0..3 {
        rabbit.publish_with(&stream, BasicProperties::default()).await;
    }
    let first = async |channel: &Channel| {
        channel.basic_qos(3, BasicQosOptions::default()).await.expect("a bound");
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
        let options = BasicConsumeOptions::default();
        channel.basic_consume(stream.as_str().into(), "".into(), options, arguments).await.expect("a consumer")
    };
    let mut consumer = first(&rabbit.channel).await;
    next(&mut consumer).await.ack(ACK).await.expect("acknowledged");
    let _together = next(&mut consumer).await;
    next(&mut consumer).await.ack(BasicAckOptions { multiple: true }).await.expect("acknowledged");
    // The broker closes the connection of whoever refuses one.
    let nacking = Rabbit::of(&stage).await;
    next(&mut first(&nacking.channel).await).await.nack(BasicNackOptions::default()).await.expect("refused");
    let rejecting = Rabbit::of(&stage).await;
    next(&mut first(&rejecting.channel).await).await.reject(BasicRejectOptions::default()).await.expect("refused");
    let deleted = rabbit.channel.queue_delete(stream.as_str().into(), QueueDeleteOptions::default()).await;
    deleted.expect("deleted");
}

async fn dropped(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    drop(rabbit.deliveries(1).await);
}

async fn got_and_dropped(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    rabbit.publish_with(&rabbit.queue, stamped()).await;
    drop(rabbit.get().await);
}

async fn batch(stage: Stage) {
    batch_of_three(&stage, stage.instrumentation()).await;
}

async fn batch_beyond_links(stage: Stage) {
    batch_of_three(&stage, stage.builder().with_max_links(2).build()).await;
}

async fn batch_of_three(stage: &Stage, instrumentation: Instrumentation) {
    let rabbit = Rabbit::new(stage, instrumentation).await;
    let deliveries = rabbit.deliveries(3).await;
    let together = BasicAckOptions { multiple: true };
    process_batch(&deliveries, || async { deliveries[2].ack(together).await }).await.expect("settled");
}

/// What a creator left.
fn with_context(stored: HashMap<String, String>) -> BasicProperties {
    let mut table = FieldTable::default();
    let mut injector = HeaderInjector::new(&mut table);
    for (key, value) in stored {
        opentelemetry::propagation::Injector::set(&mut injector, &key, value);
    }
    BasicProperties::default().with_headers(table)
}

async fn batch_of_routing_keys(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let exchange = exchange(&stage, &rabbit).await;
    for routing_key in ["order.paid", "order.sent"] {
        publish_by(&rabbit, &exchange, routing_key).await;
    }
    let consumer = rabbit.consume().await;
    let deliveries: Vec<_> = consumer.take(2).map(|delivery| delivery.expect("a delivery")).collect().await;
    let together = BasicAckOptions { multiple: true };
    process_batch(&deliveries, || async { deliveries[1].ack(together).await }).await.expect("settled");
}

/// Made in one place, published by a client in another.
async fn outbox(stage: Stage, instrumentation: Instrumentation) {
    let rabbit = Rabbit::new(&stage, instrumentation).await;
    let creator = Creator::new(stage.instrumentation());
    let mut stored = HashMap::<String, String>::new();
    stage.app("request").calls(|| creator.create("", &rabbit.queue, &mut stored));
    rabbit.publish_with(&rabbit.queue, with_context(stored)).await;
    let delivery = next(&mut rabbit.consume().await).await;
    delivery.ack(ACK).await.expect("settled");
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
    let rabbit = Rabbit::of(&stage).await;
    let onwards = stage.name("shipping");
    rabbit.declare(&onwards, FieldTable::default()).await;
    for delivery in rabbit.deliveries(1).await {
        let copied = delivery.properties.clone();
        delivery.process(|| async { rabbit.publish_with(&onwards, copied).await }).await;
        delivery.ack(ACK).await.expect("settled");
    }
}

async fn republished(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let dead = stage.name("dead");
    rabbit.declare(&dead, FieldTable::default()).await;
    for delivery in rabbit.deliveries(1).await {
        delivery.process(|| async { Err::<(), _>("declined") }).await.expect_err("declined");
        let (options, copied) = (BasicPublishOptions::default(), delivery.properties.clone());
        let to = dead.as_str().into();
        let again = delivery.republish(|| rabbit.channel.basic_publish("".into(), to, options, b"", copied));
        again.await.expect("published").await.expect("confirmed");
        delivery.ack(ACK).await.expect("settled");
    }
}

/// One message is delivered inside a span, and one is not.
async fn policy(stage: Stage, configure: impl FnOnce(InstrumentationBuilder) -> InstrumentationBuilder) {
    let rabbit = Rabbit::new(&stage, configure(stage.builder()).build()).await;
    rabbit.publish().await;
    rabbit.publish().await;
    let mut consumer = rabbit.consume().await;
    let outer = stage.app("loop");
    let inside = next(&mut consumer).with_context(outer.0.clone()).await;
    inside.process(|| inside.ack(ACK)).await.expect("settled");
    let outside = next(&mut consumer).await;
    outside.process(|| outside.ack(ACK)).await.expect("settled");
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
    let rabbit = Rabbit::new(&stage, stage.reading()).await;
    let connector = stage.app("connector");
    let publish = connector.sends_otherwise(|context| {
        let properties = headers([("ce_traceparent", context)]);
        let options = BasicPublishOptions::default();
        rabbit.channel.basic_publish("".into(), rabbit.queue.as_str().into(), options, b"four apples", properties)
    });
    publish.await.expect("published").await.expect("confirmed");
    rabbit.get().await.ack(BasicAckOptions::default()).await.expect("settled");
}

async fn untrusted(stage: Stage) {
    policy(stage, |builder| builder.with_correlation(Correlation::Parent).with_untrusted_source(true)).await;
}

async fn policy_auto(stage: Stage) {
    let auto = Correlation::Auto(AutoCorrelation::default());
    twice(&Rabbit::new(&stage, stage.builder().with_correlation(auto).build()).await).await;
}

async fn captured(stage: Stage) {
    let builder = stage.builder().with_captured_headers(["x-*"]).with_captured_sizes(true);
    let rabbit = Rabbit::new(&stage, builder.build()).await;
    for _ in 0..2 {
        rabbit.publish_with(&rabbit.queue, headers([("x-tenant", "blue")])).await;
    }
    let got = rabbit.channel.basic_get(rabbit.queue.as_str().into(), BasicGetOptions::default()).await;
    got.expect("an answer").expect("a message").delivery.ack(ACK).await.expect("settled");
    next(&mut rabbit.consume().await).await.ack(ACK).await.expect("settled");
}

/// Sent now.
fn stamped() -> BasicProperties {
    let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    BasicProperties::default().with_timestamp(timestamp.as_secs())
}

async fn there_and_back(stage: &Stage, instrumentation: Instrumentation) {
    let rabbit = Rabbit::new(stage, instrumentation.clone()).await;
    rabbit.publish_with(&rabbit.queue, stamped()).await;
    let delivery = next(&mut rabbit.consume().await).await;
    delivery.process(|| delivery.ack(ACK)).await.expect("settled");
    nowhere(stage, instrumentation).await;
}

async fn without_logger(stage: Stage) {
    nowhere(&stage, stage.without_logger().build()).await;
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
    let rabbit = Rabbit::new(&stage, stage.builder().with_destination_limit(1).build()).await;
    let second = stage.name("shipping");
    rabbit.declare(&second, FieldTable::default()).await;
    rabbit.publish().await;
    rabbit.publish_with(&second, BasicProperties::default()).await;
}

async fn filtered(stage: Stage) {
    let off = stage.name("quiet");
    let quiet = off.clone();
    let wanted = move |operation: &otel_messaging::Operation| operation.destination() != Some(&*off);
    let rabbit = Rabbit::new(&stage, stage.builder().with_filter(wanted).build()).await;
    rabbit.declare(&quiet, FieldTable::default()).await;
    rabbit.publish_with(&quiet, BasicProperties::default()).await;
    rabbit.publish().await;
}
