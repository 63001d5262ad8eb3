//! Metrics, receive spans, automatic commits, and what is told of a message's content.

mod series;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use futures::{StreamExt, poll};
use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::trace::Sampler;
use otel_rdkafka::{
    ClientContext, Message, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, StreamConsumer},
    error::{KafkaError, KafkaResult},
    message::{Header, OwnedHeaders},
    otel::{InstrumentationBuilder, MessageExt, Propagation},
    producer::{BaseProducer, BaseRecord, Producer},
};
use support::{Sdk, attribute, eventually};

use crate::harness::{Test, headers};

fn sent(test: &Test, builder: InstrumentationBuilder, record: BaseRecord<'_, [u8], str>) {
    let producer: BaseProducer = test.config().create().unwrap();
    let producer = producer.with_instrumentation(builder.build());
    producer.send(record).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
}

fn record(test: &Test) -> BaseRecord<'_, [u8], str> {
    BaseRecord::to(&test.topic).key(&b"4711"[..]).payload("four apples")
}

fn consumer(test: &Test, builder: InstrumentationBuilder) -> StreamConsumer {
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    consumer.subscribe(&[&test.topic]).unwrap();
    consumer.with_instrumentation(builder.build())
}

/// One message there and back and committed.
async fn round_trip(test: &Test, builder: impl Fn() -> InstrumentationBuilder) {
    sent(test, builder(), record(test));
    let consumer = consumer(test, builder());
    let message = consumer.recv().await.unwrap();
    message.process(|| async {}).await;
    consumer.commit_message(&message, CommitMode::Sync).unwrap();
}

/// What every line has is left out of the others.
fn shortened(test: &Test) -> String {
    test.measured()
        .replace(r#", messaging.destination.name = "orders""#, "")
        .replace(r#"messaging.destination.name = "orders", "#, "")
        .replace(r#"messaging.consumer.group.name = "payment", "#, "")
        .replace(r#", messaging.system = "kafka""#, "")
        .replace("messaging.operation.", "")
}

const MEASURED: &str = r#"
messaging.client.consumed.messages [{message}] {name = "poll"} 1
messaging.client.operation.duration [s] {name = "commit", type = "settle"} 1
messaging.client.operation.duration [s] {name = "poll", type = "receive"} 1
messaging.client.operation.duration [s] {name = "send", type = "send"} 1
messaging.client.sent.messages [{message}] {name = "send"} 1
messaging.process.duration [s] {name = "process"} 1
otel_messaging.deliveries [{message}] {name = "commit", otel_messaging.settlement.outcome = "commit"} 1
otel_messaging.queue_time [s] {name = "poll", otel_messaging.clock = "create_time"} 1
otel_messaging.wait_time [s] {name = "process"} 1
"#;

#[tokio::test]
async fn a_delivery_is_counted_once_and_its_queue_time_measured() {
    let test = Test::new();
    round_trip(&test, || test.sdk.all_signals_builder().with_receive_spans(true)).await;
    assert_eq!(shortened(&test), MEASURED.trim_start());
    assert!(test.measured().contains(r#"{messaging.consumer.group.name = "payment", messaging.destination.name"#));
}

#[tokio::test]
async fn what_is_sampled_out_is_measured_too_and_a_log_append_time_is_one() {
    let test = Test::with_topic(Sdk::with_sampler(Sampler::AlwaysOff), &[("message.timestamp.type", "LogAppendTime")]);
    round_trip(&test, || test.sdk.all_signals_builder()).await;
    assert_eq!(shortened(&test), MEASURED.trim_start().replace("create_time", "log_append_time"));
    assert_eq!(test.sdk.described(), "");
}

#[tokio::test]
async fn metrics_have_the_partition_on_request() {
    for sampler in [Sampler::AlwaysOn, Sampler::AlwaysOff] {
        let test = Test::with_sdk(Sdk::with_sampler(sampler));
        round_trip(&test, || test.sdk.all_signals_builder().with_metric_partition(true)).await;
        let recorded: Vec<_> = shortened(&test)
            .lines()
            .filter(|line| line.contains(r#"messaging.destination.partition.id = "0""#))
            .map(|line| line.split_once(' ').unwrap().0.to_owned())
            .collect();
        let expected = [
            "messaging.client.consumed.messages",
            "messaging.client.operation.duration",
            "messaging.client.operation.duration",
            "messaging.client.operation.duration",
            "messaging.client.sent.messages",
            "messaging.process.duration",
            "otel_messaging.wait_time",
        ];
        assert_eq!(recorded, expected);
    }
}

const POLLED: &str = r#"poll orders
  kind CLIENT
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  root
  link send orders
  status unset
  messaging.client.id = "shop"
  messaging.consumer.group.name = "payment"
  messaging.destination.name = "orders"
  messaging.destination.partition.id = "0"
  messaging.kafka.cluster.id = "harbour"
  messaging.kafka.offset = 0
  messaging.operation.name = "poll"
  messaging.operation.type = "receive"
  messaging.system = "kafka"
"#;

/// The receive span as text with the send that it links.
fn polled(test: &Test) -> String {
    let spans = [test.span("send orders"), test.span("poll orders")];
    let text = test.named(&spans);
    text[text.find("poll orders").unwrap()..].to_owned()
}

#[test]
fn a_poll_has_a_receive_span_where_it_is_asked_for() {
    let test = Test::new();
    let builder = || test.sdk.all_signals_builder().with_receive_spans(true);
    sent(&test, builder(), record(&test));
    let consumer: BaseConsumer = test.consumer_config().create().unwrap();
    consumer.subscribe(&[&test.topic]).unwrap();
    let consumer = consumer.with_instrumentation(builder().build());
    let (mut message, mut called) = (None, SystemTime::now());
    eventually("a message", || {
        called = SystemTime::now();
        message = consumer.poll(Duration::from_millis(100)).map(Result::unwrap);
        message.is_some()
    });
    drop(message);
    assert_eq!(polled(&test), POLLED);
    let (poll, process) = (test.span("poll orders"), test.span("process orders"));
    assert!(called <= poll.start_time && poll.start_time <= process.start_time, "it began with the poll");
}

#[tokio::test]
async fn a_streams_item_has_a_receive_span_that_began_with_its_first_poll() {
    let test = Test::new();
    let builder = || test.sdk.all_signals_builder().with_receive_spans(true);
    let consumer = consumer(&test, builder());
    let mut stream = consumer.stream();
    assert!(poll!(stream.next()).is_pending());
    let waiting = SystemTime::now();
    thread::sleep(Duration::from_millis(2));
    sent(&test, builder(), record(&test));
    drop(stream.next().await.unwrap().unwrap());
    assert_eq!(polled(&test), POLLED);
    assert!(test.span("poll orders").start_time <= waiting);
    assert!(test.span("process orders").start_time > waiting);
}

#[tokio::test]
async fn a_streams_next_receive_span_does_not_begin_before_the_one_before_has_ended() {
    let test = Test::new();
    let builder = || test.sdk.all_signals_builder().with_receive_spans(true);
    let consumer = consumer(&test, builder());
    let mut stream = consumer.stream();
    for _ in 0..2 {
        assert!(poll!(stream.next()).is_pending());
        sent(&test, builder(), record(&test));
        drop(stream.next().await.unwrap().unwrap());
    }
    let polls: Vec<_> = test.sdk.spans().into_iter().filter(|span| span.span_kind == SpanKind::Client).collect();
    assert_eq!(polls.len(), 2);
    assert!(polls[1].start_time >= polls[0].end_time);
}

/// Counts the automatic commits that went well.
#[derive(Clone, Default)]
struct Commits(Arc<AtomicUsize>);

impl ClientContext for Commits {}

impl ConsumerContext for Commits {
    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        self.0.fetch_add(usize::from(result.is_ok()), Ordering::Relaxed);
    }
}

/// How many automatic commits there were.
fn committed_by_itself(test: &Test, builder: InstrumentationBuilder) -> usize {
    let producer: rdkafka::producer::BaseProducer = test.config().create().unwrap();
    producer.send(record(test)).unwrap();
    rdkafka::producer::Producer::flush(&producer, Duration::from_secs(10)).unwrap();
    let commits = Commits::default();
    let consumer: BaseConsumer<Commits> = test
        .consumer_config()
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "100")
        .create_with_context(commits.clone())
        .unwrap();
    consumer.subscribe(&[&test.topic]).unwrap();
    let consumer = consumer.with_instrumentation(builder.build());
    eventually("a message", || consumer.poll(Duration::from_millis(100)).is_some());
    eventually("the commit", || {
        assert!(consumer.poll(Duration::from_millis(50)).is_none());
        commits.0.load(Ordering::Relaxed) > 0
    });
    // Ticks of the clock that have nothing to commit.
    assert!(consumer.poll(Duration::from_millis(500)).is_none());
    drop(consumer);
    commits.0.load(Ordering::Relaxed)
}

#[test]
fn an_automatic_commit_is_counted() {
    let test = Test::new();
    let commits = committed_by_itself(&test, test.sdk.all_signals_builder());
    let measured = shortened(&test);
    let deliveries = format!("{{name = \"commit\", otel_messaging.settlement.outcome = \"commit\"}} {commits}\n");
    assert!(measured.contains(&deliveries), "{deliveries}{measured}");
    assert!(!measured.contains(r#"type = "settle""#), "nobody knows how long it took\n{measured}");
    assert_eq!(test.sdk.spans().len(), 1, "{}", test.described(1));
}

#[test]
fn an_automatic_commit_has_a_span_where_it_is_asked_for() {
    let test = Test::new();
    let commits = committed_by_itself(&test, test.sdk.all_signals_builder().with_kafka_auto_commit_spans(true));
    let spans = test.sdk.wait_for(1 + commits);
    assert_eq!(spans.len(), 1 + commits);
    assert_eq!(
        test.named(&spans[1..2]),
        r#"commit orders
  kind CLIENT
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  root
  status unset
  messaging.client.id = "shop"
  messaging.consumer.group.name = "payment"
  messaging.destination.name = "orders"
  messaging.destination.partition.id = "0"
  messaging.kafka.cluster.id = "harbour"
  messaging.operation.name = "commit"
  messaging.operation.type = "settle"
  messaging.system = "kafka"
  otel_messaging.settlement.outcome = "commit"
"#
    );
    let measured = shortened(&test);
    assert!(!measured.contains(r#"type = "settle""#), "{measured}");
}

#[tokio::test]
async fn a_commit_in_the_background_is_counted_once() {
    let test = Test::new();
    sent(&test, test.sdk.instrumentation_builder(), record(&test));
    let consumer = consumer(&test, test.sdk.all_signals_builder());
    let message = consumer.recv().await.unwrap();
    consumer.commit_message(&message, CommitMode::Async).unwrap();
    drop(message);
    // Were there a callback for it, it came before this one is answered.
    consumer.commit_consumer_state(CommitMode::Sync).or_else(nothing_to_commit).unwrap();
    let measured = shortened(&test);
    assert!(measured.contains("{name = \"commit\", otel_messaging.settlement.outcome = \"commit\"} 1\n"), "{measured}");
}

fn nothing_to_commit(error: KafkaError) -> Result<(), KafkaError> {
    let nothing = error.rdkafka_error_code() == Some(rdkafka::error::RDKafkaErrorCode::NoOffset);
    if nothing { Ok(()) } else { Err(error) }
}

#[tokio::test]
async fn keys_and_sizes_are_recorded_on_request() {
    for (asked, key, expected) in
        [(true, &b"4711"[..], Some("4711")), (true, &[0xff, 0xfe], None), (false, b"4711", None)]
    {
        let test = Test::new();
        let builder = || test.sdk.instrumentation_builder().with_kafka_captured_key(asked).with_captured_sizes(asked);
        sent(&test, builder(), BaseRecord::to(&test.topic).key(key).payload("four apples"));
        drop(consumer(&test, builder()).recv().await.unwrap());
        for span in test.sdk.wait_for(2) {
            let recorded = |key| attribute(&span, key).map(ToString::to_string);
            assert_eq!(recorded("messaging.kafka.message.key").as_deref(), expected, "{}", span.name);
            assert_eq!(recorded("messaging.message.body.size").as_deref(), asked.then_some("11"), "{}", span.name);
        }
    }
}

#[tokio::test]
async fn a_key_is_redacted_and_cut_as_a_header_is() {
    let test = Test::new();
    let redact = |name: &str, key: &str| (name == "messaging.kafka.message.key").then(|| key.replace("47", "**"));
    let builder = || {
        test.sdk.instrumentation_builder().with_kafka_captured_key(true).with_capture_limit(3).with_redaction(redact)
    };
    sent(&test, builder(), record(&test));
    drop(consumer(&test, builder()).recv().await.unwrap());
    for span in test.sdk.wait_for(2) {
        let key = attribute(&span, "messaging.kafka.message.key").map(ToString::to_string);
        assert_eq!(key.as_deref(), Some("**1"), "{}", span.name);
    }
}

#[tokio::test]
async fn headers_are_shown_by_name_and_contexts_never() {
    let test = Test::new();
    let builder = || {
        test.sdk
            .instrumentation_builder()
            .with_captured_headers(["ten*", "trace*", "secret"])
            .with_redaction(|name, value| (name != "secret").then(|| value.to_uppercase()))
    };
    let own = OwnedHeaders::new()
        .insert(Header { key: "tenant", value: Some("blue") })
        .insert(Header { key: "secret", value: Some("1234") })
        .insert(Header { key: "other", value: Some("x") })
        .insert(Header { key: "tenth", value: Some(&[0xff_u8]) });
    sent(&test, builder(), record(&test).headers(own));
    drop(consumer(&test, builder()).recv().await.unwrap());
    for span in test.sdk.wait_for(2) {
        let captured: Vec<_> = span
            .attributes
            .iter()
            .filter(|attribute| attribute.key.as_str().starts_with("otel_messaging.header"))
            .map(|attribute| format!("{} = {}", attribute.key, attribute.value))
            .collect();
        assert_eq!(captured, [r#"otel_messaging.header.tenant = ["BLUE"]"#], "{}", span.name);
    }
}

#[tokio::test]
async fn without_propagation_no_header_is_written_and_the_kind_is_client() {
    let test = Test::new();
    let builder = || test.sdk.instrumentation_builder().with_propagation(Propagation::Off);
    sent(&test, builder(), record(&test));
    assert_eq!(headers(&test.on_the_wire(1)[0]), []);
    let consumer = consumer(&test, builder());
    let message = consumer.recv().await.unwrap();
    assert!(message.headers().is_none());
    drop(message);
    assert_eq!(test.span("send orders").span_kind, SpanKind::Client);
    assert!(test.span("process orders").links.is_empty());
}

#[tokio::test]
async fn attempts_and_delivery_history_are_recorded() {
    let test = Test::new();
    let producer: rdkafka::producer::BaseProducer = test.config().create().unwrap();
    let own = OwnedHeaders::new().insert(Header { key: "retry_topic-attempts", value: Some(&[0_u8, 0, 0, 3]) });
    producer.send(record(&test).headers(own).timestamp(500)).unwrap();
    rdkafka::producer::Producer::flush(&producer, Duration::from_secs(10)).unwrap();
    drop(consumer(&test, test.sdk.all_signals_builder()).recv().await.unwrap());
    let span = test.span("process orders");
    assert_eq!(attribute(&span, "otel_messaging.delivery.attempt").map(ToString::to_string).as_deref(), Some("3"));
    assert!(!test.measured().contains("queue_time"), "1970 is no time that a message is sent at");
}

#[test]
fn the_acknowledging_broker_is_recorded_if_statistics_name_it() {
    let test = Test::new();
    for (interval, recorded) in [("0", false), ("50", true)] {
        let producer: BaseProducer = test.config().set("statistics.interval.ms", interval).create().unwrap();
        let producer = producer.with_instrumentation(test.sdk.all_signals_builder().build());
        let metadata = producer.client().fetch_metadata(Some(&test.topic), Duration::from_secs(10)).unwrap();
        let leader = metadata.topics()[0].partitions()[0].leader();
        let leader = metadata.brokers().iter().find(|broker| broker.id() == leader).unwrap();
        let acknowledged = || {
            producer.send(record(&test)).unwrap();
            producer.flush(Duration::from_secs(10)).unwrap();
            let span = test.sdk.spans().pop().unwrap();
            let text = |key| attribute(&span, key).map(ToString::to_string);
            let server = text("server.address").zip(text("server.port"));
            (server, text("network.peer.address").zip(text("network.peer.port")))
        };
        if recorded {
            let server = Some((leader.host().to_owned(), leader.port().to_string()));
            // Behind a name may be any host.
            let peer = server.clone().filter(|(host, _)| host.parse::<IpAddr>().is_ok());
            eventually("a report", || acknowledged() == (server.clone(), peer.clone()));
            assert!(test.measured().contains(&format!("server.port = {}", leader.port())));
        } else {
            assert_eq!(acknowledged(), (None, None));
            assert_eq!(acknowledged(), (None, None), "and not by and by");
        }
    }
}
