//! Loops over a consumer's messages, as people write them: errors of the stream, a graceful stop, a span held around it.

use std::{
    cell::{Cell, RefCell},
    ops::ControlFlow,
    time::Duration,
};

use futures::{StreamExt, future::join};
use otel_rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    mocking::MockCluster,
    otel::{MessageExt, MessageStreamExt, process_batch},
    producer::BaseRecord,
};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    producer::Producer as _,
    types::RDKafkaRespErr,
};
use support::{DEADLINE, Heard, Sdk, attribute};
use tokio::{sync::oneshot, time::timeout};

use crate::harness::Test;

const WARNED: &str = "messaging.stream.error";

fn send(config: &ClientConfig, topic: &str, messages: usize) {
    let producer: rdkafka::producer::BaseProducer = config.create().unwrap();
    for _ in 0..messages {
        producer.send(BaseRecord::<(), str>::to(topic).payload("four apples")).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
}

/// A consumer that asks for what it does not know twice a second.
fn consumer(config: &mut ClientConfig, topic: &str, sdk: &Sdk) -> StreamConsumer {
    let consumer: StreamConsumer = config.set("topic.metadata.refresh.interval.ms", "500").create().unwrap();
    consumer.subscribe(&[topic]).unwrap();
    consumer.with_instrumentation(sdk.all_signals_builder().build())
}

/// The `error.type` of each poll that failed.
fn failed_polls(sdk: &Sdk) -> Vec<String> {
    let spans = sdk.spans();
    let polls = spans.iter().filter(|span| span.name == "poll");
    polls.map(|span| attribute(span, "error.type").unwrap().as_str().into_owned()).collect()
}

/// Waits for something that happens on this thread too.
async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let wait = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}

#[tokio::test]
async fn a_topic_that_is_created_late_is_worked_on_and_was_warned_of() {
    let test = Test::new();
    let late = format!("{}-late", test.topic);
    let consumer = consumer(&mut test.consumer_config(), &late, &test.sdk);
    let (handled, stop) = (Cell::new(0), oneshot::channel::<()>());
    let heard = Heard::default();
    let _listening = heard.listen();
    let each = consumer.stream().take_until(stop.1).process_each(2, async |_| handled.set(handled.get() + 1));
    let story = async {
        until("the topic is missed", || !failed_polls(&test.sdk).is_empty()).await;
        let admin: AdminClient<_> = test.config().create().unwrap();
        let topic = NewTopic::new(&late, 1, TopicReplication::Fixed(1));
        assert_eq!(admin.create_topics([&topic], &AdminOptions::new()).await.unwrap(), [Ok(late.clone())]);
        send(&test.config(), &late, 1);
        until("the message is handled", || handled.get() == 1).await;
        stop.0.send(()).unwrap();
    };
    let (ended, ()) = join(each, story).await;
    assert_eq!(ended, Ok(()), "an error before a graceful stop is not its outcome");
    let polls = failed_polls(&test.sdk);
    assert!(polls.iter().all(|error| error == "UNKNOWN_TOPIC_OR_PARTITION"), "{polls:?}");
    let measured = test.measured();
    let failures = measured.lines().filter(|line| line.contains("UNKNOWN_TOPIC_OR_PARTITION"));
    assert_eq!(
        failures.map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap()).sum::<usize>(),
        polls.len()
    );
    assert_eq!(heard.text().lines().filter(|line| line.contains("WARN") && line.contains(WARNED)).count(), 1);
}

/// Only the mock cluster forbids a topic without an authorizer, users and their certificates. It stays forbidden to the end of
/// the test: whether librdkafka's group notices that a topic is allowed again is a matter of chance, for the raw client too.
#[tokio::test]
async fn a_forbidden_topic_is_reported_and_ends_only_as_the_application_says() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("orders", 1, 1).unwrap();
    cluster.topic_error("orders", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers()).set("auto.offset.reset", "earliest");
    let forbidden = KafkaError::MessageConsumption(RDKafkaErrorCode::TopicAuthorizationFailed);

    let sdk = Sdk::new();
    let asked = consumer(config.clone().set("group.id", "asked"), "orders", &sdk);
    let met = RefCell::new(Vec::new());
    let each = asked.stream().process_each(2, async |_| ()).on_stream_error(|error| {
        met.borrow_mut().push(error.clone());
        ControlFlow::Break(())
    });
    assert_eq!(timeout(DEADLINE, each).await.unwrap(), Err(forbidden.clone()));
    assert_eq!(
        (met.into_inner(), failed_polls(&sdk)),
        (vec![forbidden], vec!["TOPIC_AUTHORIZATION_FAILED".to_owned()])
    );

    let sdk = Sdk::new();
    let goes_on = consumer(config.set("group.id", "goes-on"), "orders", &sdk);
    let stop = oneshot::channel::<()>();
    let heard = Heard::default();
    let _listening = heard.listen();
    let each = goes_on.stream().take_until(stop.1).process_each(2, async |_| ());
    let story = async {
        until("the topic is forbidden", || !failed_polls(&sdk).is_empty()).await;
        until("somebody is warned", || heard.text().contains(WARNED)).await;
        // A loop that had ended with the error would have it for its output.
        stop.0.send(()).unwrap();
    };
    assert_eq!(join(each, story).await.0, Ok(()));
    let heard = heard.text();
    let warnings: Vec<_> = heard.lines().filter(|line| line.contains(WARNED)).collect();
    assert!(matches!(&warnings[..], [one] if one.contains("TOPIC_AUTHORIZATION_FAILED")), "{warnings:#?}");
}

#[tokio::test]
async fn the_end_of_a_partition_is_passed_over_in_silence() {
    let test = Test::new();
    send(&test.config(), &test.topic, 1);
    let consumer = consumer(test.consumer_config().set("enable.partition.eof", "true"), &test.topic, &test.sdk);
    let (handled, stop) = (Cell::new(0), oneshot::channel::<()>());
    let heard = Heard::default();
    let _listening = heard.listen();
    // The end comes after the message, so a second message is one after it.
    let each = consumer.stream().take_until(stop.1).process_each(1, async |_| handled.set(handled.get() + 1));
    let story = async {
        until("the first message is handled", || handled.get() == 1).await;
        send(&test.config(), &test.topic, 1);
        until("the second message is handled", || handled.get() == 2).await;
        stop.0.send(()).unwrap();
    };
    assert_eq!(join(each, story).await.0, Ok(()));
    assert!(!heard.text().contains(WARNED));
    assert_eq!(failed_polls(&test.sdk), [""; 0]);
}

#[test]
fn a_loop_inside_one_span_is_warned_of_once_and_a_batch_is_not() {
    const MESSAGES: usize = 3;
    let test = Test::new();
    let producer: rdkafka::producer::BaseProducer = test.config().create().unwrap();
    for _ in 0..MESSAGES {
        producer.send(BaseRecord::<(), str>::to(&test.topic).payload("four apples")).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let warnings = |messages: usize, batch: bool| {
        let heard = support::heard(|| {
            let consumer: BaseConsumer = test.consumer_config().create().unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&test.topic, 0, Offset::Beginning).unwrap();
            consumer.assign(&list).unwrap();
            let consumer = consumer.with_instrumentation(test.sdk.instrumentation());
            let _attached = test.sdk.app_span("loop").attach();
            let received = (0..messages).map(|_| consumer.poll(support::DEADLINE).unwrap().unwrap());
            if batch {
                let all: Vec<_> = received.collect();
                runtime.block_on(process_batch(&all, || async {}));
            } else {
                received.for_each(|message| message.in_scope(|| ()));
            }
        });
        heard.matches("messaging.consumer.ambient_span").count()
    };
    assert_eq!([(MESSAGES, false), (1, false), (MESSAGES, true)].map(|(m, b)| warnings(m, b)), [1, 0, 0]);
}
