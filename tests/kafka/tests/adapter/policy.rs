//! Where a process span stands, by the policy, what was current, and what the message brought.

use std::time::{Duration, SystemTime};

use futures::StreamExt;
use opentelemetry::{
    Context, SpanId,
    baggage::BaggageExt,
    trace::{FutureExt, SpanContext, TraceContextExt},
};
use opentelemetry_sdk::trace::SpanData;
use otel_rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    message::{Header, OwnedHeaders},
    otel::{Auto, Correlation, InstrumentationBuilder, MessageExt, process_batch},
    producer::BaseRecord,
};
use rdkafka::producer::Producer as _;
use support::Sdk;

use crate::broker::Test;

/// Parent and links of each process span, and the baggage its handler sees.
const TABLE: &str = "\
policy     message       alone                in a span                    baggage
Link       usual         root +sender         ambient +sender              usual
Link       unsampled     root +sender         ambient +sender              unsampled
Link       absent        root                 ambient                      -
Link       foreign       root                 ambient                      foreign
Link       old           root +sender         ambient +sender              old
Link       again         root +sender         ambient +sender              again
Link       dead letter   root +sender         ambient +sender              dead letter
Link       batch         root +5              ambient +5                   -
NoAmbient  usual         sender +sender       ambient +sender              usual
NoAmbient  unsampled     sender +sender       ambient +sender              unsampled
NoAmbient  absent        root                 ambient                      -
NoAmbient  foreign       root                 ambient                      foreign
NoAmbient  old           sender +sender       ambient +sender              old
NoAmbient  again         sender +sender       ambient +sender              again
NoAmbient  dead letter   sender +sender       ambient +sender              dead letter
NoAmbient  batch         root +5              ambient +5                   -
Parent     usual         sender +sender       sender +sender +ambient      usual
Parent     unsampled     sender +sender       sender +sender +ambient      unsampled
Parent     absent        root                 ambient                      -
Parent     foreign       root                 ambient                      foreign
Parent     old           sender +sender       sender +sender +ambient      old
Parent     again         sender +sender       sender +sender +ambient      again
Parent     dead letter   sender +sender       sender +sender +ambient      dead letter
Parent     batch         root +5              ambient +5                   -
Auto       usual         sender +sender       ambient +sender              usual
Auto       unsampled     sender +sender       ambient +sender              unsampled
Auto       absent        root                 ambient                      -
Auto       foreign       root                 ambient                      foreign
Auto       old           root +sender         root +sender +ambient        old
Auto       again         root +sender         root +sender +ambient        again
Auto       dead letter   root +sender         root +sender +ambient        dead letter
Auto       batch         root +5              ambient +5                   -
untrusted  usual         root +sender         ambient +sender              -
untrusted  unsampled     root +sender         ambient +sender              -
untrusted  absent        root                 ambient                      -
untrusted  foreign       root                 ambient                      -
untrusted  old           root +sender         ambient +sender              -
untrusted  again         root +sender         ambient +sender              -
untrusted  dead letter   root +sender         ambient +sender              -
untrusted  batch         root +5              ambient +5                   -
";

const MESSAGES: [&str; 7] = ["usual", "unsampled", "absent", "foreign", "old", "again", "dead letter"];

const POLICIES: [&str; 5] = ["Link", "NoAmbient", "Parent", "Auto", "untrusted"];

fn policy(builder: InstrumentationBuilder, name: &str) -> InstrumentationBuilder {
    match name {
        "Link" => builder.correlation(Correlation::Link),
        "NoAmbient" => builder.correlation(Correlation::ParentIfNoAmbient),
        "Parent" => builder.correlation(Correlation::Parent),
        "Auto" => builder.correlation(Correlation::Auto(Auto::default())),
        "untrusted" => builder.correlation(Correlation::Parent).untrusted_source(true),
        other => panic!("no policy {other}"),
    }
}

/// The span that the sender of the message at this offset left in it.
fn sender(offset: usize) -> String {
    format!("{:016x}", offset + 1)
}

/// Sends each message with the raw client.
fn send(test: &Test) {
    let producer: rdkafka::producer::BaseProducer = test.config().create().unwrap();
    for (offset, message) in MESSAGES.into_iter().enumerate() {
        let span = sender(offset);
        let text = |headers: OwnedHeaders, key, value: &str| headers.insert(Header { key, value: Some(value) });
        let mut headers = text(OwnedHeaders::new(), "tenant", "blue");
        headers = match message {
            "absent" => headers,
            "foreign" => text(headers, "traceparent", "Root=1-67891233-abcdef012345678912345678"),
            "unsampled" => text(headers, "traceparent", &format!("00-{:032x}-{span}-00", offset + 1)),
            _ => text(headers, "traceparent", &format!("00-{:032x}-{span}-01", offset + 1)),
        };
        headers = match message {
            "absent" => headers,
            _ => text(headers, "baggage", &format!("message={}", message.replace(' ', "%20"))),
        };
        headers = match message {
            "again" => headers.insert(Header { key: "retry_topic-attempts", value: Some(&[0_u8, 0, 0, 2]) }),
            "dead letter" => text(headers, "kafka_dlt-original-topic", "orders"),
            _ => headers,
        };
        let age = if message == "old" { Duration::from_secs(7_200) } else { Duration::ZERO };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() - age;
        let record = BaseRecord::<(), str>::to(&test.topic).payload("four apples").headers(headers);
        producer.send(record.timestamp(now.as_millis().try_into().unwrap())).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
}

fn consumer(test: &Test, sdk: &Sdk, name: &str) -> StreamConsumer {
    let consumer: StreamConsumer = test.consumer_config().create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&test.topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    consumer.with_instrumentation(policy(sdk.instrumentation_builder(), name).build())
}

/// Where a span stands, and the baggage that was current in it.
type Cell = (String, String);

/// Each message by itself; then all of them as a batch.
async fn rows(test: &Test, name: &str, ambient: Option<&str>) -> Vec<Cell> {
    let sdk = Sdk::new();
    let outer = ambient.map(|_| sdk.app_span("loop"));
    let current = outer.clone().unwrap_or_default();
    let mut rows = Vec::new();
    let consumer_of_each = consumer(test, &sdk, name);
    for (offset, message) in MESSAGES.into_iter().enumerate() {
        let received = consumer_of_each.recv().with_context(current.clone()).await.unwrap();
        assert_eq!(received.offset(), i64::try_from(offset).unwrap(), "{message}");
        let baggage = received.process(async { baggage() }).with_context(current.clone()).await.unwrap();
        drop(received);
        let spans = sdk.wait_for(offset + 1);
        let senders = [(SpanId::from_hex(&sender(offset)).unwrap(), "sender")];
        rows.push((standing(&spans[offset], &senders, outer.as_ref()), baggage));
    }
    let consumer_of_all = consumer(test, &sdk, name);
    let receive = consumer_of_all.stream().take(MESSAGES.len()).map(Result::unwrap).collect::<Vec<_>>();
    let batch = receive.with_context(current.clone()).await;
    let work = {
        let _attached = current.attach();
        process_batch(&batch, async { baggage() })
    };
    let baggage = work.await.unwrap();
    drop(batch);
    let span = sdk.wait_for(MESSAGES.len() + 1).pop().unwrap();
    let where_it_is = standing(&span, &[], outer.as_ref());
    let (parent, _) = where_it_is.split_once(' ').unwrap();
    rows.push((format!("{parent} +{}", span.links.len()), baggage));
    rows
}

/// What the handler sees.
#[allow(clippy::unnecessary_wraps, reason = "a handler's outcome")]
fn baggage() -> Result<String, std::fmt::Error> {
    let baggage = Context::current().baggage().get("message").map(ToString::to_string);
    Ok(baggage.unwrap_or_else(|| "-".to_owned()))
}

fn standing(span: &SpanData, senders: &[(SpanId, &str)], ambient: Option<&Context>) -> String {
    let ambient = ambient.map(|ambient| ambient.span().span_context().clone());
    let name = |id: SpanId| match senders.iter().find(|(sender, _)| *sender == id) {
        _ if id == SpanId::INVALID => "root".to_owned(),
        Some((_, name)) => (*name).to_owned(),
        None if ambient.as_ref().map(SpanContext::span_id) == Some(id) => "ambient".to_owned(),
        None => id.to_string(),
    };
    let mut text = name(span.parent_span_id);
    for link in span.links.iter() {
        text += &format!(" +{}", name(link.span_context.span_id()));
    }
    text
}

#[tokio::test]
async fn p01_p09_p10_the_policy_decides() {
    let test = Test::new();
    send(&test);
    let mut table = format!("{:<11}{:<14}{:<21}{:<29}{}\n", "policy", "message", "alone", "in a span", "baggage");
    for name in POLICIES {
        let (alone, inside) = futures::join!(rows(&test, name, None), rows(&test, name, Some("loop")));
        for (message, (alone, inside)) in MESSAGES.into_iter().chain(["batch"]).zip(alone.into_iter().zip(inside)) {
            assert_eq!(alone.1, inside.1, "the baggage of {message} under {name}");
            table += &format!("{name:<11}{message:<14}{:<21}{:<29}{}\n", alone.0, inside.0, alone.1);
        }
    }
    assert_eq!(table, TABLE, "\n{table}");
}
