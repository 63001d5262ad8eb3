//! Spans and series as the lines by which scenarios list them.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::seen::{Attributes, Point, Seen, Span, WAIT_TIME};

/// How to read the lines.
pub(crate) const LEGEND: &str = "\
How to read a line:

    2 x CONSUMER process orders < send orders ~ send orders {kafka.offset}, loop ! panic [delivery.attempt=2]

  2 x            there are two of it; `n x`: one or more; nothing: one
  CONSUMER       the span's kind
  process orders the span's name
  < send orders  the span that is its parent; without `<` it is a root
  ~ a, b         the spans that it links, each another one, except that messages of one batch that are settled together have
                 one span; what a link has itself is in braces. Of the parent's name it is the parent that is linked
  ! panic        it failed, with this error.type and status Error; without `!` the status is unset
  [...]          attributes that tell of its message, without their namespace (messaging. or otel_messaging.); of those that
                 a line can show, it has these and no other

    metric messaging.client.sent.messages send partition 0 ! _MSG_TIMED_OUT [...] x3

  is one series: the metric, messaging.operation.name, the partition where there is one, error.type, attributes, and what it
  counts, `xn` being any number.

  How long a message waited for its handler is on no line, since any message may have waited. That it is recorded where it has
  to be, and only there, is a rule of its own.

  What makes names unique is left out of them: `--`, digits and `-` after it. SERVER is server.address:server.port.
";

/// Attributes that are shown on the line, without their namespace: those that say what became of the message, and those
/// that only some scenarios have.
const TELLING: [&str; 19] = [
    "messaging.batch.message_count",
    "messaging.destination.anonymous",
    "messaging.destination.template",
    "messaging.destination.temporary",
    "messaging.kafka.message.key",
    "messaging.kafka.message.tombstone",
    "messaging.message.body.size",
    "messaging.message.conversation_id",
    "messaging.message.id",
    "messaging.nats.domain",
    "messaging.nats.publish.duplicate",
    "otel_messaging.clock",
    "otel_messaging.delivery.attempt",
    "otel_messaging.delivery.outcome_unknown",
    "otel_messaging.delivery.redelivered",
    "otel_messaging.header.x-tenant",
    "otel_messaging.settlement.outcome",
    "otel_messaging.stream.offset",
    "messaging.consumer.group.name",
];

/// Whether the line of a span shows the attribute, in its name or beside it.
pub(crate) fn shows(system: &str, key: &str) -> bool {
    let named = ["messaging.destination.name", "error.type"].contains(&key);
    let group = key == "messaging.consumer.group.name" && system != "nats";
    named || TELLING.contains(&key) && !group
}

/// The lines of a scenario's spans.
pub(crate) fn spans(seen: &Seen, scope: &str) -> Vec<String> {
    let lines = seen.spans.iter().filter(|span| span.scope.name == scope).map(|it| span(it, &seen.spans));
    counted(lines)
}

/// The lines of its metrics.
pub(crate) fn metrics(seen: &Seen) -> Vec<String> {
    let mut lines: Vec<_> = seen.points.iter().map(metric).collect();
    lines.sort();
    lines
}

/// The line for any number of it.
pub(crate) fn uncounted(line: &str) -> String {
    if let (true, Some((series, _))) = (line.starts_with("metric "), line.rsplit_once(" x")) {
        return format!("{series} xn");
    }
    let one = line.split_once(" x ").filter(|(count, _)| count.parse::<usize>().is_ok());
    format!("n x {}", one.map_or(line, |(_, one)| one))
}

fn counted(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut counts = BTreeMap::<_, usize>::new();
    lines.for_each(|line| *counts.entry(line).or_default() += 1);
    counts.into_iter().map(|(line, count)| if count == 1 { line } else { format!("{count} x {line}") }).collect()
}

/// The line of one span, `all` being those of its scenario.
pub(crate) fn span(span: &Span, all: &[Span]) -> String {
    let name_of = |id: &[u8]| {
        let found = all.iter().find(|other| other.id == id);
        found.map_or_else(|| "?".to_owned(), |found| plain(&found.name, &found.attributes))
    };
    let mut line = format!("{} {}", kind(span.kind), plain(&span.name, &span.attributes));
    if !span.parent.is_empty() {
        line += &format!(" < {}", name_of(&span.parent));
    }
    if !span.links.is_empty() {
        let links: Vec<_> = span
            .links
            .iter()
            .map(|link| {
                // A wait may be by chance.
                let keys = link.attributes.0.iter().map(|(key, _)| key.as_str()).filter(|key| *key != WAIT_TIME);
                let own: Vec<_> = keys.map(short).collect();
                let own = if own.is_empty() { String::new() } else { format!(" {{{}}}", own.join(" ")) };
                name_of(&link.span) + &own
            })
            .collect();
        line += &format!(" ~ {}", links.join(", "));
    }
    line + &end(&span.attributes)
}

fn metric(point: &Point) -> String {
    let operation = point.attributes.text("messaging.operation.name");
    let partition = point.attributes.get("messaging.destination.partition.id");
    let partition = partition.map(|partition| format!(" partition {partition}")).unwrap_or_default();
    format!("metric {} {operation}{partition}{} x{}", point.metric, end(&point.attributes), point.count)
}

/// The failure, and the attributes that are shown.
fn end(attributes: &Attributes) -> String {
    let mut end = String::new();
    if let Some(error) = attributes.get("error.type") {
        end += &format!(" ! {error}");
    }
    let recorded: Vec<_> = TELLING
        .into_iter()
        .filter(|key| shows(&attributes.text("messaging.system"), key))
        .filter_map(|key| {
            let value = plain(&attributes.get(key)?.to_string(), attributes);
            Some(format!("{}={value}", short(key)))
        })
        .collect();
    if !recorded.is_empty() {
        end += &format!(" [{}]", recorded.join(" "));
    }
    end
}

/// Without its namespace.
fn short(key: &str) -> &str {
    key.trim_start_matches("otel_messaging.").trim_start_matches("messaging.")
}

/// Without what makes it unique: `--{process}-{number}`.
pub(crate) fn plain(text: &str, attributes: &Attributes) -> String {
    let server = attributes.get("server.address").zip(attributes.get("server.port"));
    let text = server.map_or_else(|| text.to_owned(), |(host, port)| text.replace(&format!("{host}:{port}"), "SERVER"));
    let mut parts = text.split("--");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain += part.trim_start_matches(|it: char| it.is_ascii_digit() || it == '-');
    }
    plain
}

fn kind(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Producer => "PRODUCER",
        SpanKind::Consumer => "CONSUMER",
        SpanKind::Client => "CLIENT",
        SpanKind::Server => "SERVER",
        SpanKind::Internal => "INTERNAL",
        SpanKind::Unspecified => "UNSPECIFIED",
    }
}
