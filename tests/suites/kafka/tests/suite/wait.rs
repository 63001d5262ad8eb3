//! How long a message waits for its handler is no part of its process span.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use opentelemetry::Value;
use opentelemetry_sdk::trace::SpanData;
use otel_messaging::semconv::extension;
use otel_rdkafka::{
    consumer::{BaseConsumer, CommitMode, Consumer, StreamConsumer},
    message::OwnedMessage,
    otel::{MessageExt, MessageStreamExt, process_batch},
    producer::BaseRecord,
};
use rdkafka::producer::Producer as _;
use support::{DEADLINE, attribute};
use tokio::{sync::mpsc, time::timeout};

use crate::harness::Test;

const MESSAGES: usize = 5;

/// What one handler takes.
const WORK: Duration = Duration::from_millis(10);

fn full() -> Test {
    let test = Test::new();
    let producer: rdkafka::producer::BaseProducer = test.config().create().unwrap();
    for _ in 0..MESSAGES {
        producer.send(BaseRecord::<(), str>::to(&test.topic).payload("four apples")).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
    test
}

fn consumer(test: &Test) -> StreamConsumer {
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    consumer.subscribe(&[&test.topic]).unwrap();
    consumer.with_instrumentation(test.sdk.all_signals_builder().build())
}

fn waited(span: &SpanData) -> Option<Duration> {
    attribute(span, extension::WAIT_TIME).map(|wait| match wait {
        Value::F64(seconds) => Duration::from_secs_f64(*seconds),
        other => panic!("{other} is no number"),
    })
}

fn processed(test: &Test) -> Vec<SpanData> {
    let name = format!("process {}", test.topic);
    test.sdk.spans().into_iter().filter(|span| span.name == name).collect()
}

/// How many waits were measured.
fn measured(test: &Test) -> usize {
    let measured = test.measured();
    let line = measured.lines().find(|line| line.starts_with(extension::WAIT_TIME));
    line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

#[tokio::test]
async fn messages_that_wait_for_one_worker_say_so_and_their_spans_begin_with_it() {
    let test = full();
    let consumer = consumer(&test);
    let (queue, mut queued) = mpsc::unbounded_channel::<OwnedMessage>();
    for _ in 0..MESSAGES {
        queue.send(timeout(DEADLINE, consumer.recv()).await.unwrap().unwrap().detach()).unwrap();
    }
    for _ in 0..MESSAGES {
        let message = queued.recv().await.unwrap();
        message.process(|| async { tokio::time::sleep(WORK).await }).await;
    }
    let spans = processed(&test);
    assert_eq!((spans.len(), measured(&test)), (MESSAGES, MESSAGES));
    for (before, pair) in spans.windows(2).enumerate() {
        assert!(pair[0].end_time <= pair[1].start_time, "one after the other");
        let earlier = u32::try_from(before + 1).unwrap();
        assert!(waited(&pair[1]).unwrap() >= WORK * earlier, "it waited for those before it");
    }
}

#[tokio::test]
async fn where_the_stream_calls_the_handler_nothing_waits() {
    let test = full();
    let consumer = consumer(&test);
    let each = consumer.stream().take(MESSAGES).process_each(1, async |_| tokio::time::sleep(WORK).await);
    timeout(DEADLINE, each).await.unwrap().unwrap();
    let spans = processed(&test);
    assert_eq!((spans.len(), measured(&test)), (MESSAGES, 0));
    assert!(spans.iter().all(|span| waited(span).is_none()));
}

#[tokio::test]
async fn a_commit_before_the_handler_begins_the_span_at_the_delivery() {
    let test = full();
    let consumer = consumer(&test);
    let message = timeout(DEADLINE, consumer.recv()).await.unwrap().unwrap();
    consumer.commit_message(&message, CommitMode::Async).unwrap();
    tokio::time::sleep(WORK).await;
    message.process(|| async {}).await;
    let spans = processed(&test);
    assert_eq!((spans.len(), waited(&spans[0]), measured(&test)), (1, None, 0));
    assert!(spans[0].end_time.duration_since(spans[0].start_time).unwrap() >= WORK);
}

#[tokio::test]
async fn each_message_of_a_polled_batch_says_on_its_link_how_long_it_waited() {
    let test = full();
    let consumer: BaseConsumer = test.consumer_config().create().unwrap();
    let consumer = consumer.with_instrumentation(test.sdk.all_signals_builder().build());
    consumer.subscribe(&[&test.topic]).unwrap();
    let mut batch = Vec::new();
    while batch.len() < MESSAGES {
        batch.extend(consumer.poll(Duration::from_millis(100)).map(Result::unwrap));
    }
    // Nobody traced their sends, so only spans link.
    std::thread::sleep(WORK);
    process_batch(&batch, || async {}).now_or_never().unwrap();
    let spans = processed(&test);
    assert_eq!((spans.len(), waited(&spans[0]), measured(&test)), (1, None, MESSAGES));
}
