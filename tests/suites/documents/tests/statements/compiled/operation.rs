//! docs/operation.md

use std::time::Duration;

use otel_async_nats::Client;
use otel_rdkafka::producer::{FutureProducer, Producer};

fn shutdown(client: &Client, producer: &FutureProducer, timeout: Duration) {
    let _ = client.drain();
    let _ = producer.flush(timeout);
}
