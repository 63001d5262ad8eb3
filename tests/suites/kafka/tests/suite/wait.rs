//! How long a message waits for its handler is no part of its process span.

use std::time::Duration;

use futures::FutureExt;
use otel_messaging::semconv::extension;
use otel_rdkafka::{
    consumer::{BaseConsumer, Consumer},
    otel::process_batch,
    producer::BaseRecord,
};
use rdkafka::producer::Producer as _;
use support::attribute;

use crate::harness::Test;

const MESSAGES: usize = 5;

#[test]
fn each_message_of_a_polled_batch_says_on_its_link_how_long_it_waited() {
    let test = Test::new();
    let producer: rdkafka::producer::BaseProducer = test.config().create().unwrap();
    for _ in 0..MESSAGES {
        producer.send(BaseRecord::<(), str>::to(&test.topic).payload("four apples")).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
    let consumer: BaseConsumer = test.consumer_config().create().unwrap();
    let consumer = consumer.with_instrumentation(test.sdk.all_signals_builder().build());
    consumer.subscribe(&[&test.topic]).unwrap();
    let mut batch = Vec::new();
    while batch.len() < MESSAGES {
        batch.extend(consumer.poll(Duration::from_millis(100)).map(Result::unwrap));
    }
    // Their sends have no spans, so only spans link.
    std::thread::sleep(Duration::from_millis(10));
    process_batch(&batch, || async {}).now_or_never().unwrap();
    assert_eq!(attribute(&test.span("process orders"), extension::WAIT_TIME), None);
    assert_eq!(test.sdk.histogram(extension::WAIT_TIME).0, MESSAGES as u64);
}
