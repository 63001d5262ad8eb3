//! Every source of messages as one stream: what holds of a received message holds however it was received.

use std::{cell::RefCell, mem, sync::Arc};

use every_broker::{Broker, Headers, Raw, Received, Same};
use futures::{
    FutureExt, StreamExt,
    future::ready,
    stream::{self, BoxStream},
};
use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use otel_lapin::{
    Channel, Confirmation,
    message::{Delivery, DeliveryResult},
    otel::{Incoming, Instrumentation, ReceivedMessage},
};
use otel_messaging::adapter::ProcessSpan;
use support::{DEADLINE, Sdk};
use tokio::{sync::mpsc, time::timeout};

use crate::harness::{Rabbit, long};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Consumer,
    Get,
    IncomingStream,
    IncomingMessage,
    Delegate,
}

pub(crate) const ALL: [Source; 5] =
    [Source::Consumer, Source::Get, Source::IncomingStream, Source::IncomingMessage, Source::Delegate];

pub(crate) type Messages = BoxStream<'static, Delivery>;

/// A source of a queue's messages.
pub(crate) struct Opened {
    pub(crate) messages: Messages,
    /// The same source, asked in other ways. None of them asks before it is polled.
    pub(crate) same: Vec<(&'static str, Messages)>,
}

impl Source {
    pub(crate) async fn open(self, rabbit: &Rabbit, queue: &str) -> Opened {
        let instrumentation = rabbit.instrumentation.clone();
        match self {
            Self::Consumer => {
                let consumer = rabbit.consume(queue).await;
                let other = consumer.clone().with_instrumentation(instrumentation);
                let [messages, clone, other] = [consumer.clone(), consumer, other]
                    .map(|consumer| consumer.map(|delivery| delivery.expect("a message")).boxed());
                Opened { messages, same: vec![("a clone", clone), ("with_instrumentation", other)] }
            }
            Self::Get => {
                let other = rabbit.channel.clone().with_instrumentation(instrumentation);
                let [messages, clone, other] =
                    [rabbit.channel.clone(), rabbit.channel.clone(), other].map(|channel| got(channel, queue));
                Opened { messages, same: vec![("a clone", clone), ("with_instrumentation", other)] }
            }
            Self::IncomingStream => {
                let incoming = Incoming::of_queue(queue).with_instrumentation(instrumentation.clone());
                let raw = raw(rabbit, queue).await;
                let messages = incoming.stream(raw).map(|delivery| delivery.expect("a message")).boxed();
                let other = incoming.clone().with_instrumentation(instrumentation);
                let [clone, other] = [incoming, other].map(|incoming| {
                    let nothing = stream::pending::<lapin::Result<lapin::message::Delivery>>();
                    incoming.stream(nothing).map(|delivery| delivery.expect("a message")).boxed()
                });
                Opened { messages, same: vec![("another stream", clone), ("with_instrumentation", other)] }
            }
            Self::IncomingMessage => {
                let incoming = Incoming::of_queue(queue).with_instrumentation(instrumentation);
                let raw = raw(rabbit, queue).await;
                let messages = raw.map(move |delivery| incoming.message(delivery.expect("a message"))).boxed();
                // The adapter does not see a poll of the raw client's stream.
                Opened { messages, same: Vec::new() }
            }
            Self::Delegate => {
                let consumer = rabbit.consume(queue).await;
                let (give, mut given) = mpsc::unbounded_channel();
                consumer.set_delegate(move |delivery: DeliveryResult| {
                    if let Ok(Some(delivery)) = delivery {
                        // The receiving end may be dropped.
                        _ = give.send(delivery);
                    }
                    ready(())
                });
                let messages = stream::poll_fn(move |task| {
                    let _consuming = &consumer;
                    given.poll_recv(task)
                });
                Opened { messages: messages.boxed(), same: Vec::new() }
            }
        }
    }
}

/// What a queue has.
fn got(channel: Channel, queue: &str) -> Messages {
    let queue = queue.to_owned();
    let get = move |channel: Channel| {
        let queue = queue.clone();
        async move {
            loop {
                let got = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap();
                if let Some(got) = got {
                    return Some((got.delivery, channel));
                }
            }
        }
    };
    stream::unfold(channel, get).boxed()
}

async fn raw(rabbit: &Rabbit, queue: &str) -> lapin::Consumer {
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    rabbit.raw.basic_consume(queue.into(), "".into(), options, arguments).await.unwrap()
}

/// The next message, which has to come.
pub(crate) async fn take(messages: &mut Messages) -> Delivery {
    timeout(DEADLINE, messages.next()).await.expect("in time").expect("one more")
}

/// A new queue with so many messages.
pub(crate) async fn filled(rabbit: &Rabbit, messages: usize) -> String {
    let queue = rabbit.queue("orders").await;
    for number in 0..messages {
        rabbit.publish_raw(&queue, number.to_string().as_bytes(), BasicProperties::default()).await;
    }
    queue
}

impl Rabbit {
    /// Closes the channels, and takes from the queue what was not acknowledged.
    pub(crate) async fn assert_left(&self, queue: &str, expected: usize) {
        for channel in [self.channel.get_ref(), &self.raw] {
            if channel.status().connected() {
                channel.close(200, "bye".into()).await.unwrap();
            }
        }
        let channel = self.connection.get_ref().create_channel().await.unwrap();
        let get = async || channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap();
        let all = async {
            for _ in 0..expected {
                while get().await.is_none() {}
            }
        };
        timeout(DEADLINE, all).await.expect("as many as are left");
        assert!(get().await.is_none());
    }
}

impl Broker for Rabbit {
    type Source = Source;
    type Receiver = RefCell<Opened>;
    type Message<'a> = Taken;
    type Error = lapin::Error;

    const SOURCES: &'static [Source] = &ALL;
    const USUAL: &'static [Source] = &[Source::Consumer];
    const SEND: &'static str = "publish";
    const ERROR_TYPE: &'static str = "lapin::error::Error";
    const LOGGED_BY_CLIENT: &'static str = " lapin";
    const DELIVERS_AT_ONCE: bool = true;

    fn settles(_: Source) -> bool {
        true
    }

    fn outcome(_: Source) -> Option<&'static str> {
        Some("ack")
    }

    fn settlement(_: Source, queue: &str) -> Option<String> {
        Some(format!("ack {queue}"))
    }

    fn is_asked(source: Source) -> bool {
        source != Source::Delegate
    }

    fn sees_asking(source: Source) -> bool {
        source != Source::IncomingMessage
    }

    async fn connect(instrumentation: &Instrumentation) -> Self {
        let rabbit = Self::with(Sdk::new(), instrumentation.clone()).await;
        rabbit.channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        rabbit
    }

    async fn destination(&self) -> String {
        self.queue("orders").await
    }

    fn send<'a>(&'a self, to: &'a str, headers: &[(String, String)], payload: &'a str) -> impl Future<Output = ()> {
        let (options, payload) = (BasicPublishOptions::default(), payload.as_bytes());
        let sent = self.channel.basic_publish("".into(), to.into(), options, payload, properties(headers));
        sent.then(async |confirm| assert_eq!(confirm.unwrap().await.unwrap(), Confirmation::Ack(None)))
    }

    /// Its channel is closed.
    async fn send_in_vain(&self, headers: &[(String, String)], payload: &str) -> Result<(), lapin::Error> {
        let channel = self.connection.create_channel().await.unwrap();
        channel.close(200, "bye".into()).await.unwrap();
        let (options, payload) = (BasicPublishOptions::default(), payload.as_bytes());
        channel.basic_publish("".into(), "onward".into(), options, payload, properties(headers)).await?.await.map(drop)
    }

    async fn put(&self, to: &str, headers: &[(&str, &str)], payload: &str) {
        self.publish_raw(to, payload.as_bytes(), properties(headers)).await;
    }

    async fn on_the_wire(&self, queue: &str) -> Headers {
        text(&self.take_raw(queue).await.properties)
    }

    async fn open(&self, source: Source, queue: &str, messages: &[Raw<'_>]) -> RefCell<Opened> {
        for (headers, payload) in messages {
            self.put(queue, headers, payload).await;
        }
        source.open(self, queue).await.into()
    }

    fn messages(opened: &RefCell<Opened>) -> every_broker::Messages<'_, Self> {
        mem::replace(&mut opened.borrow_mut().messages, stream::pending().boxed()).map(Taken).boxed_local()
    }

    fn same(opened: &RefCell<Opened>) -> Same<'_, Self> {
        let same = mem::take(&mut opened.borrow_mut().same);
        same.into_iter().map(|(way, messages)| (way, ready(messages.map(Taken).boxed_local()).boxed_local())).collect()
    }

    async fn ask_others(&self, queue: &str) {
        let (channel, empty) = (self.connection.create_channel().await.unwrap(), self.queue("empty").await);
        for (channel, queue) in [(&self.channel, &*empty), (&channel, queue)] {
            let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap();
            assert!(got.is_none(), "the queue is empty");
        }
    }

    async fn assert_unsettled(self, queue: &str, messages: usize) {
        self.assert_left(queue, messages).await;
    }
}

/// A delivery of any source.
#[derive(Debug)]
pub(crate) struct Taken(Delivery);

impl ReceivedMessage for Taken {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        self.0.process_span()
    }
}

impl Received for Taken {
    async fn settle(&self) {
        assert!(self.0.ack(BasicAckOptions::default()).await.unwrap());
    }

    fn headers(&self) -> Headers {
        text(&self.0.properties)
    }

    fn payload(&self) -> String {
        String::from_utf8(self.0.data.clone()).unwrap()
    }
}

/// Without any headers there is no table of them.
fn properties<N: AsRef<str>, V: AsRef<str>>(headers: &[(N, V)]) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert(name.as_ref().into(), long(value.as_ref()));
    }
    if headers.is_empty() { BasicProperties::default() } else { BasicProperties::default().with_headers(table) }
}

fn text(properties: &BasicProperties) -> Headers {
    let headers = properties.headers().iter().flat_map(|table| table.inner());
    headers
        .map(|(name, value)| match value {
            AMQPValue::LongString(text) => (name.to_string(), text.to_string()),
            other => panic!("{name} is no text: {other:?}"),
        })
        .collect()
}
