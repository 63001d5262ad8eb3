//! The README's first trace: the test builds each program in a fresh folder, word by word with its `Cargo.toml`, and runs it on a
//! real broker. Only our crates come from the tree, and the address of the broker is the test's.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
};

use tokio::{process::Command, time::timeout};

const README: &str = include_str!("../../../../README.md");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").canonicalize().expect("the repository")
}

/// The block of the README that contains a text.
fn block(language: &str, text: &str) -> &'static str {
    let blocks = README.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    let mut found = blocks.filter(|(fence, code)| *fence == language && code.contains(text)).map(|(_, code)| code);
    found.next().unwrap_or_else(|| panic!("no {language} block of the README contains {text}"))
}

/// The README's dependencies with one of our crates, from the tree.
fn dependencies(ours: &str) -> String {
    let lines = block("toml", "[dependencies]").lines();
    let lines = lines.filter(|line| !line.starts_with("otel-") || line.starts_with(ours)).map(|line| {
        let path = root().join("crates").join(ours);
        line.replace(&format!("{ours} = \"0.1\""), &format!("{ours} = {{ path = {path:?} }}")) + "\n"
    });
    lines.collect()
}

async fn cargo(folder: &Path, arguments: &[&str]) {
    // The dependencies whose features are the same as in the tree are not compiled again.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    let mut cargo = Command::new(env::var_os("CARGO").expect("a test is run by cargo"));
    cargo.args(arguments).current_dir(folder).env("CARGO_TARGET_DIR", target);
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    let status = cargo.kill_on_drop(true).status().await.expect("cargo is there");
    assert!(status.success(), "cargo {arguments:?}: {status}");
}

/// Builds and runs the program of one client, and returns the output.
async fn output(ours: &str, address: &str, broker: &str) -> String {
    let folder = env::temp_dir().join(format!("{ours}-{}", process::id()));
    fs::create_dir_all(&folder).unwrap();
    cargo(&folder, &["new", "--quiet", "--vcs", "none", "first-trace"]).await;
    let package = folder.join("first-trace");
    let manifest = fs::read_to_string(package.join("Cargo.toml")).unwrap();
    let manifest = manifest.replace("[dependencies]\n", &dependencies(ours));
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    fs::copy(root().join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
    let code = block("rust,no_run", &format!("use {}::", ours.replace('-', "_")));
    assert!(code.contains(address), "{code}");
    fs::write(package.join("src/main.rs"), code.replace(address, broker)).unwrap();
    cargo(&package, &["build", "--quiet"]).await;
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("debug").join("first-trace");
    let output = timeout(support::DEADLINE, Command::new(program).kill_on_drop(true).output());
    let output = output.await.expect("in time").unwrap();
    fs::remove_dir_all(folder).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}\n{text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}

/// The three spans are a send, the `process` of the message, and its settlement: each the child of the one before.
fn assert_three_spans_of_one_trace(output: &str, names: [&str; 3]) {
    let values = |field: &str| {
        let lines = output.lines().filter_map(|line| line.strip_prefix(&format!("\t{field}"))?.split_once(": "));
        lines.map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(values("Name "), names, "{output}");
    let (traces, spans) = (values("TraceId "), values("SpanId "));
    assert!(traces.iter().all(|trace| *trace == traces[0]), "{output}");
    assert_eq!(values("ParentSpanId "), ["None (root span)", &spans[0], &spans[1]], "{output}");
}

/// One after the other: the programs have one name.
#[tokio::test]
async fn each_program_of_the_readme_prints_three_spans_of_one_trace() {
    let kafka = brokers::Kafka::start().expect("Kafka starts");
    let output_of = output("otel-rdkafka", "localhost:9092", &kafka.bootstrap_servers);
    let names = ["send first-trace", "process first-trace", "commit first-trace"];
    assert_three_spans_of_one_trace(&output_of.await, names);
    let rabbitmq = brokers::RabbitMq::start().expect("RabbitMQ starts");
    let output_of = output("otel-lapin", "amqp://localhost:5672", &rabbitmq.uri);
    let names = ["publish first-trace", "process first-trace", "ack first-trace"];
    assert_three_spans_of_one_trace(&output_of.await, names);
    let nats = brokers::Nats::start().expect("NATS starts");
    let output_of = output("otel-async-nats", "localhost:4222", &nats.url);
    assert_three_spans_of_one_trace(&output_of.await, names);
}
