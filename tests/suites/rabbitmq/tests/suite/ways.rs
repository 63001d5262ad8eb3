//! The ways in and out: raw messages made ours, and every wrapper taken apart.

use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures::{StreamExt, TryStreamExt};
use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions},
    types::FieldTable,
};
use opentelemetry::{Context, trace::TraceContextExt};
use otel_lapin::{
    Acker, Channel, Confirmation, Connection, Consumer, DefaultConnectionBuilder, PublisherConfirm,
    message::{BasicGetMessage, BasicReturnMessage, Delivery},
    otel::{Incoming, MessageExt, MessageStreamExt, raw},
};
use tokio::{sync::Barrier, time::timeout};

use crate::harness::{Rabbit, named};

#[tokio::test(flavor = "multi_thread")]
async fn process_each_handles_up_to_its_limit_each_in_its_span() {
    const MESSAGES: usize = 12;
    const LIMIT: usize = 4;
    let rabbit = Rabbit::new().await;
    let (orders, payments) = (rabbit.queue("orders").await, rabbit.queue("payments").await);
    for number in 0..MESSAGES {
        rabbit.publish(&orders, &[number as u8], BasicProperties::default()).await;
    }
    let consumer = rabbit.consume(&orders).await;
    let (running, handled) = (Cell::new(0), AtomicUsize::new(0));
    // Passed only when as many handlers as may run at a time do.
    let all_of_them = Barrier::new(LIMIT);
    let each = consumer.process_each(LIMIT, async |delivery| {
        running.set(running.get() + 1);
        all_of_them.wait().await;
        assert!(running.get() <= LIMIT);
        rabbit.publish(&payments, &delivery.data, BasicProperties::default()).await;
        delivery.ack(BasicAckOptions::default()).await.unwrap();
        running.set(running.get() - 1);
        handled.fetch_add(1, Ordering::Relaxed);
        if delivery.data == [3] { Err(std::io::Error::other("declined")) } else { Ok(()) }
    });
    let all = async {
        while handled.load(Ordering::Relaxed) < MESSAGES {
            tokio::task::yield_now().await;
        }
    };
    timeout(support::DEADLINE, futures::future::select(Box::pin(each), Box::pin(all))).await.expect("in time");

    let spans = rabbit.sdk.wait_for(4 * MESSAGES);
    let process = named(&spans, &format!("process {orders}"));
    for name in [format!("publish {payments}"), format!("ack {orders}")] {
        let mut parents: Vec<_> = named(&spans, &name).iter().map(|span| span.parent_span_id).collect();
        parents.sort_by_key(|id| process.iter().position(|span| span.span_context.span_id() == *id));
        let expected: Vec<_> = process.iter().map(|span| span.span_context.span_id()).collect();
        assert_eq!(parents, expected, "{name}");
    }
    assert_eq!(process.iter().filter(|span| support::attribute(span, "error.type").is_some()).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_deliveries_get_process_spans_one_by_one_and_as_a_stream() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    for _ in 0..2 {
        rabbit.publish(&queue, b"1", BasicProperties::default()).await;
    }
    let mut theirs = rabbit
        .raw
        .basic_consume(
            queue.as_str().into(),
            "".into(),
            BasicConsumeOptions { no_ack: false, ..Default::default() },
            FieldTable::default(),
        )
        .await
        .unwrap();
    let incoming = Incoming::of_queue(queue.as_str()).with_instrumentation(rabbit.sdk.instrumentation());
    let first = timeout(support::DEADLINE, theirs.next()).await.unwrap().unwrap().unwrap();
    let first = incoming.message(first);
    first.process(|| async { assert!(Context::current().has_active_span()) }).await;
    first.ack(BasicAckOptions::default()).await.unwrap();
    drop(first);
    let mut ours = incoming.stream(theirs);
    let second = timeout(support::DEADLINE, ours.try_next()).await.unwrap().unwrap().unwrap();
    second.ack(BasicAckOptions::default()).await.unwrap();
    drop(second);

    let spans = rabbit.sdk.wait_for(6);
    let published = named(&spans, &format!("publish {queue}"));
    for (process, publish) in named(&spans, &format!("process {queue}")).iter().zip(published) {
        assert_eq!(process.parent_span_id, publish.span_context.span_id());
        assert_eq!(support::attribute(process, "messaging.destination.name").unwrap().as_str(), queue);
    }
    assert_eq!(named(&spans, &format!("ack {queue}")).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_connection_s_channel_is_traced() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    let connection = Connection::from(raw::Connection::from(rabbit.connection));
    let pooled: &raw::Connection = connection.get_ref();
    let channel =
        Channel::from(pooled.create_channel().await.unwrap()).with_instrumentation(rabbit.sdk.instrumentation());
    let publish = channel.basic_publish(
        "".into(),
        queue.as_str().into(),
        BasicPublishOptions::default(),
        b"1",
        BasicProperties::default(),
    );
    publish.await.unwrap().await.unwrap();
    assert_eq!(rabbit.sdk.wait_for(1)[0].name, format!("publish {queue}"));
}

/// In by `From`, out by `From`: which of the two there is, by type.
#[test]
fn every_wrapper_has_its_ways() {
    fn both<Raw: From<Ours>, Ours: From<Raw>>() {}
    fn way_in<Raw, Ours: From<Raw>>() {}
    both::<raw::Connection, Connection>();
    both::<raw::Channel, Channel>();
    both::<raw::Consumer, Consumer>();
    both::<raw::Acker, Acker>();
    both::<raw::Confirmation, Confirmation>();
    both::<raw::message::Delivery, Delivery>();
    both::<raw::message::BasicGetMessage, BasicGetMessage>();
    both::<raw::message::BasicReturnMessage, BasicReturnMessage>();
    both::<raw::DefaultConnectionBuilder, DefaultConnectionBuilder>();
    way_in::<raw::PublisherConfirm, PublisherConfirm>();
}
