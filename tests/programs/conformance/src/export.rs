//! What each scenario exports, as text that is the same in each run: a change of it is a change of the text.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::PathBuf,
};

use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use otel_messaging::adapter::is_uuid;

use crate::{
    broker::{BROKERS, Broker},
    check, line,
    rule::{Broken, Rule},
    seen::{Attributes, Event, Point, Seen, Span, Value, WAIT_TIME},
};

/// Attributes whose values are a matter of the machine.
const VARIES: [&str; 4] =
    ["messaging.kafka.cluster.id", "network.peer.port", "otel_messaging.queue_time", "server.port"];

/// What clients and brokers make up names with; what follows it is another one in each run.
const MADE_UP: [&str; 2] = ["_INBOX.", "amq.gen-"];

fn path(broker: &Broker) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("export").join(format!("{}.txt", broker.name))
}

/// Writes the files; whether all scenarios could be performed and all files written.
pub(crate) async fn write() -> bool {
    let (seen, performed) = check::perform_all().await;
    let written = BROKERS.iter().all(|broker| {
        let written = fs::write(path(broker), text(broker, &seen));
        if let Err(error) = &written {
            eprintln!("{}: {error}", path(broker).display());
        }
        written.is_ok()
    });
    performed && written
}

/// Where it is not what is kept of it.
pub(crate) fn changed(broker: &Broker, seen: &BTreeMap<String, Seen>) -> Vec<Broken> {
    // Where there is no file, all of it is new.
    differences(&fs::read_to_string(path(broker)).unwrap_or_default(), &text(broker, seen))
}

pub(crate) fn differences(kept: &str, now: &str) -> Vec<Broken> {
    let (kept, now) = (records(kept), records(now));
    let broken = |what, (scenario, record): &(&str, String)| {
        let (scenario, what) = (scenario.to_string(), format!("{what}: {record}"));
        Broken { scenario, rule: Rule::Exported, what }
    };
    let missing = kept.difference(&now).map(|record| broken("missing", record));
    missing.chain(now.difference(&kept).map(|record| broken("new", record))).collect()
}

/// Each span, series and event with its scenario, on one line.
fn records(text: &str) -> BTreeSet<(&str, String)> {
    let scenarios = text.split("\n\n").filter_map(|scenario| scenario.split_once('\n'));
    scenarios
        .flat_map(|(name, records)| {
            let records = records.replace("\n        ", "; ");
            records.lines().map(|record| (name, record.trim().to_owned())).collect::<Vec<_>>()
        })
        .collect()
}

fn text(broker: &Broker, seen: &BTreeMap<String, Seen>) -> String {
    let mut text = String::new();
    for scenario in broker.scenarios() {
        let name = format!("{}/{}", broker.name, scenario.name);
        let Some(seen) = seen.get(&name) else { continue };
        let spans = seen.spans.iter().map(|it| span(it, &seen.spans));
        let series = seen.points.iter().map(point);
        let events = seen.events.iter().map(|it| event(it, &seen.spans));
        // How many there are is on the scenario's own lines.
        let records: BTreeSet<_> = spans.chain(series).chain(events).collect();
        let _ = writeln!(text, "{name}");
        records.iter().for_each(|record| text += record);
        text.push('\n');
    }
    text
}

fn span(span: &Span, all: &[Span]) -> String {
    let mut text = format!("    {} of {}\n", line::span(span, all), span.scope.name);
    if span.status != StatusCode::Unset {
        let _ = writeln!(text, "        status {:?} {}", span.status, plain(&span.says, &span.attributes));
    }
    attributes(&mut text, "", &span.attributes);
    let links: BTreeSet<_> = span
        .links
        .iter()
        .map(|link| {
            let mut text = String::new();
            attributes(&mut text, "link ", &link.attributes);
            text
        })
        .collect();
    links.iter().for_each(|link| text += link);
    text
}

fn point(point: &Point) -> String {
    let form = if point.histogram { "histogram" } else { "counter" };
    let mut text = format!("    {form} {} in {} of {}\n", point.metric, point.unit, point.scope.name);
    attributes(&mut text, "", &point.attributes);
    text
}

fn event(event: &Event, all: &[Span]) -> String {
    let of = all.iter().find(|span| span.id == event.span).map(|span| plain(&span.name, &span.attributes));
    let of = of.map(|name| format!(" in {name}")).unwrap_or_default();
    let mut text = format!("    event {} severity {}{of} of {}\n", event.name, event.severity, event.scope.name);
    attributes(&mut text, "", &event.attributes);
    text
}

fn attributes(text: &mut String, prefix: &str, attributes: &Attributes) {
    // Whether a message waited for its handler may be by chance; the rule `WaitTime` holds where it is recorded.
    let values: BTreeMap<_, _> =
        attributes.0.iter().filter(|(key, _)| key != WAIT_TIME).map(|(key, value)| (key, value)).collect();
    for (key, value) in values {
        let value = match value {
            _ if VARIES.contains(&key.as_str()) => "*".to_owned(),
            Value::String(text) => format!("{:?}", plain(text, attributes)),
            value => plain(&value.to_string(), attributes),
        };
        let _ = writeln!(text, "        {prefix}{key} = {value}");
    }
}

/// Without what makes it unique.
fn plain(text: &str, attributes: &Attributes) -> String {
    let plain = line::plain(text, attributes);
    if is_uuid(&plain) {
        return "*".to_owned();
    }
    let made_up = MADE_UP.into_iter().find_map(|start| plain.find(start).map(|at| at + start.len()));
    made_up.map_or_else(|| plain.clone(), |end| format!("{}*", &plain[..end]))
}
