//! Where a process span stands, by the policy, what was current, and what the message brought: the table is `support`'s.

use std::time::Duration;

use async_nats::HeaderMap;
use opentelemetry::SpanId;
use otel_async_nats::{
    Client, Subscriber,
    jetstream::{
        self, AckKind,
        consumer::{DeliverPolicy, PullConsumer, pull},
        stream::Stream,
    },
    otel::{AutoCorrelation, Correlation, IncomingJetStream, Instrumentation},
};
use support::{
    Sdk,
    correlation::{self, Given, Message, check},
};
use tokio::time::{Instant, sleep_until};

use crate::{connect_with, durable, next, stream_of, unique};

/// A stream of its own, which the raw client sends to.
struct Stored {
    context: jetstream::Context,
    stream: Stream,
    subject: String,
    /// Each consumer's own.
    own: Option<Instrumentation>,
    messages: pull::Stream,
}

/// Where the instrumentation of the column's policy is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Client,
    Context,
    Consumer,
}

impl Stored {
    async fn of(Given { own, other, .. }: Given, to: To) -> Self {
        let given = if to == To::Client { own.clone() } else { other };
        let context = jetstream::new(connect_with(given).await);
        let context = if to == To::Context { context.with_instrumentation(own.clone()) } else { context };
        let (stream, name) = stream_of(&context).await;
        let own = (to == To::Consumer).then_some(own);
        let messages = messages(&stream, DeliverPolicy::All, own.as_ref()).await;
        Self { context, stream, subject: format!("{name}.paid"), own, messages }
    }
}

/// What a new consumer gets.
async fn messages(stream: &Stream, deliver_policy: DeliverPolicy, own: Option<&Instrumentation>) -> pull::Stream {
    let config = pull::Config { durable_name: Some(unique("shipping")), deliver_policy, ..Default::default() };
    let consumer = stream.create_consumer(config).await.unwrap();
    let consumer = own.into_iter().cloned().fold(consumer, PullConsumer::with_instrumentation);
    consumer.messages().await.unwrap()
}

fn headers(all: &[(&str, String)]) -> Option<HeaderMap> {
    let all: HeaderMap = all.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    (!all.is_empty()).then_some(all)
}

impl correlation::Consumer for Stored {
    type Message = jetstream::Message;

    /// Nobody but the server says when a message was stored.
    const MAX_AGE: Option<Duration> = Some(Duration::from_millis(20));

    async fn make(&mut self, message: Message, all: &[(&str, String)]) {
        let (context, subject) = (self.context.get_ref(), self.subject.clone());
        let stored = match headers(all) {
            Some(headers) => context.publish_with_headers(subject, headers, "four apples".into()).await,
            None => context.publish(subject, "four apples".into()).await,
        };
        let stored = stored.unwrap().await.unwrap();
        match message {
            Message::Old => sleep_until(Instant::now() + 2 * Self::MAX_AGE.unwrap()).await,
            Message::Redelivered => next(&mut self.messages).await.unwrap().ack_with(AckKind::Nak(None)).await.unwrap(),
            Message::Replayed => {
                let from = DeliverPolicy::ByStartSequence { start_sequence: stored.sequence };
                self.messages = messages(&self.stream, from, self.own.as_ref()).await;
            }
            _ => (),
        }
    }

    async fn next(&mut self, message: Message) -> jetstream::Message {
        let next = next(&mut self.messages).await.unwrap();
        assert_eq!(next.info().unwrap().delivered, if message == Message::Redelivered { 2 } else { 1 });
        next
    }
}

#[tokio::test]
async fn a_clients_policy_decides_for_its_streams() {
    check("JetStream", async |given| Stored::of(given, To::Client).await).await;
}

#[tokio::test]
async fn a_jetstream_contexts_policy_decides() {
    check("JetStream", async |given| Stored::of(given, To::Context).await).await;
}

#[tokio::test]
async fn a_consumers_policy_decides() {
    check("JetStream", async |given| Stored::of(given, To::Consumer).await).await;
}

/// A subject of its own, which the raw client sends to.
struct Heard {
    client: Client,
    subject: String,
    subscriber: Subscriber,
}

impl Heard {
    async fn of(Given { own, other, .. }: Given, to: To) -> Self {
        let client = connect_with(if to == To::Client { own.clone() } else { other }).await;
        let subject = unique("orders");
        let subscriber = client.subscribe(subject.clone()).await.unwrap();
        let subscriber = if to == To::Client { subscriber } else { subscriber.with_instrumentation(own) };
        Self { client, subject, subscriber }
    }
}

impl correlation::Consumer for Heard {
    type Message = otel_async_nats::Message;

    async fn make(&mut self, _: Message, all: &[(&str, String)]) {
        let (client, subject) = (self.client.get_ref(), self.subject.clone());
        match headers(all) {
            Some(headers) => client.publish_with_headers(subject, headers, "four apples".into()).await.unwrap(),
            None => client.publish(subject, "four apples".into()).await.unwrap(),
        }
    }

    async fn next(&mut self, _: Message) -> otel_async_nats::Message {
        next(&mut self.subscriber).await
    }
}

#[tokio::test]
async fn a_clients_policy_decides_for_its_subscriptions() {
    check("core NATS", async |given| Heard::of(given, To::Client).await).await;
}

#[tokio::test]
async fn a_subscriptions_policy_decides() {
    check("core NATS", async |given| Heard::of(given, To::Consumer).await).await;
}

/// By the real threshold, which no test can wait for: the stream's time is put back in the reply subject that tells it.
#[tokio::test]
async fn auto_starts_a_new_trace_for_messages_older_than_an_hour() {
    let sdk = Sdk::new();
    let auto = sdk.instrumentation_builder().with_correlation(Correlation::Auto(AutoCorrelation::default())).build();
    let context = jetstream::new(connect_with(auto).await);
    let (stream, name) = stream_of(&context).await;
    let consumer = durable(&stream, "shipping").await;
    context.publish(format!("{name}.paid"), "1".into()).await.unwrap().await.unwrap();
    let publish = sdk.spans().pop().unwrap().span_context;
    let raw = next(&mut consumer.get_ref().messages().await.unwrap()).await.unwrap();
    let mut info = consumer.cached_info().clone();
    // Or all that is old would be a replay.
    info.config.deliver_policy = DeliverPolicy::New;
    let incoming = IncomingJetStream::of(&context.client(), &info);
    for (age, parent) in [(3_590, publish.span_id()), (3_601, SpanId::INVALID)] {
        let mut aged = raw.clone();
        let mut recorded: Vec<_> = raw.reply.as_ref().unwrap().split('.').map(ToOwned::to_owned).collect();
        let at = recorded.len() - 2;
        recorded[at] = (recorded[at].parse::<u64>().unwrap() - age * 1_000_000_000).to_string();
        aged.message.reply = Some(recorded.join(".").into());
        drop(incoming.message(aged));
        let process = sdk.spans().pop().unwrap();
        assert_eq!(process.parent_span_id, parent, "{age} s");
        assert_eq!(process.links.iter().next().unwrap().span_context.span_id(), publish.span_id());
    }
}
