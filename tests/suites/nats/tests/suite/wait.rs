//! How long a message waits for its handler: no part of its process span, and told.

use std::{
    thread,
    time::{Duration, SystemTime},
};

use futures::StreamExt;
use opentelemetry::Value;
use opentelemetry_sdk::trace::SpanData;
use otel_async_nats::otel::{MessageExt, MessageStreamExt};
use otel_messaging::semconv::{extension, metric};
use support::{Sdk, attribute as value_of, describe};
use tokio::{sync::mpsc, time::sleep};

use crate::sources::{ALL, Opened, Source, opened, process, take};

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

#[tokio::test]
async fn a_worker_s_messages_begin_with_their_handlers_and_say_how_long_they_waited() {
    for source in ALL {
        let (sdk, Opened { mut messages, subject, .. }) = opened(source, MESSAGES).await;
        let (give, mut work) = mpsc::unbounded_channel();
        for _ in 0..MESSAGES {
            give.send(take(&mut messages).await).unwrap();
        }
        drop(give);
        let delivered_at = SystemTime::now();
        while let Some(message) = work.recv().await {
            message.process(|| sleep(WORK)).await;
            message.settle().await;
        }
        let process = process(&sdk, &subject);
        assert_eq!(process.len(), MESSAGES);
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

/// That they began with the delivery, and have nothing to say of a wait.
fn assert_no_wait(sdk: &Sdk, subject: &str, source: Source) {
    let process = process(sdk, subject);
    assert_eq!(process.len(), MESSAGES, "{source:?}");
    assert!(process.iter().all(|span| waited(span).is_none()), "{source:?}: {}", describe(&process));
    assert_eq!(sdk.histogram(extension::WAIT_TIME), (0, 0.0), "{source:?}");
}

/// Those of Core NATS are not settled; who asked for something is answered.
#[tokio::test]
async fn a_message_that_is_settled_before_its_handler_begins_with_its_delivery() {
    for source in ALL.into_iter().filter(|source| source.settles()) {
        let (sdk, Opened { mut messages, subject, .. }) = opened(source, MESSAGES).await;
        for _ in 0..MESSAGES {
            let message = take(&mut messages).await;
            let delivered_at = SystemTime::now();
            message.settle().await;
            thread::sleep(WORK);
            message.process(|| async {}).await;
            assert!(process(&sdk, &subject).last().unwrap().start_time <= delivered_at, "{source:?}");
        }
        assert_no_wait(&sdk, &subject, source);
    }
}

#[tokio::test]
async fn what_calls_the_handler_itself_has_no_wait() {
    for source in ALL {
        let (sdk, Opened { messages, subject, .. }) = opened(source, MESSAGES).await;
        let each = messages.take(MESSAGES).process_each(2, async |message| {
            sleep(WORK).await;
            message.settle().await;
        });
        each.await;
        assert_no_wait(&sdk, &subject, source);
    }
}
