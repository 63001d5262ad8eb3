//! The trace outlives the program: three runs of it, one trace.

use std::{
    env, fs,
    path::Path,
    process::{self, Command},
};

use brokers::RabbitMq;
use otel_lapin::{Connection, ConnectionProperties, options::QueueDeleteOptions};

/// One run; what it printed.
fn run(arguments: &[&str], uri: &str, queue: &str, outbox: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_example-outbox"))
        .args(arguments)
        .env("AMQP", uri)
        .env("QUEUE", queue)
        .env("OUTBOX", outbox)
        .output()
        .expect("the program starts");
    let printed = String::from_utf8(output.stdout).expect("it prints text");
    assert!(output.status.success(), "{arguments:?}: {printed}\n{}", String::from_utf8_lossy(&output.stderr));
    printed
}

/// The block of one span.
fn span<'a>(printed: &'a str, name: &str) -> &'a str {
    printed
        .split("Span #")
        .find(|block| value(block, "Name         : ") == Some(name))
        .unwrap_or_else(|| panic!("no span {name:?}:\n{printed}"))
}

/// What stands behind the last of these labels.
fn value<'a>(block: &'a str, label: &str) -> Option<&'a str> {
    block.lines().rev().find_map(|line| line.trim_start().strip_prefix(label))
}

#[tokio::test]
async fn an_order_is_one_trace_across_three_runs() {
    let broker = RabbitMq::start().expect("RabbitMQ starts");
    let queue = format!("outbox-{}", process::id());
    let outbox = env::temp_dir().join(format!("{queue}.jsonl"));
    let stored = run(&["store", "four apples"], &broker.uri, &queue, &outbox);
    assert_eq!(fs::read_to_string(&outbox).unwrap().lines().count(), 1);
    let sent = run(&["send"], &broker.uri, &queue, &outbox);
    assert_eq!(fs::read_to_string(&outbox).unwrap(), "");
    let received = run(&["receive"], &broker.uri, &queue, &outbox);
    fs::remove_file(&outbox).unwrap();
    let connection = Connection::connect(&broker.uri, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();

    let (create, request) = (span(&stored, &format!("create {queue}")), span(&stored, "request"));
    let (trace, id) = (value(create, "TraceId      : "), value(create, "SpanId       : "));
    assert_eq!(value(create, "ParentSpanId : "), value(request, "SpanId       : "));
    assert_eq!(value(create, "Kind         : "), Some("Producer"));

    let publish = span(&sent, &format!("publish {queue}"));
    assert_eq!(value(publish, "ParentSpanId : "), Some("None (root span)"));
    assert_eq!(value(publish, "Kind         : "), Some("Client"));
    assert_eq!((value(publish, "TraceId: "), value(publish, "SpanId : ")), (trace, id), "linked to the create");

    assert!(received.contains("received four apples"), "{received}");
    let process = span(&received, &format!("process {queue}"));
    assert_eq!((value(process, "TraceId      : "), value(process, "ParentSpanId : ")), (trace, id));
    assert_eq!((value(process, "TraceId: "), value(process, "SpanId : ")), (trace, id), "and linked to it");
}
