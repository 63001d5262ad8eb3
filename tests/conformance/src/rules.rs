//! The rules that hold of everything that is emitted, whatever the scenario.

use std::collections::BTreeMap;

use conventions::{Convention, Level, Type};
use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};

use crate::{
    broker::Broker,
    scenario::{Operation, words},
    seen::{Attributes, Event, Point, Scope, Seen, Span, Value},
};

const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// A rule that is broken, and where.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) scenario: String,
    pub(crate) rule: &'static str,
    pub(crate) what: String,
}

/// The rules' findings in one scenario.
pub(crate) struct Rules<'a> {
    broker: &'a Broker,
    scenario: &'a str,
    pub(crate) broken: Vec<Broken>,
}

impl<'a> Rules<'a> {
    pub(crate) fn new(broker: &'a Broker, scenario: &'a str) -> Self {
        Self { broker, scenario, broken: Vec::new() }
    }

    pub(crate) fn breaks(&mut self, rule: &'static str, what: impl Into<String>) {
        self.broken.push(Broken { scenario: self.scenario.to_owned(), rule, what: what.into() });
    }

    fn holds(&mut self, holds: bool, rule: &'static str, what: impl FnOnce() -> String) {
        if !holds {
            self.breaks(rule, what());
        }
    }

    pub(crate) fn apply(&mut self, seen: &Seen, derive: bool) {
        let spans: Vec<_> = seen.spans.iter().filter(|span| span.scope.name == self.broker.scope).collect();
        spans.iter().for_each(|span| self.span(span));
        seen.points.iter().for_each(|point| self.point(point, &spans));
        seen.events.iter().for_each(|event| self.event(event, &spans));
        if derive {
            if !self.scenario.ends_with("/without_metrics") {
                self.counts(&spans, &seen.points);
            }
            self.events_of_failures(&spans, &seen.events);
        }
    }

    fn scope(&mut self, scope: &Scope, of: &str) {
        let wanted = Scope { name: self.broker.scope.to_owned(), schema_url: SCHEMA_URL.to_owned() };
        self.holds(*scope == wanted, "the scope is the adapter's, with the schema of 1.44.0", || {
            format!("{of}: {} {}", scope.name, scope.schema_url)
        });
    }

    fn span(&mut self, span: &Span) {
        let of = format!("`{}`", span.name);
        self.scope(&span.scope, &of);
        self.holds(span.status != StatusCode::Ok, "the status is never Ok", || of.clone());
        let failed = span.status == StatusCode::Error;
        self.holds(
            span.attributes.has("error.type") == failed,
            "error.type is there exactly when the operation failed",
            || format!("{of}: error.type {:?}, status {:?}", span.attributes.text("error.type"), span.status),
        );
        self.name(span);
        let Some(operation) = self.broker.operations.iter().find(|it| it.name == span.operation()) else {
            return self.breaks("each operation is one that telemetry.md lists", of);
        };
        self.holds(operation.kind == span.operation_type(), "messaging.operation.type is the operation's", || {
            format!("{of}: {}", span.operation_type())
        });
        let Some(kind) = kind(operation.kind, span.kind) else {
            return self.breaks("the kind is that of the operation", format!("{of}: {:?}", span.kind));
        };
        let mut levels = Convention::get().span(self.broker.name, kind);
        // By a tag of which nothing is known any more.
        if self.scenario == "rabbitmq/settle_fails" && operation.kind == "settle" {
            levels.insert("messaging.destination.name", Level::ConditionallyRequired);
        }
        self.attributes(&of, &span.attributes, &levels);
        self.listed(span, operation, failed);
        let linked = Convention::get().span(self.broker.name, "process.consumer");
        for link in &span.links {
            let of = format!("a link of {of}");
            for (key, value) in &link.attributes.0 {
                self.attribute(&of, key, value, &linked);
                // A settlement of all up to a tag has that tag, and its links have theirs; several destinations may have
                // a name together.
                let called_together = key == "messaging.destination.name" && span.attributes.get(key) != Some(value);
                self.holds(
                    operation.kind == "settle" || called_together || !span.attributes.has(key),
                    "what is equal for a batch is on the span, and only the rest on links",
                    || format!("{of}: {key}"),
                );
            }
        }
    }

    /// `{operation} {destination}`.
    fn name(&mut self, span: &Span) {
        let text = |key| span.attributes.get(key).map(Value::to_string);
        let operation = span.operation();
        let lasting = !span.attributes.has("messaging.destination.temporary")
            && !span.attributes.has("messaging.destination.anonymous");
        let destination = match (text("messaging.destination.template"), text("messaging.destination.name")) {
            (Some(template), _) => Some(template),
            (None, Some(name)) => Some(name).filter(|_| lasting),
            (None, None) => {
                text("server.address").map(|host| format!("{host}:{}", span.attributes.text("server.port")))
            }
        };
        let named = destination.map_or_else(|| operation.clone(), |destination| format!("{operation} {destination}"));
        // Settle spans do not say that their destination is temporary; beyond the bound no name is shown.
        let bare = span.name == operation
            && (self.scenario.ends_with("destination_limit") || span.operation_type() == "settle");
        self.holds(span.name == named || bare, "a span is named {operation} {destination}", || {
            format!("`{}` should be `{named}`", span.name)
        });
    }

    /// Names, types and requirement levels.
    fn attributes(&mut self, of: &str, attributes: &Attributes, levels: &BTreeMap<&str, Level>) {
        for (key, value) in &attributes.0 {
            self.attribute(of, key, value, levels);
        }
        let required = levels.iter().filter(|(key, level)| {
            // The convention's condition for the type is that it applies, and it always does.
            **level == Level::Required || **key == "messaging.operation.type"
        });
        for (key, _) in required {
            self.holds(attributes.has(key), "a required attribute is there", || format!("{of}: {key}"));
        }
    }

    fn attribute(&mut self, of: &str, key: &str, value: &Value, levels: &BTreeMap<&str, Level>) {
        let convention = Convention::get();
        let Some(known) = convention.attribute(key) else {
            let why = convention.knows(key).err().unwrap_or_default();
            return self.breaks("no name that is deprecated or that neither registry knows", format!("{of}: {why}"));
        };
        let fits = match (&known.value, value) {
            (Type::String, Value::String(_))
            | (Type::Int, Value::Int(_))
            | (Type::Boolean, Value::Bool(_))
            | (Type::Lists, Value::Strings(_)) => true,
            (Type::OneOf(values), Value::String(value)) => values.contains(value),
            _ => false,
        };
        self.holds(fits, "a value is of the attribute's type", || format!("{of}: {key} = {value:?}"));
        let belongs =
            levels.contains_key(key) || (known.value == Type::Lists && levels.contains_key("otel_messaging.header"));
        self.holds(belongs, "an attribute belongs to its signal", || format!("{of}: {key}"));
    }

    /// What the adapter's own list says.
    fn listed(&mut self, span: &Span, operation: &Operation, failed: bool) {
        let of = format!("`{}`", span.name);
        for key in words(operation.always) {
            self.holds(failed || span.attributes.has(key), "what the client always knows is there", || {
                format!("{of}: {key}")
            });
        }
        for (key, _) in &span.attributes.0 {
            let listed = operation.lists(key)
                || key == "error.type"
                || self.broker.elsewhere.iter().any(|(elsewhere, _)| elsewhere == key);
            self.holds(listed, "an attribute is listed for its operation", || format!("{of}: {key}"));
        }
        let Some(at_start) = &span.at_start else {
            return self.breaks("each span's start is seen", of);
        };
        for (key, _) in span.attributes.0.iter().filter(|(key, _)| !at_start.contains(key)) {
            let late = words(operation.late).any(|late| late == key) || key == "error.type";
            self.holds(late, "what is known at the call is there at the start", || format!("{of}: {key} came late"));
        }
    }

    fn point(&mut self, point: &Point, spans: &[&Span]) {
        let of = point.metric.clone();
        self.scope(&point.scope, &of);
        let Some(metric) = Convention::get().metric(&point.metric) else {
            return self.breaks("a metric is one that a registry knows", of);
        };
        self.holds(metric.histogram == point.histogram, "a metric has its instrument", || of.clone());
        self.holds(metric.unit == point.unit, "a metric has its unit", || format!("{of}: {}", point.unit));
        self.holds(
            metric.boundaries.is_empty() || metric.boundaries == point.boundaries,
            "a histogram has the boundaries that the convention advises",
            || format!("{of}: {:?}", point.boundaries),
        );
        let levels = metric.attributes.iter().map(|(key, level)| (key.as_str(), *level)).collect();
        self.attributes(&of, &point.attributes, &levels);
        // Conditions are judged by the spans that the series stands beside.
        let operation = point.attributes.text("messaging.operation.name");
        let beside: Vec<_> = spans.iter().filter(|span| span.operation() == operation).collect();
        for (key, level) in &metric.attributes {
            let conditional = *level == Level::ConditionallyRequired
                && !["error.type", "messaging.operation.type", "messaging.destination.name"].contains(&key.as_str());
            let there = conditional && !beside.is_empty() && beside.iter().all(|span| span.attributes.has(key));
            self.holds(
                !there || point.attributes.has(key) || self.scenario.ends_with("destination_limit"),
                "what all spans of an operation have by a condition, its metrics have",
                || format!("{of} of {operation}: {key}"),
            );
        }
    }

    fn event(&mut self, event: &Event, spans: &[&Span]) {
        let of = event.name.clone();
        self.scope(&event.scope, &of);
        let Some(known) = Convention::get().event(&event.name) else {
            return self.breaks("an event is one that the convention knows", of);
        };
        self.holds(known.severity == event.severity, "an event has its severity", || {
            format!("{of}: {}", event.severity)
        });
        for (key, value) in &event.attributes.0 {
            let fits = known.attributes.contains(&key.as_str()) && matches!(value, Value::String(_));
            self.holds(fits, "an event has the attributes of exceptions", || format!("{of}: {key}"));
        }
        let says = event.attributes.has("exception.type") || event.attributes.has("exception.message");
        self.holds(says, "an event says what failed", || of.clone());
        if event.span.is_empty() || self.scenario.ends_with("/sampled_out") {
            return;
        }
        let belongs = spans.iter().any(|span| {
            span.id == event.span
                && span.status == StatusCode::Error
                && event.name == format!("messaging.{}.exception", span.operation_type())
                && event.attributes.text("exception.type") == span.attributes.text("error.type")
        });
        self.holds(belongs, "an event belongs to the span that failed", || of.clone());
    }

    fn events_of_failures(&mut self, spans: &[&Span], events: &[Event]) {
        for span in spans.iter().filter(|span| span.status == StatusCode::Error) {
            let told = events.iter().filter(|event| event.span == span.id).count();
            let wanted = usize::from(!self.scenario.ends_with("/without_logger"));
            self.holds(told == wanted, "each failure has one event where there is a logger provider", || {
                format!("`{}` has {told}", span.name)
            });
        }
    }

    /// What the metrics count, the spans show.
    fn counts(&mut self, spans: &[&Span], points: &[Point]) {
        let mut expected = BTreeMap::<Count, u64>::new();
        let mut add = |metric: &str, operation: &str, tells: &str, count: u64| {
            if count > 0 {
                let key = (metric.to_owned(), operation.to_owned(), tells.to_owned());
                *expected.entry(key).or_default() += count;
            }
        };
        for span in spans {
            let (operation, error) = (span.operation(), span.attributes.text("error.type"));
            let outcome = span.attributes.text("otel_messaging.settlement.outcome");
            let messages = match span.attributes.get("messaging.batch.message_count") {
                Some(Value::Int(count)) => u64::try_from(*count).unwrap_or(0),
                _ => 1,
            };
            match span.operation_type().as_str() {
                "send" => {
                    add("messaging.client.operation.duration", &operation, &error, 1);
                    add("messaging.client.sent.messages", &operation, &error, 1);
                }
                "receive" => add("messaging.client.operation.duration", &operation, &error, 1),
                "settle" => {
                    add("messaging.client.operation.duration", &operation, &error, 1);
                    add(
                        "otel_messaging.deliveries",
                        &operation,
                        &outcome,
                        if outcome.is_empty() { 0 } else { messages },
                    );
                }
                "process" => {
                    add("messaging.process.duration", &operation, &error, 1);
                    add("messaging.client.consumed.messages", "", "", messages);
                    add("otel_messaging.deliveries", "", &outcome, u64::from(outcome == "dropped"));
                }
                _ => (),
            }
        }
        let mut measured = BTreeMap::<Count, u64>::new();
        for point in points.iter().filter(|point| point.metric != "otel_messaging.queue_time") {
            let text = |key| point.attributes.text(key);
            let operation = text("messaging.operation.name");
            // Polls are measured whether or not they have spans.
            let polled = text("messaging.operation.type") == "receive" && text("error.type").is_empty();
            if polled && !spans.iter().any(|span| span.operation() == operation && span.status != StatusCode::Error) {
                continue;
            }
            let (operation, tells) = match point.metric.as_str() {
                "messaging.client.consumed.messages" => (String::new(), String::new()),
                "otel_messaging.deliveries" => {
                    let outcome = text("otel_messaging.settlement.outcome");
                    // Counted under what brought the message.
                    (if outcome == "dropped" { String::new() } else { operation }, outcome)
                }
                _ => (operation, text("error.type")),
            };
            *measured.entry((point.metric.clone(), operation, tells)).or_default() += point.count;
        }
        for key in expected.keys().chain(measured.keys().filter(|key| !expected.contains_key(*key))) {
            let of = |counts: &BTreeMap<Count, u64>| counts.get(key).copied().unwrap_or(0);
            let (spans, metric) = (of(&expected), of(&measured));
            self.holds(spans == metric, "what the metrics count, the spans show", || {
                let (name, operation, tells) = key;
                format!("{name} of `{operation} {tells}`: {metric}, by the spans {spans}")
            });
        }
    }
}

/// Metric, operation, and what failed or became of the message.
type Count = (String, String, String);

impl Operation {
    pub(crate) fn lists(&self, key: &str) -> bool {
        let mut all = words(self.always).chain(words(self.sometimes)).chain(words(self.asked)).chain(words(self.late));
        all.any(|listed| listed == key || key.strip_prefix(listed).is_some_and(|rest| rest.starts_with(".x-")))
    }
}

/// The convention's name for a span of this operation and kind.
pub(crate) fn kind(operation: &str, kind: SpanKind) -> Option<&'static str> {
    Some(match (operation, kind) {
        ("create", SpanKind::Producer) => "create.producer",
        ("send", SpanKind::Producer) => "send.producer",
        ("send", SpanKind::Client) => "send.client",
        ("receive", SpanKind::Client) => "receive.client",
        ("process", SpanKind::Consumer) => "process.consumer",
        ("settle", SpanKind::Client) => "settle.client",
        _ => return None,
    })
}
