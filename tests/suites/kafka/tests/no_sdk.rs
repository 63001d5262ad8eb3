//! What the process's globals decide: no SDK, and one that comes late. Alone in its process, and in one test, because the
//! globals are the process's.

use std::time::{Duration, Instant};

use opentelemetry::{Context, global, trace::TraceContextExt};
use opentelemetry_sdk::trace::Sampler;
use otel_rdkafka::{
    ClientConfig, Message,
    consumer::{BaseConsumer, CommitMode, Consumer},
    message::BorrowedMessage,
    otel::{MessageExt, ReceivedMessage},
    producer::{BaseProducer, BaseRecord, Producer},
};
use support::{Sdk, describe, eventually};

struct Clients {
    topic: &'static str,
    producer: BaseProducer,
    consumer: BaseConsumer,
}

impl Clients {
    fn new(bootstrap_servers: &str, topic: &'static str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap_servers).set("linger.ms", "0");
        let producer = config.create().unwrap();
        config.set("group.id", topic).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
        // The topic is made by its first use.
        config.set("topic.metadata.refresh.interval.ms", "200").set("allow.auto.create.topics", "true");
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.subscribe(&[topic]).unwrap();
        Self { topic, producer, consumer }
    }

    fn send(&self) {
        self.producer.send(BaseRecord::<(), str>::to(self.topic).payload("four apples")).unwrap();
        self.producer.flush(Duration::from_secs(20)).unwrap();
    }

    fn receive(&self) -> BorrowedMessage<'_> {
        let mut message = None;
        eventually("a message", || {
            message = self.consumer.poll(Duration::from_millis(100)).and_then(Result::ok);
            message.is_some()
        });
        message.unwrap()
    }

    /// One message there and back and committed.
    fn round_trip(&self) -> Vec<(String, String)> {
        self.send();
        let message = self.receive();
        assert_eq!(message.payload(), Some(&b"four apples"[..]));
        message.in_scope(|| ());
        self.consumer.commit_message(&message, CommitMode::Sync).unwrap();
        headers(&message)
    }
}

fn headers(message: &BorrowedMessage<'_>) -> Vec<(String, String)> {
    use otel_rdkafka::message::Headers;
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    headers
        .map(|header| (header.key.to_owned(), String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned()))
        .collect()
}

#[test]
fn the_globals_decide() {
    let kafka = brokers::Kafka::start_real().unwrap_or_else(|missing| panic!("{missing}"));
    let early = Clients::new(&kafka.bootstrap_servers, &*format!("early-{}", std::process::id()).leak());

    // Nothing is installed: the raw client's call, and nothing else.
    assert_eq!(early.round_trip(), []);
    // But for a look at the globals once a second, which the first message after it may be.
    let deadline = Instant::now() + Duration::from_secs(10);
    let unrecorded = loop {
        assert!(Instant::now() < deadline, "every message is told of");
        early.send();
        let message = early.receive().detach();
        if message.process_span().is_none() {
            break message;
        }
    };
    unrecorded.in_scope(|| assert!(!Context::current().span().span_context().is_valid()));

    // An SDK is installed when the clients have long been at work: within a second each of them tells.
    let sdk = Sdk::new();
    global::set_tracer_provider(sdk.provider());
    global::set_text_map_propagator(support::w3c());
    let deadline = Instant::now() + Duration::from_secs(10);
    let recorded = loop {
        assert!(Instant::now() < deadline, "never told:\n{}", sdk.described());
        let before = sdk.spans().len();
        let headers = early.round_trip();
        if sdk.spans().len() == before + 3 {
            break headers;
        }
    };
    let spans = sdk.spans();
    let names: Vec<_> = spans.iter().rev().take(3).map(|span| span.name.replace(early.topic, "early")).collect();
    assert_eq!(names, ["commit early", "process early", "send early"], "{}", describe(&spans));
    let send = &spans[spans.len() - 3].span_context;
    assert_eq!(recorded, [("traceparent".to_owned(), format!("00-{}-{}-01", send.trace_id(), send.span_id()))]);

    // Suppressed: the raw client's call again.
    let before = sdk.spans().len();
    {
        let _suppressed = Context::enter_telemetry_suppressed_scope();
        assert_eq!(early.round_trip(), []);
    }
    assert_eq!(sdk.spans().len(), before);

    // Sampled out: no spans, and the decision travels.
    let silent = Sdk::with_sampler(Sampler::AlwaysOff);
    let sampled_out = Clients::new(&kafka.bootstrap_servers, &*format!("out-{}", std::process::id()).leak());
    let sampled_out = Clients {
        producer: sampled_out.producer.with_instrumentation(silent.instrumentation()),
        consumer: sampled_out.consumer.with_instrumentation(silent.instrumentation()),
        ..sampled_out
    };
    let headers = sampled_out.round_trip();
    assert_eq!(headers.len(), 1);
    assert!(headers[0].1.ends_with("-00"), "{headers:?}");
    assert_eq!(silent.spans().len(), 0);
    assert_eq!(sdk.spans().len(), before, "an instrumentation of its own is not the global one");
}
