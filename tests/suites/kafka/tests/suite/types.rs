//! The types are what the raw client's are: the same auto traits, both sets of traits, and a way in and out.

use std::{
    fmt::Debug,
    panic::{RefUnwindSafe, UnwindSafe},
};

use otel_rdkafka::{
    ClientContext, consumer, message,
    otel::{Traced, raw},
    producer,
};

/// The auto traits of a type, told without naming them in bounds.
macro_rules! autos {
    ($type:ty) => {{
        #[allow(unused_imports, reason = "each is used for some type")]
        use no::*;
        struct Of<T>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "each is used for some type")]
        impl<T: Send> Of<T> {
            const SEND: bool = true;
        }
        #[allow(dead_code, reason = "each is used for some type")]
        impl<T: Sync> Of<T> {
            const SYNC: bool = true;
        }
        #[allow(dead_code, reason = "each is used for some type")]
        impl<T: Unpin> Of<T> {
            const UNPIN: bool = true;
        }
        #[allow(dead_code, reason = "each is used for some type")]
        impl<T: UnwindSafe> Of<T> {
            const UNWIND: bool = true;
        }
        #[allow(dead_code, reason = "each is used for some type")]
        impl<T: RefUnwindSafe> Of<T> {
            const REF_UNWIND: bool = true;
        }
        impl<T> NoSend for Of<T> {}
        impl<T> NoSync for Of<T> {}
        impl<T> NoUnpin for Of<T> {}
        impl<T> NoUnwind for Of<T> {}
        impl<T> NoRefUnwind for Of<T> {}
        [
            ("Send", Of::<$type>::SEND),
            ("Sync", Of::<$type>::SYNC),
            ("Unpin", Of::<$type>::UNPIN),
            ("UnwindSafe", Of::<$type>::UNWIND),
            ("RefUnwindSafe", Of::<$type>::REF_UNWIND),
        ]
    }};
}

/// What an inherent constant hides where its bound holds.
#[allow(dead_code, reason = "each is used for some type, or for none where all have the trait")]
mod no {
    pub(super) trait NoSend {
        const SEND: bool = false;
    }
    pub(super) trait NoSync {
        const SYNC: bool = false;
    }
    pub(super) trait NoUnpin {
        const UNPIN: bool = false;
    }
    pub(super) trait NoUnwind {
        const UNWIND: bool = false;
    }
    pub(super) trait NoRefUnwind {
        const REF_UNWIND: bool = false;
    }
}

macro_rules! same_autos {
    ($($ours:ty = $raw:ty;)*) => {$(
        assert_eq!(autos!($ours), autos!($raw), "{}", stringify!($ours));
    )*};
}

#[test]
fn auto_traits_are_the_raw_clients() {
    use consumer::DefaultConsumerContext as Consumer;
    use producer::DefaultProducerContext as Producer;

    same_autos! {
        producer::BaseProducer = raw::producer::BaseProducer;
        producer::ThreadedProducer<Producer> = raw::producer::ThreadedProducer<Producer>;
        producer::FutureProducer = raw::producer::FutureProducer;
        producer::DeliveryFuture = raw::producer::DeliveryFuture;
        consumer::BaseConsumer = raw::consumer::BaseConsumer;
        consumer::StreamConsumer = raw::consumer::StreamConsumer;
        consumer::MessageStream<'static, Consumer> = raw::consumer::MessageStream<'static, Consumer>;
        consumer::base_consumer::PartitionQueue<Consumer> = raw::consumer::base_consumer::PartitionQueue<Consumer>;
        consumer::stream_consumer::StreamPartitionQueue<Consumer> =
            raw::consumer::stream_consumer::StreamPartitionQueue<Consumer>;
        message::BorrowedMessage<'static> = raw::message::BorrowedMessage<'static>;
        message::OwnedMessage = raw::message::OwnedMessage;
        otel_rdkafka::client::Client = raw::client::Client;
    }
}

#[test]
fn transparent_types_are_as_large_as_what_they_wrap() {
    use consumer::DefaultConsumerContext as Context;

    assert_eq!(size_of::<consumer::BaseConsumer>(), size_of::<raw::consumer::BaseConsumer<Traced<Context>>>());
    assert_eq!(size_of::<consumer::StreamConsumer>(), size_of::<raw::consumer::StreamConsumer<Traced<Context>>>());
    assert_eq!(size_of::<otel_rdkafka::client::Client<Context>>(), size_of::<raw::client::Client<Traced<Context>>>());
}

/// A function of somebody else's, written for the raw traits.
fn healthy<C: raw::producer::ProducerContext>(producer: &impl raw::producer::Producer<C>) -> bool {
    producer.client().fatal_error().is_none()
}

fn assigned<C: raw::consumer::ConsumerContext>(consumer: &impl raw::consumer::Consumer<C>) -> usize {
    consumer.assignment().unwrap().count()
}

fn topics<C: ClientContext>(client: &otel_rdkafka::client::Client<C>) -> bool {
    client.native_ptr().is_null()
}

#[tokio::test]
async fn functions_for_the_raw_traits_take_ours() {
    let config = otel_rdkafka::ClientConfig::new();
    let base: producer::BaseProducer = config.create().unwrap();
    let threaded: producer::ThreadedProducer<_> = config.create_with_context(producer::DefaultProducerContext).unwrap();
    let future: producer::FutureProducer = config.create().unwrap();
    assert!(healthy(&base) && healthy(&threaded) && healthy(&future));
    assert!(!topics(producer::Producer::client(&future.clone())));

    let grouped = config.clone().set("group.id", "g").clone();
    let base: consumer::BaseConsumer = grouped.create().unwrap();
    let stream: consumer::StreamConsumer = grouped.create().unwrap();
    assert_eq!((assigned(&base), assigned(&stream)), (0, 0));
    assert!(!topics(consumer::Consumer::client(&stream)));
}

#[tokio::test]
async fn there_is_a_way_in_and_out() {
    let config = otel_rdkafka::ClientConfig::new();
    let base: producer::BaseProducer = config.create().unwrap();
    let raw: raw::producer::BaseProducer<Traced<_>> = base.into_inner();
    let base = producer::BaseProducer::from(raw);
    assert!(healthy(base.get_ref()));

    let grouped = config.clone().set("group.id", "g").clone();
    let stream: consumer::StreamConsumer = grouped.create().unwrap();
    let stream = consumer::StreamConsumer::from(stream.into_inner());
    assert_eq!(assigned(stream.get_ref()), 0);
    let polled: consumer::BaseConsumer = grouped.create().unwrap();
    let polled = consumer::BaseConsumer::from(polled.into_inner());
    assert_eq!(assigned(polled.get_ref()), 0);
}

#[test]
fn everything_can_be_printed() {
    fn is_debug<T: Debug>() {}
    is_debug::<producer::BaseProducer>();
    is_debug::<producer::ThreadedProducer<producer::DefaultProducerContext>>();
    is_debug::<producer::FutureProducer>();
    is_debug::<consumer::BaseConsumer>();
    is_debug::<consumer::StreamConsumer>();
    is_debug::<message::BorrowedMessage<'_>>();
    is_debug::<message::OwnedMessage>();
    is_debug::<Traced<()>>();
}

#[tokio::test]
async fn an_admin_clients_inner_client_is_ours() {
    use otel_rdkafka::{
        admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
        client::{Client, DefaultClientContext},
    };

    let test = crate::harness::Test::new();
    let admin: AdminClient<DefaultClientContext> = test.config().create().unwrap();
    let inner: &Client<DefaultClientContext> = admin.inner();
    let metadata = inner.fetch_metadata(Some(&test.topic), std::time::Duration::from_secs(10)).unwrap();
    assert_eq!(metadata.topics()[0].partitions().len(), 1);
    let again = NewTopic::new(&test.topic, 1, TopicReplication::Fixed(1));
    let results = admin.create_topics([&again], &AdminOptions::new()).await.unwrap();
    assert_eq!(results, [Err((test.topic.clone(), otel_rdkafka::error::RDKafkaErrorCode::TopicAlreadyExists))]);
}

/// Written for the raw trait, in a crate that cannot be changed.
#[derive(Default)]
struct Theirs(std::sync::atomic::AtomicUsize);

impl ClientContext for Theirs {}

impl raw::consumer::ConsumerContext for Theirs {
    fn commit_callback(&self, result: otel_rdkafka::error::KafkaResult<()>, _: &otel_rdkafka::TopicPartitionList) {
        result.unwrap();
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn a_foreign_consumer_context_serves() {
    use consumer::Consumer;
    use otel_rdkafka::otel::RawConsumerContext;

    let test = crate::harness::Test::new();
    let producer: raw::producer::BaseProducer = test.config().create().unwrap();
    producer.send(raw::producer::BaseRecord::<(), str>::to(&test.topic).payload("x")).unwrap();
    raw::producer::Producer::flush(&producer, std::time::Duration::from_secs(10)).unwrap();
    let mut config = test.consumer_config();
    config.set("enable.auto.commit", "true").set("auto.commit.interval.ms", "50");
    let consumer: consumer::BaseConsumer<RawConsumerContext<Theirs>> =
        config.create_with_context(RawConsumerContext(Theirs::default())).unwrap();
    let consumer = consumer.with_instrumentation(test.sdk.instrumentation());
    consumer.subscribe(&[&test.topic]).unwrap();
    support::eventually("an automatic commit", || {
        drop(consumer.poll(std::time::Duration::from_millis(50)).map(Result::unwrap));
        consumer.context().0.0.load(std::sync::atomic::Ordering::Relaxed) > 0
    });
    // It succeeded, and only the message has a span.
    assert_eq!(test.sdk.wait_for(1).len(), 1);
    assert!(test.described(1).starts_with("process orders"));
}
