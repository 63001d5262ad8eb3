//! A broker for all tests of this process, and one traced client for each test.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use brokers::RabbitMq;
use futures::StreamExt;
use lapin::{
    BasicProperties, ConnectionProperties, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
        QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, LongString},
};
use opentelemetry_sdk::trace::SpanData;
use otel_lapin::{
    Channel, Connection, Consumer,
    message::{BasicReturnMessage, Delivery},
};
use otel_messaging::Instrumentation;
use support::{DEADLINE, Sdk};

/// The scope of every span of ours.
pub(crate) const SCOPE: &str = "scope otel-lapin https://opentelemetry.io/schemas/1.44.0";

pub(crate) fn uri() -> &'static str {
    static BROKER: OnceLock<RabbitMq> = OnceLock::new();
    &BROKER.get_or_init(|| RabbitMq::start().expect("RabbitMQ starts")).uri
}

/// A name that no other test and no other run has.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// One test's client: ours, and a raw one beside it.
pub(crate) struct Rabbit {
    pub(crate) sdk: Sdk,
    pub(crate) instrumentation: Instrumentation,
    pub(crate) connection: Connection,
    pub(crate) channel: Channel,
    pub(crate) raw: lapin::Channel,
    _raw_connection: lapin::Connection,
}

impl Rabbit {
    pub(crate) async fn new() -> Self {
        let sdk = Sdk::new();
        let instrumentation = sdk.instrumentation();
        Self::with(sdk, instrumentation).await
    }

    pub(crate) async fn with(sdk: Sdk, instrumentation: Instrumentation) -> Self {
        let connection = Connection::connect(uri(), ConnectionProperties::default())
            .await
            .expect("the broker is there")
            .with_instrumentation(instrumentation.clone());
        let channel = connection.create_channel().await.unwrap();
        let raw_connection = lapin::Connection::connect(uri(), ConnectionProperties::default()).await.unwrap();
        let raw = raw_connection.create_channel().await.unwrap();
        // So that what it published is there.
        raw.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { sdk, instrumentation, connection, channel, raw, _raw_connection: raw_connection }
    }

    /// With spans, metrics and events.
    pub(crate) async fn with_all_signals() -> Self {
        let sdk = Sdk::new();
        let instrumentation = sdk.all_signals_builder().build();
        Self::with(sdk, instrumentation).await
    }

    /// With publisher confirms.
    pub(crate) async fn confirming() -> Self {
        let rabbit = Self::new().await;
        rabbit.channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        rabbit
    }

    /// Declares a queue, which goes away when nobody uses it for a minute.
    pub(crate) async fn queue(&self, name: &str) -> String {
        self.queue_with(name, FieldTable::default()).await
    }

    pub(crate) async fn queue_with(&self, name: &str, mut arguments: FieldTable) -> String {
        let queue = unique(name);
        arguments.insert("x-expires".into(), AMQPValue::LongInt(60_000));
        self.raw.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
        queue
    }

    /// Declares a topic exchange with a queue for everything.
    pub(crate) async fn exchange(&self, name: &str, queue: &str) -> String {
        let exchange = unique(name);
        let options = ExchangeDeclareOptions { auto_delete: true, ..ExchangeDeclareOptions::default() };
        self.raw
            .exchange_declare(exchange.as_str().into(), ExchangeKind::Topic, options, FieldTable::default())
            .await
            .unwrap();
        self.raw
            .queue_bind(
                queue.into(),
                exchange.as_str().into(),
                "#".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        exchange
    }

    /// Publishes through ours and waits for the answer, if there is to be one.
    pub(crate) async fn publish(&self, queue: &str, payload: &[u8], properties: BasicProperties) {
        self.channel
            .basic_publish("".into(), queue.into(), BasicPublishOptions::default(), payload, properties)
            .await
            .unwrap()
            .await
            .unwrap();
    }

    /// Publishes through the raw client.
    pub(crate) async fn publish_raw(&self, queue: &str, payload: &[u8], properties: BasicProperties) {
        self.raw
            .basic_publish("".into(), queue.into(), BasicPublishOptions::default(), payload, properties)
            .await
            .unwrap()
            .await
            .unwrap();
    }

    /// What is on the queue, as the raw client sees it.
    pub(crate) async fn take_raw(&self, queue: &str) -> lapin::message::Delivery {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let message = self.raw.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap();
            if let Some(message) = message {
                return message.delivery;
            }
            assert!(Instant::now() < deadline, "no message on {queue}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until lapin has told everybody of what the broker answered so far: with several answers in one frame, one
    /// future may know before the other.
    pub(crate) async fn round_trip(&self, queue: &str) {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap();
    }

    /// Calls `wait_for_confirms` until so many spans have ended, and gives what came back. lapin waits for the answer to the
    /// last publish only, which may come before those to others.
    pub(crate) async fn wait_for_confirms(&self, spans: usize) -> Vec<BasicReturnMessage> {
        let deadline = Instant::now() + DEADLINE;
        let mut returned = Vec::new();
        loop {
            returned.extend(self.channel.wait_for_confirms().await.unwrap());
            if self.sdk.spans().len() >= spans {
                return returned;
            }
            assert!(Instant::now() < deadline, "too few of {spans} spans:\n{}", self.described());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn consume(&self, queue: &str) -> Consumer {
        consume(&self.channel, queue).await
    }

    /// All spans that have ended, as text, with the broker's address as `HOST` and `PORT`.
    pub(crate) fn described(&self) -> String {
        normalised(&self.sdk.described())
    }

    /// What was measured so far by this metric: its attributes and the count, without what is the same for all.
    pub(crate) fn measured(&self, metric: &str) -> Vec<String> {
        let all = normalised(&self.sdk.measured());
        let lines = all.lines().filter_map(|line| line.strip_prefix(metric)?.split_once("] "));
        lines
            .map(|(_, line)| {
                line.replace(", messaging.system = \"rabbitmq\"", "")
                    .replace(", server.address = HOST, server.port = PORT", "")
            })
            .collect()
    }

    /// Waits for so many spans and gives them as text.
    pub(crate) fn describe(&self, count: usize) -> String {
        normalised(&support::describe(&self.sdk.wait_for(count)))
    }
}

pub(crate) async fn consume(channel: &Channel, queue: &str) -> Consumer {
    channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await.unwrap()
}

/// The next message, in time.
pub(crate) async fn next(consumer: &mut Consumer) -> Delivery {
    tokio::time::timeout(DEADLINE, consumer.next()).await.expect("a message in time").unwrap().unwrap()
}

/// What the spans say of the server that ask it for something, where its address is one of the network.
pub(crate) fn at_peer() -> &'static str {
    let uri: lapin::uri::AMQPUri = uri().parse().unwrap();
    match uri.authority.host.parse::<std::net::IpAddr>() {
        Ok(_) => "  network.peer.address = HOST\n  network.peer.port = PORT\n",
        Err(_) => "",
    }
}

fn normalised(described: &str) -> String {
    let uri: lapin::uri::AMQPUri = uri().parse().unwrap();
    described
        .replace(&format!("network.peer.address = {:?}", uri.authority.host), "network.peer.address = HOST")
        .replace(&format!("network.peer.port = {}", uri.authority.port), "network.peer.port = PORT")
        .replace(&format!("server.address = {:?}", uri.authority.host), "server.address = HOST")
        .replace(&format!("server.port = {}", uri.authority.port), "server.port = PORT")
}

pub(crate) fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

pub(crate) fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

/// The header that carries a span's context.
pub(crate) fn traceparent(span: &SpanData) -> AMQPValue {
    traceparent_of(&span.span_context)
}

pub(crate) fn traceparent_of(span: &opentelemetry::trace::SpanContext) -> AMQPValue {
    long(&format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags()))
}

/// The spans of this name.
pub(crate) fn named<'a>(spans: &'a [SpanData], name: &str) -> Vec<&'a SpanData> {
    spans.iter().filter(|span| span.name == name).collect()
}
