//! An outbox: an order is stored by one run of this program, sent by the next, received by a third, and is one trace.
//!
//! With a RabbitMQ on `localhost:5672`, or wherever `AMQP` says. Orders wait in `outbox.jsonl`, or wherever `OUTBOX` says,
//! for the queue `example-outbox`, or what `QUEUE` says:
//!
//! ```text
//! $ cargo run -p example-outbox -- store "four apples"
//! …
//!     Name         : create example-outbox
//!     TraceId      : 9115b69251fd12ca57ae5099dceec551
//!     SpanId       : 4f7ed090496efa66
//!     ParentSpanId : 69fbd65692580903          the request
//!     Kind         : Producer
//! …
//! $ cat outbox.jsonl
//! {"headers":{"traceparent":"00-9115b69251fd12ca57ae5099dceec551-4f7ed090496efa66-01"},"order":"four apples"}
//! $ cargo run -p example-outbox -- send
//! …
//!     Name         : publish example-outbox
//!     TraceId      : 5050f7df293621c7be05b464e067c900          its own: who stored the order is long gone
//!     SpanId       : f21cd0c221525936
//!     ParentSpanId : None (root span)
//!     Kind         : Client                    the message keeps the context that it was stored with
//! …
//!     Links:
//!     Link #0
//!     TraceId: 9115b69251fd12ca57ae5099dceec551
//!     SpanId : 4f7ed090496efa66                the create
//! $ cargo run -p example-outbox -- receive
//! received four apples
//! …
//!     Name         : process example-outbox
//!     TraceId      : 9115b69251fd12ca57ae5099dceec551
//!     SpanId       : 587fbfcde9fa8d4c
//!     ParentSpanId : 4f7ed090496efa66          the create
//!     Kind         : Consumer
//! …
//! ```

use std::{
    collections::HashMap,
    env,
    error::Error,
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::PathBuf,
};

use futures::StreamExt;
use opentelemetry::{
    Context, global,
    propagation::Injector,
    trace::{TraceContextExt, Tracer},
};
use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
use otel_lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    otel::{Creator, HeaderInjector, MessageExt},
    types::FieldTable,
};
use serde::{Deserialize, Serialize};

/// One line of the outbox.
#[derive(Serialize, Deserialize)]
struct Stored {
    headers: HashMap<String, String>,
    order: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let spans = install_opentelemetry();
    let arguments: Vec<_> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["store", order] => store(order)?,
        ["send"] => send(&connected().await?).await?,
        ["receive"] => receive(&connected().await?).await?,
        _ => return Err("usage: example-outbox store ORDER | send | receive".into()),
    }
    spans.shutdown()?;
    Ok(())
}

/// No broker is needed: the create span is the message's, and its context is stored with the order, in one write as in one
/// transaction.
fn store(order: &str) -> Result<(), Box<dyn Error>> {
    let request = Context::current_with_span(global::tracer("shop").start("request"));
    let mut headers = HashMap::new();
    {
        let _current = request.clone().attach();
        Creator::default().create("", &queue(), &mut headers);
    }
    let line = serde_json::to_string(&Stored { headers, order: order.to_owned() })?;
    let _lock = lock()?;
    let mut outbox = File::options().create(true).append(true).open(outbox())?;
    outbox.write_all((line + "\n").as_bytes())?;
    outbox.sync_all()?;
    request.span().end();
    Ok(())
}

/// As without OpenTelemetry: the headers that were stored go with the message. What is confirmed leaves the outbox, so
/// that a crash before, or a second run at the same time, sends it twice rather than never.
async fn send(channel: &Channel) -> Result<(), Box<dyn Error>> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    loop {
        let stored = lock().and_then(|_lock| read())?;
        let Some((line, _)) = stored.split_once('\n') else { return Ok(()) };
        let Stored { headers, order } = serde_json::from_str(line)?;
        let mut table = FieldTable::default();
        headers.into_iter().for_each(|(name, value)| HeaderInjector::new(&mut table).set(&name, value));
        let properties = BasicProperties::default().with_headers(table);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirm = channel.basic_publish("".into(), queue().into(), options, order.as_bytes(), properties).await?;
        let confirmation = confirm.await?;
        if !confirmation.is_ack() || confirmation.take_message().is_some() {
            return Err("not taken: it stays in the outbox".into());
        }
        remove(line)?;
    }
}

/// Takes out what was sent. Other runs may have stored more meanwhile, or have sent the same.
fn remove(line: &str) -> io::Result<()> {
    let _lock = lock()?;
    let stored = read()?;
    let Some(rest) = stored.strip_prefix(line).and_then(|rest| rest.strip_prefix('\n')) else { return Ok(()) };
    // Replaced whole, so that a crash leaves one or the other.
    let next = outbox().with_extension("next");
    let mut file = File::create(&next)?;
    file.write_all(rest.as_bytes())?;
    file.sync_all()?;
    fs::rename(next, outbox())
}

fn read() -> io::Result<String> {
    match fs::read_to_string(outbox()) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        stored => stored,
    }
}

/// The outbox is this run's alone until the file is dropped. A file of its own, because the outbox is replaced.
fn lock() -> io::Result<File> {
    let lock = File::create(outbox().with_extension("lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// The process span belongs to the trace in which the order was stored.
async fn receive(channel: &Channel) -> Result<(), Box<dyn Error>> {
    let consume =
        channel.basic_consume(queue().into(), "".into(), BasicConsumeOptions::default(), FieldTable::default());
    if let Some(order) = consume.await?.next().await {
        let order = order?;
        order.in_scope(|| println!("received {}", String::from_utf8_lossy(&order.data)));
        order.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

fn queue() -> String {
    env::var("QUEUE").unwrap_or_else(|_| "example-outbox".to_owned())
}

fn outbox() -> PathBuf {
    env::var_os("OUTBOX").unwrap_or_else(|| "outbox.jsonl".into()).into()
}

async fn connected() -> otel_lapin::Result<Channel> {
    let uri = env::var("AMQP").unwrap_or_else(|_| "amqp://localhost:5672".to_owned());
    let channel = Connection::connect(&uri, ConnectionProperties::default()).await?.create_channel().await?;
    channel.queue_declare(queue().into(), QueueDeclareOptions::durable(), FieldTable::default()).await?;
    Ok(channel)
}

/// Once in a service; every client follows it. A real service exports in batches, by OTLP.
fn install_opentelemetry() -> SdkTracerProvider {
    let spans =
        SdkTracerProvider::builder().with_simple_exporter(opentelemetry_stdout::SpanExporter::default()).build();
    global::set_tracer_provider(spans.clone());
    global::set_text_map_propagator(TraceContextPropagator::new());
    spans
}
