//! The example on our crates and on the raw clients, with OpenTelemetry and without: four runs that print the same.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use brokers::{Kafka, Nats, RabbitMq};
use serde_json::Value;

/// In all four runs.
const PRINTED: &str = r#"kafka sent 0 0
kafka sent 0 1
kafka sent 0 2
kafka in flight 0
kafka got 0 Some("four apples") Some("4711") true
kafka got 1 Some("five pears") Some("4711") true
kafka got 2 Some("six plums") Some("4711") true
kafka refused Err((KafkaError (Message production error: MessageSizeTooLarge (Broker: Message size too large)), Some(2000000)))
rabbitmq confirmed Ack(None)
rabbitmq confirmed Ack(None)
rabbitmq confirmed Ack(None)
rabbitmq returned 312 None
rabbitmq got "four apples", 2 left
rabbitmq got 2 "five pears" Some(ShortString("4711"))
rabbitmq got 3 "six plums" Some(ShortString("4711"))
nats got b"four apples" Some("yes") None
nats got b"five pears" Some("yes") None
nats got b"six plums" Some("yes") None
nats replied b"wha" Some(())
nats no responders: no responders
"#;

/// With ours and OpenTelemetry: all in the trace of the order.
const SPANS: &str = "\
1 ack NAME by otel-lapin
3 commit NAME by otel-rdkafka
1 get NAME by otel-lapin
1 nack NAME by otel-lapin
1 order by shop
4 process NAME by otel-async-nats
3 process NAME by otel-lapin
3 process NAME by otel-rdkafka
3 publish NAME by otel-async-nats
3 publish NAME by otel-lapin
1 publish by otel-async-nats
1 publish nowhere by otel-lapin
1 reject NAME by otel-lapin
2 request NAME by otel-async-nats
4 send NAME by otel-rdkafka
";

#[test]
fn the_same_output_on_our_crates_and_on_the_raw_clients() {
    let (kafka, rabbitmq, nats) = (Kafka::start().unwrap(), RabbitMq::start().unwrap(), Nats::start().unwrap());
    let addresses = [&*kafka.bootstrap_servers, &rabbitmq.uri, &nats.url];
    let ours = build("ours", &[]);
    let raw = build("raw", &["--features", "switch-tests/raw"]);

    assert_eq!(run(&raw, &addresses, &[]), (PRINTED.to_owned(), String::new()));
    assert_eq!(run(&ours, &addresses, &[]), (PRINTED.to_owned(), String::new()));
    assert_eq!(run(&raw, &addresses, &["sdk"]), (PRINTED.to_owned(), "1 order by shop\n".to_owned()));
    assert_eq!(run(&ours, &addresses, &["sdk"]), (PRINTED.to_owned(), SPANS.to_owned()));
}

/// The example, and where it is. Both are built with what the workspace's tests are built with, so that nothing else is
/// compiled again.
fn build(name: &str, arguments: &[&str]) -> PathBuf {
    let output = support::cargo()
        .args(["build", "--workspace", "--example", "switch", "--message-format", "json"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout).unwrap();
    let built = messages
        .lines()
        .filter_map(|message| serde_json::from_str::<Value>(message).ok())
        .filter(|message| message["target"]["name"] == "switch")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .unwrap();
    // Both are called the same.
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::copy(built, &own).unwrap();
    own
}

/// What it printed, and how many spans of each name it made.
fn run(program: &Path, addresses: &[&str], more: &[&str]) -> (String, String) {
    let name = format!("switch-{}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos());
    let output = Command::new(program).args(addresses).arg(name).args(more).output().unwrap();
    let [printed, spans] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{printed}{spans}");
    let mut counts = BTreeMap::new();
    for span in spans.lines() {
        *counts.entry(span).or_insert(0) += 1;
    }
    (printed, counts.iter().map(|(span, count)| format!("{count} {span}\n")).collect())
}
