//! `docs/telemetry.md`, put together from the convention, the registry and the adapters' lists.

use std::{collections::BTreeSet, fmt::Write, fs, path::PathBuf};

use conventions::{Attribute, Convention, Level, Source};

use crate::{
    broker::{BROKERS, Broker},
    rule::{Broken, Rule},
    scenario::{Lacking, LeftOut, Measure, Operation, words},
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
        switch: "`with_receive_spans`",
        shown: ["receive_spans_off", "receive_spans_on"],
    },
    Deviation {
        convention: "the Kafka message key is recommended",
        ours: "it is left out",
        why: "keys are often personal data",
        switch: "`with_kafka_captured_key`",
        shown: ["capture_key_off", "capture_key_on"],
    },
    Deviation {
        convention: "the partition is recommended on metrics",
        ours: "it is left out",
        why: "each partition is a series",
        switch: "`with_metric_partition`",
        shown: ["metric_partition_off", "metric_partition_on"],
    },
    Deviation {
        convention: "a settle span also for an automatic settlement",
        ours: "Kafka's automatic commits are counted; one that fails has a span",
        why: "the client does not tell when they began, and one span every five seconds says little",
        switch: "`with_kafka_auto_commit_spans`",
        shown: ["auto_commit_spans_off", "auto_commit_spans_on"],
    },
    Deviation {
        convention: "a log event for each exception",
        ours: "only with a logger provider",
        why: "OpenTelemetry for Rust has no global one",
        switch: "`with_logger_provider`",
        shown: ["without_logger", "handler_fails"],
    },
];

fn path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/telemetry.md"))
}

/// Writes the page; whether it could be written.
pub(crate) fn write() -> bool {
    let written = fs::write(path(), page());
    if let Err(error) = &written {
        eprintln!("{}: {error}", path().display());
    }
    written.is_ok()
}

/// The page as it stands in the repository; empty where there is none.
pub(crate) fn current() -> String {
    fs::read_to_string(path()).unwrap_or_default()
}

/// What is broken where the page is not what would be written.
pub(crate) fn outdated(current: &str) -> Option<Broken> {
    (current != page()).then(|| Broken {
        scenario: "docs/telemetry.md".to_owned(),
        rule: Rule::PageCurrent,
        what: "`cargo run -p conformance -- page` writes it anew".to_owned(),
    })
}

pub(crate) fn page() -> String {
    let mut page = include_str!("../page/head.md").to_owned();
    for broker in BROKERS {
        spans(&mut page, broker);
    }
    page += include_str!("../page/metrics.md");
    metrics(&mut page);
    page += include_str!("../page/events.md");
    events(&mut page);
    page += include_str!("../page/ours.md");
    ours(&mut page);
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
        // One that no registry knows breaks a rule of its own.
        let Some(known) = Convention::get().attribute(key) else { continue };
        let ours = if known.source == Source::Ours { " (ours)" } else { "" };
        let _ = write!(page, "| `{key}` | {} | {}{ours} |", known.value, known.stability);
        for operation in broker.operations {
            let _ = write!(page, " {} |", cell(broker, operation, key));
        }
        page.push('\n');
    }

    measures(page, broker);
    absences(page, broker);
}

/// What the series of each metric have.
fn measures(page: &mut String, broker: &Broker) {
    *page += "\n| attribute of metrics |";
    broker.measures.iter().for_each(|measure| *page += &format!(" {} |", measure.metric));
    *page += "\n|---|";
    broker.measures.iter().for_each(|_| *page += "---|");
    *page += "\n| of operations |";
    for measure in broker.measures {
        let operations: Vec<_> = words(measure.operations).map(|name| format!("`{name}`")).collect();
        let _ = write!(page, " {} |", operations.join(" "));
    }
    page.push('\n');
    let keys: BTreeSet<_> = broker.measures.iter().flat_map(Measure::keys).collect();
    for key in keys {
        let _ = write!(page, "| `{key}` |");
        for measure in broker.measures {
            let metric = Convention::get().metric(measure.metric).expect("the check knows each of them");
            let level = metric.attributes.get(key).filter(|_| measure.lists(key)).map_or("", |level| letter(*level));
            let asked = if words(measure.asked).any(|it| it == key) { "¹" } else { "" };
            let _ = write!(page, " {level}{asked} |");
        }
        page.push('\n');
    }
}

fn absences(page: &mut String, broker: &Broker) {
    *page += "\nLeft out, though the convention or our registry has it:\n\n| attribute | of | why |\n|---|---|---|\n";
    for LeftOut { attribute, of, why } in broker.left_out {
        let _ = writeln!(page, "| `{attribute}` | {} | {why} |", names(of));
    }
    for LeftOut { attribute, of, why } in broker.elsewhere {
        let _ = writeln!(page, "\n`{attribute}` is told of {why}, on {}; no scenario has them.", names(of));
    }
    for Lacking { attribute, operations, scenario, why } in broker.lacking {
        let _ =
            writeln!(page, "\n`{attribute}` is missing on {} in the scenario `{scenario}`: {why}.", names(operations));
    }
}

fn names(of: &'static str) -> String {
    if of == "*" {
        return "all".to_owned();
    }
    words(of).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" ")
}

/// What is listed for any of the operations.
fn keys(broker: &Broker) -> BTreeSet<&'static str> {
    broker.operations.iter().flat_map(Operation::keys).chain(["error.type"]).collect()
}

/// The requirement level, and when the attribute is set.
fn cell(broker: &Broker, operation: &Operation, key: &str) -> String {
    if !operation.lists(key) && (key != "error.type" || operation.kind == "create") {
        return String::new();
    }
    let spans = operation.spans().iter();
    let level = spans.filter_map(|span| Convention::get().span(broker.name, span).get(key).copied()).min();
    let level = level.map_or("?", letter);
    let asked = if words(operation.asked).any(|it| it == key) { "¹" } else { "" };
    let late = if words(operation.late).any(|it| it == key) || key == "error.type" { "²" } else { "" };
    format!("{level}{asked}{late}")
}

fn letter(level: Level) -> &'static str {
    match level {
        Level::Required => "R",
        Level::ConditionallyRequired => "C",
        Level::Recommended => "r",
        Level::OptIn => "o",
    }
}

fn metrics(page: &mut String) {
    *page += "| metric | instrument | unit | boundaries | stability |\n|---|---|---|---|---|\n";
    for (name, metric) in Convention::get().metrics() {
        let instrument = if metric.histogram { "histogram" } else { "counter" };
        let ours = if metric.source == Source::Ours { " (ours)" } else { "" };
        let boundaries: Vec<_> = metric.boundaries.iter().map(f64::to_string).collect();
        let (unit, stability, boundaries) = (&metric.unit, &metric.stability, boundaries.join(" "));
        let _ = writeln!(page, "| `{name}` | {instrument} | {unit} | {boundaries} | {stability}{ours} |");
    }
}

fn events(page: &mut String) {
    *page += "| event | severity | of | stability |\n|---|---|---|---|\n";
    for (name, event) in Convention::get().events() {
        let kind = name.trim_start_matches("messaging.").trim_end_matches(".exception");
        let of = match kind {
            "create" => "never: making a message asks nothing of a broker",
            "process" => "a handler",
            _ => "a call of the client",
        };
        let severity = if event.severity == 17 { "ERROR" } else { "WARN" };
        let _ = writeln!(page, "| `{name}` | {severity} | {of} | {} |", event.stability);
    }
}

/// What the convention does not have.
fn ours(page: &mut String) {
    *page += "| attribute | type | meaning | examples | stability |\n|---|---|---|---|---|\n";
    for (name, attribute) in Convention::get().attributes(Source::Ours) {
        let examples: Vec<_> = attribute.examples.iter().map(|example| format!("`{example}`")).collect();
        let Attribute { value, brief, stability, .. } = attribute;
        let _ = writeln!(page, "| `{name}` | {value} | {brief} | {} | {stability} |", examples.join("; "));
    }
}
