//! `sequential` around loops over real consumers: its promise and its limits, on more than one runtime.

use std::{sync::Arc, thread, time::Duration};

use opentelemetry::{Context, SpanId, trace::TraceContextExt};
use otel_rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, StreamConsumer},
    message::BorrowedMessage,
    otel::{MessageExt, sequential, sequential_blocking},
    producer::{BaseProducer, BaseRecord, Producer},
};
use support::{Sdk, eventually};
use tokio::time::timeout;

use crate::harness::Test;

const MESSAGES: usize = 20;

fn current() -> SpanId {
    Context::current().span().span_context().span_id()
}

fn id_of(message: &impl MessageExt) -> SpanId {
    message.otel_context().span().span_context().span_id()
}

/// A topic with messages in it, each with a trace of its own.
fn full(sdk: &Sdk, messages: usize) -> Test {
    let test = Test::with_sdk(sdk.clone());
    let producer = producer(&test);
    for _ in 0..messages {
        producer.send(BaseRecord::<(), str>::to(&test.topic).payload("four apples")).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
    test
}

fn producer(test: &Test) -> BaseProducer {
    let producer: BaseProducer = test.config().create().unwrap();
    producer.with_instrumentation(test.sdk.instrumentation())
}

fn base_consumer(test: &Test) -> BaseConsumer {
    let consumer: BaseConsumer = test.consumer_config().create().unwrap();
    consumer.subscribe(&[&test.topic]).unwrap();
    consumer.with_instrumentation(test.sdk.instrumentation())
}

fn stream_consumer(test: &Test) -> StreamConsumer {
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    consumer.subscribe(&[&test.topic]).unwrap();
    consumer.with_instrumentation(test.sdk.instrumentation())
}

fn next(consumer: &BaseConsumer) -> BorrowedMessage<'_> {
    let mut message = None;
    eventually("a message", || {
        message = consumer.poll(Duration::from_millis(100)).map(Result::unwrap);
        message.is_some()
    });
    message.unwrap()
}

#[test]
fn a_poll_loop_sends_inside_its_message_and_a_timer_does_not() {
    let sdk = Sdk::new();
    let (from, to, beats) = (full(&sdk, MESSAGES), Test::with_sdk(sdk.clone()), Test::with_sdk(sdk.clone()));
    let producer = producer(&to);
    let send = |to: &Test| producer.send(BaseRecord::<(), str>::to(&to.topic).payload("paid")).unwrap();
    let consumer = base_consumer(&from);
    sequential_blocking(|| {
        let mut left = MESSAGES;
        while left > 0 {
            // A poll that finds nothing leaves nothing current: so does the timer that is served in between.
            if let Some(message) = consumer.poll(Duration::from_millis(50)) {
                let message = message.unwrap();
                send(&to);
                consumer.commit_message(&message, CommitMode::Async).unwrap();
                left -= 1;
            }
            send(&beats);
        }
    });
    producer.flush(Duration::from_secs(10)).unwrap();
    let spans = sdk.spans();
    let of = |name: String| spans.iter().filter(move |span| span.name == name);
    let process: Vec<_> = of(format!("process {}", from.topic)).map(|span| span.span_context.span_id()).collect();
    let parents: Vec<_> = of(format!("send {}", to.topic)).map(|span| span.parent_span_id).collect();
    assert_eq!((parents.len(), parents), (MESSAGES, process));
    assert!(of(format!("send {}", beats.topic)).all(|span| span.parent_span_id == SpanId::INVALID));
    assert!(of(format!("send {}", beats.topic)).count() >= MESSAGES);
}

#[test]
fn in_a_poll_loop_a_kept_or_moved_message_is_not_current() {
    let sdk = Sdk::new();
    let test = full(&sdk, 4);
    let consumer = base_consumer(&test);
    sequential_blocking(|| {
        let kept = next(&consumer);
        assert_eq!(current(), id_of(&kept));
        let second = next(&consumer);
        assert_eq!(current(), SpanId::INVALID, "two are alive");
        drop(kept);
        assert_eq!(current(), id_of(&second));
        drop(second);
        assert_eq!(current(), SpanId::INVALID);

        // A copy that owns its data is a part of the message, wherever it is.
        let detached = next(&consumer).detach();
        thread::scope(|scope| {
            scope.spawn(move || {
                assert_eq!(current(), SpanId::INVALID, "a thread inherits nothing");
                detached.in_scope(|| assert_eq!(current(), id_of(&detached)));
                assert_eq!(current(), SpanId::INVALID);
            });
        });
        let last = next(&consumer);
        assert_eq!(current(), id_of(&last));
    });
    assert_eq!(current(), SpanId::INVALID);
    assert_eq!(sdk.spans().len(), 8);
}

#[tokio::test]
async fn a_message_stays_in_hand_while_its_handler_asks_another_consumer() {
    let sdk = Sdk::new();
    let (from, to, empty) = (full(&sdk, 2), Test::with_sdk(sdk.clone()), Test::with_sdk(sdk.clone()));
    let (producer, polled) = (producer(&to), base_consumer(&empty));
    let consumer = stream_consumer(&from);
    let other = stream_consumer(&empty);
    sequential(async {
        for _ in 0..2 {
            let message = timeout(support::DEADLINE, consumer.recv()).await.unwrap().unwrap();
            let in_hand = id_of(&message);
            timeout(Duration::from_millis(20), other.recv()).await.unwrap_err();
            assert_eq!(current(), in_hand, "a wait has timed out");
            tokio::select! {
                biased;
                _ = other.recv() => unreachable!("nothing is there"),
                () = tokio::task::yield_now() => (),
            }
            assert_eq!(current(), in_hand, "a wait has lost");
            assert!(polled.poll(Duration::ZERO).is_none());
            producer.send(BaseRecord::<(), str>::to(&to.topic).payload("paid")).unwrap();
        }
    })
    .await;
    producer.flush(Duration::from_secs(10)).unwrap();
    let spans = sdk.spans();
    let of = |name: String| spans.iter().filter(move |span| span.name == name);
    let process: Vec<_> = of(format!("process {}", from.topic)).map(|span| span.span_context.span_id()).collect();
    let parents: Vec<_> = of(format!("send {}", to.topic)).map(|span| span.parent_span_id).collect();
    assert_eq!((parents.len(), parents), (2, process));
}

#[test]
fn a_partition_queue_is_another_source_than_its_consumer() {
    let sdk = Sdk::new();
    let test = full(&sdk, 1);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&test.topic, 0, Offset::Beginning).unwrap();

    // The main queue has to be polled while messages of the partition are handled.
    let consumer: BaseConsumer = test.consumer_config().create().unwrap();
    let consumer = Arc::new(consumer.with_instrumentation(sdk.instrumentation()));
    consumer.assign(&list).unwrap();
    let queue = consumer.split_partition_queue(&test.topic, 0).unwrap();
    sequential_blocking(|| {
        assert!(consumer.poll(Duration::ZERO).is_none());
        let message = queue.poll(support::DEADLINE).unwrap().unwrap();
        assert!(consumer.poll(Duration::ZERO).is_none());
        assert_eq!(current(), id_of(&message));
        drop(queue.poll(Duration::ZERO));
        assert_eq!(current(), SpanId::INVALID, "its own queue was asked");
    });
}
