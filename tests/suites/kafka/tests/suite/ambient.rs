//! The application's span that is active at a send ends when the application drops it.

use std::time::Duration;

use opentelemetry::trace::Tracer;
use otel_rdkafka::producer::{BaseProducer, BaseRecord, FutureProducer, FutureRecord};
use support::eventually;

use crate::harness::Test;

/// Works inside a span that has no other owner.
fn inside<T>(test: &Test, work: impl FnOnce() -> T) -> T {
    test.sdk.tracer().in_span("fetch", |_| work())
}

fn ended(test: &Test) -> usize {
    test.sdk.spans().iter().filter(|span| span.name == "fetch").count()
}

#[tokio::test]
async fn a_send_does_not_keep_it_open_once_it_is_polled() {
    let test = Test::new();
    // Nothing answers, so the send waits.
    let config = test.config().set("bootstrap.servers", "127.0.0.1:1").set("message.timeout.ms", "300000").clone();
    let producer: FutureProducer = config.create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    let record = || FutureRecord::<(), str>::to(&test.topic).payload("four apples");
    let mut send = Box::pin(inside(&test, || producer.send(record(), Duration::ZERO)));
    assert_eq!(ended(&test), 0, "it was never polled");
    assert!(futures::poll!(&mut send).is_pending());
    assert_eq!(ended(&test), 1);
    let answer = inside(&test, || producer.send_result(record()).unwrap());
    assert_eq!(ended(&test), 2);
    drop((send, answer));
    let base: BaseProducer = config.create().unwrap();
    let base = base.with_instrumentation(test.sdk.instrumentation());
    inside(&test, || base.send(BaseRecord::<(), str>::to(&test.topic).payload("four apples")).unwrap());
    assert_eq!(ended(&test), 3);
    drop((producer, base));
    eventually("the sends are purged", || {
        test.sdk.spans().iter().filter(|span| span.name.starts_with("send")).count() == 3
    });
}
