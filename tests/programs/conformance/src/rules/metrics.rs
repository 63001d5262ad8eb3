//! The rules of series, and of what the series of a scenario count.

use std::collections::BTreeMap;

use conventions::{Convention, Level};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use super::{NAME, Rules, TEMPLATE, recorded_waits, required};
use crate::{
    rule::Rule,
    scenario::words,
    seen::{Point, Span, WAIT_TIME},
};

/// How many seconds may be between what a span and its measurement say: both have the same end.
const SAME: f64 = 0.000_1;

/// Metric, operation, and what failed or became of the message.
type Count = (String, String, String);

impl Rules<'_> {
    pub(super) fn point(&mut self, point: &Point, spans: &[&Span]) {
        let of = point.metric.clone();
        self.scope(&point.scope, &of);
        self.system(&point.attributes, &of);
        let Some(metric) = Convention::get().metric(&point.metric) else {
            return self.breaks(Rule::MetricKnown, of);
        };
        self.holds(metric.histogram == point.histogram, Rule::Instrument, || of.clone());
        self.holds(metric.unit == point.unit, Rule::Unit, || format!("{of}: {}", point.unit));
        self.holds(metric.boundaries == point.boundaries, Rule::Boundaries, || format!("{of}: {:?}", point.boundaries));
        let levels = metric.attributes.iter().map(|(key, level)| (key.as_str(), *level)).collect();
        self.attributes(&of, &point.attributes, &levels);
        self.measured(point, &levels);
        // Conditions are judged by the spans that the series stands beside.
        let operation = point.attributes.text("messaging.operation.name");
        let beside: Vec<_> = spans.iter().filter(|span| span.operation() == operation).collect();
        for (key, level) in &metric.attributes {
            let conditional = *level == Level::ConditionallyRequired
                && !["error.type", "messaging.operation.type", "messaging.destination.name"].contains(&key.as_str());
            let there = conditional && !beside.is_empty() && beside.iter().all(|span| span.attributes.has(key));
            let recorded = !there || point.attributes.has(key) || self.is("destination_limit");
            self.holds(recorded, Rule::MetricCondition, || format!("{of} of {operation}: {key}"));
        }
        let delivered = ["messaging.client.consumed.messages", "otel_messaging.queue_time"].contains(&of.as_str());
        let mut beside = spans
            .iter()
            .filter(|span| span.operation() == operation || delivered && span.operation_type() == "process");
        // Of a name that does not last, or is beyond the bound, the span is not named.
        let called = |span: &&&Span| span.attributes.has(NAME) && span.name != span.operation();
        let lasting = beside.clone().next().is_some() && beside.all(|span| called(&span));
        let recorded = !lasting || point.attributes.has(NAME) || point.attributes.has(TEMPLATE);
        self.holds(recorded || self.is("destination_limit"), Rule::MetricCondition, || {
            format!("{of} of {operation}: {NAME}")
        });
    }

    /// What the adapter's own list says of a metric.
    fn measured(&mut self, point: &Point, levels: &BTreeMap<&str, Level>) {
        let Some(measure) = self.broker.measures.iter().find(|it| it.metric == point.metric) else {
            return self.breaks(Rule::MetricOperation, format!("{} is not listed", point.metric));
        };
        let operation = point.attributes.text("messaging.operation.name");
        let of = format!("{} of {operation}", point.metric);
        let listed = words(measure.operations).any(|it| it == operation);
        self.holds(listed, Rule::MetricOperation, || of.clone());
        for key in words(measure.always).filter(|key| !required(key, levels)) {
            self.holds(point.attributes.has(key), Rule::MetricAlways, || format!("{of}: {key}"));
        }
        for (key, _) in &point.attributes.0 {
            let elsewhere = self.broker.elsewhere.iter().any(|it| it.excuses(key, measure.metric));
            self.holds(measure.lists(key) || elsewhere, Rule::MetricAttributeListed, || format!("{of}: {key}"));
        }
    }

    /// What the metrics count, the spans show.
    pub(super) fn counts(&mut self, spans: &[&Span], points: &[Point]) {
        self.measured_waits(spans, points);
        let brought = self.brought(spans, points);
        // Of several, the spans do not say which operation brought the messages that were dropped.
        let bringer = match brought.keys().collect::<Vec<_>>()[..] {
            [only] => only.clone(),
            _ => String::new(),
        };
        let mut took = BTreeMap::<(String, String), [f64; 2]>::new();
        let mut expected = BTreeMap::<Count, u64>::new();
        let mut add = |metric: &str, operation: &str, outcome: &str, count: u64| {
            if count > 0 {
                let key = (metric.to_owned(), operation.to_owned(), outcome.to_owned());
                *expected.entry(key).or_default() += count;
            }
        };
        for span in spans {
            let (operation, error) = (span.operation(), span.attributes.text("error.type"));
            let outcome = span.attributes.text("otel_messaging.settlement.outcome");
            took.entry((operation.clone(), error.clone())).or_default()[0] += span.took;
            let kind = span.operation_type();
            if ["send", "receive", "settle"].contains(&kind.as_str()) {
                add("messaging.client.operation.duration", &operation, &error, 1);
            }
            match kind.as_str() {
                "send" => add("messaging.client.sent.messages", &operation, &error, 1),
                "settle" if !outcome.is_empty() => {
                    add("otel_messaging.deliveries", &operation, &outcome, span.messages());
                }
                "process" => {
                    add("messaging.process.duration", &operation, &error, 1);
                    add("otel_messaging.deliveries", &bringer, &outcome, u64::from(outcome == "dropped"));
                }
                _ => (),
            }
        }
        for (operation, count) in &brought {
            add("messaging.client.consumed.messages", operation, "", *count);
        }
        let mut measured = BTreeMap::<Count, u64>::new();
        let elsewhere = ["otel_messaging.queue_time", WAIT_TIME];
        for point in points.iter().filter(|point| !elsewhere.contains(&point.metric.as_str())) {
            let text = |key| point.attributes.text(key);
            let operation = text("messaging.operation.name");
            // Polls are measured whether or not they have spans.
            let polled = text("messaging.operation.type") == "receive" && text("error.type").is_empty();
            if polled && !spans.iter().any(|span| span.operation() == operation && span.status != StatusCode::Error) {
                continue;
            }
            let (operation, outcome) = match point.metric.as_str() {
                "otel_messaging.deliveries" => {
                    let outcome = text("otel_messaging.settlement.outcome");
                    (if outcome == "dropped" && bringer.is_empty() { String::new() } else { operation }, outcome)
                }
                _ => (operation, text("error.type")),
            };
            if let Some([_, measured]) = took.get_mut(&(operation.clone(), outcome.clone())).filter(|_| point.histogram)
            {
                *measured += point.sum;
            }
            *measured.entry((point.metric.clone(), operation, outcome)).or_default() += point.count;
        }
        for key in expected.keys().chain(measured.keys().filter(|key| !expected.contains_key(*key))) {
            let of = |counts: &BTreeMap<Count, u64>| counts.get(key).copied().unwrap_or(0);
            let (spans, metric) = (of(&expected), of(&measured));
            self.holds(spans == metric, Rule::Counts, || {
                let (name, operation, outcome) = key;
                format!("{name} of `{operation} {outcome}`: {metric}, by the spans {spans}")
            });
        }
        for ((operation, error), [spans, metric]) in took {
            let asked = self.broker.operations.iter().any(|it| it.name == operation && it.kind != "create");
            self.holds(!asked || (spans - metric).abs() < SAME, Rule::Durations, || {
                format!("`{operation} {error}`: {metric} s, by the spans {spans} s")
            });
        }
    }

    /// Spans record only the longer waits, and a batch only of those that it links: between these and all messages is what
    /// is measured.
    fn measured_waits(&mut self, spans: &[&Span], points: &[Point]) {
        let processed = || spans.iter().filter(|span| span.operation_type() == "process");
        let recorded: Vec<f64> = processed().flat_map(|span| recorded_waits(span)).collect();
        let messages: u64 = processed().map(|span| span.messages()).sum();
        let points = || points.iter().filter(|point| point.metric == WAIT_TIME);
        let (count, sum) = (points().map(|it| it.count).sum::<u64>(), points().map(|it| it.sum).sum::<f64>());
        let counts = recorded.len() as u64 <= count && count <= messages;
        self.holds(counts, Rule::Counts, || {
            format!("{WAIT_TIME}: {count}, by the spans from {} to {messages}", recorded.len())
        });
        let least: f64 = recorded.iter().sum();
        self.holds(sum >= least - SAME, Rule::Durations, || {
            format!("{WAIT_TIME}: {sum} s, by the spans {least} s or more")
        });
    }

    /// How many of the messages that were processed each operation brought; what none brought was pushed.
    fn brought(&self, spans: &[&Span], points: &[Point]) -> BTreeMap<String, u64> {
        let processed = spans.iter().filter(|span| span.operation_type() == "process").map(|it| it.messages()).sum();
        let consumed = self.broker.measures.iter().find(|it| it.metric == "messaging.client.consumed.messages");
        if let [only] = words(consumed.map_or("", |it| it.operations)).collect::<Vec<_>>()[..] {
            return BTreeMap::from([(only.to_owned(), processed)]);
        }
        let mut brought = BTreeMap::<String, u64>::new();
        for span in spans.iter().filter(|it| it.operation_type() == "receive" && it.status != StatusCode::Error) {
            *brought.entry(span.operation()).or_default() += span.messages();
        }
        // Those that have no spans are measured, each with its one message.
        let text = |point: &Point, key| point.attributes.text(key);
        for point in points.iter().filter(|it| text(it, "messaging.operation.type") == "receive") {
            let operation = text(point, "messaging.operation.name");
            let recorded = |span: &&Span| span.operation() == operation && span.status != StatusCode::Error;
            if text(point, "error.type").is_empty() && !spans.iter().any(recorded) {
                *brought.entry(operation).or_default() += point.count;
            }
        }
        let pushed = processed.saturating_sub(brought.values().sum());
        brought.insert("process".to_owned(), pushed);
        brought.retain(|_, count| *count > 0);
        brought
    }
}
