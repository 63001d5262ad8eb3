//! What a handler gives that ends in the client's own errors, and what of it is told.

use std::{borrow::Cow, ops::ControlFlow, time::Duration};

use futures::StreamExt;
use otel_rdkafka::{
    consumer::{Consumer, StreamConsumer},
    error::KafkaError,
    message::{Header, OwnedHeaders, OwnedMessage},
    otel::{MessageExt, MessageStreamExt, process_batch_with},
    producer::{BaseRecord, FutureProducer, FutureRecord},
};
use rdkafka::producer::Producer as _;
use support::{DEADLINE, attribute};
use tokio::time::timeout;

use crate::harness::Test;

/// What nobody may see in telemetry.
const PRIVATE: [&str; 3] = ["card-4711", "customer-17", "tenant-blue"];

fn unsent<T>(output: &Result<T, (KafkaError, OwnedMessage)>) -> Option<(Cow<'static, str>, String)> {
    output.as_ref().err().map(|(error, _)| ("unsent".into(), error.to_string()))
}

#[tokio::test]
#[allow(clippy::result_large_err, reason = "it is the client's")]
async fn a_send_that_fails_is_the_handlers_error_and_tells_nothing_of_the_message() {
    const MESSAGES: usize = 5;
    let test = Test::new();
    let raw: rdkafka::producer::BaseProducer = test.config().create().unwrap();
    for _ in 0..MESSAGES {
        raw.send(BaseRecord::<(), str>::to(&test.topic).payload("four apples")).unwrap();
    }
    raw.flush(Duration::from_secs(10)).unwrap();
    let instrumentation = test.sdk.all_signals_builder().build();
    let producer: FutureProducer = test.config().set("message.max.bytes", "1000").create().unwrap();
    let producer = producer.with_instrumentation(instrumentation.clone());
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    let consumer = consumer.with_instrumentation(instrumentation);
    consumer.subscribe(&[&test.topic]).unwrap();

    let payload = PRIVATE[0].repeat(1_000);
    let send = || {
        let headers = OwnedHeaders::new().insert(Header { key: "x-tenant", value: Some(PRIVATE[2]) });
        let record = FutureRecord::to(&test.topic).payload(&payload).key(PRIVATE[1]).headers(headers);
        producer.send(record, Duration::ZERO)
    };
    let mut stream = consumer.stream().take(MESSAGES);
    let heard = support::Heard::default();
    {
        let _listening = heard.listen();
        let mut next = async || timeout(DEADLINE, stream.next()).await.unwrap().unwrap().unwrap();
        let message = next().await;
        message.process(|| async { send().await.map_err(|(error, _)| error) }).await.unwrap_err();
        next().await.process_with(|| async { send().await }, unsent).await.unwrap_err();
        let message = next().await;
        let failed = send().await;
        message.in_scope_with(|| failed, unsent).unwrap_err();
        let batch = [next().await];
        process_batch_with(&batch, || async { send().await }, unsent).await.unwrap_err();
        let each = (&mut stream).process_each_with(1, async |_| send().await, unsent);
        timeout(DEADLINE, each).await.unwrap().unwrap();
    }
    let spans = test.sdk.wait_for(2 * MESSAGES);
    let process: Vec<_> = spans.iter().filter(|span| span.name.starts_with("process")).collect();
    let named = |span| attribute(span, "error.type").unwrap().as_str().into_owned();
    let names: Vec<_> = process.iter().map(|span| named(span)).collect();
    assert_eq!(names, [std::any::type_name::<KafkaError>(), "unsent", "unsent", "unsent", "unsent"]);
    let recorded = format!("{spans:?}{}{}{}", test.sdk.events(), test.sdk.measured(), heard.text());
    assert!(recorded.contains("unsent") && recorded.contains("messaging.process.exception"));
    for private in PRIVATE {
        assert!(!recorded.contains(private), "{private} is told");
    }
}

#[tokio::test]
async fn a_handler_that_gives_no_result_has_not_failed() {
    let test = Test::new();
    let raw: rdkafka::producer::BaseProducer = test.config().create().unwrap();
    raw.send(BaseRecord::<(), str>::to(&test.topic).payload("four apples")).unwrap();
    raw.flush(Duration::from_secs(10)).unwrap();
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    let consumer = consumer.with_instrumentation(test.sdk.instrumentation());
    consumer.subscribe(&[&test.topic]).unwrap();
    let message = timeout(DEADLINE, consumer.recv()).await.unwrap().unwrap();
    assert_eq!(message.process(|| async { None::<u8> }).await, None);
    assert!(!message.in_scope(|| false));
    assert!(message.in_scope(|| ControlFlow::<()>::Break(())).is_break());
    drop(message);
    assert_eq!(attribute(&test.span("process orders"), "error.type"), None);
}
