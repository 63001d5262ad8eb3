//! The trace outlives the program: three runs of it, one trace. And no run loses what another has stored.

use std::{
    env, fs, io,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{self, Command},
    thread,
};

use brokers::RabbitMq;
use otel_lapin::{
    Connection, ConnectionProperties,
    options::{BasicGetOptions, QueueDeleteOptions},
};

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

/// In a folder of its own.
fn outbox(folder: &str) -> PathBuf {
    let folder = env::temp_dir().join(folder);
    fs::create_dir(&folder).unwrap();
    folder.join("outbox.jsonl")
}

fn remove(outbox: &Path) {
    fs::remove_dir_all(outbox.parent().unwrap()).unwrap();
}

/// The way to the broker, for one connection. Something is done when the order is on it, before it arrives.
fn way(uri: &str, order: &'static str, act: impl FnOnce() + Send + 'static) -> String {
    let authority = uri.split("//").last().unwrap().split('/').next().unwrap();
    let address = authority.rsplit('@').next().unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let way = uri.replace(&address, &listener.local_addr().unwrap().to_string());
    thread::spawn(move || {
        let (mut program, _) = listener.accept().unwrap();
        let mut broker = TcpStream::connect(address).unwrap();
        let (mut back, mut answers) = (program.try_clone().unwrap(), broker.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut answers, &mut back));
        let (mut act, mut buffer) = (Some(act), [0; 4096]);
        while let Ok(read @ 1..) = program.read(&mut buffer) {
            if buffer[..read].windows(order.len()).any(|window| window == order.as_bytes())
                && let Some(act) = act.take()
            {
                act();
            }
            broker.write_all(&buffer[..read]).unwrap();
        }
    });
    way
}

#[tokio::test]
async fn an_order_is_one_trace_across_three_runs() {
    let broker = RabbitMq::start().expect("RabbitMQ starts");
    let queue = format!("outbox-{}", process::id());
    let outbox = outbox(&queue);
    let stored = run(&["store", "four apples"], &broker.uri, &queue, &outbox);
    assert_eq!(fs::read_to_string(&outbox).unwrap().lines().count(), 1);
    let sent = run(&["send"], &broker.uri, &queue, &outbox);
    assert_eq!(fs::read_to_string(&outbox).unwrap(), "");
    let received = run(&["receive"], &broker.uri, &queue, &outbox);
    remove(&outbox);
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

#[tokio::test]
async fn an_order_that_is_stored_while_another_is_sent_is_not_lost() {
    let broker = RabbitMq::start().expect("RabbitMQ starts");
    let queue = format!("outbox-meanwhile-{}", process::id());
    let outbox = outbox(&queue);
    run(&["store", "four apples"], &broker.uri, &queue, &outbox);
    let way = way(&broker.uri, "four apples", {
        let (uri, queue, outbox) = (broker.uri.clone(), queue.clone(), outbox.clone());
        move || drop(run(&["store", "five pears"], &uri, &queue, &outbox))
    });
    run(&["send"], &way, &queue, &outbox);
    assert_eq!(fs::read_to_string(&outbox).unwrap(), "");
    remove(&outbox);

    let connection = Connection::connect(&broker.uri, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let mut orders = Vec::new();
    while let Some(order) = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap() {
        orders.push(String::from_utf8(order.delivery.data.clone()).unwrap());
    }
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    assert_eq!(orders, ["four apples", "five pears"]);
}
