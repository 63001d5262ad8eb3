//! Scenarios that only Kafka has.

use std::pin::pin;

use futures::{
    StreamExt, TryStreamExt,
    future::{Either, select},
};
use otel_messaging::{AutoCorrelation, CarriedContext, Correlation, Instrumentation, InstrumentationBuilder};
use otel_rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    consumer::{CommitMode, Consumer, ConsumerContext, StreamConsumer},
    error::KafkaResult,
    otel::{MessageExt, MessageStreamExt, raw},
    producer::{FutureProducer, FutureRecord, Producer, PurgeConfig},
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::client::{Kafka, WAIT, assign, config, consumer_config, make_topic, new_topic, record};
use crate::{
    client::Client,
    scenario::{Performed, performed},
    scenarios::{
        correlation::{context_read, created},
        send_and_process,
        settling::{settled_after_the_end, there_and_back},
    },
    stage::Stage,
};

pub(super) const ALL: &[Performed] = performed! {
    send_and_process::<Kafka>, context_read::<Kafka>, settled_after_the_end::<Kafka>, send_to_partition, send_fails,
    send_times_out, purged, statistics, tombstone, commits_and_fails, poll_fails, topic_appears, receive_spans_off,
    receive_spans_on, receive_spans_captured, committed, commit_fails, auto_commit_spans_off, auto_commit_spans_on,
    templated, auto_commit_fails, anonymous_topic, carried_kept, retried, policy_auto, capture_key_off,
    capture_key_on, metric_partition_off, metric_partition_on
};

async fn send_to_partition(stage: Stage) {
    let kafka = Kafka::of(&stage).await;
    kafka.send_record(record(&kafka.topic).partition(0)).await;
}

async fn send_fails(stage: Stage) {
    let topic = stage.name("orders");
    make_topic(&config(&stage), new_topic(&topic).set("max.message.bytes", "100")).await;
    let producer: FutureProducer = config(&stage).create().expect("a producer");
    let large = "apples ".repeat(100);
    let producer = producer.with_instrumentation(stage.instrumentation());
    producer.send(record(&topic).payload(&*large), WAIT).await.expect_err("too large");
}

async fn send_times_out(stage: Stage) {
    Kafka::fail(&stage, stage.instrumentation()).await;
}

async fn purged(stage: Stage) {
    let topic = Kafka::of(&stage).await.topic;
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

/// Notes the reports in which brokers have ids.
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
    let topic = Kafka::of(&stage).await.topic;
    let instrumentation = stage.builder().with_receive_spans(true).build();
    let (recorded, mut reports) = unbounded_channel();
    let mut of_consumer = consumer_config(&stage);
    of_consumer.set("statistics.interval.ms", "50");
    let consumer: StreamConsumer<Reports> = of_consumer.create_with_context(Reports(recorded)).expect("a consumer");
    assign(&consumer, &topic, Offset::Beginning);
    let consumer = consumer.with_instrumentation(instrumentation.clone());
    // A poll of the consumer delivers the reports, and there is no message yet.
    match select(pin!(consumer.recv()), pin!(reports.recv())).await {
        Either::Left((polled, _)) => panic!("{polled:?} before anything was sent"),
        Either::Right((report, _)) => report.expect("a report"),
    }

    let (recorded, mut reports) = unbounded_channel();
    let mut config = config(&stage);
    config.set("statistics.interval.ms", "50");
    let producer: FutureProducer<Reports> = config.create_with_context(Reports(recorded)).expect("a producer");
    let producer = producer.with_instrumentation(instrumentation);
    // Before a call for metadata the producer may know no broker by its id.
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
    let kafka = Kafka::of(&stage).await;
    kafka.send_record(FutureRecord::to(&kafka.topic).key("4711")).await;
    kafka.next().await.end();
}

async fn commits_and_fails(stage: Stage) {
    let kafka = Kafka::of(&stage).await;
    let onwards = stage.name("shipping");
    kafka.make(&onwards).await;
    kafka.send_order().await;
    let message = kafka.next().await;
    let handler = async {
        kafka.settle(&message).await;
        kafka.send_record(record(&onwards)).await;
        Err::<(), _>("declined")
    };
    message.process(|| handler).await.expect_err("declined");
}

async fn poll_fails(stage: Stage) {
    let topic = Kafka::of(&stage).await.topic;
    let consumer: StreamConsumer =
        consumer_config(&stage).set("auto.offset.reset", "error").create().expect("a consumer");
    assign(&consumer, &topic, Offset::Offset(17));
    consumer.with_instrumentation(stage.instrumentation()).recv().await.expect_err("no such offset");
}

/// The topic is made only when the consumer has failed without it.
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
        Kafka::on(&stage, topic, stage.instrumentation()).await.send_order().await;
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

/// Sends and receives one message with a key and a header.
async fn one_message(stage: &Stage, builder: InstrumentationBuilder) -> Kafka {
    let kafka = Kafka::connect(stage, builder.build()).await;
    kafka.send(&kafka.topic, Kafka::headers([("x-tenant", "blue")])).await;
    kafka.next().await.end();
    kafka
}

async fn receive_spans_off(stage: Stage) {
    one_message(&stage, stage.builder()).await;
}

async fn receive_spans_on(stage: Stage) {
    one_message(&stage, stage.builder().with_receive_spans(true)).await;
}

fn capturing(stage: &Stage) -> InstrumentationBuilder {
    stage.builder().with_kafka_captured_key(true).with_captured_headers(["x-*"]).with_captured_sizes(true)
}

async fn receive_spans_captured(stage: Stage) {
    let kafka = one_message(&stage, capturing(&stage).with_receive_spans(true)).await;
    kafka.send_record(FutureRecord::to(&kafka.topic).key("4711")).await;
    kafka.next().await.end();
}

async fn committed(stage: Stage) {
    let kafka = Kafka::of(&stage).await;
    let Kafka { consumer, topic, .. } = &kafka;
    kafka.send_order().await;
    let message = kafka.next().await;
    // Each commit of the state needs a stored offset.
    for mode in [CommitMode::Sync, CommitMode::Async] {
        consumer.store_offset(topic, 0, 0).expect("stored");
        consumer.commit_consumer_state(mode).expect("committed");
    }
    consumer.commit_message(&message, CommitMode::Async).expect("committed");
    drop(message);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(1)).expect("an offset");
    for mode in [CommitMode::Sync, CommitMode::Async] {
        consumer.commit(&list, mode).expect("committed");
    }
}

/// The only member of the group.
async fn member(stage: &Stage, topic: &str) -> raw::consumer::StreamConsumer {
    let member: raw::consumer::StreamConsumer = consumer_config(stage).create().expect("a consumer");
    raw::consumer::Consumer::subscribe(&member, &[topic]).expect("subscribed");
    member.recv().await.expect("a message");
    member
}

async fn commit_fails(stage: Stage) {
    let kafka = Kafka::of(&stage).await;
    kafka.send_order().await;
    let _member = member(&stage, &kafka.topic).await;
    let message = kafka.next().await;
    kafka.consumer.commit_message(&message, CommitMode::Sync).expect_err("no member");
}

/// Notes the commits that succeed, or those that fail.
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

/// Receives a message of this topic, and waits until the client has committed its offset, or failed to.
async fn commits_itself(stage: &Stage, topic: &str, instrumentation: Instrumentation, fail: bool) {
    let (recorded, mut commits) = unbounded_channel();
    let mut config = consumer_config(stage);
    config.set("enable.auto.commit", "true").set("auto.commit.interval.ms", "100");
    let consumer: StreamConsumer<Commits> = config.create_with_context(Commits { fail, recorded }).expect("a consumer");
    assign(&consumer, topic, Offset::Beginning);
    let consumer = consumer.with_instrumentation(instrumentation);
    drop(consumer.recv().await.expect("a message"));
    // The callback runs while the consumer waits for the next message. librdkafka commits again while there is no answer, and
    // when the consumer closes.
    tokio::select! {
        _ = consumer.recv() => panic!("there is no other"),
        commit = commits.recv() => commit.expect("a commit"),
    }
}

async fn auto_commit(stage: Stage, spans: bool) {
    let kafka = Kafka::of(&stage).await;
    kafka.send_order().await;
    commits_itself(&stage, &kafka.topic, stage.builder().with_kafka_auto_commit_spans(spans).build(), false).await;
}

async fn auto_commit_fails(stage: Stage) {
    let kafka = Kafka::of(&stage).await;
    kafka.send_order().await;
    let _member = member(&stage, &kafka.topic).await;
    commits_itself(&stage, &kafka.topic, stage.instrumentation(), true).await;
}

async fn auto_commit_spans_off(stage: Stage) {
    auto_commit(stage, false).await;
}

async fn auto_commit_spans_on(stage: Stage) {
    auto_commit(stage, true).await;
}

async fn templated(stage: Stage) {
    let template = |name: &str| name.starts_with("orders.").then(|| "orders.{customer}".to_owned());
    let instrumentation = stage.builder().with_destination_template(template).with_receive_spans(true).build();
    let kafka = Kafka::on(&stage, stage.name("orders.4711"), instrumentation.clone()).await;
    kafka.send(&kafka.topic, created::<Kafka>(instrumentation, &kafka.topic)).await;
    let message = kafka.next().await;
    message.process(|| kafka.settle(&message)).await;
}

async fn anonymous_topic(stage: Stage) {
    let instrumentation = stage.builder().with_receive_spans(true).build();
    let kafka = Kafka::on(&stage, stage.uuid(), instrumentation.clone()).await;
    kafka.send(&kafka.topic, created::<Kafka>(instrumentation, &kafka.topic)).await;
    kafka.send_order().await;
    for _ in 0..2 {
        kafka.next().await.end();
    }
}

async fn carried_kept(stage: Stage) {
    let kafka = Kafka::connect(&stage, stage.builder().with_carried_context(CarriedContext::Keep).build()).await;
    let (onwards, dead) = (stage.name("shipping"), stage.name("dead"));
    kafka.make(&onwards).await;
    kafka.make(&dead).await;
    kafka.send_order().await;
    let message = kafka.next().await;
    let failing = async {
        kafka.send(&onwards, Kafka::headers_of(&message)).await;
        Err::<(), _>("declined")
    };
    message.process(|| failing).await.expect_err("declined");
    message.republish(|| kafka.send(&dead, Kafka::headers_of(&message))).await;
}

async fn retried(stage: Stage) {
    let kafka = Kafka::of(&stage).await;
    kafka.send(&kafka.topic, Kafka::headers([("retry_topic-attempts", "3")])).await;
    kafka.next().await.end();
}

async fn policy_auto(stage: Stage) {
    let auto = Correlation::Auto(AutoCorrelation::default());
    let kafka = Kafka::connect(&stage, stage.builder().with_correlation(auto).build()).await;
    let order = || record(&kafka.topic);
    let all = [
        order(),
        // November 2023.
        order().timestamp(1_700_000_000_000),
        order().headers(Kafka::headers([("retry_topic-attempts", "2")])),
        order().headers(Kafka::headers([("kafka_dlt-original-topic", "orders")])),
    ];
    for record in all {
        kafka.send_record(record).await;
        kafka.next().await.end();
    }
}

async fn capture_key_off(stage: Stage) {
    one_message(&stage, stage.builder()).await;
}

async fn capture_key_on(stage: Stage) {
    one_message(&stage, capturing(&stage)).await;
}

async fn metric_partition_off(stage: Stage) {
    there_and_back::<Kafka>(&stage, stage.instrumentation()).await;
}

async fn metric_partition_on(stage: Stage) {
    there_and_back::<Kafka>(&stage, stage.builder().with_metric_partition(true).build()).await;
}
