//! Every source of messages as one stream: what holds of a received message holds however it was received.

use futures::{
    StreamExt,
    future::ready,
    stream::{self, BoxStream},
};
use lapin::{
    BasicProperties,
    options::{BasicConsumeOptions, BasicGetOptions},
    types::FieldTable,
};
use otel_lapin::{
    Channel,
    message::{Delivery, DeliveryResult},
    otel::Incoming,
};
use support::DEADLINE;
use tokio::{sync::mpsc, time::timeout};

use crate::harness::Rabbit;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Consumer,
    Get,
    IncomingStream,
    IncomingMessage,
    Delegate,
}

/// Those that the application asks for the next message.
pub(crate) const ASKED: [Source; 4] = [Source::Consumer, Source::Get, Source::IncomingStream, Source::IncomingMessage];
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
                // Nobody sees that somebody else's stream is asked.
                Opened { messages, same: Vec::new() }
            }
            Self::Delegate => {
                let consumer = rabbit.consume(queue).await;
                let (give, mut given) = mpsc::unbounded_channel();
                consumer.set_delegate(move |delivery: DeliveryResult| {
                    if let Ok(Some(delivery)) = delivery {
                        // Nobody may be left to take it.
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

/// What a queue has, until it is empty.
fn got(channel: Channel, queue: &str) -> Messages {
    let queue = queue.to_owned();
    let get = move |channel: Channel| {
        let queue = queue.clone();
        async move {
            let got = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap();
            got.map(|got| (got.delivery, channel))
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
