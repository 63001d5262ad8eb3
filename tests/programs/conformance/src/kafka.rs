//! Kafka.

use std::{collections::HashMap, pin::pin, time::Duration};

use futures::{
    StreamExt, TryStreamExt,
    future::{Either, select},
};
use opentelemetry::trace::FutureExt;
use otel_messaging::{AutoCorrelation, CarriedContext, Correlation, Instrumentation, InstrumentationBuilder};
use otel_rdkafka::{
    ClientConfig, ClientContext, Offset, Statistics, TopicPartitionList,
    consumer::{CommitMode, Consumer, ConsumerContext, StreamConsumer},
    error::KafkaResult,
    message::{BorrowedMessage, Header, OwnedHeaders},
    otel::{
        Creator, MessageExt, MessageStreamExt, process_batch,
        raw::{
            self,
            admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
        },
    },
    producer::{FutureProducer, FutureRecord, Producer, PurgeConfig},
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::{
    broker::{Broker, Started},
    handler,
    scenario::{LeftOut, Measure, Operation, PROCESS, panics, scenario},
    stage::Stage,
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
        LeftOut {
            attribute: "server.port",
            of: "create commit otel_messaging.deliveries",
            why: "as `server.address`",
        },
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
    scenarios: &[
        scenario!(
            send_and_process,
            "a message is sent, handled and committed",
            "
             PRODUCER send orders < request
             CONSUMER process orders < send orders ~ send orders [settlement.outcome=commit]
             CLIENT commit orders < process orders [settlement.outcome=commit]"
        ),
        scenario!(
            send_to_partition,
            "the user chose the partition",
            "
             PRODUCER send orders"
        ),
        scenario!(
            send_fails,
            "the broker refuses a message that is too large",
            "
             PRODUCER send orders ! MESSAGE_TOO_LARGE"
        ),
        scenario!(
            send_times_out,
            "no broker is there",
            "
             PRODUCER send orders ! _MSG_TIMED_OUT"
        ),
        scenario!(
            purged,
            "the application purges a message, and aborts the transaction of another; a third is purged because its producer is \
             dropped",
            "
             2 x PRODUCER send orders ! _PURGE_REQUESTED
             PRODUCER send orders ! _PURGE_QUEUE"
        ),
        scenario!(
            statistics,
            "statistics tell where brokers are: that of a send and, with receive spans, that of a poll",
            "
             PRODUCER send orders
             CLIENT poll orders ~ send orders
             CONSUMER process orders < send orders ~ send orders"
        ),
        scenario!(
            tombstone,
            "a message has no value",
            "
             PRODUCER send orders [kafka.message.tombstone=true]
             CONSUMER process orders < send orders ~ send orders [kafka.message.tombstone=true]"
        ),
        scenario!(
            handler_fails,
            "a handler gives an error, another panics",
            "
             2 x PRODUCER send orders
             CONSUMER process orders < send orders ~ send orders ! &str
             CONSUMER process orders < send orders ~ send orders ! panic"
        ),
        scenario!(
            outcomes,
            "a function finds what failed: of a handler, of one that is synchronous, of one of a stream, of one of a batch; \
             another handler gives `None`, which is no failure",
            "
             5 x PRODUCER send orders
             3 x CONSUMER process orders < send orders ~ send orders ! declined
             CONSUMER process orders < send orders ~ send orders
             CONSUMER process orders ~ send orders ! declined [batch.message_count=1]"
        ),
        scenario!(
            handler_waits,
            "two messages wait for their handlers",
            "
             2 x PRODUCER send orders
             2 x CONSUMER process orders < send orders ~ send orders"
        ),
        scenario!(
            batch_waits,
            "three messages wait until they are handled together",
            "
             3 x PRODUCER send orders
             CONSUMER process orders ~ send orders {kafka.offset}, send orders {kafka.offset}, send orders {kafka.offset} [batch.message_count=3]"
        ),
        scenario!(
            context_before_handler,
            "a message waits for its handler, and its context is asked for before: the span starts with the delivery",
            "
             PRODUCER send orders
             CONSUMER process orders < send orders ~ send orders"
        ),
        scenario!(
            handled_at_once,
            "`process_each`: the delivery is the handler's start",
            "
             2 x PRODUCER send orders
             2 x CONSUMER process orders < send orders ~ send orders [settlement.outcome=commit]
             2 x CLIENT commit orders < process orders [settlement.outcome=commit]"
        ),
        scenario!(
            commits_and_fails,
            "a handler commits, goes on, and gives an error",
            "
             PRODUCER send orders
             CONSUMER process orders < send orders ~ send orders ! &str [settlement.outcome=commit]
             CLIENT commit orders < process orders [settlement.outcome=commit]
             PRODUCER send shipping < process orders"
        ),
        scenario!(
            poll_fails,
            "the offset to start at is not there",
            "
             CLIENT poll ! _AUTO_OFFSET_RESET"
        ),
        scenario!(
            topic_appears,
            "`process_each` of a topic that does not exist goes on, and handles the message that comes when it does",
            "
             PRODUCER send orders
             CONSUMER process orders < send orders ~ send orders [settlement.outcome=commit]
             n x CLIENT poll ! UNKNOWN_TOPIC_OR_PARTITION
             CLIENT commit orders < process orders [settlement.outcome=commit]"
        ),
        scenario!(
            receive_spans_off,
            "a poll that brings a message, by default",
            "
             PRODUCER send orders
             CONSUMER process orders < send orders ~ send orders"
        ),
        scenario!(
            receive_spans_on,
            "the same with `receive_spans`",
            "
             PRODUCER send orders
             CONSUMER process orders < send orders ~ send orders
             CLIENT poll orders ~ send orders"
        ),
        scenario!(
            receive_spans_captured,
            "the same with all that can be asked for, and without a value",
            "
             PRODUCER send orders [kafka.message.key=4711 kafka.message.tombstone=true]
             PRODUCER send orders [kafka.message.key=4711 message.body.size=11 header.x-tenant=blue]
             CONSUMER process orders < send orders ~ send orders [kafka.message.key=4711 kafka.message.tombstone=true]
             CONSUMER process orders < send orders ~ send orders [kafka.message.key=4711 message.body.size=11 header.x-tenant=blue]
             CLIENT poll orders ~ send orders [kafka.message.key=4711 kafka.message.tombstone=true]
             CLIENT poll orders ~ send orders [kafka.message.key=4711 message.body.size=11]"
        ),
        scenario!(
            committed,
            "the whole state, a list, each also in the background, a message in the background",
            "
             PRODUCER send orders
             CONSUMER process orders < send orders ~ send orders [settlement.outcome=commit]
             2 x CLIENT commit [settlement.outcome=commit]
             CLIENT commit orders < process orders [settlement.outcome=commit]
             2 x CLIENT commit orders [settlement.outcome=commit]"
        ),
        scenario!(
            settled_after_the_end,
            "handled first, committed then",
            "
             PRODUCER send orders
             CONSUMER process orders < send orders ~ send orders
             CLIENT commit orders < process orders [settlement.outcome=commit]"
        ),
        scenario!(
            commit_fails,
            "the consumer is no member of the group",
            "
             PRODUCER send orders
             CONSUMER process orders < send orders ~ send orders
             CLIENT commit orders < process orders ! UNKNOWN_MEMBER_ID"
        ),
        scenario!(
            auto_commit_spans_off,
            "an automatic commit, by default",
            "
             PRODUCER send orders
             CONSUMER process orders < send orders ~ send orders
             metric messaging.client.consumed.messages poll x1
             metric messaging.client.operation.duration poll x1
             metric messaging.client.operation.duration send x1
             metric messaging.client.sent.messages send x1
             metric messaging.process.duration process x1
             metric otel_messaging.deliveries commit [settlement.outcome=commit] xn
             metric otel_messaging.queue_time poll [clock=create_time] x1"
        ),
        scenario!(
            auto_commit_spans_on,
            "the same with `auto_commit_spans`",
            "
             PRODUCER send orders
             CONSUMER process orders < send orders ~ send orders
             n x CLIENT commit orders [settlement.outcome=commit]
             metric messaging.client.consumed.messages poll x1
             metric messaging.client.operation.duration poll x1
             metric messaging.client.operation.duration send x1
             metric messaging.client.sent.messages send x1
             metric messaging.process.duration process x1
             metric otel_messaging.deliveries commit [settlement.outcome=commit] xn
             metric otel_messaging.queue_time poll [clock=create_time] x1"
        ),
        scenario!(
            templated,
            "each customer has a topic, and one name stands for all of them",
            "
             PRODUCER create orders.{customer} [destination.template=orders.{customer}]
             CLIENT send orders.{customer} ~ create orders.{customer} [destination.template=orders.{customer}]
             CLIENT poll orders.{customer} ~ create orders.{customer} [destination.template=orders.{customer}]
             CONSUMER process orders.{customer} < create orders.{customer} ~ create orders.{customer} [destination.template=orders.{customer} settlement.outcome=commit]
             CLIENT commit orders.{customer} < process orders.{customer} [destination.template=orders.{customer} settlement.outcome=commit]"
        ),
        scenario!(
            auto_commit_fails,
            "an automatic commit of a consumer that is no member of the group",
            "
             PRODUCER send orders
             CONSUMER process orders < send orders ~ send orders
             n x CLIENT commit orders ! UNKNOWN_MEMBER_ID
             metric messaging.client.consumed.messages poll x1
             metric messaging.client.operation.duration poll x1
             metric messaging.client.operation.duration send x1
             metric messaging.client.sent.messages send x1
             metric messaging.process.duration process x1
             metric otel_messaging.queue_time poll [clock=create_time] x1"
        ),
        scenario!(
            anonymous_topic,
            "a topic that a program named for one use",
            "
             PRODUCER create [destination.anonymous=true]
             PRODUCER send [destination.anonymous=true]
             CONSUMER process < create ~ create [destination.anonymous=true]
             CONSUMER process < send ~ send [destination.anonymous=true]
             CLIENT poll ~ create [destination.anonymous=true]
             CLIENT poll ~ send [destination.anonymous=true]
             CLIENT send ~ create [destination.anonymous=true]"
        ),
        scenario!(
            batch,
            "three messages are handled together",
            "
             3 x PRODUCER send orders
             CONSUMER process orders ~ send orders {kafka.offset}, send orders {kafka.offset}, send orders {kafka.offset} [batch.message_count=3]
             CLIENT commit orders < process orders [settlement.outcome=commit]"
        ),
        scenario!(
            batch_beyond_links,
            "three messages are handled together, and two links are allowed",
            "
             3 x PRODUCER send orders
             CONSUMER process orders ~ send orders {kafka.offset}, send orders {kafka.offset} [batch.message_count=3]
             CLIENT commit orders < process orders [settlement.outcome=commit]"
        ),
        scenario!(
            create,
            "a message is made now and sent later",
            "
             PRODUCER create orders < request
             CONSUMER process orders < create orders ~ create orders
             CLIENT send orders ~ create orders"
        ),
        scenario!(
            carried_replaced,
            "the same, and the send replaces the context",
            "
             PRODUCER create orders < request
             PRODUCER send orders ~ create orders
             CONSUMER process orders < send orders ~ send orders"
        ),
        scenario!(
            carried_kept,
            "a handler that fails sends on what it got, and contexts are always kept; a retry's is new all the same",
            "
             PRODUCER send orders
             CLIENT send shipping < process orders ~ send orders
             PRODUCER send dead ~ send orders, process orders
             CONSUMER process orders < send orders ~ send orders ! &str"
        ),
        scenario!(
            forwarded,
            "a handler sends on what it got, headers and all",
            "
             PRODUCER send orders
             PRODUCER send shipping < process orders ~ send orders
             CONSUMER process orders < send orders ~ send orders"
        ),
        scenario!(
            republished,
            "a failed message is sent again",
            "
             PRODUCER send dead ~ send orders, process orders
             PRODUCER send orders
             CONSUMER process orders < send orders ~ send orders ! &str"
        ),
        scenario!(
            retried,
            "a header counts the attempts",
            "
             PRODUCER send orders
             CONSUMER process orders < send orders ~ send orders [delivery.attempt=3]"
        ),
        scenario!(
            policy_default,
            "ParentIfNoAmbient: inside a span, and without one",
            "
             2 x PRODUCER send orders
             CONSUMER process orders < loop ~ send orders
             CONSUMER process orders < send orders ~ send orders"
        ),
        scenario!(
            policy_link,
            "Link: inside a span, and without one",
            "
             2 x PRODUCER send orders
             CONSUMER process orders < loop ~ send orders
             CONSUMER process orders ~ send orders"
        ),
        scenario!(
            policy_parent,
            "Parent: inside a span, and without one",
            "
             2 x PRODUCER send orders
             CONSUMER process orders < send orders ~ send orders
             CONSUMER process orders < send orders ~ send orders, loop"
        ),
        scenario!(
            policy_auto,
            "Auto: a usual message, an old one, one that is tried again, a dead letter",
            "
             4 x PRODUCER send orders
             CONSUMER process orders < send orders ~ send orders
             2 x CONSUMER process orders ~ send orders
             CONSUMER process orders ~ send orders [delivery.attempt=2]"
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
             2 x PRODUCER send orders
             CONSUMER process orders < loop ~ send orders
             CONSUMER process orders ~ send orders"
        ),
        scenario!(
            capture_key_off,
            "a key, a header and a size, by default",
            "
             PRODUCER send orders
             CONSUMER process orders < send orders ~ send orders"
        ),
        scenario!(
            capture_key_on,
            "the same, and all of them are asked for",
            "
             PRODUCER send orders [kafka.message.key=4711 message.body.size=11 header.x-tenant=blue]
             CONSUMER process orders < send orders ~ send orders [kafka.message.key=4711 message.body.size=11 header.x-tenant=blue]"
        ),
        scenario!(
            metric_partition_off,
            "metrics, by default",
            "
             PRODUCER send orders
             PRODUCER send orders ! _MSG_TIMED_OUT
             CONSUMER process orders < send orders ~ send orders [settlement.outcome=commit]
             CLIENT commit orders < process orders [settlement.outcome=commit]
             metric messaging.client.consumed.messages poll x1
             metric messaging.client.operation.duration commit x1
             metric messaging.client.operation.duration poll x1
             metric messaging.client.operation.duration send ! _MSG_TIMED_OUT x1
             metric messaging.client.operation.duration send x1
             metric messaging.client.sent.messages send ! _MSG_TIMED_OUT x1
             metric messaging.client.sent.messages send x1
             metric messaging.process.duration process x1
             metric otel_messaging.deliveries commit [settlement.outcome=commit] x1
             metric otel_messaging.queue_time poll [clock=create_time] x1
             metric otel_messaging.wait_time process x1"
        ),
        scenario!(
            metric_partition_on,
            "metrics with the partition",
            "
             PRODUCER send orders
             PRODUCER send orders ! _MSG_TIMED_OUT
             CONSUMER process orders < send orders ~ send orders [settlement.outcome=commit]
             CLIENT commit orders < process orders [settlement.outcome=commit]
             metric messaging.client.consumed.messages poll partition 0 x1
             metric messaging.client.operation.duration commit partition 0 x1
             metric messaging.client.operation.duration poll partition 0 x1
             metric messaging.client.operation.duration send ! _MSG_TIMED_OUT x1
             metric messaging.client.operation.duration send partition 0 x1
             metric messaging.client.sent.messages send ! _MSG_TIMED_OUT x1
             metric messaging.client.sent.messages send partition 0 x1
             metric messaging.process.duration process partition 0 x1
             metric otel_messaging.deliveries commit [settlement.outcome=commit] x1
             metric otel_messaging.queue_time poll [clock=create_time] x1
             metric otel_messaging.wait_time process partition 0 x1"
        ),
        scenario!(
            without_logger,
            "a failure, and no logger provider",
            "
             PRODUCER send orders ! _MSG_TIMED_OUT"
        ),
        scenario!(
            sampled_out,
            "nothing is sampled",
            "
             metric messaging.client.consumed.messages poll x1
             metric messaging.client.operation.duration commit x1
             metric messaging.client.operation.duration poll x1
             metric messaging.client.operation.duration send ! _MSG_TIMED_OUT x1
             metric messaging.client.operation.duration send x1
             metric messaging.client.sent.messages send ! _MSG_TIMED_OUT x1
             metric messaging.client.sent.messages send x1
             metric messaging.process.duration process x1
             metric otel_messaging.deliveries commit [settlement.outcome=commit] x1
             metric otel_messaging.queue_time poll [clock=create_time] x1
             metric otel_messaging.wait_time process x1"
        ),
        scenario!(
            without_spans,
            "metrics only",
            "
             metric messaging.client.consumed.messages poll x1
             metric messaging.client.operation.duration commit x1
             metric messaging.client.operation.duration poll x1
             metric messaging.client.operation.duration send ! _MSG_TIMED_OUT x1
             metric messaging.client.operation.duration send x1
             metric messaging.client.sent.messages send ! _MSG_TIMED_OUT x1
             metric messaging.client.sent.messages send x1
             metric messaging.process.duration process x1
             metric otel_messaging.deliveries commit [settlement.outcome=commit] x1
             metric otel_messaging.queue_time poll [clock=create_time] x1
             metric otel_messaging.wait_time process x1"
        ),
        scenario!(
            without_metrics,
            "spans only",
            "
             PRODUCER send orders
             PRODUCER send orders ! _MSG_TIMED_OUT
             CONSUMER process orders < send orders ~ send orders [settlement.outcome=commit]
             CLIENT commit orders < process orders [settlement.outcome=commit]"
        ),
        scenario!(
            destination_limit,
            "a second topic beyond a bound of one",
            "
             PRODUCER send
             PRODUCER send orders"
        ),
        scenario!(
            filtered,
            "a filter turns the sends to a topic off",
            "
             PRODUCER send orders"
        ),
    ],
    start: || {
        let kafka = brokers::Kafka::start_real()?;
        Ok(Started { address: kafka.bootstrap_servers.clone(), _running: Box::new(kafka) })
    },
};

const WAIT: Duration = Duration::from_secs(20);

fn config(stage: &Stage) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &*stage.address).set("client.id", "shop");
    config
}

/// A topic of one partition.
async fn topic(stage: &Stage, name: &str) -> String {
    topic_with(stage, name, "max.message.bytes", "1000000").await
}

async fn topic_with(stage: &Stage, name: &str, setting: &str, value: &str) -> String {
    let name = stage.name(name);
    make_topic(stage, NewTopic::new(&name, 1, TopicReplication::Fixed(1)).set(setting, value)).await;
    name
}

async fn make_topic(stage: &Stage, topic: NewTopic<'_>) {
    let admin: AdminClient<_> = config(stage).create().expect("an admin client");
    let made = admin.create_topics([&topic], &AdminOptions::new()).await.expect("an answer");
    made.into_iter().for_each(|made| assert!(made.is_ok(), "{made:?}"));
}

fn producer(stage: &Stage, instrumentation: Instrumentation) -> FutureProducer {
    let producer: FutureProducer = config(stage).create().expect("a producer");
    producer.with_instrumentation(instrumentation)
}

fn consumer_config(stage: &Stage) -> ClientConfig {
    let mut config = config(stage);
    let group = stage.name("payment");
    config.set("group.id", group).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    config
}

/// A consumer of the whole topic, without a group's rebalancing.
fn consumer(stage: &Stage, topic: &str, instrumentation: Instrumentation) -> StreamConsumer {
    let consumer: StreamConsumer = consumer_config(stage).create().expect("a consumer");
    assign(&consumer, topic, Offset::Beginning);
    consumer.with_instrumentation(instrumentation)
}

fn assign<C: ConsumerContext + 'static>(consumer: &impl Consumer<C>, topic: &str, offset: Offset) {
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(topic, 0, offset).expect("an offset");
    consumer.assign(&all).expect("assigned");
}

fn record(topic: &str) -> FutureRecord<'_, str, str> {
    FutureRecord::to(topic).key("4711").payload("four apples")
}

async fn send(producer: &FutureProducer, topic: &str) {
    producer.send(record(topic), WAIT).await.expect("delivered");
}

async fn next(consumer: &StreamConsumer) -> BorrowedMessage<'_> {
    consumer.recv().await.expect("a message")
}

/// Sends and receives by one instrumentation.
struct Both {
    producer: FutureProducer,
    consumer: StreamConsumer,
    topic: String,
}

impl Both {
    async fn new(stage: &Stage, instrumentation: Instrumentation) -> Self {
        let topic = topic(stage, "orders").await;
        let producer = producer(stage, instrumentation.clone());
        let consumer = consumer(stage, &topic, instrumentation);
        Self { producer, consumer, topic }
    }

    async fn of(stage: &Stage) -> Self {
        Self::new(stage, stage.instrumentation()).await
    }

    async fn send(&self, count: usize) {
        for _ in 0..count {
            send(&self.producer, &self.topic).await;
        }
    }

    /// So many, sent and received.
    async fn messages(&self, count: usize) -> Vec<BorrowedMessage<'_>> {
        self.send(count).await;
        self.consumer.stream().take(count).map(|message| message.expect("a message")).collect().await
    }
}

async fn send_and_process(stage: Stage) {
    let Both { producer, consumer, topic } = Both::of(&stage).await;
    let request = stage.app("request");
    request.calls(|| producer.send(record(&topic), WAIT)).await.expect("delivered");
    let message = next(&consumer).await;
    message.process(|| async { consumer.commit_message(&message, CommitMode::Sync) }).await.expect("committed");
}

async fn send_to_partition(stage: Stage) {
    let topic = topic(&stage, "orders").await;
    let producer = producer(&stage, stage.instrumentation());
    producer.send(record(&topic).partition(0), WAIT).await.expect("delivered");
}

async fn send_fails(stage: Stage) {
    let topic = topic_with(&stage, "orders", "max.message.bytes", "100").await;
    let producer = producer(&stage, stage.instrumentation());
    let large = "apples ".repeat(100);
    producer.send(record(&topic).payload(&*large), WAIT).await.expect_err("too large");
}

async fn send_times_out(stage: Stage) {
    times_out(&stage, stage.instrumentation()).await;
}

async fn times_out(stage: &Stage, instrumentation: Instrumentation) {
    let mut config = config(stage);
    // Nothing listens there.
    config.set("bootstrap.servers", "127.0.0.1:1").set("message.timeout.ms", "1").set("log_level", "0");
    let producer: FutureProducer = config.create().expect("a producer");
    let producer = producer.with_instrumentation(instrumentation);
    producer.send(record(&stage.name("orders")), WAIT).await.expect_err("nobody is there");
}

async fn purged(stage: Stage) {
    let topic = topic(&stage, "orders").await;
    let producer = |transaction: bool| {
        let mut config = config(&stage);
        config.set("linger.ms", "20000");
        if transaction {
            config.set("transactional.id", &topic);
        }
        let producer: FutureProducer = config.create().expect("a producer");
        producer.with_instrumentation(stage.instrumentation())
    };
    let (asked, dropped, aborted) = (producer(false), producer(false), producer(true));
    // Whether a producer has met the topic's partitions when it purges is by chance.
    let queue =
        |producer: &FutureProducer| producer.send_result(record(&topic).partition(0)).map_err(|(error, _)| error);

    let queued = queue(&asked).expect("queued");
    asked.purge(PurgeConfig::default().queue());
    queued.await.expect("a report").expect_err("purged");

    let queued = queue(&dropped).expect("queued");
    let blocking = move || {
        drop(dropped);
        aborted.init_transactions(WAIT)?;
        aborted.begin_transaction()?;
        queue(&aborted)?;
        aborted.abort_transaction(WAIT)
    };
    tokio::task::block_in_place(blocking).expect("aborted");
    queued.await.expect("a report").expect_err("purged");
}

/// Tells of reports in which brokers have ids.
struct Reports(UnboundedSender<()>);

impl ClientContext for Reports {
    fn stats(&self, statistics: Statistics) {
        if statistics.brokers.values().any(|broker| broker.nodeid >= 0) {
            let _ = self.0.send(());
        }
    }
}

impl ConsumerContext for Reports {}

async fn statistics(stage: Stage) {
    let topic = topic(&stage, "orders").await;
    let instrumentation = stage.builder().with_receive_spans(true).build();
    let (recorded, mut reports) = unbounded_channel();
    let mut config = consumer_config(&stage);
    config.set("statistics.interval.ms", "50");
    let consumer: StreamConsumer<Reports> = config.create_with_context(Reports(recorded)).expect("a consumer");
    assign(&consumer, &topic, Offset::Beginning);
    let consumer = consumer.with_instrumentation(instrumentation.clone());
    // Reports are served by who polls the consumer, and it has nothing to receive yet.
    match select(pin!(consumer.recv()), pin!(reports.recv())).await {
        Either::Left((polled, _)) => panic!("{polled:?} before anything was sent"),
        Either::Right((report, _)) => report.expect("a report"),
    }

    let (recorded, mut reports) = unbounded_channel();
    let mut config = self::config(&stage);
    config.set("statistics.interval.ms", "50");
    let producer: FutureProducer<Reports> = config.create_with_context(Reports(recorded)).expect("a producer");
    let producer = producer.with_instrumentation(instrumentation);
    // Until somebody asks, it may know no broker by its id.
    let asked = producer.clone();
    let ask = tokio::task::spawn_blocking(move || asked.client().fetch_metadata(None, WAIT).map(drop));
    ask.await.expect("no panic").expect("metadata");
    for _ in 0..2 {
        reports.recv().await.expect("a report");
    }
    producer.send(record(&topic), WAIT).await.expect("delivered");
    consumer.recv().await.expect("a message").process(|| async {}).await;
}

async fn tombstone(stage: Stage) {
    let Both { producer, consumer, topic } = Both::of(&stage).await;
    producer.send(FutureRecord::<str, str>::to(&topic).key("4711"), WAIT).await.expect("delivered");
    next(&consumer).await.end();
}

async fn handler_fails(stage: Stage) {
    let both = Both::of(&stage).await;
    both.send(2).await;
    let declined = next(&both.consumer).await.process(|| async { Err::<(), _>("declined") }).await;
    declined.expect_err("declined");
    let message = next(&both.consumer).await.detach();
    tokio::spawn(async move { message.process(|| async { panics() }).await }).await.expect_err("panicked");
}

async fn outcomes(stage: Stage) {
    let both = Both::of(&stage).await;
    handler::outcomes(&both.messages(5).await).await;
}

async fn handler_waits(stage: Stage) {
    let both = Both::of(&stage).await;
    handler::late(&both.messages(2).await).await;
}

async fn batch_waits(stage: Stage) {
    let both = Both::of(&stage).await;
    handler::late_together(&both.messages(3).await).await;
}

async fn context_before_handler(stage: Stage) {
    let both = Both::of(&stage).await;
    for message in both.messages(1).await {
        handler::context_first(&message).await;
    }
}

async fn handled_at_once(stage: Stage) {
    let both = Both::of(&stage).await;
    both.send(2).await;
    let consumer = &both.consumer;
    let messages = consumer.stream().take(2);
    let handled =
        messages.process_each(1, |message| async move { consumer.commit_message(&message, CommitMode::Sync) });
    handled.await.expect("no error");
}

async fn commits_and_fails(stage: Stage) {
    let both = Both::of(&stage).await;
    both.send(1).await;
    let onwards = topic(&stage, "shipping").await;
    let message = next(&both.consumer).await;
    let handler = async {
        both.consumer.commit_message(&message, CommitMode::Sync).expect("committed");
        send(&both.producer, &onwards).await;
        Err::<(), _>("declined")
    };
    message.process(|| handler).await.expect_err("declined");
}

async fn poll_fails(stage: Stage) {
    poll_from_nowhere(&stage, stage.instrumentation()).await;
}

async fn poll_from_nowhere(stage: &Stage, instrumentation: Instrumentation) {
    let topic = topic(stage, "orders").await;
    let consumer: StreamConsumer =
        consumer_config(stage).set("auto.offset.reset", "error").create().expect("a consumer");
    assign(&consumer, &topic, Offset::Offset(17));
    consumer.with_instrumentation(instrumentation).recv().await.expect_err("no such offset");
}

/// The topic is made only when the consumer has failed for want of it.
async fn topic_appears(stage: Stage) {
    let topic = stage.name("orders");
    let mut config = consumer_config(&stage);
    config.set("allow.auto.create.topics", "false").set("topic.metadata.refresh.interval.ms", "100");
    let consumer: StreamConsumer = config.create().expect("a consumer");
    let consumer = consumer.with_instrumentation(stage.instrumentation());
    consumer.subscribe(&[&topic]).expect("subscribed");
    let (failed, mut failures) = unbounded_channel();
    let (done, mut handled) = unbounded_channel();
    let sending = tokio::spawn(async move {
        failures.recv().await.expect("a failure");
        make_topic(&stage, NewTopic::new(&topic, 1, TopicReplication::Fixed(1))).await;
        send(&producer(&stage, stage.instrumentation()), &topic).await;
    });
    let messages = consumer
        .stream()
        .inspect_err(|_| {
            // Only the first is waited for.
            let _ = failed.send(());
        })
        .take_until(handled.recv());
    let (consumer, done) = (&consumer, &done);
    let processing = messages.process_each(1, |message| async move {
        consumer.commit_message(&message, CommitMode::Sync).expect("committed");
        let _ = done.send(());
    });
    processing.await.expect("it goes on");
    sending.await.expect("sent");
}

async fn poll(stage: Stage, receive_spans: bool) {
    let both = Both::new(&stage, stage.builder().with_receive_spans(receive_spans).build()).await;
    both.send(1).await;
    next(&both.consumer).await.end();
}

async fn receive_spans_off(stage: Stage) {
    poll(stage, false).await;
}

async fn receive_spans_on(stage: Stage) {
    poll(stage, true).await;
}

async fn receive_spans_captured(stage: Stage) {
    let builder = stage
        .builder()
        .with_receive_spans(true)
        .with_kafka_captured_key(true)
        .with_captured_headers(["x-*"])
        .with_captured_sizes(true);
    let Both { producer, consumer, topic } = Both::new(&stage, builder.build()).await;
    let blue = headers([("x-tenant", "blue")]);
    producer.send(record(&topic).headers(blue), WAIT).await.expect("delivered");
    next(&consumer).await.end();
    producer.send(FutureRecord::<str, str>::to(&topic).key("4711"), WAIT).await.expect("delivered");
    next(&consumer).await.end();
}

async fn committed(stage: Stage) {
    let both = Both::of(&stage).await;
    both.send(1).await;
    let message = next(&both.consumer).await;
    both.consumer.store_offset(&both.topic, 0, 0).expect("stored");
    both.consumer.commit_consumer_state(CommitMode::Sync).expect("committed");
    // There has to be something new for the second one.
    both.consumer.store_offset(&both.topic, 0, 0).expect("stored");
    both.consumer.commit_consumer_state(CommitMode::Async).expect("committed");
    both.consumer.commit_message(&message, CommitMode::Async).expect("committed");
    drop(message);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&both.topic, 0, Offset::Offset(1)).expect("an offset");
    both.consumer.commit(&list, CommitMode::Sync).expect("committed");
    both.consumer.commit(&list, CommitMode::Async).expect("committed");
}

async fn settled_after_the_end(stage: Stage) {
    let both = Both::of(&stage).await;
    both.send(1).await;
    let message = next(&both.consumer).await;
    message.process(|| async {}).await;
    both.consumer.commit_message(&message, CommitMode::Sync).expect("committed");
}

/// The only member of the group.
async fn member(stage: &Stage, topic: &str) -> raw::consumer::StreamConsumer {
    let member: raw::consumer::StreamConsumer = consumer_config(stage).create().expect("a consumer");
    raw::consumer::Consumer::subscribe(&member, &[topic]).expect("subscribed");
    member.recv().await.expect("a message");
    member
}

async fn commit_fails(stage: Stage) {
    let topic = topic(&stage, "orders").await;
    send(&producer(&stage, stage.instrumentation()), &topic).await;
    let _member = member(&stage, &topic).await;
    let stranger = consumer(&stage, &topic, stage.instrumentation());
    let message = next(&stranger).await;
    stranger.commit_message(&message, CommitMode::Sync).expect_err("no member");
}

/// Tells of commits, of those that went well or of those that failed.
struct Commits {
    fail: bool,
    recorded: UnboundedSender<()>,
}

impl ClientContext for Commits {}

impl ConsumerContext for Commits {
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if result.is_err() == self.fail {
            let _ = self.recorded.send(());
        }
    }
}

/// Takes a message of this topic, and waits until its offset was to be committed.
async fn commits_itself(stage: &Stage, topic: &str, instrumentation: Instrumentation, fail: bool) {
    let (recorded, mut commits) = unbounded_channel();
    let mut config = consumer_config(stage);
    config.set("enable.auto.commit", "true").set("auto.commit.interval.ms", "100");
    let consumer: StreamConsumer<Commits> = config.create_with_context(Commits { fail, recorded }).expect("a consumer");
    assign(&consumer, topic, Offset::Beginning);
    let consumer = consumer.with_instrumentation(instrumentation);
    drop(consumer.recv().await.expect("a message"));
    // Callbacks come while it waits for the next one. librdkafka commits again while there is no answer, and as it closes.
    tokio::select! {
        _ = consumer.recv() => panic!("there is no other"),
        commit = commits.recv() => commit.expect("a commit"),
    }
}

async fn auto_commit(stage: Stage, spans: bool) {
    let topic = topic(&stage, "orders").await;
    send(&producer(&stage, stage.instrumentation()), &topic).await;
    commits_itself(&stage, &topic, stage.builder().with_kafka_auto_commit_spans(spans).build(), false).await;
}

async fn auto_commit_fails(stage: Stage) {
    let topic = topic(&stage, "orders").await;
    send(&producer(&stage, stage.instrumentation()), &topic).await;
    let _member = member(&stage, &topic).await;
    commits_itself(&stage, &topic, stage.instrumentation(), true).await;
}

async fn auto_commit_spans_off(stage: Stage) {
    auto_commit(stage, false).await;
}

async fn auto_commit_spans_on(stage: Stage) {
    auto_commit(stage, true).await;
}

async fn batch(stage: Stage) {
    batch_of_three(&stage, stage.instrumentation()).await;
}

async fn batch_beyond_links(stage: Stage) {
    batch_of_three(&stage, stage.builder().with_max_links(2).build()).await;
}

async fn batch_of_three(stage: &Stage, instrumentation: Instrumentation) {
    let both = Both::new(stage, instrumentation).await;
    both.send(3).await;
    let messages = [next(&both.consumer).await, next(&both.consumer).await, next(&both.consumer).await];
    process_batch(&messages, || async { both.consumer.commit_message(&messages[2], CommitMode::Sync) })
        .await
        .expect("committed");
}

fn headers<'a>(all: impl IntoIterator<Item = (&'a str, &'a str)>) -> OwnedHeaders {
    all.into_iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

/// Made in one place, sent by a producer in another.
async fn outbox(stage: Stage, instrumentation: Instrumentation) {
    let Both { producer, consumer, topic } = Both::new(&stage, instrumentation).await;
    let creator = Creator::new(stage.instrumentation());
    let mut stored = HashMap::<String, String>::new();
    stage.app("request").calls(|| creator.create(&topic, &mut stored));
    let stored = headers(stored.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    producer.send(record(&topic).headers(stored), WAIT).await.expect("delivered");
    next(&consumer).await.end();
}

async fn create(stage: Stage) {
    let instrumentation = stage.instrumentation();
    outbox(stage, instrumentation).await;
}

async fn carried_replaced(stage: Stage) {
    let instrumentation = stage.builder().with_carried_context(CarriedContext::Replace).build();
    outbox(stage, instrumentation).await;
}

async fn templated(stage: Stage) {
    let template = |name: &str| name.starts_with("orders.").then(|| "orders.{customer}".to_owned());
    let instrumentation = stage.builder().with_destination_template(template).with_receive_spans(true).build();
    let topic = topic(&stage, "orders.4711").await;
    let producer = producer(&stage, instrumentation.clone());
    let consumer = consumer(&stage, &topic, instrumentation.clone());
    let mut stored = HashMap::<String, String>::new();
    Creator::new(instrumentation).create(&topic, &mut stored);
    let stored = headers(stored.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    producer.send(record(&topic).headers(stored), WAIT).await.expect("delivered");
    let message = next(&consumer).await;
    message.process(|| async { consumer.commit_message(&message, CommitMode::Sync) }).await.expect("committed");
}

async fn anonymous_topic(stage: Stage) {
    let topic = stage.uuid();
    make_topic(&stage, NewTopic::new(&topic, 1, TopicReplication::Fixed(1))).await;
    let instrumentation = stage.builder().with_receive_spans(true).build();
    let producer = producer(&stage, instrumentation.clone());
    let mut stored = HashMap::<String, String>::new();
    Creator::new(instrumentation.clone()).create(&topic, &mut stored);
    let stored = headers(stored.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    producer.send(record(&topic).headers(stored), WAIT).await.expect("delivered");
    send(&producer, &topic).await;
    let consumer = consumer(&stage, &topic, instrumentation);
    for _ in 0..2 {
        next(&consumer).await.end();
    }
}

async fn carried_kept(stage: Stage) {
    let both = Both::new(&stage, stage.builder().with_carried_context(CarriedContext::Keep).build()).await;
    both.send(1).await;
    let message = next(&both.consumer).await;
    let (onwards, dead) = (topic(&stage, "shipping").await, topic(&stage, "dead").await);
    let copied = || raw::message::Message::headers(&message).expect("a context").detach();
    let failing = async {
        both.producer.send(record(&onwards).headers(copied()), WAIT).await.expect("delivered");
        Err::<(), _>("declined")
    };
    message.process(|| failing).await.expect_err("declined");
    message.republish(|| both.producer.send(record(&dead).headers(copied()), WAIT)).await.expect("delivered");
}

async fn forwarded(stage: Stage) {
    let both = Both::of(&stage).await;
    both.send(1).await;
    let message = next(&both.consumer).await;
    let onwards = topic(&stage, "shipping").await;
    let copied = raw::message::Message::headers(&message).expect("a context").detach();
    message
        .process(|| async {
            both.producer.send(record(&onwards).headers(copied), WAIT).await.map_err(|(error, _)| error)
        })
        .await
        .expect("delivered");
}

async fn republished(stage: Stage) {
    let both = Both::of(&stage).await;
    both.send(1).await;
    let message = next(&both.consumer).await;
    message.process(|| async { Err::<(), _>("declined") }).await.expect_err("declined");
    let dead = topic(&stage, "dead").await;
    let copied = raw::message::Message::headers(&message).expect("a context").detach();
    message.republish(|| both.producer.send(record(&dead).headers(copied), WAIT)).await.expect("delivered");
}

async fn retried(stage: Stage) {
    let Both { producer, consumer, topic } = Both::of(&stage).await;
    let third = headers([("retry_topic-attempts", "3")]);
    producer.send(record(&topic).headers(third), WAIT).await.expect("delivered");
    next(&consumer).await.end();
}

/// One message is delivered inside a span, and one is not.
async fn policy(stage: Stage, configure: impl FnOnce(InstrumentationBuilder) -> InstrumentationBuilder) {
    let both = Both::new(&stage, configure(stage.builder()).build()).await;
    both.send(2).await;
    let outer = stage.app("loop");
    next(&both.consumer).with_context(outer.0.clone()).await.process(|| async {}).await;
    next(&both.consumer).await.process(|| async {}).await;
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
    let Both { producer, consumer, topic } = Both::new(&stage, stage.reading()).await;
    let connector = stage.app("connector");
    let send = connector
        .sends_otherwise(|context| producer.send(record(&topic).headers(headers([("ce_traceparent", context)])), WAIT));
    send.await.expect("delivered");
    next(&consumer).await.process(|| async {}).await;
}

async fn untrusted(stage: Stage) {
    policy(stage, |builder| builder.with_correlation(Correlation::Parent).with_untrusted_source(true)).await;
}

async fn policy_auto(stage: Stage) {
    let auto = Correlation::Auto(AutoCorrelation::default());
    let Both { producer, consumer, topic } = Both::new(&stage, stage.builder().with_correlation(auto).build()).await;
    let dead = [("kafka_dlt-original-topic", "orders")];
    let all = [
        record(&topic),
        // November 2023.
        record(&topic).timestamp(1_700_000_000_000),
        record(&topic).headers(headers([("retry_topic-attempts", "2")])),
        record(&topic).headers(headers(dead)),
    ];
    for record in all {
        producer.send(record, WAIT).await.expect("delivered");
        next(&consumer).await.end();
    }
}

async fn capture(stage: Stage, builder: InstrumentationBuilder) {
    let Both { producer, consumer, topic } = Both::new(&stage, builder.build()).await;
    let blue = headers([("x-tenant", "blue")]);
    producer.send(record(&topic).headers(blue), WAIT).await.expect("delivered");
    next(&consumer).await.end();
}

async fn capture_key_off(stage: Stage) {
    let builder = stage.builder();
    capture(stage, builder).await;
}

async fn capture_key_on(stage: Stage) {
    let builder =
        stage.builder().with_kafka_captured_key(true).with_captured_headers(["x-*"]).with_captured_sizes(true);
    capture(stage, builder).await;
}

async fn there_and_back(stage: &Stage, instrumentation: Instrumentation) {
    let both = Both::new(stage, instrumentation.clone()).await;
    both.send(1).await;
    let message = next(&both.consumer).await;
    message.process(|| async { both.consumer.commit_message(&message, CommitMode::Sync) }).await.expect("committed");
    times_out(stage, instrumentation).await;
}

async fn metric_partition_off(stage: Stage) {
    there_and_back(&stage, stage.instrumentation()).await;
}

async fn metric_partition_on(stage: Stage) {
    there_and_back(&stage, stage.builder().with_metric_partition(true).build()).await;
}

async fn without_logger(stage: Stage) {
    times_out(&stage, stage.without_logger().build()).await;
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
    let producer = producer(&stage, stage.builder().with_destination_limit(1).build());
    for name in ["orders", "shipping"] {
        send(&producer, &topic(&stage, name).await).await;
    }
}

async fn filtered(stage: Stage) {
    let quiet = topic(&stage, "quiet").await;
    let off = quiet.clone();
    let wanted = move |operation: &otel_messaging::Operation| operation.destination() != Some(&*off);
    let producer = producer(&stage, stage.builder().with_filter(wanted).build());
    send(&producer, &quiet).await;
    send(&producer, &topic(&stage, "orders").await).await;
}
