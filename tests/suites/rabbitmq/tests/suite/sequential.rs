//! `sequential` around loops over real consumers: its promise and its limits, on more than one runtime.

use lapin::{BasicProperties, options::BasicAckOptions};
use opentelemetry::{Context, SpanId, trace::TraceContextExt};
use opentelemetry_sdk::trace::SpanData;
use otel_lapin::otel::{MessageExt, sequential};

use crate::harness::{Rabbit, named, next};

fn current() -> SpanId {
    Context::current().span().span_context().span_id()
}

/// What each span of the one name has for its parent, as a position among the spans of the other.
fn parents(spans: &[SpanData], name: &str, process: &str) -> Vec<Option<usize>> {
    let process = named(spans, process);
    let position = |id| process.iter().position(|span| span.span_context.span_id() == id);
    named(spans, name).iter().map(|span| position(span.parent_span_id)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_two_messages_are_alive_neither_is_current() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    for _ in 0..2 {
        rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    }
    let mut consumer = rabbit.consume(&queue).await;
    sequential(async {
        let kept = next(&mut consumer).await;
        assert_eq!(current(), kept.otel_context().span().span_context().span_id());
        let second = next(&mut consumer).await;
        assert_eq!(current(), SpanId::INVALID);
        // An acker is a part of its message that lives on.
        let acker = kept.acker;
        assert_eq!(current(), SpanId::INVALID);
        acker.ack(BasicAckOptions::default()).await.unwrap();
        drop(acker);
        assert_eq!(current(), second.otel_context().span().span_context().span_id());
        second.ack(BasicAckOptions::default()).await.unwrap();
    })
    .await;
    assert_eq!(rabbit.sdk.wait_for(4).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_moved_to_another_task_is_current_there_only_inside_process() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    for _ in 0..2 {
        rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    }
    let mut consumer = rabbit.consume(&queue).await;
    sequential(async {
        let moved = next(&mut consumer).await;
        let task = tokio::spawn(async move {
            assert_eq!(current(), SpanId::INVALID, "a task inherits nothing");
            let own = moved.otel_context().span().span_context().span_id();
            moved.process(|| async { assert_eq!(current(), own) }).await;
            assert_eq!(current(), SpanId::INVALID);
            moved.ack(BasicAckOptions::default()).await.unwrap();
        });
        task.await.unwrap();
        let second = next(&mut consumer).await;
        assert_eq!(current(), second.otel_context().span().span_context().span_id());
    })
    .await;
    assert_eq!(current(), SpanId::INVALID);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_is_not_part_of_the_message_before_it_which_is_still_held() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    for _ in 0..2 {
        rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    }
    let get = async || rabbit.channel.basic_get(queue.as_str().into(), Default::default()).await.unwrap();
    sequential(async {
        let first = get().await.unwrap();
        let second = get().await.unwrap();
        drop((first, second));
    })
    .await;
    let spans = rabbit.sdk.wait_for(4);
    assert_eq!(parents(&spans, &format!("get {queue}"), &format!("process {queue}")), [None, None]);
}
