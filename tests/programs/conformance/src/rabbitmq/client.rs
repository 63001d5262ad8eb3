//! A connection of lapin with one channel that confirms, and a queue.

use std::{
    collections::HashMap,
    future::Future,
    time::{SystemTime, UNIX_EPOCH},
};

use futures::{StreamExt, stream::LocalBoxStream};
use otel_lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions,
        ConfirmSelectOptions, QueueDeclareOptions,
    },
    otel::Creator,
    types::{AMQPValue, FieldTable},
};
use otel_messaging::Instrumentation;

use crate::{client::Client, scenarios::next, stage::Stage};

pub(super) const ACK: BasicAckOptions = BasicAckOptions { multiple: false };

pub(super) struct Rabbit {
    pub(super) connection: Connection,
    pub(super) channel: Channel,
    pub(super) queue: String,
}

impl Rabbit {
    pub(super) async fn with_queue<const N: usize>(
        stage: &Stage,
        instrumentation: Instrumentation,
        arguments: [(&str, AMQPValue); N],
    ) -> Self {
        let connection = Connection::connect(&stage.address, ConnectionProperties::default()).await.expect("connected");
        let connection = connection.with_instrumentation(instrumentation);
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("it confirms");
        let rabbit = Self { connection, channel, queue: stage.name("orders") };
        rabbit.declare(&rabbit.queue, arguments).await;
        rabbit
    }

    pub(super) async fn declare<const N: usize>(&self, queue: &str, arguments: [(&str, AMQPValue); N]) {
        let mut arguments = table(arguments);
        arguments.insert("x-expires".into(), AMQPValue::LongInt(60_000));
        let declared = self.channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await;
        declared.expect("declared");
    }

    pub(super) async fn declare_exclusive(&self) -> String {
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare("".into(), options, FieldTable::default()).await.expect("declared");
        declared.name().as_str().to_owned()
    }

    pub(super) async fn publish(&self) {
        self.publish_with(BasicProperties::default()).await;
    }

    pub(super) async fn publish_with(&self, properties: BasicProperties) {
        self.send(&self.queue, properties).await;
    }

    pub(super) async fn get(&self) -> Delivery {
        let got = self.channel.basic_get(self.queue.as_str().into(), BasicGetOptions::default()).await;
        got.expect("an answer").expect("a message").delivery
    }

    pub(super) async fn consume(&self) -> Consumer {
        self.consume_from(&self.queue).await
    }

    pub(super) async fn consume_from(&self, queue: &str) -> Consumer {
        let options = BasicConsumeOptions::default();
        let consumer = self.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        consumer.await.expect("a consumer")
    }

    /// One delivery after another of one message.
    pub(super) async fn deliver_twice(&self) {
        self.publish().await;
        let mut deliveries = self.messages().await;
        let requeue = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        next(&mut deliveries).await.nack(requeue).await.expect("settled");
        next(&mut deliveries).await.ack(ACK).await.expect("settled");
    }
}

impl Client for Rabbit {
    type Message<'a> = Delivery;
    type Headers = BasicProperties;

    async fn connect(stage: &Stage, instrumentation: Instrumentation) -> Self {
        Self::with_queue(stage, instrumentation, []).await
    }

    fn orders(&self) -> &str {
        &self.queue
    }

    async fn make(&self, name: &str) {
        self.declare(name, []).await;
    }

    fn headers<'h>(entries: impl IntoIterator<Item = (&'h str, &'h str)>) -> BasicProperties {
        let mut headers = FieldTable::default();
        for (key, value) in entries {
            headers.insert(key.into(), AMQPValue::LongString(value.into()));
        }
        BasicProperties::default().with_headers(headers)
    }

    fn timestamped() -> BasicProperties {
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        BasicProperties::default().with_timestamp(timestamp.as_secs())
    }

    fn headers_of(message: &Delivery) -> BasicProperties {
        message.properties.clone()
    }

    fn create(instrumentation: Instrumentation, to: &str, context: &mut HashMap<String, String>) {
        Creator::new(instrumentation).create("", to, context);
    }

    fn send(&self, to: &str, properties: BasicProperties) -> impl Future<Output = ()> {
        let options = BasicPublishOptions::default();
        let publish = self.channel.basic_publish("".into(), to.into(), options, b"four apples", properties);
        async { drop(publish.await.expect("published").await.expect("confirmed")) }
    }

    async fn messages(&self) -> LocalBoxStream<'_, Delivery> {
        self.consume().await.map(|delivery| delivery.expect("a delivery")).boxed_local()
    }

    async fn settle(&self, delivery: &Self::Message<'_>) {
        delivery.ack(ACK).await.expect("settled");
    }

    async fn settle_together(&self, deliveries: &[Self::Message<'_>]) {
        deliveries.last().expect("some").ack(BasicAckOptions { multiple: true }).await.expect("settled");
    }

    async fn acknowledge(&self, delivery: &Self::Message<'_>) {
        self.settle(delivery).await;
    }

    async fn end(&self, delivery: &Self::Message<'_>) {
        self.settle(delivery).await;
    }

    /// To a queue that does not exist.
    async fn fail(stage: &Stage, instrumentation: Instrumentation) {
        let rabbit = Self::connect(stage, instrumentation).await;
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let to = stage.name("nowhere").as_str().into();
        let publish = rabbit.channel.basic_publish("".into(), to, mandatory, b"", BasicProperties::default());
        publish.await.expect("published").await.expect("confirmed, and returned");
    }
}

pub(super) fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

pub(super) fn long_string(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}
