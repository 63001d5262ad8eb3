//! docs/handling.md

use std::{future::Future, time::Duration};

use otel_messaging::{MessageExt, Outcome};
use otel_rdkafka::producer::{FutureProducer, FutureRecord};

fn right(message: &impl MessageExt, producer: &FutureProducer, record: FutureRecord<'_, str, str>, timeout: Duration) {
    let _ = message.process(|| async { producer.send(record, timeout).await.map_err(|(error, _)| error) });
}

fn any_handler<F: Future<Output: Outcome>>(message: &impl MessageExt, handler: impl FnOnce() -> F) {
    let _ = message.process(handler);
}
