//! Beside `tracing` and tracing-opentelemetry, whose spans close while a message that was received inside them is kept. In a
//! process of its own: the subscriber is the process's.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use opentelemetry::{SpanId, trace::TracerProvider};
use otel_rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, StreamConsumer},
    message::OwnedMessage,
    otel::{Incoming, MessageExt, raw, sequential_blocking},
    producer::{BaseProducer, BaseRecord, Producer},
};
use support::{DEADLINE, Sdk, describe};
use tokio::time::timeout;
use tracing::{Instrument, info_span};
use tracing_subscriber::layer::SubscriberExt;

/// A topic that no other run has.
fn topic(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// What a service does with a message after the span that it was received in has closed.
fn handle(message: &impl MessageExt, producer: &BaseProducer) {
    message.in_scope(|| {
        info_span!("pack")
            .in_scope(|| producer.send(BaseRecord::<(), str>::to(&topic("packed")).payload("1")).unwrap());
    });
    // Once more, when its own span has ended too.
    info_span!("audit").in_scope(|| message.in_scope(|| info_span!("note").in_scope(|| ())));
    message.republish(|| producer.send(BaseRecord::<(), str>::to(&topic("retry")).payload("1")).unwrap());
}

/// The span has closed, and the message is its child; what was done for the message is the message's.
fn assert_parents(way: &str, sdk: &Sdk) {
    let spans = sdk.spans();
    let ids = |name: &str| {
        let named = spans.iter().filter(|span| span.name == name);
        named.map(|span| (span.span_context.span_id(), span.parent_span_id)).collect::<Vec<_>>()
    };
    let all = || format!("{way}:\n{}", describe(&spans));
    let ([(fetch, root)], [(process, parent)]) = (&ids("fetch")[..], &ids(&format!("process {}", topic("orders")))[..])
    else {
        panic!("{}", all())
    };
    assert_eq!((*root, parent), (SpanId::INVALID, fetch), "{}", all());
    for (name, parent) in [("pack", process), ("note", process)] {
        assert!(matches!(&ids(name)[..], [(_, of)] if of == parent), "{name} of {}", all());
    }
    assert_eq!(ids(&format!("send {}", topic("packed")))[0].1, ids("pack")[0].0, "{}", all());
}

#[tokio::test]
async fn a_span_closed_while_its_message_is_kept_is_its_parent() {
    let sdk = Sdk::new();
    let layer = tracing_opentelemetry::layer().with_tracer(sdk.provider().tracer("app"));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
    let broker = brokers::Kafka::start_real().unwrap_or_else(|missing| panic!("{missing}"));
    let config = |group: &str| {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &broker.bootstrap_servers).set("group.id", group);
        config.set("auto.offset.reset", "earliest").set("enable.auto.commit", "false").clone()
    };
    let theirs: raw::producer::BaseProducer = config("theirs").create().unwrap();
    theirs.send(raw::producer::BaseRecord::<(), str>::to(&topic("orders")).partition(0).payload("1")).unwrap();
    raw::producer::Producer::flush(&theirs, Duration::from_secs(10)).unwrap();
    let producer: BaseProducer = config("ours").create().unwrap();
    let producer = producer.with_instrumentation(sdk.instrumentation());
    let mut partition = TopicPartitionList::new();
    partition.add_partition_offset(&topic("orders"), 0, Offset::Beginning).unwrap();
    let done = |way: &str| {
        producer.flush(Duration::from_secs(10)).unwrap();
        assert_parents(way, &sdk);
        sdk.forget();
    };
    let base = |group: &str| {
        let consumer: BaseConsumer = config(group).create().unwrap();
        consumer.assign(&partition).unwrap();
        consumer.with_instrumentation(sdk.instrumentation())
    };
    let stream = |group: &str| {
        let consumer: StreamConsumer = config(group).create().unwrap();
        consumer.assign(&partition).unwrap();
        consumer.with_instrumentation(sdk.instrumentation())
    };

    let consumer = base("polled");
    let message = info_span!("fetch").in_scope(|| consumer.poll(DEADLINE).unwrap().unwrap());
    handle(&message, &producer);
    consumer.commit_message(&message, CommitMode::Async).unwrap();
    drop(message);
    done("poll");

    let consumer = Arc::new(base("queue"));
    let queue = consumer.split_partition_queue(&topic("orders"), 0).unwrap();
    assert!(consumer.poll(Duration::ZERO).is_none());
    let message = info_span!("fetch").in_scope(|| queue.poll(DEADLINE).unwrap().unwrap());
    handle(&message, &producer);
    drop(message);
    done("a partition queue");

    let consumer = stream("received");
    let received = timeout(DEADLINE, consumer.recv().instrument(info_span!("fetch"))).await.unwrap().unwrap();
    let message: OwnedMessage = received.detach();
    drop(received);
    // On a thread that has no span.
    std::thread::scope(|scope| _ = scope.spawn(|| handle(&message, &producer)));
    drop(message);
    done("recv");

    let consumer = stream("streamed");
    let mut messages = consumer.stream();
    let next = messages.next().instrument(info_span!("fetch"));
    let message = timeout(DEADLINE, next).await.unwrap().unwrap().unwrap();
    handle(&message, &producer);
    drop(message);
    done("a stream");

    let consumer: raw::consumer::StreamConsumer = config("raw").create().unwrap();
    raw::consumer::Consumer::assign(&consumer, &partition).unwrap();
    let incoming = Incoming::of(&consumer).with_instrumentation(sdk.instrumentation());
    let message = timeout(DEADLINE, consumer.recv()).await.unwrap().unwrap();
    let message = info_span!("fetch").in_scope(|| incoming.message(message));
    handle(&message, &producer);
    drop(message);
    done("a raw message made ours");

    let consumer = base("in-hand");
    sequential_blocking(|| {
        let message = info_span!("fetch").in_scope(|| consumer.poll(DEADLINE).unwrap().unwrap());
        handle(&message, &producer);
    });
    done("a message in hand");
}
