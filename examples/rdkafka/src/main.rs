//! One message there and back: a producer and a consumer, their spans on stdout.
//!
//! With a Kafka on `localhost:9092`, or wherever `KAFKA` says:
//!
//! ```text
//! $ cargo run -p example-rdkafka
//! …
//!     Name         : send example-orders
//!     TraceId      : 127067d1b40737f080562bdc07ef9988
//!     SpanId       : c6878202898190a8
//!     ParentSpanId : cd41af75efd5e43d          the request
//!     Kind         : Producer
//! …
//! sent to partition 1, offset 0
//! …
//! packing four apples
//! …
//!     Name         : pack
//!     TraceId      : 127067d1b40737f080562bdc07ef9988
//!     ParentSpanId : c155158ff6b88430          the process span
//! …
//!     Name         : process example-orders
//!     TraceId      : 127067d1b40737f080562bdc07ef9988
//!     SpanId       : c155158ff6b88430
//!     ParentSpanId : c6878202898190a8          the send
//!     Kind         : Consumer
//! …
//!     Name         : commit example-orders
//!     TraceId      : 127067d1b40737f080562bdc07ef9988
//!     ParentSpanId : c155158ff6b88430          the process span
//!     Kind         : Client
//! ```

use std::{convert::Infallible, env, time::Duration};

use futures::StreamExt;
use opentelemetry::{
    Context, global,
    trace::{FutureExt, TraceContextExt, Tracer},
};
use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
use otel_rdkafka::{
    ClientConfig, Message,
    consumer::{CommitMode, Consumer, StreamConsumer},
    error::KafkaError,
    otel::MessageExt,
    producer::{FutureProducer, FutureRecord},
};

const TOPIC: &str = "example-orders";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let spans = install_opentelemetry();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", env::var("KAFKA").unwrap_or_else(|_| "localhost:9092".to_owned()));

    let request = Context::current_with_span(global::tracer("shop").start("request"));
    produce(&config).with_context(request.clone()).await?;
    request.span().end();
    consume(&config).await?;

    spans.shutdown()?;
    Ok(())
}

/// As without OpenTelemetry: the span is a child of the current one, and ends when the broker has answered.
async fn produce(config: &ClientConfig) -> Result<(), KafkaError> {
    let producer: FutureProducer = config.create()?;
    let record = FutureRecord::to(TOPIC).key("4711").payload("four apples");
    let delivery = producer.send(record, Duration::from_secs(5)).await.map_err(|(error, _record)| error)?;
    println!("sent to partition {}, offset {}", delivery.partition, delivery.offset);
    Ok(())
}

/// One line around the handler: what it does belongs to the message's process span, a child of the send.
async fn consume(config: &ClientConfig) -> Result<(), KafkaError> {
    let consumer: StreamConsumer =
        config.clone().set("group.id", "example-packing").set("auto.offset.reset", "earliest").create()?;
    consumer.subscribe(&[TOPIC])?;
    if let Some(message) = consumer.stream().next().await {
        let message = message?;
        let Ok(()) = message.process(|| pack(message.payload().unwrap_or_default())).await;
        consumer.commit_message(&message, CommitMode::Sync)?;
    }
    Ok(())
}

async fn pack(order: &[u8]) -> Result<(), Infallible> {
    global::tracer("packing").in_span("pack", |_| println!("packing {}", String::from_utf8_lossy(order)));
    Ok(())
}

/// Once in a service; every client follows it. A real service exports in batches, by OTLP.
fn install_opentelemetry() -> SdkTracerProvider {
    let spans =
        SdkTracerProvider::builder().with_simple_exporter(opentelemetry_stdout::SpanExporter::default()).build();
    global::set_tracer_provider(spans.clone());
    global::set_text_map_propagator(TraceContextPropagator::new());
    spans
}
