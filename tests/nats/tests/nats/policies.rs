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
    jetstream::{self, AckKind},
    otel::{Auto, Correlation, Instrumentation, MessageExt, process_batch},
};
use support::Sdk;

use crate::{connect_with, durable, end, stream_of, within};

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

#[tokio::test]
async fn p01_p09_the_policy_decides_between_creation_and_ambient_and_baggage_arrives_in_every_mode() {
    let mut rows = TABLE.trim().lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let policies = rows.next().unwrap().split_off(2);
    for row in rows.skip(1) {
        let (message, active) = (row[0], row[1] == "yes");
        for (policy, expected) in policies.iter().zip(&row[2..]) {
            let found = relation(policy, message, active).await;
            assert_eq!(&found, expected, "{policy}, a message that is {message}, a span active: {active}");
        }
    }
}

fn instrumentation(sdk: &Sdk, policy: &str, message: &str) -> Instrumentation {
    let auto = if message == "old" { Auto::default().max_age(Duration::ZERO) } else { Auto::default() };
    let correlation = match policy {
        "Link" => Correlation::Link,
        "ParentIfNoAmbient" => Correlation::ParentIfNoAmbient,
        "Parent" | "untrusted" => Correlation::Parent,
        "Auto" => Correlation::Auto(auto),
        other => panic!("{other} is no policy"),
    };
    sdk.instrumentation_builder().correlation(correlation).untrusted_source(policy == "untrusted").build()
}

async fn relation(policy: &str, message: &str, active: bool) -> String {
    let sdk = Sdk::new();
    let context = jetstream::new(connect_with(instrumentation(&sdk, policy, message)).await);
    let (stream, name) = stream_of(&context).await;
    let subject = format!("{name}.paid");
    let count = if message == "batch" { 2 } else { 1 };
    let before = if message == "replayed" { None } else { Some(durable(&stream, "shipping").await) };
    for _ in 0..count {
        send(&context, &subject, message).await;
    }
    let consumer = match before {
        Some(consumer) => consumer,
        None => durable(&stream, "shipping").await,
    };
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
