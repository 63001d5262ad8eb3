//! How long a message waits for its handler: no part of its process span, and told.

use std::{
    thread,
    time::{Duration, SystemTime},
};

use futures::StreamExt;
use lapin::options::BasicAckOptions;
use opentelemetry::Value;
use opentelemetry_sdk::trace::SpanData;
use otel_lapin::{
    message::DeliveryResult,
    otel::{MessageExt, MessageStreamExt},
};
use otel_messaging::semconv::{extension, metric};
use support::{attribute as value_of, eventually};
use tokio::{sync::mpsc, time::sleep};

use crate::{
    harness::{Rabbit, named},
    sources::{ASKED, Opened, filled, take},
};

const MESSAGES: usize = 3;
/// How long a handler takes.
const WORK: Duration = Duration::from_millis(20);

fn waited(span: &SpanData) -> Option<f64> {
    value_of(span, extension::WAIT_TIME).map(|wait| match wait {
        Value::F64(seconds) => *seconds,
        other => panic!("{other:?} is no number of seconds"),
    })
}

fn seconds(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from).unwrap().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_s_messages_begin_with_their_handlers_and_say_how_long_they_waited() {
    for source in ASKED {
        let rabbit = Rabbit::with_all_signals().await;
        let queue = filled(&rabbit, MESSAGES).await;
        let Opened { mut messages, .. } = source.open(&rabbit, &queue).await;
        let (give, mut work) = mpsc::unbounded_channel();
        for _ in 0..MESSAGES {
            give.send(take(&mut messages).await).unwrap();
        }
        drop(give);
        let delivered_at = SystemTime::now();
        while let Some(message) = work.recv().await {
            message.process(|| sleep(WORK)).await;
            message.ack(BasicAckOptions::default()).await.unwrap();
        }
        let spans = rabbit.sdk.spans();
        let process = named(&spans, &format!("process {queue}"));
        assert_eq!(process.len(), MESSAGES);
        for (number, both) in process.windows(2).enumerate() {
            assert!(both[1].start_time >= both[0].end_time, "{source:?}: message {number} has one worker");
        }
        for (number, span) in process.iter().enumerate().skip(1) {
            let wait = waited(span).expect("it waited for those before it");
            let least = seconds(delivered_at, span.start_time).max(number as f64 * WORK.as_secs_f64());
            assert!(wait >= least, "{source:?}: message {number} waited {wait} s");
        }
        assert_eq!(rabbit.sdk.histogram(extension::WAIT_TIME).0, MESSAGES as u64, "{source:?}");
        let took: f64 = process.iter().map(|span| seconds(span.start_time, span.end_time)).sum();
        let (count, measured) = rabbit.sdk.histogram(metric::PROCESS_DURATION);
        assert_eq!(count, MESSAGES as u64);
        assert!((measured - took).abs() < 1e-6, "{source:?}: {measured} s of handlers, their spans {took} s");
    }
}

/// That they began with the delivery, and have nothing to say of a wait.
fn assert_no_wait(rabbit: &Rabbit, queue: &str, what: &str) {
    let spans = rabbit.sdk.spans();
    let process = named(&spans, &format!("process {queue}"));
    assert_eq!(process.len(), MESSAGES, "{what}");
    assert!(process.iter().all(|span| waited(span).is_none()), "{what}: {}", rabbit.described());
    assert_eq!(rabbit.sdk.histogram(extension::WAIT_TIME), (0, 0.0), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_settled_before_its_handler_begins_with_its_delivery() {
    for source in ASKED {
        let rabbit = Rabbit::with_all_signals().await;
        let queue = filled(&rabbit, MESSAGES).await;
        let Opened { mut messages, .. } = source.open(&rabbit, &queue).await;
        for _ in 0..MESSAGES {
            let message = take(&mut messages).await;
            let delivered_at = SystemTime::now();
            message.ack(BasicAckOptions::default()).await.unwrap();
            thread::sleep(WORK);
            message.process(|| async {}).await;
            let spans = rabbit.sdk.spans();
            let process = named(&spans, &format!("process {queue}"));
            assert!(process.last().unwrap().start_time <= delivered_at, "{source:?}");
        }
        assert_no_wait(&rabbit, &queue, &format!("{source:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_calls_the_handler_itself_has_no_wait() {
    for source in ASKED {
        let rabbit = Rabbit::with_all_signals().await;
        let queue = filled(&rabbit, MESSAGES).await;
        let Opened { messages, .. } = source.open(&rabbit, &queue).await;
        let each = messages.take(MESSAGES).process_each(2, async |message| {
            sleep(WORK).await;
            message.ack(BasicAckOptions::default()).await.map(drop)
        });
        each.await;
        assert_no_wait(&rabbit, &queue, &format!("process_each, {source:?}"));
    }

    let rabbit = Rabbit::with_all_signals().await;
    let queue = filled(&rabbit, MESSAGES).await;
    let consumer = rabbit.consume(&queue).await;
    consumer.set_delegate(async |message: DeliveryResult| {
        if let Ok(Some(message)) = message {
            sleep(WORK).await;
            message.ack(BasicAckOptions::default()).await.unwrap();
        }
    });
    let handled = || named(&rabbit.sdk.spans(), &format!("process {queue}")).len() == MESSAGES;
    eventually("all messages are handled", handled);
    assert_no_wait(&rabbit, &queue, "a delegate");
}
