//! The ways in and out: raw messages made ours, and every wrapper taken apart.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::{StreamExt, future::select};
use opentelemetry::{Context, trace::TraceContextExt};
use otel_rdkafka::{
    ClientContext, Message,
    admin::AdminClient,
    client::Client,
    consumer::{BaseConsumer, Consumer, DefaultConsumerContext, StreamConsumer},
    message::{BorrowedMessage, OwnedMessage},
    otel::{Incoming, MessageExt, MessageStreamExt, Traced, raw},
    producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use raw::consumer::CommitMode;
use support::Sdk;
use tokio::{sync::Barrier, time::timeout};

use crate::harness::Test;

fn sent(test: &Test, messages: usize) {
    let producer: BaseProducer = test.config().create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    for number in 0..messages {
        producer.send(BaseRecord::<(), _>::to(&test.topic).payload(&[number as u8][..])).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
}

#[tokio::test]
async fn process_each_handles_up_to_its_limit_each_in_its_span() {
    const MESSAGES: usize = 12;
    const LIMIT: usize = 4;
    let test = Test::new();
    sent(&test, MESSAGES);
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    let consumer = consumer.with_instrumentation(test.sdk.instrumentation());
    consumer.subscribe(&[&test.topic]).unwrap();
    let (running, handled) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // Passed only when as many handlers as may run at a time do.
    let all_of_them = Barrier::new(LIMIT);
    let each = consumer.stream().process_each(LIMIT, async |message| {
        assert!(running.fetch_add(1, Ordering::Relaxed) < LIMIT);
        let own = message.otel_context().span().span_context().span_id();
        all_of_them.wait().await;
        assert_eq!(Context::current().span().span_context().span_id(), own);
        consumer.commit_message(&message, CommitMode::Async).unwrap();
        running.fetch_sub(1, Ordering::Relaxed);
        handled.fetch_add(1, Ordering::Relaxed);
        if message.payload() == Some(&[3]) { Err(std::io::Error::other("declined")) } else { Ok(()) }
    });
    let all = async {
        while handled.load(Ordering::Relaxed) < MESSAGES {
            tokio::task::yield_now().await;
        }
    };
    timeout(support::DEADLINE, select(Box::pin(each), Box::pin(all))).await.expect("in time");

    let spans = test.sdk.wait_for(3 * MESSAGES);
    assert_eq!(spans.len(), 3 * MESSAGES);
    let process = format!("process {}", test.topic);
    let errors = spans.iter().filter(|span| support::attribute(span, "error.type").is_some());
    assert_eq!(errors.map(|span| &*span.name).collect::<Vec<_>>(), [process.as_str()]);
    for commit in spans.iter().filter(|span| span.name.starts_with("commit")) {
        let parent = spans.iter().find(|span| span.span_context.span_id() == commit.parent_span_id).unwrap();
        let offset = |span| support::attribute(span, "messaging.kafka.offset").cloned();
        assert_eq!((&*parent.name, offset(parent)), (process.as_str(), offset(commit)));
    }
}

#[tokio::test]
async fn raw_messages_get_process_spans_one_by_one_and_as_a_stream() {
    use raw::consumer::Consumer as _;
    let test = Test::new();
    sent(&test, 3);
    let theirs: raw::consumer::StreamConsumer = test.consumer_config().create().unwrap();
    theirs.subscribe(&[&test.topic]).unwrap();
    let incoming = Incoming::of(&theirs).with_instrumentation(test.sdk.instrumentation());

    let first = incoming.message(timeout(support::DEADLINE, theirs.recv()).await.unwrap().unwrap());
    first.process(|| async { assert!(Context::current().has_active_span()) }).await;
    theirs.commit_message(&first, CommitMode::Sync).unwrap();
    let first: raw::message::BorrowedMessage<'_> = first.into_inner().unwrap();
    assert_eq!(first.payload(), Some(&[0][..]));

    let owned = incoming.owned_message(theirs.recv().await.unwrap().detach());
    drop(owned.into_inner());

    let mut ours = Box::pin(incoming.stream(theirs.stream()));
    let third: BorrowedMessage<'_> = timeout(support::DEADLINE, ours.next()).await.unwrap().unwrap().unwrap();
    third.in_scope(|| ());
    drop(third);

    // As if our own consumer had delivered them.
    let spans = test.sdk.wait_for(6);
    let described = test.named(&[spans[0].clone(), spans[3].clone()]);
    assert!(
        described.ends_with(
            r#"process orders
  kind CONSUMER
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  parent send orders
  link send orders
  status unset
  messaging.client.id = "shop"
  messaging.consumer.group.name = "payment"
  messaging.destination.name = "orders"
  messaging.destination.partition.id = "0"
  messaging.kafka.offset = 0
  messaging.operation.name = "process"
  messaging.operation.type = "process"
  messaging.system = "kafka"
"#
        ),
        "{described}"
    );
    for (send, process) in spans[..3].iter().zip(&spans[3..]) {
        assert_eq!(process.parent_span_id, send.span_context.span_id());
    }
}

#[test]
fn a_message_of_an_unknown_consumer_has_a_process_span_too() {
    let sdk = Sdk::new();
    let incoming = Incoming::of_unknown().with_instrumentation(sdk.instrumentation());
    let message = raw::message::OwnedMessage::new(
        Some(b"four apples".to_vec()),
        None,
        "orders".to_owned(),
        raw::Timestamp::NotAvailable,
        2,
        17,
        None,
    );
    drop(incoming.owned_message(message));
    let spans = sdk.spans();
    assert_eq!(spans[0].name, "process orders");
    assert_eq!(support::attribute(&spans[0], "messaging.client.id"), None);
}

/// In by `From`, out by `into_inner`, looked at by `get_ref`.
#[tokio::test]
async fn every_wrapper_has_its_ways() {
    type Context = Traced<DefaultConsumerContext>;
    fn way_in<Raw, Ours: From<Raw>>() {}
    fn both<Raw: From<Ours>, Ours: From<Raw>>() {}
    way_in::<raw::consumer::BaseConsumer<Context>, BaseConsumer>();
    way_in::<raw::consumer::StreamConsumer<Context>, StreamConsumer>();
    way_in::<raw::producer::BaseProducer<Traced<DefaultProducerContext>>, BaseProducer>();
    way_in::<raw::producer::ThreadedProducer<Traced<DefaultProducerContext>>, ThreadedProducer<DefaultProducerContext>>(
    );
    way_in::<raw::client::Client<Context>, Client<DefaultConsumerContext>>();
    way_in::<raw::admin::AdminClient<Context>, AdminClient<DefaultConsumerContext>>();
    way_in::<raw::message::BorrowedMessage<'_>, BorrowedMessage<'_>>();
    both::<raw::message::OwnedMessage, OwnedMessage>();

    let consumer: StreamConsumer = otel_rdkafka::ClientConfig::new().create().unwrap();
    let _: &raw::consumer::MessageStream<'_, Context> = consumer.stream().get_ref();
    let _: raw::consumer::MessageStream<'_, Context> = consumer.stream().into_inner();
    let back: raw::consumer::StreamConsumer<Context> = consumer.into_inner();
    let _ = StreamConsumer::from(back);
}

/// Somebody else's function, generic over rdkafka's own traits.
fn assigned<X: raw::consumer::ConsumerContext>(consumer: &impl raw::consumer::Consumer<X>) -> usize {
    consumer.assignment().unwrap().count()
}

fn native<X, P>(producer: &P) -> *mut raw::types::RDKafka
where
    X: raw::producer::ProducerContext + ClientContext,
    P: raw::producer::Producer<X>,
{
    producer.client().native_ptr()
}

fn length(message: &impl raw::message::Message) -> usize {
    message.payload().map_or(0, <[u8]>::len)
}

#[test]
fn generic_code_over_the_raw_traits_takes_ours() {
    let mut config = otel_rdkafka::ClientConfig::new();
    let producer: BaseProducer = config.create().unwrap();
    assert_eq!(native(&producer), Producer::client(&producer).native_ptr());
    let consumer: BaseConsumer = config.set("group.id", "payment").create().unwrap();
    assert_eq!(assigned(&consumer), 0);
    let message =
        OwnedMessage::new(Some(vec![1]), None, String::new(), otel_rdkafka::Timestamp::NotAvailable, 0, 0, None);
    assert_eq!(length(&message), 1);
}
