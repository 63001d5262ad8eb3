//! The ways in and out: raw messages made ours, and every wrapper taken apart.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::{StreamExt, future::select};
use opentelemetry::{Context, trace::TraceContextExt};
use otel_async_nats::{
    Client, ConnectOptions,
    jetstream::{self, consumer::pull},
    otel::{Incoming, IncomingJetStream, MessageExt, MessageStreamExt, raw},
};
use support::Sdk;
use tokio::{sync::Barrier, time::timeout};

use crate::{connect, durable, next, stream_of, unique};

const MESSAGES: usize = 12;
const LIMIT: usize = 4;

/// A handler's work, which goes on only when as many handlers as may run at a time do.
struct Work {
    together: Barrier,
    running: AtomicUsize,
    handled: AtomicUsize,
}

impl Work {
    fn new() -> Self {
        Self { together: Barrier::new(LIMIT), running: AtomicUsize::new(0), handled: AtomicUsize::new(0) }
    }

    async fn on(&self, message: &impl MessageExt) {
        assert!(self.running.fetch_add(1, Ordering::Relaxed) < LIMIT);
        let own = message.otel_context().span().span_context().span_id();
        self.together.wait().await;
        assert_eq!(Context::current().span().span_context().span_id(), own);
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.handled.fetch_add(1, Ordering::Relaxed);
    }

    async fn all(&self) {
        while self.handled.load(Ordering::Relaxed) < MESSAGES {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn process_each_works_on_a_subscription_and_on_a_consumer() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("orders");
    let mut subscriber = client.subscribe(subject.clone()).await.unwrap();
    for _ in 0..MESSAGES {
        client.publish(subject.clone(), "four apples".into()).await.unwrap();
    }
    // Its end is the subscription's.
    subscriber.unsubscribe_after(MESSAGES as u64).await.unwrap();
    let work = Work::new();
    let each = subscriber.process_each(LIMIT, async |message| work.on(&message).await);
    let () = timeout(support::DEADLINE, each).await.expect("in time");
    assert_eq!(sdk.spans().len(), 2 * MESSAGES);

    let context = jetstream::new(client);
    let (stream, name) = stream_of(&context).await;
    for _ in 0..MESSAGES {
        context.publish(format!("{name}.new"), "four apples".into()).await.unwrap().await.unwrap();
    }
    let messages = durable(&stream, "packing").await.messages().await.unwrap();
    let work = Work::new();
    let each = messages.process_each(LIMIT, async |message| {
        work.on(&message).await;
        message.ack().await
    });
    timeout(support::DEADLINE, select(Box::pin(each), Box::pin(work.all()))).await.expect("in time");
    let spans = sdk.wait_for(5 * MESSAGES);
    let process: Vec<_> = spans.iter().filter(|span| span.name.starts_with("process")).collect();
    assert_eq!(process.len(), 2 * MESSAGES);
    for ack in spans.iter().filter(|span| span.name.starts_with("ack")) {
        assert!(process.iter().any(|span| span.span_context.span_id() == ack.parent_span_id));
    }
}

#[tokio::test]
async fn raw_messages_get_process_spans_one_by_one_and_as_a_stream() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("orders");
    let theirs = async || client.get_ref().subscribe(subject.clone()).await.unwrap();
    let (mut one, all, any) = (theirs().await, theirs().await, theirs().await);
    client.publish(subject.clone(), "four apples".into()).await.unwrap();
    let incoming = Incoming::subscription(&client, subject.clone());
    let first = incoming.message(next(&mut one).await);
    first.process(|| async { assert!(Context::current().has_active_span()) }).await;
    drop(next(&mut incoming.subscriber(all)).await);
    drop(next(&mut Box::pin(incoming.stream(any))).await);
    let spans = sdk.spans();
    assert_eq!(spans.len(), 4);
    for process in &spans[1..] {
        assert_eq!(process.name, format!("process {subject}"));
        assert_eq!(process.parent_span_id, spans[0].span_context.span_id());
    }
}

#[tokio::test]
async fn raw_jetstream_messages_and_consumers_are_made_ours() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let context = jetstream::new(client.clone());
    let (stream, name) = stream_of(&context).await;
    let raw_stream: raw::jetstream::stream::Stream = stream.into();
    let stream = jetstream::stream::Stream::from((raw_stream, &context));
    let consumer: raw::jetstream::consumer::PullConsumer = durable(&stream, "packing").await.into();
    let publish = async || context.publish(format!("{name}.new"), "four apples".into()).await.unwrap().await.unwrap();
    publish().await;
    publish().await;
    let incoming = IncomingJetStream::of(&client, consumer.cached_info());
    let mut theirs = consumer.messages().await.unwrap();
    incoming.message(next(&mut theirs).await.unwrap()).ack().await.unwrap();
    let mut ours = Box::pin(incoming.stream(theirs.take(1)));
    next(&mut ours).await.unwrap().ack().await.unwrap();
    drop(ours);
    // The server knows that nobody listens there any more.
    client.flush().await.unwrap();
    publish().await;
    let consumer = jetstream::consumer::PullConsumer::from((consumer, &context));
    let mut messages = consumer.messages().await.unwrap();
    next(&mut messages).await.unwrap().ack().await.unwrap();

    let spans = sdk.wait_for(9);
    let durable = |span| support::attribute(span, "messaging.destination.subscription.name").cloned();
    let process: Vec<_> = spans.iter().filter(|span| span.name.starts_with("process")).collect();
    assert_eq!(process.len(), 3);
    assert!(process.iter().all(|span| durable(span) == Some("packing".into())));
    let acks: Vec<_> = spans.iter().filter(|span| span.name.starts_with("ack")).collect();
    assert_eq!(acks.len(), 3);
    for (ack, process) in acks.iter().zip(process) {
        assert_eq!(ack.parent_span_id, process.span_context.span_id());
    }
}

#[tokio::test]
async fn a_raw_message_is_acknowledged_on_the_connection_it_came_by() {
    let sdk = Sdk::new();
    let theirs = connect(&sdk).await;
    let context = jetstream::new(theirs.clone());
    let (stream, name) = stream_of(&context).await;
    let consumer: raw::jetstream::consumer::PullConsumer = durable(&stream, "packing").await.into();
    context.publish(format!("{name}.new"), "four apples".into()).await.unwrap().await.unwrap();
    // The one that has the instrumentation cannot send anything.
    let gone = connect(&sdk).await;
    let incoming = IncomingJetStream::of(&gone, consumer.cached_info());
    gone.drain().await.unwrap();
    let message = incoming.message(next(&mut consumer.messages().await.unwrap()).await.unwrap());
    message.ack().await.unwrap();
    // The server takes it in its own time.
    let acknowledged = async {
        while consumer.get_info().await.unwrap().ack_floor.stream_sequence != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), acknowledged).await.expect("nobody acknowledged the message");
}

/// In by `From`, out by `From`: which of the two there is, by type.
#[test]
fn every_wrapper_has_its_ways() {
    fn both<Raw: From<Ours>, Ours: From<Raw>>() {}
    fn way_in<Raw, Ours: From<Raw>>() {}
    both::<raw::Client, Client>();
    both::<raw::ConnectOptions, ConnectOptions>();
    both::<raw::Message, otel_async_nats::Message>();
    both::<raw::jetstream::Context, jetstream::Context>();
    both::<raw::jetstream::Message, jetstream::Message>();
    way_in::<(raw::jetstream::stream::Stream, &jetstream::Context), jetstream::stream::Stream>();
    way_in::<
        (raw::jetstream::consumer::Consumer<pull::Config>, &jetstream::Context),
        jetstream::consumer::Consumer<pull::Config>,
    >();
    way_in::<raw::jetstream::context::PublishAckFuture, jetstream::context::PublishAckFuture>();
}

/// Somebody else's function, generic over async-nats' own traits.
async fn ask(client: &impl raw::client::traits::Requester, subject: String) -> Result<raw::Message, raw::RequestError> {
    client.send_request(subject, raw::Request::new().payload("how many?".into())).await
}

#[tokio::test]
async fn generic_code_over_the_raw_traits_takes_ours() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("stock");
    let mut stock = client.subscribe(subject.clone()).await.unwrap();
    let answer = async {
        let request = next(&mut stock).await;
        client.publish(request.reply.clone().unwrap(), "four".into()).await.unwrap();
    };
    let (answered, ()) = futures::future::join(ask(&client, subject), answer).await;
    assert_eq!(&answered.unwrap().payload[..], b"four");
}
