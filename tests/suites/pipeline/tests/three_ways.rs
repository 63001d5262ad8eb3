//! The three ways of docs/handling.md to handle messages: its code is run, and its output is what that prints.

use std::{collections::BTreeMap, fmt::Write, process};

use opentelemetry::{SpanId, trace::SpanKind};
use opentelemetry_sdk::trace::SpanData;
use otel_lapin::{
    Connection, ConnectionProperties,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::FieldTable,
};
use support::Sdk;
use tokio::time::{Duration, sleep, timeout};

include!("three_ways/code.rs");

const PAGE: &str = include_str!("../../../../docs/handling.md");
const ORDERS: usize = 3;
const SPANS: usize = 4 * ORDERS;

enum Way {
    ByDelegate,
    OneAfterTheOther,
    EightAtATime,
}

/// Handles some orders, and prints what became of them.
async fn handle(way: Way, uri: &str) -> String {
    let sdk = Sdk::new();
    let connection = Connection::connect(uri, ConnectionProperties::default())
        .await
        .expect("the broker is there")
        .with_instrumentation(sdk.instrumentation());
    let channel = connection.create_channel().await.unwrap();
    let name = match way {
        Way::ByDelegate => "by_delegate",
        Way::OneAfterTheOther => "one_after_the_other",
        Way::EightAtATime => "eight_at_a_time",
    };
    let queue = format!("{name}-{}", process::id());
    let options = QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await.unwrap();
    for number in 0..ORDERS {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        channel.basic_publish("".into(), queue.as_str().into(), options, &[number as u8], properties).await.unwrap();
    }
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut orders = channel.basic_consume(queue.as_str().into(), "".into(), options, arguments).await.unwrap();

    let handled = async {
        while sdk.spans().len() < SPANS {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(support::DEADLINE, async {
        match way {
            Way::ByDelegate => {
                by_delegate(channel.clone(), &orders);
                handled.await;
            }
            Way::OneAfterTheOther => tokio::select! {
                ended = one_after_the_other(&channel, &mut orders) => panic!("{ended:?}"),
                () = handled => (),
            },
            Way::EightAtATime => tokio::select! {
                ended = eight_at_a_time(&channel, &mut orders) => panic!("{ended:?}"),
                () = handled => (),
            },
        }
    })
    .await
    .expect("in time");
    printed(name, &sdk.spans()).replace(&queue, "orders")
}

/// The traces as trees; those that look alike once.
fn printed(way: &str, spans: &[SpanData]) -> String {
    let mut alike: BTreeMap<String, usize> = BTreeMap::new();
    for root in spans.iter().filter(|span| span.parent_span_id == SpanId::INVALID) {
        let mut text = String::new();
        tree(spans, root, 0, &mut text);
        *alike.entry(text).or_default() += 1;
    }
    let mut text = String::new();
    for (tree, times) in alike {
        let _ = write!(text, "{way}: {times} traces\n{tree}");
    }
    text
}

/// Depth first, children by start.
fn tree(spans: &[SpanData], span: &SpanData, depth: usize, text: &mut String) {
    let kind = match span.span_kind {
        SpanKind::Producer => "PRODUCER",
        SpanKind::Consumer => "CONSUMER",
        SpanKind::Client => "CLIENT",
        _ => "other",
    };
    let _ = writeln!(text, "{}{}  {kind}", "  ".repeat(depth), span.name);
    for child in spans.iter().filter(|child| child.parent_span_id == span.span_context.span_id()) {
        tree(spans, child, depth + 1, text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_code_of_the_page_prints_the_output_of_the_page() {
    let broker = brokers::RabbitMq::start().expect("RabbitMQ starts");
    let mut output = String::new();
    for way in [Way::ByDelegate, Way::OneAfterTheOther, Way::EightAtATime] {
        output += &handle(way, &broker.uri).await;
    }
    print!("{output}");
    assert!(PAGE.contains(&format!("```text\n{output}```\n")), "the page does not show\n{output}");
    let code = include_str!("three_ways/code.rs");
    assert!(PAGE.contains(&format!("```rust,no_run\n{code}```\n")), "the page's code is not\n{code}");
}
