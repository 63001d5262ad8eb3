//! Every source of messages as one stream: what holds of a received message holds however it was received.

use std::{fmt, sync::Arc};

use async_nats::HeaderMap;
use futures::{
    FutureExt, StreamExt, TryStreamExt,
    future::{BoxFuture, ready},
    stream::{self, BoxStream},
};
use opentelemetry_sdk::trace::SpanData;
use otel_async_nats::{
    Client, Message,
    jetstream::{
        self,
        consumer::{PullConsumer, pull, push},
    },
    otel::{Incoming, IncomingJetStream, Instrumentation, ReceivedMessage},
    service::{Request, ServiceExt},
};
use otel_messaging::adapter::ProcessSpan;
use support::Sdk;

use crate::{connect_with, durable, next, stream_of, unique};

/// The payload of every message, the name of a header of its and that header's value.
pub(crate) const SECRET: &str = "card-4711";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Subscription,
    QueueSubscription,
    Endpoint,
    Pull,
    Fetch,
    Batch,
    Sequence,
    Ordered,
    Push,
    OrderedPush,
    IncomingSubscriber,
    IncomingStream,
    IncomingMessage,
    JetStreamStream,
    JetStreamMessage,
}

pub(crate) const ALL: [Source; 15] = [
    Source::Subscription,
    Source::QueueSubscription,
    Source::Endpoint,
    Source::Pull,
    Source::Fetch,
    Source::Batch,
    Source::Sequence,
    Source::Ordered,
    Source::Push,
    Source::OrderedPush,
    Source::IncomingSubscriber,
    Source::IncomingStream,
    Source::IncomingMessage,
    Source::JetStreamStream,
    Source::JetStreamMessage,
];

/// A message of one of them.
#[derive(Debug)]
pub(crate) enum Taken {
    Message(Message),
    Stored(jetstream::Message),
    Request(Request),
}

impl Taken {
    /// Acknowledges a stored message, answers a request. There is nothing to say to others.
    pub(crate) async fn settle(&self) {
        match self {
            Self::Message(_) => {}
            Self::Stored(message) => message.ack().await.unwrap(),
            Self::Request(request) => request.respond(Ok("".into())).await.unwrap(),
        }
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        let message: &Message = match self {
            Self::Message(message) => message,
            Self::Stored(message) => message,
            Self::Request(request) => &request.message,
        };
        message.headers.clone().expect("all have some")
    }
}

impl ReceivedMessage for Taken {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        match self {
            Self::Message(message) => message.process_span(),
            Self::Stored(message) => message.process_span(),
            Self::Request(request) => request.process_span(),
        }
    }
}

pub(crate) type Messages = BoxStream<'static, Taken>;

/// A source with messages in it.
pub(crate) struct Opened {
    pub(crate) messages: Messages,
    pub(crate) subject: String,
    /// The same source, asked in other ways: by what the future does, or by the stream that it makes.
    pub(crate) same: Vec<(&'static str, BoxFuture<'static, Messages>)>,
}

impl Opened {
    fn new(subject: String, messages: Messages) -> Self {
        Self { messages, subject, same: Vec::new() }
    }

    fn also(mut self, way: &'static str, messages: impl Future<Output = Messages> + Send + 'static) -> Self {
        self.same.push((way, messages.boxed()));
        self
    }
}

fn core(messages: impl futures::Stream<Item = Message> + Send + 'static) -> Messages {
    messages.map(Taken::Message).boxed()
}

fn stored<E: fmt::Debug>(
    messages: impl futures::Stream<Item = Result<jetstream::Message, E>> + Send + 'static,
) -> Messages {
    messages.map(|message| Taken::Stored(message.expect("a message"))).boxed()
}

impl Source {
    /// Where settlements are seen.
    pub(crate) fn settles(self) -> bool {
        self.is_stored() || self == Self::Endpoint
    }

    pub(crate) fn is_stored(self) -> bool {
        !matches!(
            self,
            Self::Subscription
                | Self::QueueSubscription
                | Self::Endpoint
                | Self::IncomingSubscriber
                | Self::IncomingStream
                | Self::IncomingMessage
        )
    }

    /// A new source with so many messages, which is told of by the client's instrumentation; in other ways by the other one.
    pub(crate) async fn open(self, client: &Client, messages: usize, other: &Instrumentation) -> Opened {
        let other = other.clone();
        if self.is_stored() {
            self.open_stored(client, messages, other).await
        } else {
            self.open_core(client, messages, other).await
        }
    }

    async fn open_core(self, client: &Client, count: usize, other: Instrumentation) -> Opened {
        let subject = unique("orders");
        let raw = async || client.get_ref().subscribe(subject.clone()).await.unwrap();
        let incoming = Incoming::subscription(client, subject.clone());
        let messages = match self {
            Self::Subscription => core(client.subscribe(subject.clone()).await.unwrap()),
            Self::QueueSubscription => {
                core(client.queue_subscribe(subject.clone(), "workers".to_owned()).await.unwrap())
            }
            Self::Endpoint => {
                let service = client.service_builder().start("stock", "1.0.0").await.unwrap();
                let requests = service.endpoint(&subject).await.unwrap();
                let request = move |request| {
                    let _running = &service;
                    Taken::Request(request)
                };
                requests.map(request).boxed()
            }
            Self::IncomingSubscriber => core(incoming.subscriber(raw().await)),
            Self::IncomingStream => core(incoming.stream(raw().await)),
            _ => {
                let incoming = incoming.clone();
                core(raw().await.map(move |message| incoming.message(message)))
            }
        };
        for _ in 0..count {
            // Somewhere to answer makes a request of each.
            let send =
                client.get_ref().publish_with_reply_and_headers(subject.clone(), "nobody", headers(), SECRET.into());
            send.await.unwrap();
        }
        client.flush().await.unwrap();
        let opened = Opened::new(subject.clone(), messages);
        match self {
            Self::IncomingSubscriber | Self::IncomingStream => {
                let (again, raw) = (incoming.clone(), raw().await);
                opened.also("another stream", async move { core(again.stream(stream::pending())) }).also(
                    "with_instrumentation",
                    async move { core(incoming.subscriber(raw).with_instrumentation(other)) },
                )
            }
            // There is no other way to ask those.
            _ => opened,
        }
    }

    async fn open_stored(self, client: &Client, count: usize, other: Instrumentation) -> Opened {
        let context = jetstream::new(client.clone());
        let (stream, name) = stream_of(&context).await;
        let subject = format!("{name}.orders");
        for _ in 0..count {
            let stored = context.get_ref().publish_with_headers(subject.clone(), headers(), SECRET.into());
            stored.await.unwrap().await.unwrap();
        }
        match self {
            Self::Ordered => {
                let consumer = stream.create_consumer(pull::OrderedConfig::default()).await.unwrap();
                let [one, two] = [consumer.clone(), consumer.clone().with_instrumentation(other)];
                Opened::new(subject, stored(consumer.messages().await.unwrap()))
                    .also("another stream", async { stored(one.messages().await.unwrap()) })
                    .also("with_instrumentation", async { stored(two.messages().await.unwrap()) })
            }
            Self::Push => {
                let config = push::Config { deliver_subject: unique("deliver"), ..Default::default() };
                let consumer = stream.create_consumer(config).await.unwrap();
                let [one, two] = [consumer.clone(), consumer.clone().with_instrumentation(other)];
                Opened::new(subject, stored(consumer.messages().await.unwrap()))
                    .also("another stream", async move { stored(one.messages().await.unwrap()) })
                    .also("with_instrumentation", async move { stored(two.messages().await.unwrap()) })
            }
            Self::OrderedPush => {
                let config = push::OrderedConfig { deliver_subject: unique("deliver"), ..Default::default() };
                let consumer = stream.create_consumer(config).await.unwrap();
                let [one, two] = [consumer.clone(), consumer.clone().with_instrumentation(other)];
                Opened::new(subject, stored(consumer.messages().await.unwrap()))
                    .also("another stream", async { stored(one.messages().await.unwrap()) })
                    .also("with_instrumentation", async { stored(two.messages().await.unwrap()) })
            }
            _ => {
                let consumer = durable(&stream, "packing").await;
                let messages = self.pulled(client, &consumer, count).await;
                let opened = Opened::new(subject, messages);
                // Nobody sees that somebody else's stream is asked.
                if self == Self::JetStreamMessage { opened } else { pulled_again(opened, client, &consumer, other) }
            }
        }
    }

    async fn pulled(self, client: &Client, consumer: &PullConsumer, count: usize) -> Messages {
        let incoming = IncomingJetStream::of(client, consumer.cached_info());
        let raw = async || consumer.get_ref().messages().await.unwrap();
        match self {
            Self::Pull => stored(consumer.messages().await.unwrap()),
            Self::Fetch => stored(consumer.fetch().max_messages(count).messages().await.unwrap()),
            // One more than there are, so that it is still asked for.
            Self::Batch => stored(consumer.batch().max_messages(count + 1).messages().await.unwrap()),
            Self::Sequence => {
                let sequence = consumer.sequence(count).unwrap();
                stored(sequence.map_err(async_nats::Error::from).try_flatten())
            }
            Self::JetStreamStream => stored(incoming.stream(raw().await)),
            _ => {
                let messages = raw().await.map(move |message| incoming.message(message.unwrap()));
                messages.map(Taken::Stored).boxed()
            }
        }
    }
}

/// All that is asked of one consumer is the same source.
fn pulled_again(opened: Opened, client: &Client, consumer: &PullConsumer, other: Instrumentation) -> Opened {
    let [clone, fetched, instrumented] = [consumer.clone(), consumer.clone(), consumer.clone()];
    let incoming = IncomingJetStream::of(client, consumer.cached_info());
    let nothing = stream::pending::<Result<async_nats::jetstream::Message, async_nats::Error>>();
    let instrument = other.clone();
    opened
        .also("a clone's stream", async move { stored(clone.messages().await.unwrap()) })
        .also("a stream with_instrumentation", async move {
            stored(
                instrumented.with_instrumentation(other.clone()).messages().await.unwrap().with_instrumentation(other),
            )
        })
        .also(
            "a fetch",
            async move { stored(fetched.fetch().messages().await.unwrap().with_instrumentation(instrument)) },
        )
        .also("a raw stream made ours", ready(stored(incoming.stream(nothing))))
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(SECRET, SECRET);
    headers
}

/// The next message, which has to come.
pub(crate) async fn take(messages: &mut Messages) -> Taken {
    next(messages).await
}

/// A source with messages, and an SDK of its own that records them.
pub(crate) async fn opened(source: Source, messages: usize) -> (Sdk, Opened) {
    let sdk = Sdk::new();
    let instrumentation = sdk.all_signals_builder().build();
    let client = connect_with(instrumentation.clone()).await;
    let opened = source.open(&client, messages, &instrumentation).await;
    (sdk, opened)
}

/// The process spans of this subject.
pub(crate) fn process(sdk: &Sdk, subject: &str) -> Vec<SpanData> {
    let name = format!("process {subject}");
    sdk.spans().into_iter().filter(|span| span.name == name).collect()
}
