//! One message there and back: a producer and a consumer, their spans on stdout.
//!
//! With a RabbitMQ on `localhost:5672`, or wherever `AMQP` says:
//!
//! ```text
//! $ cargo run -p example-lapin
//! …
//!     Name         : publish example-orders
//!     TraceId      : fbaa02e26818b41e4f9b4f2e1f1a413e
//!     SpanId       : 64678d82aaa56cd8
//!     ParentSpanId : e9d0c10cd68a5348          the request
//!     Kind         : Producer
//! …
//! confirmed: true
//! …
//! packing four apples
//! …
//!     Name         : pack
//!     TraceId      : fbaa02e26818b41e4f9b4f2e1f1a413e
//!     ParentSpanId : fca9ec750a3abdb7          the process span
//! …
//!     Name         : process example-orders
//!     TraceId      : fbaa02e26818b41e4f9b4f2e1f1a413e
//!     SpanId       : fca9ec750a3abdb7
//!     ParentSpanId : 64678d82aaa56cd8          the publish
//!     Kind         : Consumer
//! …
//!     Name         : ack example-orders
//!     TraceId      : fbaa02e26818b41e4f9b4f2e1f1a413e
//!     ParentSpanId : fca9ec750a3abdb7          the process span
//!     Kind         : Client
//! ```

use std::{convert::Infallible, env};

use futures::StreamExt;
use opentelemetry::{
    Context, global,
    trace::{FutureExt, TraceContextExt, Tracer},
};
use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
use otel_lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    otel::MessageExt,
    types::FieldTable,
};

const QUEUE: &str = "example-orders";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let spans = install_opentelemetry();
    let uri = env::var("AMQP").unwrap_or_else(|_| "amqp://localhost:5672".to_owned());
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    channel.queue_declare(QUEUE.into(), QueueDeclareOptions::durable(), FieldTable::default()).await?;

    let request = Context::current_with_span(global::tracer("shop").start("request"));
    produce(&channel).with_context(request.clone()).await?;
    request.span().end();
    consume(&channel).await?;

    connection.close(200, "done".into()).await?;
    spans.shutdown()?;
    Ok(())
}

/// As without OpenTelemetry: the span is a child of the current one, and ends when the broker has answered.
async fn produce(channel: &Channel) -> otel_lapin::Result<()> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let confirm =
        channel.basic_publish("".into(), QUEUE.into(), options, b"four apples", BasicProperties::default()).await?;
    println!("confirmed: {}", confirm.await?.is_ack());
    Ok(())
}

/// One line around the handler: what it does belongs to the message's process span, a child of the publish.
async fn consume(channel: &Channel) -> otel_lapin::Result<()> {
    let mut orders =
        channel.basic_consume(QUEUE.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await?;
    if let Some(order) = orders.next().await {
        let order = order?;
        let Ok(()) = order.process(|| pack(&order.data)).await;
        order.ack(BasicAckOptions::default()).await?;
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
