//! ARCHITECTURE.md

use std::time::Duration;

use otel_async_nats::jetstream::Context;
use otel_messaging::adapter::{self, ClientSpan, Destination, OperationName, Settlement, SourceId, Telemetry};
use otel_rdkafka::producer::{FutureProducer, FutureRecord};

const NAME: OperationName = OperationName::send("publish");

fn the_rule(telemetry: &Telemetry, key: &[&str], describe: fn() -> Destination) {
    let _ = telemetry.start_operation();
    let _ = telemetry.operation(NAME, key, describe);
}

fn sources(source: SourceId) {
    let _ = adapter::poll_started(source);
}

fn failed(span: ClientSpan, error_type: &'static str, error: &str) {
    let _ = span.fail(error_type, error);
}

fn settled(span: ClientSpan, outcome: Settlement) {
    let _ = span.settled(outcome);
}

fn kafka(producer: &FutureProducer, record: FutureRecord<'_, str, str>, timeout: Duration) {
    let _ = producer.send(record, timeout);
}

fn where_the_api_is_not_the_client_s(context: Context) {
    let _ = context.into_inner();
}
