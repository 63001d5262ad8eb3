//! How many series there are: the table in `docs/operation.md`.

use std::time::Duration;

use otel_rdkafka::{
    Message, Offset, Timestamp, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    message::BorrowedMessage,
    otel::{Instrumentation, MessageExt},
    producer::{BaseProducer, BaseRecord, Producer},
};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use support::{Sdk, eventually};

use crate::harness::Test;

fn poll(consumer: &BaseConsumer) -> BorrowedMessage<'_> {
    let mut message = None;
    eventually("a message", || {
        message = consumer.poll(Duration::from_millis(100)).map(Result::unwrap);
        message.is_some()
    });
    message.unwrap()
}

fn from(test: &Test, offset: Offset) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&test.topic, 0, offset).unwrap();
    list
}

async fn stamped_by(test: &Test, clock: &str) {
    let admin: AdminClient<_> = test.config().create().unwrap();
    let topic = AlterConfig::new(ResourceSpecifier::Topic(&test.topic)).set("message.timestamp.type", clock);
    for altered in admin.alter_configs([&topic], &AdminOptions::new()).await.unwrap() {
        altered.unwrap();
    }
}

/// Each operation on the topic with each of its outcomes, and a message by each clock.
async fn everything(test: &Test, group: &str, instrumentation: &Instrumentation) {
    let producer: BaseProducer = test.config().set("message.max.bytes", "2000").create().unwrap();
    let producer = producer.with_instrumentation(instrumentation.clone());
    producer.send(BaseRecord::<(), _>::to(&test.topic).payload(&*"apples ".repeat(500))).unwrap_err();

    // Where brokers are is known from the second report or so on.
    let mut reporting = test.config();
    let reporting: BaseProducer = reporting.set("statistics.interval.ms", "50").create().unwrap();
    let reporting = reporting.with_instrumentation(instrumentation.clone());
    eventually("a report", || {
        reporting.send(BaseRecord::<(), str>::to(&test.topic).payload("four apples")).unwrap();
        reporting.flush(Duration::from_secs(10)).unwrap();
        let last =
            test.sdk.spans().into_iter().rfind(|span| support::attribute(span, "messaging.kafka.offset").is_some());
        last.is_some_and(|span| support::attribute(&span, "server.address").is_some())
    });

    let config = || {
        let mut config = test.consumer_config();
        config.set("group.id", group);
        config
    };
    let send = || {
        producer.send(BaseRecord::<(), str>::to(&test.topic).payload("four apples")).unwrap();
        producer.flush(Duration::from_secs(10)).unwrap();
    };
    for interval in ["0", "50"] {
        let consumer: BaseConsumer = config().set("statistics.interval.ms", interval).create().unwrap();
        let consumer = consumer.with_instrumentation(instrumentation.clone());
        consumer.subscribe(&[&test.topic]).unwrap();
        // A message by this clock, of a broker that is told where there are reports.
        let received = |clock, handle: &dyn Fn(&BorrowedMessage<'_>)| {
            eventually("a message by the clock", || {
                send();
                let message = poll(&consumer);
                handle(&message);
                let last = test.sdk.spans().into_iter().rfind(|span| span.name.starts_with("process")).unwrap();
                let recorded = support::attribute(&last, "server.address").is_some();
                let by = match message.timestamp() {
                    Timestamp::LogAppendTime(_) => "LogAppendTime",
                    _ => "CreateTime",
                };
                by == clock && recorded == (interval != "0")
            });
        };
        stamped_by(test, "CreateTime").await;
        received("CreateTime", &|message| message.in_scope(|| ()));
        stamped_by(test, "LogAppendTime").await;
        received("LogAppendTime", &|message| _ = message.in_scope(|| Err::<(), _>("sour")));
    }

    let consumer: BaseConsumer = config().create().unwrap();
    let consumer = consumer.with_instrumentation(instrumentation.clone());
    consumer.subscribe(&[&test.topic]).unwrap();
    // Of the same group, but not a member of it.
    let stranger: BaseConsumer = config().create().unwrap();
    let stranger = stranger.with_instrumentation(instrumentation.clone());
    send();
    let message = poll(&consumer);
    stranger.commit_message(&message, CommitMode::Sync).unwrap_err();
    consumer.commit_message(&message, CommitMode::Sync).unwrap();
    drop(message);

    let nowhere: BaseConsumer = config().set("auto.offset.reset", "error").create().unwrap();
    let nowhere = nowhere.with_instrumentation(instrumentation.clone());
    nowhere.assign(&from(test, Offset::Offset(1_000))).unwrap();
    eventually("an error", || nowhere.poll(Duration::from_millis(100)).is_some_and(|polled| polled.is_err()));
}

#[tokio::test]
async fn there_are_as_many_as_the_table_says() {
    let sdk = Sdk::new();
    let instrumentation = sdk.all_signals_builder().with_receive_spans(true).with_destination_limit(1).build();
    let named = Test::with_sdk(sdk.clone());
    let beyond = Test::with_sdk(sdk.clone());
    for test in [&named, &beyond] {
        everything(test, &named.group, &instrumentation).await;
    }
    let measured = sdk.measured();
    let count = |metric| measured.lines().filter(|line| line.starts_with(metric)).count();
    // One destination within the bound, one group, one kind of error for each operation that can fail, one broker.
    let (d, g, e, b) = (1, 1, 1, 1);
    for (metric, expected) in [
        (
            "messaging.client.operation.duration",
            (d + 1) * (1 + b + e) + ((d + 1) * (1 + b) + e) * g + (d + 1) * g * (1 + e),
        ),
        ("messaging.client.sent.messages", (d + 1) * (1 + b + e)),
        ("messaging.client.consumed.messages", (d + 1) * g * (1 + b)),
        ("messaging.process.duration", (d + 1) * g * (1 + b) * (1 + e)),
        ("otel_messaging.queue_time", (d + 1) * 2 * g * (1 + b)),
        ("otel_messaging.wait_time", (d + 1) * g * (1 + b)),
        ("otel_messaging.deliveries", (d + 1) * g),
    ] {
        assert_eq!(count(metric), expected, "{metric} in\n{measured}");
    }
}
