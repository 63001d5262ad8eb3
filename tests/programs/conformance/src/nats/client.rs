//! Connections of async-nats: one with a subject, and one with a stream of JetStream.

use std::{collections::HashMap, future::Future};

use futures::{StreamExt, stream::LocalBoxStream};
use otel_async_nats::{
    Client as Connection, ConnectOptions, HeaderMap, Message, Subscriber,
    jetstream::{
        self,
        consumer::{PullConsumer, pull, push},
        stream,
    },
    otel::Creator,
};
use otel_messaging::Instrumentation;

use crate::{client::Client, stage::Stage};

pub(super) async fn connection(stage: &Stage, instrumentation: Instrumentation) -> Connection {
    let options = ConnectOptions::new().name("shop").with_instrumentation(instrumentation);
    options.connect(&*stage.address).await.expect("the server is there")
}

fn headers<'h>(entries: impl IntoIterator<Item = (&'h str, &'h str)>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    entries.into_iter().for_each(|(name, value)| headers.insert(name, value));
    headers
}

/// Headers with a message's id, and one to capture.
pub(super) fn identified(id: &str) -> HeaderMap {
    headers([("Nats-Msg-Id", id), ("x-tenant", "blue")])
}

pub(super) struct Nats {
    pub(super) connection: Connection,
    pub(super) subject: String,
}

impl Nats {
    pub(super) async fn on(stage: &Stage, subject: &str, instrumentation: Instrumentation) -> Self {
        Self { connection: connection(stage, instrumentation).await, subject: stage.name(subject) }
    }

    pub(super) async fn subscribe(&self) -> Subscriber {
        self.connection.subscribe(self.subject.clone()).await.expect("subscribed")
    }
}

impl Client for Nats {
    type Message<'a> = Message;
    type Headers = HeaderMap;

    async fn connect(stage: &Stage, instrumentation: Instrumentation) -> Self {
        Self::on(stage, "orders", instrumentation).await
    }

    fn orders(&self) -> &str {
        &self.subject
    }

    fn headers<'h>(entries: impl IntoIterator<Item = (&'h str, &'h str)>) -> HeaderMap {
        headers(entries)
    }

    fn headers_of(message: &Message) -> HeaderMap {
        message.headers.clone().expect("a context")
    }

    fn create(instrumentation: Instrumentation, to: &str, context: &mut HashMap<String, String>) {
        Creator::new(instrumentation).create(to, context);
    }

    fn send(&self, to: &str, headers: HeaderMap) -> impl Future<Output = ()> {
        let publish = self.connection.publish_with_headers(to.to_owned(), headers, "four apples".into());
        async { publish.await.expect("published") }
    }

    async fn messages(&self) -> LocalBoxStream<'_, Message> {
        self.subscribe().await.boxed_local()
    }

    async fn fail(stage: &Stage, instrumentation: Instrumentation) {
        let connection = connection(stage, instrumentation).await;
        connection.request(stage.name("stock"), "apples?".into()).await.expect_err("no responder");
    }
}

/// A stream, and a durable consumer of it.
pub(super) struct JetStream {
    pub(super) connection: Connection,
    pub(super) context: jetstream::Context,
    pub(super) stream: stream::Stream,
    pub(super) consumer: PullConsumer,
    pub(super) subject: String,
}

impl JetStream {
    /// Messages of the raw client, so that only the consumer emits spans.
    pub(super) async fn with(self, count: usize) -> Self {
        for number in 0..count {
            let publish = self.context.get_ref().publish(self.subject.clone(), number.to_string().into());
            publish.await.expect("published").await.expect("acknowledged");
        }
        self
    }

    /// A message of the raw client with these headers.
    pub(super) async fn put(&self, headers: HeaderMap) {
        let publish = self.context.get_ref().publish_with_headers(self.subject.clone(), headers, "four".into());
        publish.await.expect("published").await.expect("acknowledged");
    }

    pub(super) async fn publish(&self) {
        self.send(&self.subject, HeaderMap::new()).await;
    }

    pub(super) async fn fetch(&self, count: usize) -> Vec<jetstream::Message> {
        fetch(&self.consumer, count).await
    }

    /// The only message that is fetched by a consumer with this configuration.
    pub(super) async fn fetch_by(&self, config: pull::Config) -> jetstream::Message {
        let consumer = self.stream.create_consumer(config).await.expect("created");
        fetch(&consumer, 1).await.remove(0)
    }

    /// The messages that the server pushes to a group, of the subjects of a filter.
    pub(super) async fn pushed(&self, stage: &Stage, filter: String) -> LocalBoxStream<'_, jetstream::Message> {
        let config = push::Config {
            durable_name: Some("pushed".to_owned()),
            deliver_subject: stage.name("deliver"),
            deliver_group: Some("payment".to_owned()),
            filter_subject: filter,
            ..Default::default()
        };
        let consumer = self.stream.create_consumer(config).await.expect("created");
        let messages = consumer.messages().await.expect("messages");
        messages.map(|message| message.expect("a message")).boxed_local()
    }
}

pub(super) async fn fetch(consumer: &PullConsumer, count: usize) -> Vec<jetstream::Message> {
    let batch = consumer.batch().max_messages(count).messages().await.expect("a batch");
    batch.map(|message| message.expect("a message")).collect().await
}

impl Client for JetStream {
    type Message<'a> = jetstream::Message;
    type Headers = HeaderMap;

    async fn connect(stage: &Stage, instrumentation: Instrumentation) -> Self {
        let connection = connection(stage, instrumentation).await;
        let context = jetstream::new(connection.clone());
        let name = stage.name("S");
        let config = stream::Config { name: name.clone(), subjects: vec![format!("{name}.>")], ..Default::default() };
        let stream = context.create_stream(config).await.expect("created");
        let consumer = stream.create_consumer(durable("shipping")).await.expect("created");
        Self { connection, context, stream, consumer, subject: format!("{name}.paid") }
    }

    fn orders(&self) -> &str {
        &self.subject
    }

    fn headers<'h>(entries: impl IntoIterator<Item = (&'h str, &'h str)>) -> HeaderMap {
        headers(entries)
    }

    fn headers_of(message: &jetstream::Message) -> HeaderMap {
        Nats::headers_of(message)
    }

    fn create(instrumentation: Instrumentation, to: &str, context: &mut HashMap<String, String>) {
        Nats::create(instrumentation, to, context);
    }

    fn send(&self, to: &str, headers: HeaderMap) -> impl Future<Output = ()> {
        let publish = self.context.publish_with_headers(to.to_owned(), headers, "four apples".into());
        async { drop(publish.await.expect("published").await.expect("acknowledged")) }
    }

    async fn messages(&self) -> LocalBoxStream<'_, jetstream::Message> {
        let messages = self.consumer.messages().await.expect("messages");
        messages.map(|message| message.expect("a message")).boxed_local()
    }

    async fn receive_with(&self, count: usize, headers: HeaderMap) -> Vec<jetstream::Message> {
        for _ in 0..count {
            self.send(&self.subject, headers.clone()).await;
        }
        self.fetch(count).await
    }

    async fn settle(&self, message: &Self::Message<'_>) {
        message.ack().await.expect("settled");
    }

    async fn fail(stage: &Stage, instrumentation: Instrumentation) {
        Nats::fail(stage, instrumentation).await;
    }
}

pub(super) fn durable(name: &str) -> pull::Config {
    pull::Config { durable_name: Some(name.to_owned()), ..Default::default() }
}
