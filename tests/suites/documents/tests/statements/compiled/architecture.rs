//! ARCHITECTURE.md

use std::time::Duration;

use otel_messaging::adapter::{ClientSpan, Destination, OperationName, Settlement, Telemetry};
use otel_rdkafka::producer::{FutureProducer, FutureRecord};

const NAME: OperationName = OperationName::send("publish");

fn the_rule(telemetry: &Telemetry, key: &[&str], describe: fn() -> Destination) {
    let _ = telemetry.start_operation();
    let _ = telemetry.operation(NAME, key, describe);
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
