//! `docs/telemetry.md`, put together from the convention, the registry and the adapters' lists.

use std::{collections::BTreeSet, fmt::Write, fs, path::PathBuf};

use conventions::{Convention, Level, Source};

use crate::{
    broker::{BROKERS, Broker},
    rules::Broken,
    scenario::{Operation, words},
};

/// Where we do otherwise than the convention says, by default.
pub(crate) struct Deviation {
    convention: &'static str,
    ours: &'static str,
    why: &'static str,
    switch: &'static str,
    /// The scenarios that show the default and the other position.
    pub(crate) shown: [&'static str; 2],
}

pub(crate) static DEVIATIONS: [Deviation; 5] = [
    Deviation {
        convention: "a receive span for every pull",
        ours: "none for a Kafka poll or a single item of a JetStream stream, unless it failed; `get` and `fetch` have one",
        why: "the process span stands for the same hand-over, and two spans a message double the bill",
        switch: "`receive_spans`",
        shown: ["receive_spans_off", "receive_spans_on"],
    },
    Deviation {
        convention: "the Kafka message key is recommended",
        ours: "it is left out",
        why: "keys are often personal data",
        switch: "`capture_key`",
        shown: ["capture_key_off", "capture_key_on"],
    },
    Deviation {
        convention: "the partition is recommended on metrics",
        ours: "it is left out",
        why: "each partition is a series",
        switch: "`metric_partition`",
        shown: ["metric_partition_off", "metric_partition_on"],
    },
    Deviation {
        convention: "a settle span also for an automatic settlement",
        ours: "Kafka's automatic commits are counted; one that fails has a span",
        why: "the client does not tell when they began, and one span every five seconds says little",
        switch: "`auto_commit_spans`",
        shown: ["auto_commit_spans_off", "auto_commit_spans_on"],
    },
    Deviation {
        convention: "a log event for each exception",
        ours: "only with a logger provider",
        why: "OpenTelemetry for Rust has no global one",
        switch: "`logger_provider`",
        shown: ["without_logger", "handler_fails"],
    },
];

fn path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/telemetry.md"))
}

/// Writes the page; whether it could be written.
pub(crate) fn write() -> bool {
    let written = fs::write(path(), page());
    if let Err(error) = &written {
        eprintln!("{}: {error}", path().display());
    }
    written.is_ok()
}

/// What is broken where the page is not what would be written.
pub(crate) fn outdated() -> Option<Broken> {
    let current = fs::read_to_string(path()).unwrap_or_default() == page();
    (!current).then(|| Broken {
        scenario: "docs/telemetry.md".to_owned(),
        rule: "the page is current",
        what: "`cargo run -p conformance -- page` writes it anew".to_owned(),
    })
}

fn page() -> String {
    let mut page = include_str!("../page/head.md").to_owned();
    for broker in BROKERS {
        spans(&mut page, broker);
    }
    page += include_str!("../page/metrics.md");
    metrics(&mut page);
    page += include_str!("../page/defaults.md");
    page += "\n## Deviations\n\nWhere the convention says otherwise. Each has a switch in the builder, and a scenario for both \
             positions; there are no others.\n\n";
    page += "| convention | by default | why | switch |\n|---|---|---|---|\n";
    for Deviation { convention, ours, why, switch, .. } in &DEVIATIONS {
        let _ = writeln!(page, "| {convention} | {ours} | {why} | {switch} |");
    }
    page + include_str!("../page/differences.md")
}

/// The sections of the convention that operations of a type come from.
fn source(broker: &Broker, operation: &Operation) -> String {
    let section = match operation.kind {
        "create" | "send" => "Producer spans",
        _ => "Consumer spans",
    };
    let own = match broker.name {
        "kafka" => "kafka.md",
        "rabbitmq" => "rabbitmq.md",
        _ => "`registry/spans.yaml`",
    };
    format!("messaging-spans.md, \"{section}\"; {own}")
}

fn spans(page: &mut String, broker: &Broker) {
    let title = match broker.name {
        "kafka" => "Kafka",
        "rabbitmq" => "RabbitMQ",
        _ => "NATS",
    };
    let _ = writeln!(page, "\n## {title}: `{}`\n", broker.scope);
    *page += "| operation | type | kind | span | source |\n|---|---|---|---|---|\n";
    for operation in broker.operations {
        let kind = match operation.kind {
            "create" => "PRODUCER",
            "send" => "PRODUCER, or CLIENT",
            "process" => "CONSUMER",
            _ => "CLIENT",
        };
        let Operation { name, kind: operation_type, span, .. } = operation;
        let _ = writeln!(page, "| `{name}` | {operation_type} | {kind} | {span} | {} |", source(broker, operation));
    }

    *page += "\n| attribute | type | stability |";
    broker.operations.iter().for_each(|operation| *page += &format!(" {} |", operation.name));
    *page += "\n|---|---|---|";
    broker.operations.iter().for_each(|_| *page += "---|");
    page.push('\n');
    for key in keys(broker) {
        let known = Convention::get().attribute(key).expect("the check knows each of them");
        let ours = if known.source == Source::Ours { " (ours)" } else { "" };
        let _ = write!(page, "| `{key}` | {} | {}{ours} |", known.value, known.stability);
        for operation in broker.operations {
            let _ = write!(page, " {} |", cell(broker, operation, key));
        }
        page.push('\n');
    }

    *page += "\nLeft out, though the convention or our registry has it:\n\n| attribute | why |\n|---|---|\n";
    for (key, why) in broker.left_out {
        let _ = writeln!(page, "| `{key}` | {why} |");
    }
    for (key, when) in broker.elsewhere {
        let _ = writeln!(page, "\n`{key}` is told of {when}.");
    }
}

/// What is listed for any of the operations.
fn keys(broker: &Broker) -> BTreeSet<&'static str> {
    let of = |it: &'static Operation| words(it.always).chain(words(it.sometimes)).chain(words(it.asked));
    broker.operations.iter().flat_map(of).chain(["error.type"]).collect()
}

/// The requirement level, and when it is told.
fn cell(broker: &Broker, operation: &Operation, key: &str) -> String {
    if !operation.lists(key) && (key != "error.type" || operation.kind == "create") {
        return String::new();
    }
    let spans = operation.spans().iter();
    let level = spans.filter_map(|span| Convention::get().span(broker.name, span).get(key).copied()).min();
    let level = match level {
        Some(Level::Required) => "R",
        Some(Level::ConditionallyRequired) => "C",
        Some(Level::Recommended) => "r",
        Some(Level::OptIn) => "o",
        None => "?",
    };
    let asked = if words(operation.asked).any(|it| it == key) { "¹" } else { "" };
    let late = if words(operation.late).any(|it| it == key) || key == "error.type" { "²" } else { "" };
    format!("{level}{asked}{late}")
}

fn metrics(page: &mut String) {
    *page += "| metric | instrument | unit | boundaries | stability | attributes |\n|---|---|---|---|---|---|\n";
    for (name, metric) in Convention::get().metrics() {
        let instrument = if metric.histogram { "histogram" } else { "counter" };
        let ours = if metric.source == Source::Ours { " (ours)" } else { "" };
        let boundaries: Vec<_> = metric.boundaries.iter().map(f64::to_string).collect();
        let attributes: Vec<_> = metric.attributes.iter().map(|(key, level)| format!("`{key}` ({level})")).collect();
        let _ = writeln!(
            page,
            "| `{name}` | {instrument} | {} | {} | {}{ours} | {} |",
            metric.unit,
            boundaries.join(" "),
            metric.stability,
            attributes.join(", ")
        );
    }
}
