//! A topic, a group and an SDK for each test, and the raw client to look at what is on the wire.

use std::{
    process,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::executor::block_on;
use opentelemetry_sdk::trace::SpanData;
use otel_rdkafka::ClientConfig;
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    consumer::{BaseConsumer, Consumer},
    message::{BorrowedMessage, Message, OwnedMessage},
};
use support::{DEADLINE, Sdk, describe};

fn bootstrap_servers() -> &'static str {
    static KAFKA: OnceLock<brokers::Kafka> = OnceLock::new();
    &KAFKA.get_or_init(|| brokers::Kafka::start_real().unwrap_or_else(|missing| panic!("{missing}"))).bootstrap_servers
}

/// What the broker calls the cluster, as the raw client says.
pub(crate) fn cluster_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let client: AdminClient<_> =
            ClientConfig::new().set("bootstrap.servers", bootstrap_servers()).create().unwrap();
        client.inner().fetch_cluster_id(DEADLINE).unwrap()
    })
}

pub(crate) fn config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap_servers()).set("client.id", "shop");
    config
}

/// The first messages of a topic, read by the raw client.
pub(crate) fn on_the_wire(topic: &str, count: usize) -> Vec<OwnedMessage> {
    let mut config = config();
    config.set("group.id", format!("{topic}-wire")).set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let deadline = Instant::now() + DEADLINE;
    let mut messages = Vec::new();
    while messages.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} messages", messages.len());
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            messages.push(message.map(|message: BorrowedMessage<'_>| message.detach()).unwrap());
        }
    }
    messages
}

/// One test's topic of one partition, its group, and its SDK. In described spans the topic is `orders`, the group is
/// `payment` and the cluster is `harbour`.
pub(crate) struct Test {
    pub(crate) sdk: Sdk,
    pub(crate) topic: String,
    pub(crate) group: String,
}

impl Test {
    pub(crate) fn new() -> Self {
        Self::with_sdk(Sdk::new())
    }

    pub(crate) fn with_sdk(sdk: Sdk) -> Self {
        Self::with_topic(sdk, &[])
    }

    pub(crate) fn with_topic(sdk: Sdk, settings: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        let unique = format!("{}-{now}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let test = Self { sdk, topic: format!("t-{unique}"), group: format!("g-{unique}") };
        let admin: AdminClient<_> = test.config().create().unwrap();
        let mut topic = NewTopic::new(&test.topic, 1, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let made = block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
        assert_eq!(made, [Ok(test.topic.clone())]);
        test
    }

    pub(crate) fn config(&self) -> ClientConfig {
        config()
    }

    pub(crate) fn consumer_config(&self) -> ClientConfig {
        let mut config = self.config();
        config.set("group.id", &self.group).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
        config
    }

    /// What is in the topic, read by the raw client.
    pub(crate) fn on_the_wire(&self, count: usize) -> Vec<OwnedMessage> {
        on_the_wire(&self.topic, count)
    }

    /// Waits for so many spans, and gives them as text.
    pub(crate) fn described(&self, count: usize) -> String {
        self.named(&self.sdk.wait_for(count))
    }

    pub(crate) fn named(&self, spans: &[SpanData]) -> String {
        self.plain(describe(spans))
    }

    /// What was measured so far.
    pub(crate) fn measured(&self) -> String {
        self.plain(self.sdk.measured())
    }

    fn plain(&self, text: String) -> String {
        text.replace(&self.topic, "orders").replace(&self.group, "payment").replace(cluster_id(), "harbour")
    }

    /// The only span of this name.
    pub(crate) fn span(&self, name: &str) -> SpanData {
        let spans = self.sdk.spans();
        let mut found = spans.iter().filter(|span| span.name.replace(&self.topic, "orders") == name);
        let span = found.next().unwrap_or_else(|| panic!("no {name} in\n{}", self.named(&spans)));
        assert!(found.next().is_none(), "more than one {name} in\n{}", self.named(&spans));
        span.clone()
    }
}

/// The headers of a message as text, values that are not text as their bytes.
pub(crate) fn headers(message: &impl Message) -> Vec<(String, String)> {
    use rdkafka::message::Headers;
    let Some(headers) = message.headers() else { return Vec::new() };
    headers
        .iter()
        .map(|header| {
            let value = header.value.map_or("null".to_owned(), |value| {
                std::str::from_utf8(value).map_or_else(|_| format!("{value:?}"), str::to_owned)
            });
            (header.key.to_owned(), value)
        })
        .collect()
}

/// What a span's `traceparent` is.
pub(crate) fn traceparent(span: &SpanData) -> String {
    let context = &span.span_context;
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8())
}
