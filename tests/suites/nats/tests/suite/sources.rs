//! Every source of messages as one stream: what holds of a received message holds however it was received.

use std::{cell::RefCell, fmt, mem, sync::Arc};

use async_nats::HeaderMap;
use every_broker::{Broker, Headers, Raw, Received, Same};
use futures::{
    FutureExt, StreamExt, TryStreamExt,
    future::{BoxFuture, ready},
    stream::{self, BoxStream},
};
use opentelemetry_sdk::trace::SpanData;
use otel_async_nats::{
    Client, Message, RequestError,
    jetstream::{
        self,
        consumer::{PullConsumer, pull, push},
    },
    otel::{Incoming, IncomingJetStream, Instrumentation, ReceivedMessage},
    service::{Request, ServiceExt},
};
use otel_messaging::adapter::ProcessSpan;
use support::{DEADLINE, Sdk};
use tokio::time::timeout;

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
    /// A sequence of more batches than one.
    SmallBatches,
    Ordered,
    Push,
    OrderedPush,
    IncomingSubscriber,
    IncomingStream,
    IncomingMessage,
    JetStreamStream,
    JetStreamMessage,
}

pub(crate) const ALL: [Source; 16] = [
    Source::Subscription,
    Source::QueueSubscription,
    Source::Endpoint,
    Source::Pull,
    Source::Fetch,
    Source::Batch,
    Source::Sequence,
    Source::SmallBatches,
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

    fn message(&self) -> &Message {
        match self {
            Self::Message(message) => message,
            Self::Stored(message) => message,
            Self::Request(request) => &request.message,
        }
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
    /// The same source, asked in other ways: by what the future does, or by the stream that it makes.
    pub(crate) same: Vec<(&'static str, BoxFuture<'static, Messages>)>,
}

impl Opened {
    fn new(messages: Messages) -> Self {
        Self { messages, same: Vec::new() }
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

    /// A new source with so many messages, recorded by the client's instrumentation; in other ways by the other one.
    pub(crate) async fn open(self, client: &Client, messages: usize, other: &Instrumentation) -> Opened {
        let subject = if self.is_stored() { stored_subject(client).await } else { unique("orders") };
        self.open_with(client, subject, &vec![(&[(SECRET, SECRET)][..], SECRET); messages], other).await
    }

    async fn open_with(
        self,
        client: &Client,
        subject: String,
        messages: &[Raw<'_>],
        other: &Instrumentation,
    ) -> Opened {
        let other = other.clone();
        if self.is_stored() {
            self.open_stored(client, subject, messages, other).await
        } else {
            self.open_core(client, subject, messages, other).await
        }
    }

    async fn open_core(self, client: &Client, subject: String, there: &[Raw<'_>], other: Instrumentation) -> Opened {
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
        for message in there {
            put(client, &subject, message).await;
        }
        client.flush().await.unwrap();
        let opened = Opened::new(messages);
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

    async fn open_stored(self, client: &Client, subject: String, there: &[Raw<'_>], other: Instrumentation) -> Opened {
        let context = jetstream::new(client.clone());
        let stream = context.get_stream(stream_name(&subject)).await.unwrap();
        let count = there.len().max(1);
        for (headers, payload) in there {
            let payload = (*payload).to_owned().into();
            let stored = match header_map(headers) {
                Some(headers) => context.get_ref().publish_with_headers(subject.clone(), headers, payload).await,
                None => context.get_ref().publish(subject.clone(), payload).await,
            };
            stored.unwrap().await.unwrap();
        }
        match self {
            Self::Ordered => {
                let consumer = stream.create_consumer(pull::OrderedConfig::default()).await.unwrap();
                let [one, two] = [consumer.clone(), consumer.clone().with_instrumentation(other)];
                Opened::new(stored(consumer.messages().await.unwrap()))
                    .also("another stream", async { stored(one.messages().await.unwrap()) })
                    .also("with_instrumentation", async { stored(two.messages().await.unwrap()) })
            }
            Self::Push => {
                let config = push::Config { deliver_subject: unique("deliver"), ..Default::default() };
                let consumer = stream.create_consumer(config).await.unwrap();
                let [one, two] = [consumer.clone(), consumer.clone().with_instrumentation(other)];
                Opened::new(stored(consumer.messages().await.unwrap()))
                    .also("another stream", async move { stored(one.messages().await.unwrap()) })
                    .also("with_instrumentation", async move { stored(two.messages().await.unwrap()) })
            }
            Self::OrderedPush => {
                let config = push::OrderedConfig { deliver_subject: unique("deliver"), ..Default::default() };
                let consumer = stream.create_consumer(config).await.unwrap();
                let [one, two] = [consumer.clone(), consumer.clone().with_instrumentation(other)];
                Opened::new(stored(consumer.messages().await.unwrap()))
                    .also("another stream", async { stored(one.messages().await.unwrap()) })
                    .also("with_instrumentation", async { stored(two.messages().await.unwrap()) })
            }
            _ => {
                let consumer = durable(&stream, &unique("packing")).await;
                let messages = self.pulled(client, &consumer, count).await;
                let opened = Opened::new(messages);
                // It is not seen that a raw stream is asked; another stream takes what is not in the first batch.
                if matches!(self, Self::JetStreamMessage | Self::SmallBatches) {
                    opened
                } else {
                    pulled_again(opened, client, &consumer, other)
                }
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
            Self::Sequence | Self::SmallBatches => {
                // Of small batches it is the batch that is asked for a message, and then the sequence.
                let sequence = consumer.sequence(if self == Self::Sequence { count } else { 2 }).unwrap();
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

/// The subject of a new stream.
async fn stored_subject(client: &Client) -> String {
    let (_, name) = stream_of(&jetstream::new(client.clone())).await;
    format!("{name}.orders")
}

/// The stream of a subject that [`stored_subject`] has made.
fn stream_name(subject: &str) -> &str {
    subject.split_once('.').expect("a stream's subject").0
}

fn header_map<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)]) -> Option<HeaderMap> {
    let pairs = pairs.iter().map(|(name, value)| (name.as_ref().parse().unwrap(), value.as_ref().parse().unwrap()));
    let headers: HeaderMap = pairs.collect();
    (!headers.is_empty()).then_some(headers)
}

/// Publishes by the raw client. A subject for the answer makes a request of each message.
async fn put(client: &Client, subject: &str, (headers, payload): &Raw<'_>) {
    let (client, subject, payload) = (client.get_ref(), subject.to_owned(), (*payload).to_owned().into());
    match header_map(headers) {
        Some(headers) => client.publish_with_reply_and_headers(subject, "unanswered", headers, payload).await.unwrap(),
        None => client.publish_with_reply(subject, "unanswered", payload).await.unwrap(),
    }
}

/// The tests of every broker run on a client.
pub(crate) struct Nats {
    client: Client,
    instrumentation: Instrumentation,
}

impl Nats {
    pub(crate) fn context(&self) -> jetstream::Context {
        jetstream::new(self.client.clone())
    }
}

impl Broker for Nats {
    type Source = Source;
    type Receiver = RefCell<Opened>;
    type Message<'a> = Taken;
    type Error = RequestError;

    const SOURCES: &'static [Source] = &ALL;
    const USUAL: &'static [Source] = &[Source::Subscription, Source::Pull];
    const SEND: &'static str = "publish";
    const ERROR_TYPE: &'static str = "async_nats::error::Error<async_nats::client::RequestErrorKind>";
    const LOGGED_BY_CLIENT: &'static str = " async_nats";
    const DELIVERS_AT_ONCE: bool = false;

    fn settles(source: Source) -> bool {
        source.settles()
    }

    fn outcome(source: Source) -> Option<&'static str> {
        source.is_stored().then_some("ack")
    }

    fn settlement(source: Source, subject: &str) -> Option<String> {
        match source {
            Source::Endpoint => Some("respond".to_owned()),
            _ => source.is_stored().then(|| format!("ack {subject}")),
        }
    }

    fn sees_asking(source: Source) -> bool {
        !matches!(source, Source::IncomingMessage | Source::JetStreamMessage)
    }

    /// A fetch gives no more than there is.
    fn waits(source: Source) -> bool {
        source != Source::Fetch
    }

    async fn connect(instrumentation: &Instrumentation) -> Self {
        Self { client: connect_with(instrumentation.clone()).await, instrumentation: instrumentation.clone() }
    }

    async fn destination(&self) -> String {
        stored_subject(&self.client).await
    }

    fn send<'a>(&'a self, to: &'a str, headers: &[(String, String)], payload: &'a str) -> impl Future<Output = ()> {
        let (to, payload) = (to.to_owned(), payload.to_owned().into());
        let sent = match header_map(headers) {
            Some(headers) => self.client.publish_with_headers(to, headers, payload).left_future(),
            None => self.client.publish(to, payload).right_future(),
        };
        sent.map(|sent| sent.unwrap())
    }

    /// The request has no responder.
    async fn send_in_vain(&self, headers: &[(String, String)], payload: &str) -> Result<(), RequestError> {
        let headers = header_map(headers).unwrap_or_default();
        self.client.request_with_headers(unique("unserved"), headers, payload.to_owned().into()).await.map(drop)
    }

    async fn put(&self, to: &str, headers: &[(&str, &str)], payload: &str) {
        put(&self.client, to, &(headers, payload)).await;
    }

    async fn on_the_wire(&self, subject: &str) -> Headers {
        let context = async_nats::jetstream::new(self.client.get_ref().clone());
        let stream = context.get_stream(stream_name(subject)).await.unwrap();
        let stored = async {
            loop {
                if let Ok(message) = stream.get_last_raw_message_by_subject(subject).await {
                    return text(&message.headers);
                }
            }
        };
        timeout(DEADLINE, stored).await.expect("it is stored")
    }

    async fn open(&self, source: Source, subject: &str, messages: &[Raw<'_>]) -> RefCell<Opened> {
        source.open_with(&self.client, subject.to_owned(), messages, &self.instrumentation).await.into()
    }

    fn messages(opened: &RefCell<Opened>) -> every_broker::Messages<'_, Self> {
        mem::replace::<Messages>(&mut opened.borrow_mut().messages, stream::pending().boxed()).boxed_local()
    }

    fn same(opened: &RefCell<Opened>) -> Same<'_, Self> {
        let same = mem::take(&mut opened.borrow_mut().same);
        same.into_iter().map(|(way, messages)| (way, messages.map(|same| same as _).boxed_local())).collect()
    }

    async fn ask_others(&self, _: &str) {
        let (stream, _) = stream_of(&jetstream::new(self.client.clone())).await;
        let fetched = durable(&stream, "packing").await.fetch().messages().await.unwrap().next().await;
        assert!(fetched.is_none(), "the stream is empty");
    }
}

impl Received for Taken {
    /// Acknowledges a stored message, answers a request. There is nothing to say to others.
    async fn settle(&self) {
        self.settle().await;
    }

    fn headers(&self) -> Headers {
        text(self.message().headers.as_ref().unwrap_or(&HeaderMap::new()))
    }

    fn payload(&self) -> String {
        String::from_utf8(self.message().payload.to_vec()).unwrap()
    }
}

fn text(headers: &HeaderMap) -> Headers {
    let pairs = headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    let mut headers: Headers = pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect();
    headers.sort();
    headers
}

/// The next message, which has to come.
pub(crate) async fn take(messages: &mut Messages) -> Taken {
    next(messages).await
}

/// The process spans of this subject.
pub(crate) fn process(sdk: &Sdk, subject: &str) -> Vec<SpanData> {
    let name = format!("process {subject}");
    sdk.spans().into_iter().filter(|span| span.name == name).collect()
}
