//! A context that the application's function reads, on every way of receiving.

use lapin::{BasicProperties, options::BasicAckOptions};
use opentelemetry::{propagation::Extractor, trace::SpanContext};
use otel_lapin::otel::{MessageExt, ReceivedMessage, parse_traceparent};
use support::{Sdk, describe};

use crate::{
    harness::{Rabbit, long, named, next, table, traceparent},
    sources::{ALL, take},
};

const OF_HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OF_PAYLOAD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn read(headers: &dyn Extractor, payload: &[u8]) -> Option<SpanContext> {
    parse_traceparent(headers.get("ce_traceparent").or(str::from_utf8(payload).ok())?)
}

async fn reading() -> Rabbit {
    let sdk = Sdk::new();
    let instrumentation = sdk.all_signals_builder().with_context_reader(read).build();
    Rabbit::with(sdk, instrumentation).await
}

fn with_header() -> BasicProperties {
    BasicProperties::default().with_headers(table([("ce_traceparent", long(OF_HEADER))]))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_source_reads_it() {
    for source in ALL {
        let rabbit = reading().await;
        let queue = rabbit.queue("orders").await;
        let none = BasicProperties::default;
        for (payload, properties) in [("four apples", with_header()), (OF_PAYLOAD, none()), ("", none())] {
            rabbit.publish_raw(&queue, payload.as_bytes(), properties).await;
        }
        let mut messages = source.open(&rabbit, &queue).await.messages;
        for _ in 0..3 {
            let message = take(&mut messages).await;
            message.process(|| async {}).await;
            message.ack(BasicAckOptions::default()).await.unwrap();
        }
        let spans = rabbit.sdk.spans();
        let process: Vec<_> = named(&spans, &format!("process {queue}")).into_iter().cloned().collect();
        let described = describe(&process);
        let relations: Vec<_> = described
            .lines()
            .map(str::trim)
            .filter(|line| ["root", "parent ", "link "].iter().any(|word| line.starts_with(word)))
            .collect();
        let of = |span: &str| [format!("parent {span}"), format!("link {span}")];
        let expected = [of("00f067aa0ba902b7"), of("b7ad6b7169203331")].concat();
        assert_eq!(relations[..4], expected[..], "{source:?}");
        assert_eq!(relations[4..], ["root"], "{source:?}");
        let everything = rabbit.sdk.everything() + &rabbit.sdk.events();
        assert!(!everything.contains("four apples") && !everything.contains(OF_PAYLOAD), "{source:?}: {everything}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_keeps_the_header_and_is_a_new_message() {
    let rabbit = reading().await;
    let (first, second) = (rabbit.queue("orders").await, rabbit.queue("payments").await);
    rabbit.publish_raw(&first, b"1", with_header()).await;
    let delivery = next(&mut rabbit.consume(&first).await).await;
    let properties = delivery.properties.clone();
    delivery.process(|| async { rabbit.publish(&second, b"1", properties).await }).await;
    drop(delivery);
    let spans = rabbit.sdk.wait_for(2);
    let forward = named(&spans, &format!("publish {second}"))[0];
    assert!(forward.links.is_empty(), "what was read is no context that it carries when it is sent");
    let process = named(&spans, &format!("process {first}"))[0];
    assert_eq!(forward.parent_span_id, process.span_context.span_id());
    let received = next(&mut rabbit.consume(&second).await).await;
    let expected = table([("ce_traceparent", long(OF_HEADER)), ("traceparent", traceparent(forward))]);
    assert_eq!(*received.properties.headers(), Some(expected));
    let creation = received.process_span().unwrap().creation().unwrap();
    assert_eq!(creation.span_id(), forward.span_context.span_id());
}
