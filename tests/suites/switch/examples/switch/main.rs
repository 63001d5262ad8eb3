//! Three messages through each of three brokers, written for the raw clients.
//!
//! The three lines below do what the rename does in `Cargo.toml`: from here on the clients' names mean our crates. With the
//! feature `raw` they are gone, and the same modules are built on the clients. What is printed is the same; spans are made
//! with ours only, and only where OpenTelemetry is installed.
//!
//! ```text
//! $ cargo run -p switch-tests --example switch -- KAFKA AMQP NATS some-name sdk
//! $ cargo run -p switch-tests --example switch --features raw -- KAFKA AMQP NATS some-name sdk
//! ```

#[cfg(not(feature = "raw"))]
extern crate otel_async_nats as async_nats;
#[cfg(not(feature = "raw"))]
extern crate otel_lapin as lapin;
#[cfg(not(feature = "raw"))]
extern crate otel_rdkafka as rdkafka;

mod kafka;
mod nats;
mod rabbitmq;

use std::{env, error::Error};

use conventions::Convention;
use opentelemetry::{
    Context, global,
    trace::{FutureExt, TraceContextExt, Tracer},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{InMemorySpanExporter, SdkTracerProvider},
};

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const PAYLOADS: [&str; 3] = ["four apples", "five pears", "six plums"];

#[tokio::main]
async fn main() -> Result {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [kafka, amqp, nats, name, sdk @ ..] = &arguments[..] else {
        return Err("usage: switch KAFKA AMQP NATS NAME [sdk]".into());
    };
    let exporter = InMemorySpanExporter::default();
    if !sdk.is_empty() {
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        global::set_tracer_provider(provider);
        global::set_text_map_propagator(TraceContextPropagator::new());
    }

    let order = Context::current_with_span(global::tracer("shop").start("order"));
    let all = async {
        kafka::run(kafka, name).await?;
        rabbitmq::run(amqp, name).await?;
        nats::run(nats, name).await
    };
    all.with_context(order.clone()).await?;
    order.span().end();

    let trace_id = order.span().span_context().trace_id();
    for span in exporter.get_finished_spans()? {
        let trace = if span.span_context.trace_id() == trace_id { "" } else { ", in another trace" };
        let name = span.name.replace(name, "NAME");
        eprintln!("{name} by {}{trace}", span.instrumentation_scope.name());
        let unknown = span.attributes.iter().filter_map(|one| Convention::get().knows(one.key.as_str()).err());
        unknown.for_each(|unknown| eprintln!("{name}: {unknown}"));
    }
    Ok(())
}
