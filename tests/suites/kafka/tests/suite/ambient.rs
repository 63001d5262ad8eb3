//! The application's own span, active when a message is received: it ends when the application lets go of it, and the message
//! names it.

use std::{future::Future, sync::Arc, time::Duration};

use futures::StreamExt;
use opentelemetry::{
    Context,
    trace::{FutureExt, SpanId, TraceContextExt, Tracer},
};
use otel_rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, StreamConsumer},
    otel::{Incoming, Instrumentation, InstrumentationBuilder, MessageExt, process_batch, raw, sequential_blocking},
    producer::{BaseProducer, BaseRecord, FutureProducer, FutureRecord},
};
use rdkafka::producer::Producer as _;
use support::{DEADLINE, eventually};
use tokio::time::timeout;

use crate::harness::Test;

/// With a span of its own, and without one for either reason.
const MODES: [fn(InstrumentationBuilder) -> InstrumentationBuilder; 3] = [
    |builder| builder,
    |builder| builder.with_filter(|operation| operation.name() != "process"),
    |builder| builder.with_spans(false),
];

/// A topic with one message, that nobody traced.
fn full() -> Test {
    let test = Test::new();
    let producer: rdkafka::producer::BaseProducer = test.config().create().unwrap();
    producer.send(BaseRecord::<(), str>::to(&test.topic).payload("four apples")).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    test
}

/// What is done inside a span that has no other owner.
fn inside<T>(test: &Test, work: impl FnOnce() -> T) -> T {
    test.sdk.tracer().in_span("fetch", |_| work())
}

async fn inside_future<F: Future>(test: &Test, work: F) -> F::Output {
    let fetch = Context::current_with_span(test.sdk.tracer().start("fetch"));
    timeout(DEADLINE, work.with_context(fetch)).await.unwrap()
}

fn ended(test: &Test) -> usize {
    test.sdk.spans().iter().filter(|span| span.name == "fetch").count()
}

/// The span has ended though the message is kept, and is its parent, whatever is done with the message.
async fn assert_let_go(test: &Test, message: &impl MessageExt) {
    assert_eq!(ended(test), 1, "the message is kept");
    let fetch = test.span("fetch").span_context.span_id();
    let has_its_own = message.process_span().is_some() && {
        let current = message.process(|| async { Some(current()) }).await.unwrap();
        assert_ne!(current, SpanId::INVALID);
        current != fetch
    };
    let _given_away = message.otel_context();
    if has_its_own {
        assert_eq!(test.span("process orders").parent_span_id, fetch);
    } else {
        process_batch(&[message], || async {}).await;
    }
    assert_eq!(ended(test), 1);
}

fn current() -> SpanId {
    Context::current().span().span_context().span_id()
}

fn instrumentation(test: &Test, mode: fn(InstrumentationBuilder) -> InstrumentationBuilder) -> Instrumentation {
    mode(test.sdk.instrumentation_builder()).build()
}

fn of_partition(test: &Test) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&test.topic, 0, Offset::Beginning).unwrap();
    list
}

#[tokio::test]
async fn a_polled_message_does_not_keep_it_open() {
    for mode in MODES {
        let test = full();
        let consumer: BaseConsumer = test.consumer_config().create().unwrap();
        let consumer = consumer.with_instrumentation(instrumentation(&test, mode));
        consumer.assign(&of_partition(&test)).unwrap();
        let message = inside(&test, || consumer.iter().next().unwrap().unwrap());
        assert_let_go(&test, &message).await;
        consumer.commit_message(&message, otel_rdkafka::consumer::CommitMode::Async).unwrap();
        let detached = message.detach();
        drop(message);
        assert_eq!(ended(&test), 1);
        drop(detached);
    }
}

#[tokio::test]
async fn a_message_of_a_partition_queue_does_not_keep_it_open() {
    for mode in MODES {
        let test = full();
        let consumer: BaseConsumer = test.consumer_config().create().unwrap();
        let consumer = Arc::new(consumer.with_instrumentation(instrumentation(&test, mode)));
        consumer.assign(&of_partition(&test)).unwrap();
        let queue = consumer.split_partition_queue(&test.topic, 0).unwrap();
        assert!(consumer.poll(Duration::ZERO).is_none());
        let message = inside(&test, || queue.poll(DEADLINE).unwrap().unwrap());
        assert_let_go(&test, &message).await;
    }
}

#[tokio::test]
async fn a_received_message_does_not_keep_it_open() {
    for mode in MODES {
        let test = full();
        let consumer: StreamConsumer = test.consumer_config().create().unwrap();
        let consumer = consumer.with_instrumentation(instrumentation(&test, mode));
        consumer.subscribe(&[&test.topic]).unwrap();
        let message = inside_future(&test, consumer.recv()).await.unwrap();
        assert_let_go(&test, &message).await;
    }
}

#[tokio::test]
async fn a_message_of_a_stream_does_not_keep_it_open_nor_does_the_stream() {
    for mode in MODES {
        let test = full();
        let consumer: StreamConsumer = test.consumer_config().create().unwrap();
        let consumer = Arc::new(consumer.with_instrumentation(instrumentation(&test, mode)));
        consumer.assign(&of_partition(&test)).unwrap();
        let queue = consumer.split_partition_queue(&test.topic, 0).unwrap();
        let mut stream = queue.stream();
        let mut main = consumer.stream();
        // A wait that is given up was inside a span too.
        let waited = Context::current_with_span(test.sdk.tracer().start("waited"));
        assert!(futures::poll!(main.next().with_context(waited)).is_pending());
        assert_eq!(test.span("waited").name, "waited");
        let message = inside_future(&test, stream.next()).await.unwrap().unwrap();
        assert_let_go(&test, &message).await;
    }
}

#[tokio::test]
async fn a_raw_message_made_ours_does_not_keep_it_open() {
    use raw::consumer::Consumer as _;
    for mode in MODES {
        let test = full();
        let theirs: raw::consumer::StreamConsumer = test.consumer_config().create().unwrap();
        theirs.subscribe(&[&test.topic]).unwrap();
        let incoming = Incoming::of(&theirs).with_instrumentation(instrumentation(&test, mode));
        let mut stream = Box::pin(incoming.stream(theirs.stream()));
        let message = inside_future(&test, stream.next()).await.unwrap().unwrap();
        assert_let_go(&test, &message).await;
        let owned = message.into_inner().unwrap().detach();
        let test = Test::new();
        let incoming = Incoming::of_unknown().with_instrumentation(instrumentation(&test, mode));
        let mut owned = inside(&test, || incoming.owned_message(owned));
        assert_eq!(ended(&test), 1);
        owned = owned.set_topic(test.topic.clone());
        owned.in_scope(|| ());
        assert_eq!(ended(&test), 1);
    }
}

#[test]
fn a_message_in_hand_does_not_keep_it_open() {
    for mode in MODES {
        let test = full();
        let consumer: BaseConsumer = test.consumer_config().create().unwrap();
        let consumer = consumer.with_instrumentation(instrumentation(&test, mode));
        consumer.assign(&of_partition(&test)).unwrap();
        sequential_blocking(|| {
            let message = inside(&test, || consumer.poll(DEADLINE).unwrap().unwrap());
            assert_eq!(ended(&test), 1);
            drop(message);
        });
    }
}

#[tokio::test]
async fn a_send_does_not_keep_it_open_once_it_is_polled() {
    let test = Test::new();
    // Nothing answers, so the send waits.
    let config = test.config().set("bootstrap.servers", "127.0.0.1:1").set("message.timeout.ms", "300000").clone();
    let producer: FutureProducer = config.create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    let record = || FutureRecord::<(), str>::to(&test.topic).payload("four apples");
    let mut send = Box::pin(inside(&test, || producer.send(record(), Duration::ZERO)));
    assert_eq!(ended(&test), 0, "it was never polled");
    assert!(futures::poll!(&mut send).is_pending());
    assert_eq!(ended(&test), 1);
    let answer = inside(&test, || producer.send_result(record()).unwrap());
    assert_eq!(ended(&test), 2);
    drop((send, answer));
    let base: BaseProducer = config.create().unwrap();
    let base = base.with_instrumentation(test.sdk.instrumentation());
    inside(&test, || base.send(BaseRecord::<(), str>::to(&test.topic).payload("four apples")).unwrap());
    assert_eq!(ended(&test), 3);
    drop((producer, base));
    eventually("the sends are purged", || {
        test.sdk.spans().iter().filter(|span| span.name.starts_with("send")).count() == 3
    });
}
