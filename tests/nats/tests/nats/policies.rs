//! Every policy with every kind of message, with and without a span that is active at the hand-out.

use std::time::Duration;

use async_nats::HeaderMap;
use futures::{StreamExt, future::poll_fn};
use opentelemetry::{
    KeyValue, SpanId,
    baggage::BaggageExt,
    trace::{SpanContext, SpanKind, TraceContextExt},
};
use opentelemetry_sdk::trace::SpanData;
use otel_async_nats::{
    Client,
    jetstream::{
        self, AckKind,
        consumer::{DeliverPolicy, pull, push},
    },
    otel::{Auto, Correlation, IncomingJetStream, Instrumentation, MessageExt, process_batch},
    service::ServiceExt,
};
use support::Sdk;

use crate::{connect, connect_with, durable, end, next, stream_of, unique, within};

/// The parent of the process span, then its links: `-` is none, `c` what the sender left in the message, `a` the span that
/// was active when the message was handed out.
///
/// The last column is `Parent` for a source that is not trusted.
const TABLE: &str = "
message     | active | Link | ParentIfNoAmbient | Parent | Auto | untrusted
------------+--------+------+-------------------+--------+------+----------
valid       | no     | - c  | c c               | c c    | c c  | - c
valid       | yes    | a c  | a c               | c ca   | a c  | a c
unsampled   | no     | - c  | c c               | c c    | c c  | - c
unsampled   | yes    | a c  | a c               | c ca   | a c  | a c
foreign     | no     | - c  | c c               | c c    | c c  | - c
foreign     | yes    | a c  | a c               | c ca   | a c  | a c
absent      | no     | -    | -                 | -      | -    | -
absent      | yes    | a    | a                 | a      | a    | a
old         | no     | - c  | c c               | c c    | - c  | - c
old         | yes    | a c  | a c               | c ca   | - ca | a c
redelivered | no     | - c  | c c               | c c    | - c  | - c
redelivered | yes    | a c  | a c               | c ca   | - ca | a c
replayed    | no     | - c  | c c               | c c    | - c  | - c
replayed    | yes    | a c  | a c               | c ca   | - ca | a c
batch       | no     | - cc | - cc              | - cc   | - cc | - cc
batch       | yes    | a cc | a cc              | a cc   | a cc | a cc
";

const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const FOREIGN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// All messages are sent by one client, and each is received by a consumer of that client with a policy of its own.
#[tokio::test]
async fn p01_p09_p23_the_policy_of_a_consumer_decides_and_baggage_arrives_in_every_mode() {
    let sending = Sdk::new();
    let context = jetstream::new(connect(&sending).await);
    let mut rows = TABLE.trim().lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let policies = rows.next().unwrap().split_off(2);
    for row in rows.skip(1) {
        let (message, active) = (row[0], row[1] == "yes");
        for (policy, expected) in policies.iter().zip(&row[2..]) {
            let found = relation(&context, policy, message, active).await;
            assert_eq!(&found, expected, "{policy}, a message that is {message}, a span active: {active}");
        }
    }
}

fn instrumentation(sdk: &Sdk, policy: &str, message: &str) -> Instrumentation {
    // Every message takes longer than that.
    let auto = if message == "old" { Auto::default().max_age(Duration::from_nanos(1)) } else { Auto::default() };
    let correlation = match policy {
        "Link" => Correlation::Link,
        "ParentIfNoAmbient" => Correlation::ParentIfNoAmbient,
        "Parent" | "untrusted" => Correlation::Parent,
        "Auto" => Correlation::Auto(auto),
        other => panic!("{other} is no policy"),
    };
    sdk.instrumentation_builder().correlation(correlation).untrusted_source(policy == "untrusted").build()
}

async fn relation(context: &jetstream::Context, policy: &str, message: &str, active: bool) -> String {
    let sdk = Sdk::new();
    let (stream, name) = stream_of(context).await;
    let subject = format!("{name}.paid");
    let count = if message == "batch" { 2 } else { 1 };
    let before = if message == "replayed" { None } else { Some(durable(&stream, "shipping").await) };
    for _ in 0..count {
        send(context, &subject, message).await;
    }
    let consumer = match before {
        Some(consumer) => consumer,
        None => durable(&stream, "shipping").await,
    };
    let consumer = consumer.with_instrumentation(instrumentation(&sdk, policy, message));
    let mut messages = consumer.messages().await.unwrap();
    if message == "redelivered" {
        let first = messages.next().await.unwrap().unwrap();
        first.ack_with(AckKind::Nak(None)).await.unwrap();
    }

    let ambient = if active { sdk.app_span("loop") } else { opentelemetry::Context::new() };
    let mut handed_out = Vec::new();
    for _ in 0..count {
        // A stream hands out within its poll, so that is where the ambient span has to be current.
        let next = poll_fn(|cx| within(&ambient, || messages.poll_next_unpin(cx)));
        handed_out.push(tokio::time::timeout(support::DEADLINE, next).await.unwrap().unwrap().unwrap());
    }
    if message == "batch" {
        within(&ambient, || process_batch(&handed_out, async {})).await;
    } else {
        let arrived = handed_out[0].otel_context();
        let carried = message != "absent" && policy != "untrusted";
        assert_eq!(arrived.baggage().get("tenant.id").map(ToString::to_string), carried.then(|| "7".to_owned()));
    }
    let creations: Vec<SpanContext> =
        handed_out.iter().filter_map(|message| message.process_span()?.creation()).collect();
    drop(handed_out);
    end(&ambient);

    let process = sdk.spans().into_iter().rfind(|span| span.span_kind == SpanKind::Consumer).unwrap();
    describe(&process, &creations, ambient.span().span_context(), policy == "untrusted")
}

async fn send(context: &jetstream::Context, subject: &str, message: &str) {
    let mut headers = HeaderMap::new();
    headers.insert("baggage", "tenant.id=7");
    match message {
        "absent" => headers = HeaderMap::new(),
        "unsampled" => headers.insert("traceparent", UNSAMPLED),
        "foreign" => {
            headers.insert("Traceparent", FOREIGN);
            headers.insert("tracestate", "vendor=1");
        }
        _ => {
            let tenant = opentelemetry::Context::new().with_baggage([KeyValue::new("tenant.id", "7")]);
            within(&tenant, || context.publish(subject.to_owned(), "1".into())).await.unwrap().await.unwrap();
            return;
        }
    }
    let publish = context.get_ref().publish_with_headers(subject.to_owned(), headers, "1".into());
    publish.await.unwrap().await.unwrap();
}

/// A process span as the table has it.
fn describe(process: &SpanData, creations: &[SpanContext], ambient: &SpanContext, untrusted: bool) -> String {
    let name = |id: SpanId| match id {
        SpanId::INVALID => '-',
        id if id == ambient.span_id() => 'a',
        id if creations.iter().any(|creation| creation.span_id() == id) => 'c',
        other => panic!("{other} is nobody: {process:?}"),
    };
    let parent = name(process.parent_span_id);
    let trace = process.span_context.trace_id();
    match parent {
        'a' => assert_eq!(trace, ambient.trace_id()),
        'c' => assert_eq!(trace, creations[0].trace_id()),
        _ => assert!(trace != ambient.trace_id() && creations.iter().all(|creation| creation.trace_id() != trace)),
    }
    for link in process.links.iter().filter(|link| name(link.span_context.span_id()) == 'c') {
        let creation = creations.iter().find(|creation| creation.span_id() == link.span_context.span_id()).unwrap();
        assert_eq!(link.span_context.is_sampled(), creation.is_sampled());
        assert!(!untrusted || link.span_context.trace_state().header().is_empty());
    }
    let links: String = process.links.iter().map(|link| name(link.span_context.span_id())).collect();
    format!("{parent} {links}").trim_end().to_owned()
}

/// By the real threshold, which no test can wait for: the stream's time is put back in the reply subject that tells it.
#[tokio::test]
async fn p09_auto_starts_a_new_trace_for_what_is_older_than_an_hour() {
    let sdk = Sdk::new();
    let auto = sdk.instrumentation_builder().correlation(Correlation::Auto(Auto::default())).build();
    let context = jetstream::new(connect_with(auto).await);
    let (stream, name) = stream_of(&context).await;
    let consumer = durable(&stream, "shipping").await;
    context.publish(format!("{name}.paid"), "1".into()).await.unwrap().await.unwrap();
    let publish = sdk.spans().pop().unwrap().span_context;
    let raw = next(&mut consumer.get_ref().messages().await.unwrap()).await.unwrap();
    let mut info = consumer.cached_info().clone();
    // Or all that is old would be a replay.
    info.config.deliver_policy = DeliverPolicy::New;
    let incoming = IncomingJetStream::of(&context.client(), &info);
    for (age, parent) in [(3_590, publish.span_id()), (3_601, SpanId::INVALID)] {
        let mut aged = raw.clone();
        let mut told: Vec<_> = raw.reply.as_ref().unwrap().split('.').map(ToOwned::to_owned).collect();
        let at = told.len() - 2;
        told[at] = (told[at].parse::<u64>().unwrap() - age * 1_000_000_000).to_string();
        aged.message.reply = Some(told.join(".").into());
        drop(incoming.message(aged));
        let process = sdk.spans().pop().unwrap();
        assert_eq!(process.parent_span_id, parent, "{age} s");
        assert_eq!(process.links.iter().next().unwrap().span_context.span_id(), publish.span_id());
    }
}

/// A client for each test here, which must never see what its wrappers report elsewhere.
struct Elsewhere {
    client: Client,
    of_client: Sdk,
    sdk: Sdk,
}

impl Elsewhere {
    async fn new() -> Self {
        let of_client = Sdk::new();
        Self { client: connect(&of_client).await, of_client, sdk: Sdk::new() }
    }

    /// Only links, where the client's own would be children.
    fn instrumentation(&self) -> Instrumentation {
        self.sdk.instrumentation_builder().correlation(Correlation::Link).build()
    }

    /// What is reported, without destinations; process spans have to be roots.
    fn told(&self) -> (Vec<String>, Vec<String>) {
        let names = |sdk: &Sdk| {
            let spans = sdk.spans();
            let processes = spans.iter().filter(|span| span.span_kind == SpanKind::Consumer);
            assert!(processes.clone().all(|span| span.parent_span_id == SpanId::INVALID && span.links.len() == 1));
            let mut names: Vec<_> =
                spans.iter().map(|span| span.name.split(' ').next().unwrap_or_default().to_owned()).collect();
            names.sort();
            names
        };
        (names(&self.of_client), names(&self.sdk))
    }
}

#[tokio::test]
async fn p23_a_subscription_has_an_instrumentation_of_its_own() {
    let here = Elsewhere::new().await;
    let subject = unique("orders");
    let mut orders = here.client.subscribe(subject.clone()).await.unwrap().with_instrumentation(here.instrumentation());
    here.client.publish(subject, "1".into()).await.unwrap();
    drop(next(&mut orders).await);
    assert_eq!(here.told(), (vec!["publish".to_owned()], vec!["process".to_owned()]));
}

#[tokio::test]
async fn p23_all_that_leads_to_jetstreams_messages_has_one_and_hands_it_on() {
    let one = pull::Config::default;
    let pushed = || push::Config { deliver_subject: unique("deliver"), ..Default::default() };
    for wrapper in ["stream", "consumer", "messages", "batch", "sequence", "pushed", "ordered", "ordered pushed"] {
        let here = Elsewhere::new().await;
        let with = here.instrumentation();
        let context = jetstream::new(here.client.clone());
        let (stream, name) = stream_of(&context).await;
        context.publish(format!("{name}.paid"), "1".into()).await.unwrap().await.unwrap();
        let fetches = match wrapper {
            "stream" => {
                let consumer = stream.with_instrumentation(with).create_consumer(one()).await.unwrap();
                acknowledge(&mut consumer.fetch().messages().await.unwrap()).await;
                true
            }
            "consumer" => {
                let consumer = stream.create_consumer(one()).await.unwrap().with_instrumentation(with);
                acknowledge(&mut consumer.fetch().messages().await.unwrap()).await;
                true
            }
            "messages" => {
                let messages = stream.create_consumer(one()).await.unwrap().messages().await.unwrap();
                acknowledge(&mut messages.with_instrumentation(with)).await;
                false
            }
            "batch" => {
                let batch = stream.create_consumer(one()).await.unwrap().fetch().messages().await.unwrap();
                acknowledge(&mut batch.with_instrumentation(with)).await;
                true
            }
            "sequence" => {
                let sequence = stream.create_consumer(one()).await.unwrap().sequence(1).unwrap();
                let mut batch = next(&mut sequence.with_instrumentation(with)).await.unwrap();
                acknowledge(&mut batch).await;
                true
            }
            "pushed" => {
                let messages = stream.create_consumer(pushed()).await.unwrap().messages().await.unwrap();
                acknowledge(&mut messages.with_instrumentation(with)).await;
                false
            }
            "ordered" => {
                let consumer = stream.create_consumer(pull::OrderedConfig::default()).await.unwrap();
                let messages = consumer.messages().await.unwrap();
                acknowledge(&mut messages.with_instrumentation(with)).await;
                false
            }
            _ => {
                let config = push::OrderedConfig { deliver_subject: unique("deliver"), ..Default::default() };
                let messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
                acknowledge(&mut messages.with_instrumentation(with)).await;
                false
            }
        };
        let mut expected = vec!["ack".to_owned(), "process".to_owned()];
        expected.extend(fetches.then(|| "fetch".to_owned()));
        expected.sort();
        assert_eq!(here.told(), (vec!["publish".to_owned()], expected), "{wrapper}");
    }
}

/// Takes one message and settles it; a batch ends with it.
async fn acknowledge<S, E>(messages: &mut S)
where
    S: futures::Stream<Item = Result<jetstream::Message, E>> + Unpin,
    E: std::fmt::Debug,
{
    let message = next(messages).await.unwrap();
    message.ack().await.unwrap();
}

#[tokio::test]
async fn p23_services_groups_and_endpoints_have_one_and_hand_it_on() {
    for wrapper in ["service", "group", "endpoint"] {
        let here = Elsewhere::new().await;
        let with = here.instrumentation();
        let prefix = unique("stock");
        let service = here.client.service_builder().start("stock", "1.0.0").await.unwrap();
        let (service, group) = match wrapper {
            "service" => (service.with_instrumentation(with.clone()), None),
            _ => (service, Some(with)),
        };
        let grouped = service.group(&prefix);
        let mut endpoint = match (wrapper, group) {
            ("group", Some(with)) => grouped.with_instrumentation(with).endpoint("count").await.unwrap(),
            (_, Some(with)) => grouped.endpoint("count").await.unwrap().with_instrumentation(with),
            (_, None) => grouped.endpoint("count").await.unwrap(),
        };
        let (reply, ()) = futures::join!(here.client.request(format!("{prefix}.count"), "apples?".into()), async {
            next(&mut endpoint).await.respond(Ok("four".into())).await.unwrap();
        });
        assert_eq!(reply.unwrap().payload, "four");
        let expected = vec!["process".to_owned(), "respond".to_owned()];
        assert_eq!(here.told(), (vec!["request".to_owned()], expected), "{wrapper}");
    }
}
