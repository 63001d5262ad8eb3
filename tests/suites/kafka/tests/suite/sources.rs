//! Every way to receive as one stream: what holds of a received message holds however it was received.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use every_broker::{Broker, Headers, Messages, Raw, Received, Same};
use futures::{
    FutureExt, StreamExt,
    future::ready,
    stream::{self, LocalBoxStream},
};
use opentelemetry_sdk::trace::SpanData;
use otel_messaging::adapter::ProcessSpan;
use otel_rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{
        BaseConsumer, CommitMode, Consumer, DefaultConsumerContext, StreamConsumer, base_consumer::PartitionQueue,
        stream_consumer::StreamPartitionQueue,
    },
    error::{KafkaError, KafkaResult},
    message::{BorrowedMessage, Header, OwnedHeaders, OwnedMessage},
    otel::{Incoming, Instrumentation, ReceivedMessage},
    producer::{FutureProducer, FutureRecord},
    util::AsyncRuntime,
};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use support::describe;

use crate::harness::{self, Test, cluster_id, config, on_the_wire};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Recv,
    /// `recv`, and the message is detached.
    Detached,
    /// `recv` on another runtime.
    Smol,
    Stream,
    StreamQueue,
    Poll,
    Iter,
    Queue,
    IncomingMessage,
    IncomingOwned,
    IncomingStream,
}

/// Smol's executor and timer for rdkafka's own tasks.
#[derive(Debug)]
pub(crate) struct Smol;

impl AsyncRuntime for Smol {
    type Delay = futures::future::Map<smol::Timer, fn(Instant)>;

    fn spawn<T: Future<Output = ()> + Send + 'static>(task: T) {
        smol::spawn(task).detach();
    }

    fn delay_for(duration: Duration) -> Self::Delay {
        FutureExt::map(smol::Timer::after(duration), drop)
    }
}

/// A consumer of a topic's only partition.
pub(crate) struct Receiver(Source, Client);

enum Client {
    Base(BaseConsumer),
    Queue(Arc<BaseConsumer>, PartitionQueue<DefaultConsumerContext>),
    Stream(StreamConsumer),
    StreamQueue(Arc<StreamConsumer>, StreamPartitionQueue<DefaultConsumerContext>),
    Smol(StreamConsumer<DefaultConsumerContext, Smol>),
    Raw(rdkafka::consumer::StreamConsumer, Incoming),
}

/// A message, and what commits it.
pub(crate) struct Taken<'a>(Inner<'a>, Box<dyn Fn(&BorrowedMessage<'_>) + 'a>);

enum Inner<'a> {
    Borrowed(BorrowedMessage<'a>),
    Owned(OwnedMessage),
}

fn borrowed<'a>(message: KafkaResult<BorrowedMessage<'a>>, consumer: &'a impl Consumer) -> Taken<'a> {
    let commit = move |message: &BorrowedMessage<'_>| consumer.commit_message(message, CommitMode::Async).unwrap();
    Taken(Inner::Borrowed(message.unwrap()), Box::new(commit))
}

/// A message that nothing commits.
fn uncommitted(inner: Inner<'_>) -> Taken<'_> {
    Taken(inner, Box::new(|_| ()))
}

impl ReceivedMessage for Taken<'_> {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        match &self.0 {
            Inner::Borrowed(message) => message.process_span(),
            Inner::Owned(message) => message.process_span(),
        }
    }
}

impl Received for Taken<'_> {
    async fn settle(&self) {
        if let Inner::Borrowed(message) = &self.0 {
            (self.1)(message);
        }
    }

    fn headers(&self) -> Headers {
        match &self.0 {
            Inner::Borrowed(message) => sorted(message),
            Inner::Owned(message) => sorted(message),
        }
    }

    fn payload(&self) -> String {
        let payload = match &self.0 {
            Inner::Borrowed(message) => message.payload(),
            Inner::Owned(message) => message.payload(),
        };
        String::from_utf8(payload.unwrap_or_default().to_vec()).unwrap()
    }
}

fn sorted(message: &impl Message) -> Headers {
    let mut headers = harness::headers(message);
    headers.sort();
    headers
}

/// A consumer that blocks its thread, for a moment at each poll of the stream.
fn polled<'a>(poll: impl Fn(Duration) -> Option<Taken<'a>> + 'a) -> LocalBoxStream<'a, Taken<'a>> {
    let poll = move |task: &mut Context<'_>| match poll(Duration::from_millis(1)) {
        Some(message) => Poll::Ready(Some(message)),
        None => {
            task.waker().wake_by_ref();
            Poll::Pending
        }
    };
    stream::poll_fn(poll).boxed_local()
}

fn received<'a, R: AsyncRuntime>(
    consumer: &'a StreamConsumer<DefaultConsumerContext, R>,
) -> LocalBoxStream<'a, Taken<'a>> {
    stream::unfold((), async move |()| Some((borrowed(consumer.recv().await, consumer), ()))).boxed_local()
}

fn streamed(consumer: &StreamConsumer) -> LocalBoxStream<'_, Taken<'_>> {
    consumer.stream().map(move |message| borrowed(message, consumer)).boxed_local()
}

fn queue_of_stream<'a>(
    consumer: &'a StreamConsumer,
    queue: &'a StreamPartitionQueue<DefaultConsumerContext>,
) -> LocalBoxStream<'a, Taken<'a>> {
    queue.stream().map(move |message| borrowed(message, consumer)).boxed_local()
}

/// The tests of every broker run on these clients.
pub(crate) struct Kafka {
    instrumentation: Instrumentation,
    producer: FutureProducer,
    raw: BaseProducer,
}

impl Kafka {
    fn put_all(&self, to: &str, messages: &[Raw<'_>]) {
        for (headers, payload) in messages {
            let headers = owned(headers);
            let record = BaseRecord::<(), str> { headers, ..BaseRecord::to(to) };
            let record = if payload.is_empty() { record } else { record.payload(payload) };
            self.raw.send(record).unwrap();
        }
        self.raw.flush(Duration::from_secs(10)).unwrap();
    }
}

fn owned<N: AsRef<str>, V: AsRef<str>>(headers: &[(N, V)]) -> Option<OwnedHeaders> {
    let insert = |all: OwnedHeaders, (name, value): &(N, V)| {
        all.insert(Header { key: name.as_ref(), value: Some(value.as_ref()) })
    };
    (!headers.is_empty()).then(|| headers.iter().fold(OwnedHeaders::new(), insert))
}

fn group(topic: &str) -> String {
    topic.replacen("t-", "g-", 1)
}

impl Broker for Kafka {
    type Source = Source;
    type Receiver = Receiver;
    type Message<'a> = Taken<'a>;
    type Error = KafkaError;

    const SOURCES: &'static [Source] = &[
        Source::Recv,
        Source::Detached,
        Source::Smol,
        Source::Stream,
        Source::StreamQueue,
        Source::Poll,
        Source::Iter,
        Source::Queue,
        Source::IncomingMessage,
        Source::IncomingOwned,
        Source::IncomingStream,
    ];
    const USUAL: &'static [Source] = &[Source::Recv];
    const SEND: &'static str = "send";
    const ERROR_TYPE: &'static str = "rdkafka::error::KafkaError";
    const LOGGED_BY_CLIENT: &'static str = " rdkafka";
    const DELIVERS_AT_ONCE: bool = true;

    fn settles(source: Source) -> bool {
        !matches!(source, Source::Detached | Source::IncomingMessage | Source::IncomingOwned | Source::IncomingStream)
    }

    fn outcome(source: Source) -> Option<&'static str> {
        Self::settles(source).then_some("commit")
    }

    fn settlement(source: Source, topic: &str) -> Option<String> {
        Self::settles(source).then(|| format!("commit {topic}"))
    }

    fn sees_asking(source: Source) -> bool {
        !matches!(source, Source::IncomingMessage | Source::IncomingOwned)
    }

    fn blocks(source: Source) -> bool {
        source == Source::Iter
    }

    async fn connect(instrumentation: &Instrumentation) -> Self {
        let producer: FutureProducer = config().set("linger.ms", "0").create().unwrap();
        Self {
            instrumentation: instrumentation.clone(),
            producer: producer.with_instrumentation(instrumentation.clone()),
            raw: config().create().unwrap(),
        }
    }

    async fn destination(&self) -> String {
        Test::new().topic
    }

    fn send<'a>(&'a self, to: &'a str, headers: &[(String, String)], payload: &'a str) -> impl Future<Output = ()> {
        let record = FutureRecord::<(), str> { headers: owned(headers), ..FutureRecord::to(to).payload(payload) };
        self.producer.send(record, Duration::from_secs(5)).map(|sent| _ = sent.unwrap())
    }

    /// It is too long.
    async fn send_in_vain(&self, headers: &[(String, String)], payload: &str) -> Result<(), KafkaError> {
        let producer: FutureProducer = config().set("message.max.bytes", "1000").create().unwrap();
        let producer = producer.with_instrumentation(self.instrumentation.clone());
        let payload = payload.repeat(1_000);
        let record =
            FutureRecord::<(), str> { headers: owned(headers), ..FutureRecord::to("onward").payload(&payload) };
        producer.send(record, Duration::ZERO).await.map(drop).map_err(|(error, _)| error)
    }

    async fn put(&self, to: &str, headers: &[(&str, &str)], payload: &str) {
        self.put_all(to, &[(headers, payload)]);
    }

    async fn on_the_wire(&self, topic: &str) -> Headers {
        sorted(&on_the_wire(topic, 1)[0])
    }

    async fn open(&self, source: Source, topic: &str, messages: &[Raw<'_>]) -> Receiver {
        self.put_all(topic, messages);
        let mut config: ClientConfig = config();
        config.set("group.id", group(topic)).set("enable.auto.commit", "false");
        // A consumer is dropped when its last fetch is answered.
        config.set("fetch.wait.max.ms", "10");
        let mut partition = TopicPartitionList::new();
        partition.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
        let instrumentation = self.instrumentation.clone();
        let client = match source {
            Source::Poll | Source::Iter | Source::Queue => {
                let consumer: BaseConsumer = config.create().unwrap();
                consumer.assign(&partition).unwrap();
                let consumer = consumer.with_instrumentation(instrumentation);
                if source == Source::Queue {
                    let consumer = Arc::new(consumer);
                    let queue = consumer.split_partition_queue(topic, 0).unwrap();
                    Client::Queue(consumer, queue)
                } else {
                    Client::Base(consumer)
                }
            }
            Source::Recv | Source::Detached | Source::Stream | Source::StreamQueue => {
                let consumer: StreamConsumer = config.create().unwrap();
                consumer.assign(&partition).unwrap();
                let consumer = consumer.with_instrumentation(instrumentation);
                if source == Source::StreamQueue {
                    let consumer = Arc::new(consumer);
                    let queue = consumer.split_partition_queue(topic, 0).unwrap();
                    Client::StreamQueue(consumer, queue)
                } else {
                    Client::Stream(consumer)
                }
            }
            Source::Smol => {
                let consumer: StreamConsumer<DefaultConsumerContext, Smol> = config.create().unwrap();
                consumer.assign(&partition).unwrap();
                Client::Smol(consumer.with_instrumentation(instrumentation))
            }
            _ => {
                let consumer: rdkafka::consumer::StreamConsumer = config.create().unwrap();
                rdkafka::consumer::Consumer::assign(&consumer, &partition).unwrap();
                let incoming = Incoming::of(&consumer).with_instrumentation(instrumentation);
                Client::Raw(consumer, incoming)
            }
        };
        Receiver(source, client)
    }

    fn messages(Receiver(source, client): &Receiver) -> Messages<'_, Self> {
        match client {
            Client::Base(consumer) if *source == Source::Iter => {
                stream::iter(consumer.iter().map(move |message| borrowed(message, consumer))).boxed_local()
            }
            Client::Base(consumer) => polled(move |time| Some(borrowed(consumer.poll(time)?, consumer))),
            Client::Queue(consumer, queue) => polled(move |time| {
                // The main queue has to be polled too.
                assert!(consumer.poll(Duration::ZERO).is_none());
                Some(borrowed(queue.poll(time)?, &**consumer))
            }),
            Client::Stream(consumer) => match source {
                Source::Stream => streamed(consumer),
                Source::Detached => {
                    let detached = async move |()| {
                        let message = consumer.recv().await.unwrap().detach();
                        Some((uncommitted(Inner::Owned(message)), ()))
                    };
                    stream::unfold((), detached).boxed_local()
                }
                _ => received(consumer),
            },
            Client::Smol(consumer) => received(consumer),
            Client::StreamQueue(consumer, queue) => {
                let mut main = Box::pin(consumer.recv());
                let mut messages = queue_of_stream(consumer, queue);
                let both = move |task: &mut Context<'_>| {
                    assert!(main.poll_unpin(task).is_pending(), "nothing is on the main queue");
                    messages.poll_next_unpin(task)
                };
                stream::poll_fn(both).boxed_local()
            }
            Client::Raw(consumer, incoming) => {
                let raw = consumer.stream();
                match source {
                    Source::IncomingStream => {
                        incoming.stream(raw).map(|message| uncommitted(Inner::Borrowed(message.unwrap()))).boxed_local()
                    }
                    Source::IncomingOwned => {
                        let owned =
                            |message: rdkafka::message::BorrowedMessage<'_>| incoming.owned_message(message.detach());
                        raw.map(move |message| uncommitted(Inner::Owned(owned(message.unwrap())))).boxed_local()
                    }
                    _ => {
                        let ours = |message| uncommitted(Inner::Borrowed(incoming.message(message)));
                        raw.map(move |message| ours(message.unwrap())).boxed_local()
                    }
                }
            }
        }
    }

    fn same(receiver: &Receiver) -> Same<'_, Self> {
        let streams = match &receiver.1 {
            Client::Base(_) | Client::Queue(..) => vec![("another poll", Self::messages(receiver))],
            Client::Stream(consumer) => vec![("another stream", streamed(consumer)), ("recv", received(consumer))],
            Client::Smol(consumer) => vec![("recv", received(consumer))],
            Client::StreamQueue(consumer, queue) => vec![("another stream", queue_of_stream(consumer, queue))],
            Client::Raw(_, incoming) if receiver.0 == Source::IncomingStream => {
                let nothing = stream::pending::<KafkaResult<rdkafka::message::BorrowedMessage<'_>>>();
                let ours = incoming.stream(nothing);
                vec![(
                    "another stream",
                    ours.map(|message| uncommitted(Inner::Borrowed(message.unwrap()))).boxed_local(),
                )]
            }
            Client::Raw(..) => Vec::new(),
        };
        streams.into_iter().map(|(way, messages)| (way, ready(messages).boxed_local())).collect()
    }

    /// Of the three messages of the test of the context reader.
    fn assert_processed(source: Source, topic: &str, process: &[SpanData]) {
        let incoming = matches!(source, Source::IncomingMessage | Source::IncomingOwned | Source::IncomingStream);
        let cluster = if incoming { "" } else { "  messaging.kafka.cluster.id = \"harbour\"\n" };
        let span = |relation: &str, offset: usize, tombstone: &str| {
            format!(
                r#"process orders
  kind CONSUMER
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
{relation}
  status unset
  messaging.client.id = "shop"
  messaging.consumer.group.name = "payment"
  messaging.destination.name = "orders"
  messaging.destination.partition.id = "0"
{cluster}{tombstone}  messaging.kafka.offset = {offset}
  messaging.operation.name = "process"
  messaging.operation.type = "process"
  messaging.system = "kafka"
"#
            )
        };
        let of = |span: &str| format!("  parent {span}\n  link {span}");
        let expected = span(&of("00f067aa0ba902b7"), 0, "")
            + &span(&of("b7ad6b7169203331"), 1, "")
            + &span("  root", 2, "  messaging.kafka.message.tombstone = true\n");
        let described = describe(process).replace(topic, "orders").replace(&group(topic), "payment");
        assert_eq!(described.replace(cluster_id(), "harbour"), expected, "{source:?}");
    }
}
