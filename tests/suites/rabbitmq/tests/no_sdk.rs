//! What happens while nothing is installed, and when it is installed late. In a process of its own: globals are global.

use std::{
    future::poll_fn,
    pin::pin,
    time::{Duration, Instant},
};

use brokers::RabbitMq;
use futures::StreamExt;
use lapin::{
    BasicProperties, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use opentelemetry::{Context, global};
use otel_lapin::{
    Connection, Consumer,
    otel::{Instrumentation, MessageExt, Propagation},
};
use support::{Counting, DEADLINE, Sdk, w3c};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations a call and its first poll make; what comes after them may be on any thread.
async fn allocations<F: Future>(call: impl FnOnce() -> F) -> usize {
    let before = Counting::here();
    let mut future = pin!(call());
    let mut counted = None;
    poll_fn(|task| {
        let polled = future.as_mut().poll(task).map(drop);
        counted.get_or_insert_with(|| Counting::here() - before);
        polled
    })
    .await;
    counted.unwrap_or_default()
}

async fn next(consumer: &mut Consumer) -> otel_lapin::message::Delivery {
    tokio::time::timeout(DEADLINE, consumer.next()).await.expect("a message in time").unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_then_suppressed_then_an_sdk_that_comes_late() {
    let broker = tokio::task::spawn_blocking(|| RabbitMq::start().expect("RabbitMQ starts")).await.unwrap();
    let connection = Connection::connect(&broker.uri, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let name = ShortString::from(format!("late-{}", std::process::id()));
    channel.queue_declare(name.clone(), exclusive, FieldTable::default()).await.unwrap();
    let mut consumer = channel
        .basic_consume(name.clone(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await
        .unwrap();
    let publish = || {
        channel.basic_publish(
            "".into(),
            name.clone(),
            BasicPublishOptions { mandatory: true, immediate: false },
            b"1",
            BasicProperties::default(),
        )
    };

    let publish_raw = || {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        channel.get_ref().basic_publish("".into(), name.clone(), options, b"1", BasicProperties::default())
    };

    // Nothing is installed: what is sent is what the user wrote, what arrives carries nothing.
    publish().await.unwrap().await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.properties, BasicProperties::default());
    delivery.in_scope(|| assert!(!has_span()));
    delivery.ack(BasicAckOptions::default()).await.unwrap();

    // And it costs no allocation. The least of some rounds, since lapin's queues grow now and then, and of more where only
    // one of the two met an answer that came early.
    let (mut raw, mut ours) = (usize::MAX, usize::MAX);
    for round in 0..2_000 {
        if round >= 100 && ours == raw {
            break;
        }
        raw = raw.min(allocations(publish_raw).await);
        ours = ours.min(allocations(&publish).await);
        for _ in 0..2 {
            next(&mut consumer).await.ack(BasicAckOptions::default()).await.unwrap();
        }
    }
    assert_eq!(ours, raw);
    assert_eq!(channel.wait_for_confirms().await.unwrap(), []);

    // Suppressed: the same, with an SDK at hand.
    let sdk = Sdk::new();
    let explicit = otel_lapin::Channel::from(channel.get_ref().clone()).with_instrumentation(
        Instrumentation::builder()
            .with_tracer_provider(sdk.provider())
            .with_propagation(Propagation::custom(w3c()))
            .build(),
    );
    let suppressed = {
        let _suppressed = Context::enter_telemetry_suppressed_scope();
        explicit.basic_publish("".into(), name.clone(), Default::default(), b"1", BasicProperties::default())
    };
    suppressed.await.unwrap().await.unwrap();
    assert_eq!(next(&mut consumer).await.properties, BasicProperties::default());
    assert_eq!(sdk.spans().len(), 0);

    // The SDK is installed after the client was built and has sent: soon everything is seen.
    let sdk = Sdk::new();
    global::set_tracer_provider(sdk.provider());
    global::set_text_map_propagator(w3c());
    let deadline = Instant::now() + DEADLINE;
    loop {
        publish().await.unwrap().await.unwrap();
        let delivery = next(&mut consumer).await;
        delivery.ack(BasicAckOptions::default()).await.unwrap();
        let carried = delivery.properties.headers().is_some();
        drop(delivery);
        let spans = sdk.spans();
        if carried && spans.iter().any(|span| span.name.starts_with("ack")) {
            let last = spans.iter().rev().find(|span| span.name.starts_with("process")).unwrap();
            assert!(spans.iter().any(|span| span.span_context.span_id() == last.parent_span_id));
            break;
        }
        assert!(Instant::now() < deadline, "the SDK was never found");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // A wrapper that lives for one message costs no more than what is its own: a pool may make as many.
    let pooled = connection.get_ref().create_channel().await.unwrap();
    let send = |wrapper: otel_lapin::Channel| {
        let name = name.clone();
        async move { wrapper.basic_publish("".into(), name, Default::default(), b"1", Default::default()).await }
    };
    let wrapper = otel_lapin::Channel::from(pooled.clone());
    let (mut kept, mut fresh) = (usize::MAX, usize::MAX);
    for _ in 0..100 {
        kept = kept.min(allocations(|| send(wrapper.clone())).await);
        fresh = fresh.min(allocations(|| send(otel_lapin::Channel::from(pooled.clone()))).await);
    }
    // What is still out on it, and what is not settled.
    const ITS_OWN: usize = 3;
    assert_eq!(fresh, kept + ITS_OWN);

    // Those that are made when none is left follow the SDK that is installed then.
    drop(wrapper);
    sdk.provider().shutdown().unwrap();
    let sdk = Sdk::new();
    global::set_tracer_provider(sdk.provider());
    send(otel_lapin::Channel::from(pooled)).await.unwrap();
    assert_eq!(sdk.wait_for(1).len(), 1);
}

fn has_span() -> bool {
    use opentelemetry::trace::TraceContextExt;
    Context::current().span().span_context().is_valid()
}
