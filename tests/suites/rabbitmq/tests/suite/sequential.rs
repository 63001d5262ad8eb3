//! `sequential` around loops over real consumers: its promise and its limits, on more than one runtime.

use std::{cell::Cell, panic::AssertUnwindSafe};

use futures::{FutureExt, StreamExt, future::join3};
use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicGetOptions},
};
use opentelemetry::{Context, SpanId, trace::TraceContextExt};
use opentelemetry_sdk::trace::SpanData;
use otel_lapin::otel::{MessageExt, sequential, sequential_blocking};
use support::attribute as value_of;
use tokio::{
    runtime::Handle,
    task::{block_in_place, yield_now},
    time::timeout,
};

use crate::{
    harness::{Rabbit, named, next},
    sources::{ASKED, Opened, Source, filled, take},
};

const MESSAGES: usize = 20;

fn current() -> SpanId {
    Context::current().span().span_context().span_id()
}

/// What each span of the one name has for its parent, as a position among the spans of the other.
fn parents(spans: &[SpanData], name: &str, process: &str) -> Vec<Option<usize>> {
    let process = named(spans, process);
    let position = |id| process.iter().position(|span| span.span_context.span_id() == id);
    named(spans, name).iter().map(|span| position(span.parent_span_id)).collect()
}

/// One loop: for each message something is published, before and after others have had their turn.
async fn work(rabbit: &Rabbit, from: &str, to: &str) {
    let mut consumer = rabbit.consume(from).await;
    sequential(async {
        for _ in 0..MESSAGES {
            let delivery = consumer.next().await.unwrap().unwrap();
            yield_now().await;
            rabbit.publish(to, &delivery.data, BasicProperties::default()).await;
            delivery.ack(BasicAckOptions::default()).await.unwrap();
        }
    })
    .await;
}

/// Two loops and a heartbeat in one task.
async fn keep_apart(rabbit: &Rabbit, queues: &[String; 5]) {
    let [left, left_to, right, right_to, heartbeats] = queues;
    let working = Cell::new(2);
    let heartbeat = async {
        let mut beats = 0;
        while working.get() > 0 {
            rabbit.publish(heartbeats, b"beat", BasicProperties::default()).await;
            beats += 1;
        }
        beats
    };
    let done = |()| working.set(working.get() - 1);
    let (.., beats, ()) =
        join3(work(rabbit, left, left_to).map(done), heartbeat, work(rabbit, right, right_to).map(done)).await;

    let spans = rabbit.sdk.wait_for(MESSAGES * 6 + beats);
    let one_each: Vec<_> = (0..MESSAGES).map(Some).collect();
    for (from, to) in [(left, left_to), (right, right_to)] {
        let process = format!("process {from}");
        assert_eq!(parents(&spans, &format!("publish {to}"), &process), one_each);
        assert_eq!(parents(&spans, &format!("ack {from}"), &process), one_each);
    }
    let beaten = named(&spans, &format!("publish {heartbeats}"));
    assert_eq!(beaten.len(), beats);
    assert!(beaten.iter().all(|span| span.parent_span_id == SpanId::INVALID), "{}", rabbit.described());
}

async fn full_queues(rabbit: &Rabbit) -> [String; 5] {
    let mut queues = Vec::new();
    for name in ["left", "left-to", "right", "right-to", "heartbeats"] {
        queues.push(rabbit.queue(name).await);
    }
    for queue in [&queues[0], &queues[2]] {
        for _ in 0..MESSAGES {
            rabbit.publish(queue, b"1", BasicProperties::default()).await;
        }
    }
    queues.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_loops_and_a_heartbeat_in_one_task_keep_apart_on_tokio() {
    let rabbit = Rabbit::confirming().await;
    let queues = full_queues(&rabbit).await;
    timeout(support::DEADLINE, keep_apart(&rabbit, &queues)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_loops_and_a_heartbeat_in_one_task_keep_apart_on_smol() {
    let rabbit = Rabbit::confirming().await;
    let queues = full_queues(&rabbit).await;
    // lapin's own tasks stay on tokio; the loops are polled by smol.
    block_in_place(|| smol::block_on(keep_apart(&rabbit, &queues)));
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
async fn a_loop_that_is_cancelled_or_panics_ends_its_message_and_leaves_nothing_current() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    for _ in 0..2 {
        rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    }
    let mut consumer = rabbit.consume(&queue).await;
    let (in_hand, has_one) = tokio::sync::oneshot::channel();
    let cancelled = sequential(async {
        let _delivery = next(&mut consumer).await;
        in_hand.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    tokio::select! {
        () = cancelled => unreachable!("it never ends"),
        received = has_one => received.unwrap(),
    }
    assert_eq!(current(), SpanId::INVALID);
    let panics = sequential(async {
        let _delivery = next(&mut consumer).await;
        panic!("a handler's bug");
    });
    assert!(AssertUnwindSafe(panics).catch_unwind().await.is_err());
    assert_eq!(current(), SpanId::INVALID);
    let errors: Vec<_> = rabbit.sdk.wait_for(2).iter().map(|span| value_of(span, "error.type").cloned()).collect();
    assert_eq!(errors, [None, Some("panic".into())]);
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

/// Takes messages one after the other. While each is in hand other sources are asked in vain, then its own.
async fn ask(rabbit: &Rabbit, source: Source, [orders, empty, onward, idle]: &[String; 4]) {
    let publish = async |to: &str, body: &[u8]| rabbit.publish(to, body, BasicProperties::default()).await;
    let Opened { mut messages, same } = source.open(rabbit, orders).await;
    let mut others = rabbit.consume(empty).await;
    let channel = rabbit.connection.create_channel().await.unwrap();
    for (way, mut same) in same {
        rabbit.publish_raw(orders, b"1", BasicProperties::default()).await;
        let in_hand = take(&mut messages).await;
        for (channel, queue) in [(&rabbit.channel, empty), (&channel, orders)] {
            let got = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap();
            assert!(got.is_none(), "{source:?}: the queue is empty");
        }
        tokio::select! {
            biased;
            _ = others.next() => panic!("{source:?}: a message of nobody's"),
            () = yield_now() => {}
        }
        publish(onward, b"1").await;
        assert!(!matches!(same.next().now_or_never(), Some(Some(_))), "{source:?} by {way}: there is no other");
        publish(idle, b"1").await;
        in_hand.ack(BasicAckOptions::default()).await.unwrap();
    }
    // Its own stream is its source, too.
    rabbit.publish_raw(orders, b"1", BasicProperties::default()).await;
    let in_hand = take(&mut messages).await;
    publish(onward, b"1").await;
    if source != Source::IncomingMessage {
        assert!(!matches!(messages.next().now_or_never(), Some(Some(_))));
        publish(idle, b"1").await;
    }
    drop(in_hand);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_in_hand_until_its_own_source_is_polled() {
    for source in ASKED {
        for blocking in [false, true] {
            let rabbit = Rabbit::confirming().await;
            let queues = [
                filled(&rabbit, 0).await,
                rabbit.queue("empty").await,
                rabbit.queue("onward").await,
                rabbit.queue("idle").await,
            ];
            match blocking {
                false => sequential(ask(&rabbit, source, &queues)).await,
                true => block_in_place(|| {
                    sequential_blocking(|| Handle::current().block_on(ask(&rabbit, source, &queues)));
                }),
            }
            let [orders, _, onward, idle] = queues;
            let (spans, process) = (rabbit.sdk.spans(), format!("process {orders}"));
            let sent = |to: &str| parents(&spans, &format!("publish {to}"), &process);
            let messages = named(&spans, &process).len();
            assert_eq!(sent(&onward), (0..messages).map(Some).collect::<Vec<_>>(), "{source:?}, {blocking}");
            let (asked, roots) = if source == Source::IncomingMessage { (0, 1) } else { (3, 3) };
            assert_eq!((sent(&idle), messages), (vec![None; asked], roots), "{source:?}, {blocking}");
        }
    }
}
