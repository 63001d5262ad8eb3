//! rdkafka's clients, on topics of one partition.

use std::{collections::HashMap, future::Future, time::Duration};

use futures::{FutureExt, StreamExt, stream::LocalBoxStream};
use otel_messaging::Instrumentation;
use otel_rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer, ConsumerContext, StreamConsumer},
    message::{BorrowedMessage, Header, OwnedHeaders},
    otel::{
        Creator, MessageExt,
        raw::{
            admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
            message::Message,
        },
    },
    producer::{FutureProducer, FutureRecord},
};

use crate::{client::Client, stage::Stage};

pub(super) const WAIT: Duration = Duration::from_secs(20);

/// Sends and receives by one instrumentation.
pub(crate) struct Kafka {
    config: ClientConfig,
    pub(super) producer: FutureProducer,
    pub(super) consumer: StreamConsumer,
    pub(super) topic: String,
}

impl Kafka {
    pub(super) async fn on(stage: &Stage, topic: String, instrumentation: Instrumentation) -> Self {
        make_topic(&config(stage), new_topic(&topic)).await;
        let producer: FutureProducer = config(stage).create().expect("a producer");
        let consumer: StreamConsumer = consumer_config(stage).create().expect("a consumer");
        assign(&consumer, &topic, Offset::Beginning);
        let producer = producer.with_instrumentation(instrumentation.clone());
        Self { config: config(stage), producer, consumer: consumer.with_instrumentation(instrumentation), topic }
    }

    pub(super) async fn send_record(&self, record: FutureRecord<'_, str, str>) {
        self.producer.send(record, WAIT).await.expect("delivered");
    }

    pub(super) async fn send_order(&self) {
        self.send_record(record(&self.topic)).await;
    }

    pub(super) async fn next(&self) -> BorrowedMessage<'_> {
        self.consumer.recv().await.expect("a message")
    }
}

impl Client for Kafka {
    type Message<'a> = BorrowedMessage<'a>;
    type Headers = OwnedHeaders;

    async fn connect(stage: &Stage, instrumentation: Instrumentation) -> Self {
        Self::on(stage, stage.name("orders"), instrumentation).await
    }

    fn orders(&self) -> &str {
        &self.topic
    }

    async fn make(&self, name: &str) {
        make_topic(&self.config, new_topic(name)).await;
    }

    fn headers<'h>(entries: impl IntoIterator<Item = (&'h str, &'h str)>) -> OwnedHeaders {
        let headers = entries.into_iter().map(|(key, value)| Header { key, value: Some(value) });
        headers.fold(OwnedHeaders::new(), OwnedHeaders::insert)
    }

    fn headers_of(message: &BorrowedMessage<'_>) -> OwnedHeaders {
        message.headers().expect("a context").detach()
    }

    fn create(instrumentation: Instrumentation, to: &str, context: &mut HashMap<String, String>) {
        Creator::new(instrumentation).create(to, context);
    }

    fn send(&self, to: &str, headers: OwnedHeaders) -> impl Future<Output = ()> {
        let sent = self.producer.send(record(to).headers(headers), WAIT);
        sent.map(|sent| assert!(sent.is_ok(), "{sent:?}"))
    }

    async fn messages(&self) -> LocalBoxStream<'_, BorrowedMessage<'_>> {
        self.consumer.stream().map(|message| message.expect("a message")).boxed_local()
    }

    async fn settle(&self, message: &Self::Message<'_>) {
        self.consumer.commit_message(message, CommitMode::Sync).expect("committed");
    }

    async fn settle_together(&self, messages: &[Self::Message<'_>]) {
        self.settle(messages.last().expect("a message")).await;
    }

    async fn end(&self, message: &Self::Message<'_>) {
        MessageExt::end(message);
    }

    /// No broker is there.
    async fn fail(stage: &Stage, instrumentation: Instrumentation) {
        let mut config = config(stage);
        config.set("bootstrap.servers", "127.0.0.1:1").set("message.timeout.ms", "1").set("log_level", "0");
        let producer: FutureProducer = config.create().expect("a producer");
        let producer = producer.with_instrumentation(instrumentation);
        producer.send(record(&stage.name("orders")), WAIT).await.expect_err("no broker");
    }
}

pub(super) fn config(stage: &Stage) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &*stage.address).set("client.id", "shop");
    config
}

pub(super) fn consumer_config(stage: &Stage) -> ClientConfig {
    let mut config = config(stage);
    let group = stage.name("payment");
    config.set("group.id", group).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    config
}

pub(super) fn new_topic(name: &str) -> NewTopic<'_> {
    NewTopic::new(name, 1, TopicReplication::Fixed(1))
}

pub(super) async fn make_topic(config: &ClientConfig, topic: NewTopic<'_>) {
    let admin: AdminClient<_> = config.create().expect("an admin client");
    let made = admin.create_topics([&topic], &AdminOptions::new()).await.expect("an answer");
    made.into_iter().for_each(|made| assert!(made.is_ok(), "{made:?}"));
}

/// The whole topic, without the rebalancing of a group.
pub(super) fn assign<C: ConsumerContext + 'static>(consumer: &impl Consumer<C>, topic: &str, offset: Offset) {
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(topic, 0, offset).expect("an offset");
    consumer.assign(&all).expect("assigned");
}

pub(super) fn record(topic: &str) -> FutureRecord<'_, str, str> {
    FutureRecord::to(topic).key("4711").payload("four apples")
}
