//! Where a process span stands, by the policy, what was current, and what the message brought: the table is `support`'s.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lapin::{
    BasicProperties,
    options::{BasicGetOptions, BasicRejectOptions},
    types::{AMQPValue, FieldTable},
};
use otel_lapin::{Channel, Consumer, message::Delivery};
use support::{
    DEADLINE,
    correlation::{self, Given, Message, check},
};

use crate::harness::{Rabbit, consume, long, next, table};

/// A queue of its own, which the raw client sends to.
struct Queue {
    rabbit: Rabbit,
    name: String,
    /// What expires here is dead-lettered to the queue.
    parked: String,
    source: Source,
}

/// What delivers the messages.
enum Source {
    Consumer(Consumer),
    Gets(Channel),
}

/// Where the instrumentation of the column's policy is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Connection,
    Channel,
    Consumer,
    /// The channel, and there is no consumer.
    Gets,
}

impl Queue {
    async fn of(Given { sdk, own, other }: Given, to: To) -> Self {
        let rabbit = Rabbit::with(sdk, if to == To::Connection { own.clone() } else { other }).await;
        let name = rabbit.queue("orders").await;
        let dead_letters = table([
            ("x-message-ttl", AMQPValue::LongInt(1)),
            ("x-dead-letter-exchange", long("")),
            ("x-dead-letter-routing-key", long(&name)),
        ]);
        let parked = rabbit.queue_with("parked", dead_letters).await;
        let channel = rabbit.channel.clone();
        let source = match to {
            To::Connection => Source::Consumer(consume(&channel, &name).await),
            To::Channel => Source::Consumer(consume(&channel.with_instrumentation(own), &name).await),
            To::Consumer => Source::Consumer(consume(&channel, &name).await.with_instrumentation(own)),
            To::Gets => Source::Gets(channel.with_instrumentation(own)),
        };
        Self { rabbit, name, parked, source }
    }

    async fn take(&mut self) -> Delivery {
        let channel = match &mut self.source {
            Source::Consumer(consumer) => return next(consumer).await,
            Source::Gets(channel) => channel,
        };
        let deadline = Instant::now() + DEADLINE;
        loop {
            let got = channel.basic_get(self.name.as_str().into(), BasicGetOptions::default()).await.unwrap();
            if let Some(message) = got {
                return message.delivery;
            }
            assert!(Instant::now() < deadline, "no message");
        }
    }
}

impl correlation::Consumer for Queue {
    type Message = Delivery;

    async fn make(&mut self, message: Message, headers: &[(&str, String)]) {
        let mut all = FieldTable::default();
        for (name, value) in headers {
            // Some clients write bytes.
            let bytes = || AMQPValue::ByteArray(value.clone().into_bytes().into());
            all.insert((*name).into(), if message == Message::Foreign { bytes() } else { long(value) });
        }
        let mut properties = BasicProperties::default();
        if message != Message::Absent {
            properties = properties.with_headers(all);
        }
        if message == Message::Old {
            let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - Duration::from_secs(2 * 3_600);
            properties = properties.with_timestamp(at.as_secs());
        }
        // Never delivered before, so that this alone is the past of a dead letter.
        let to = if message == Message::DeadLettered { &self.parked } else { &self.name };
        self.rabbit.publish_raw(to, b"four apples", properties).await;
        if message == Message::Redelivered {
            let back = self.take().await.into_inner();
            assert!(back.reject(BasicRejectOptions { requeue: true }).await.unwrap());
        }
    }

    async fn next(&mut self, message: Message) -> Delivery {
        let delivery = self.take().await;
        assert_eq!(delivery.redelivered, message == Message::Redelivered);
        let died = |headers: &FieldTable| matches!(headers.inner().get("x-death"), Some(AMQPValue::FieldArray(_)));
        assert_eq!(delivery.properties.headers().as_ref().is_some_and(died), message == Message::DeadLettered);
        delivery
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connections_policy_decides() {
    check("RabbitMQ", async |given| Queue::of(given, To::Connection).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channels_policy_decides() {
    check("RabbitMQ", async |given| Queue::of(given, To::Channel).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumers_policy_decides() {
    check("RabbitMQ", async |given| Queue::of(given, To::Consumer).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channels_policy_decides_for_basic_get() {
    check("RabbitMQ", async |given| Queue::of(given, To::Gets).await).await;
}
