//! One message there and back: a producer and a consumer, their spans on stdout.
//!
//! With a nats-server that has JetStream (`nats-server -js`) on `localhost:4222`, or wherever `NATS` says:
//!
//! ```text
//! $ cargo run -p example-async-nats
//! …
//!     Name         : publish example.orders.new
//!     TraceId      : 6609f1ee09f92fd87d796afa16de3e94
//!     SpanId       : 46cf9f841fbb3f5c
//!     ParentSpanId : 68f0cccfbe8c198b          the request
//!     Kind         : Producer
//! …
//! stored in example-orders as 1
//! …
//! packing four apples
//! …
//!     Name         : pack
//!     TraceId      : 6609f1ee09f92fd87d796afa16de3e94
//!     ParentSpanId : 79a1fa97cc40490b          the process span
//! …
//!     Name         : process example.orders.new
//!     TraceId      : 6609f1ee09f92fd87d796afa16de3e94
//!     SpanId       : 79a1fa97cc40490b
//!     ParentSpanId : 46cf9f841fbb3f5c          the publish
//!     Kind         : Consumer
//! …
//!     Name         : ack example.orders.new
//!     TraceId      : 6609f1ee09f92fd87d796afa16de3e94
//!     ParentSpanId : 79a1fa97cc40490b          the process span
//!     Kind         : Client
//! ```

use std::{convert::Infallible, env};

use futures::StreamExt;
use opentelemetry::{
    Context, global,
    trace::{FutureExt, TraceContextExt, Tracer},
};
use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
use otel_async_nats::{
    Error,
    jetstream::{self, consumer::pull, stream},
    otel::MessageExt,
};

const STREAM: &str = "example-orders";
const SUBJECT: &str = "example.orders.new";

#[tokio::main]
async fn main() -> Result<(), Error> {
    let spans = install_opentelemetry();
    let client = otel_async_nats::connect(env::var("NATS").unwrap_or_else(|_| "localhost:4222".to_owned())).await?;
    let context = jetstream::new(client);
    let subjects = vec!["example.orders.>".to_owned()];
    let config = stream::Config { name: STREAM.to_owned(), subjects, ..Default::default() };
    let stream = context.get_or_create_stream(config).await?;

    let request = Context::current_with_span(global::tracer("shop").start("request"));
    produce(&context).with_context(request.clone()).await?;
    request.span().end();
    consume(&stream).await?;

    spans.shutdown()?;
    Ok(())
}

/// As without OpenTelemetry: the span is a child of the current one, and ends when the stream has answered.
async fn produce(context: &jetstream::Context) -> Result<(), Error> {
    let ack = context.publish(SUBJECT, "four apples".into()).await?.await?;
    println!("stored in {} as {}", ack.stream, ack.sequence);
    Ok(())
}

/// One line around the handler: what it does belongs to the message's process span, a child of the publish.
async fn consume(stream: &stream::Stream) -> Result<(), Error> {
    let config = pull::Config { durable_name: Some("packing".to_owned()), ..Default::default() };
    let consumer = stream.get_or_create_consumer("packing", config).await?;
    if let Some(message) = consumer.messages().await?.next().await {
        let message = message?;
        let Ok(()) = message.process(|| pack(&message.payload)).await;
        message.ack().await?;
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
