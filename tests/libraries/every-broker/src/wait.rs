//! The time that a message waits for its handler is recorded, and is no part of its process span.

use std::{
    thread,
    time::{Duration, SystemTime},
};

use futures::StreamExt;
use opentelemetry::Value;
use opentelemetry_sdk::trace::SpanData;
use otel_messaging::{
    MessageExt, MessageStreamExt,
    semconv::{extension, metric},
};
use support::{Sdk, attribute, describe};
use tokio::time::sleep;

use crate::{Broker, PLAIN, Received, asked, opened, processed, take};

const MESSAGES: usize = 3;
/// How long a handler takes.
const WORK: Duration = Duration::from_millis(20);

fn waited(span: &SpanData) -> Option<f64> {
    attribute(span, extension::WAIT_TIME).map(|wait| match wait {
        Value::F64(seconds) => *seconds,
        other => panic!("{other:?} is no number of seconds"),
    })
}

fn seconds(from: SystemTime, to: SystemTime) -> f64 {
    to.duration_since(from).unwrap().as_secs_f64()
}

pub async fn a_workers_messages_begin_with_their_handlers_and_record_their_wait<B: Broker>() {
    for source in asked::<B>() {
        let (sdk, _broker, destination, receiver) = opened::<B>(source, &[PLAIN; MESSAGES]).await;
        let mut messages = B::messages(&receiver);
        let mut queue = Vec::new();
        for _ in 0..MESSAGES {
            queue.push(take::<B>(&mut messages).await);
        }
        let delivered_at = SystemTime::now();
        for message in queue {
            message.process(|| sleep(WORK)).await;
            message.settle().await;
        }
        let process = processed(&sdk, &destination);
        assert_eq!(process.len(), MESSAGES, "{source:?}");
        for (number, both) in process.windows(2).enumerate() {
            assert!(both[1].start_time >= both[0].end_time, "{source:?}: message {number} has one worker");
        }
        for (number, span) in process.iter().enumerate().skip(1) {
            let wait = waited(span).expect("it waited for those before it");
            let least = seconds(delivered_at, span.start_time).max(number as f64 * WORK.as_secs_f64());
            assert!(wait >= least, "{source:?}: message {number} waited {wait} s");
        }
        assert_eq!(sdk.histogram(extension::WAIT_TIME).0, MESSAGES as u64, "{source:?}");
        let took: f64 = process.iter().map(|span| seconds(span.start_time, span.end_time)).sum();
        let (count, measured) = sdk.histogram(metric::PROCESS_DURATION);
        assert_eq!(count, MESSAGES as u64);
        assert!((measured - took).abs() < 1e-6, "{source:?}: {measured} s of handlers, their spans {took} s");
    }
}

/// The spans began with the delivery, and no wait is recorded.
fn assert_no_wait(sdk: &Sdk, destination: &str, source: &str) {
    let process = processed(sdk, destination);
    assert_eq!(process.len(), MESSAGES, "{source}");
    assert!(process.iter().all(|span| waited(span).is_none()), "{source}: {}", describe(&process));
    assert_eq!(sdk.histogram(extension::WAIT_TIME), (0, 0.0), "{source}");
}

pub async fn a_message_that_is_settled_before_its_handler_begins_with_its_delivery<B: Broker>() {
    for source in asked::<B>().filter(|source| B::settles(*source)) {
        let (sdk, _broker, destination, receiver) = opened::<B>(source, &[PLAIN; MESSAGES]).await;
        let mut messages = B::messages(&receiver);
        for _ in 0..MESSAGES {
            let message = take::<B>(&mut messages).await;
            let delivered_at = SystemTime::now();
            message.settle().await;
            thread::sleep(WORK);
            message.process(|| async {}).await;
            let process = processed(&sdk, &destination);
            assert!(process.last().unwrap().start_time <= delivered_at, "{source:?}");
        }
        assert_no_wait(&sdk, &destination, &format!("{source:?}"));
    }
}

pub async fn what_calls_the_handler_itself_has_no_wait<B: Broker>() {
    for source in asked::<B>() {
        let (sdk, _broker, destination, receiver) = opened::<B>(source, &[PLAIN; MESSAGES]).await;
        let each = B::messages(&receiver).take(MESSAGES).process_each(2, async |message| {
            sleep(WORK).await;
            message.settle().await;
        });
        each.await;
        assert_no_wait(&sdk, &destination, &format!("{source:?}"));
    }
}
