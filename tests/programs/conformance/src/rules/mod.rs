//! The rules that hold of everything that is emitted, whatever the scenario.

mod metrics;

use std::collections::{BTreeMap, BTreeSet};

use conventions::{Convention, Level, Type};
use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};

use crate::{
    broker::Broker,
    line,
    rule::{Broken, Rule},
    scenario::{Operation, words},
    scenarios::handling::DECLINED,
    seen::{Attributes, Event, Point, Scope, Seen, Span, Value, WAIT_TIME},
};

pub(crate) const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// All crates have one.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

const NAME: &str = "messaging.destination.name";
const TEMPLATE: &str = "messaging.destination.template";

/// A shorter wait is not recorded on a span, in seconds.
const SHORTEST_WAIT: f64 = 0.001;

/// In these scenarios each message waits for its handler.
const WAITING: [&str; 2] = ["handler_waits", "batch_waits"];

/// In these each span starts at the delivery.
const AT_ONCE: [&str; 3] = ["handled_at_once", "context_before_handler", "delegate"];

/// The rules' findings in one scenario.
pub(crate) struct Rules<'a> {
    broker: &'a Broker,
    scenario: &'a str,
    pub(crate) broken: Vec<Broken>,
}

impl<'a> Rules<'a> {
    /// `scenario` is `{broker}/{scenario}`.
    pub(crate) fn new(broker: &'a Broker, scenario: &'a str) -> Self {
        Self { broker, scenario, broken: Vec::new() }
    }

    pub(crate) fn breaks(&mut self, rule: Rule, what: impl Into<String>) {
        self.broken.push(Broken { scenario: self.scenario.to_owned(), rule, what: what.into() });
    }

    pub(crate) fn holds(&mut self, holds: bool, rule: Rule, what: impl FnOnce() -> String) {
        if !holds {
            self.breaks(rule, what());
        }
    }

    /// `derive`: the metrics are to be derived from the spans.
    pub(crate) fn apply(&mut self, seen: &Seen, derive: bool) {
        let spans: Vec<_> = seen.spans.iter().filter(|span| span.scope.name == self.broker.scope).collect();
        spans.iter().for_each(|span| self.span(span, &seen.spans));
        self.each_its_own(&spans, &seen.spans);
        self.waits(&spans, &seen.points);
        self.described(&spans);
        seen.points.iter().for_each(|point| self.point(point, &spans));
        seen.events.iter().for_each(|event| self.event(event, &spans));
        if derive && !self.is("without_metrics") {
            self.counts(&spans, &seen.points);
        }
        if spans.is_empty() {
            self.events_of_measured_failures(&seen.points, &seen.events);
        } else {
            self.events_of_failures(&spans, &seen.events);
        }
    }

    fn is(&self, scenario: &str) -> bool {
        self.scenario.split('/').nth(1) == Some(scenario)
    }

    /// Whether the scenario is said to be without what the operation has elsewhere.
    fn lacks(&self, attribute: &str, operation: &str) -> bool {
        self.broker.lacking.iter().any(|it| {
            it.attribute == attribute && self.is(it.scenario) && words(it.operations).any(|name| name == operation)
        })
    }

    fn scope(&mut self, scope: &Scope, of: &str) {
        let wanted = Scope {
            name: self.broker.scope.to_owned(),
            version: VERSION.to_owned(),
            schema_url: SCHEMA_URL.to_owned(),
        };
        self.holds(*scope == wanted, Rule::Scope, || format!("{of}: {scope:?}"));
    }

    fn system(&mut self, attributes: &Attributes, of: &str) {
        let system = attributes.text("messaging.system");
        // Without any, it lacks a required attribute.
        let own = system == self.broker.name || !attributes.has("messaging.system");
        self.holds(own, Rule::System, || format!("{of}: {system}"));
    }

    fn span(&mut self, span: &Span, all: &[Span]) {
        let of = format!("`{}`", span.name);
        self.scope(&span.scope, &of);
        self.system(&span.attributes, &of);
        self.holds(span.status != StatusCode::Ok, Rule::NeverOk, || of.clone());
        let failed = span.status == StatusCode::Error;
        self.holds(span.attributes.has("error.type") == failed, Rule::ErrorType, || {
            format!("{of}: error.type {:?}, status {:?}", span.attributes.text("error.type"), span.status)
        });
        self.name(span);
        let Some(operation) = self.broker.operations.iter().find(|it| it.name == span.operation()) else {
            return self.breaks(Rule::OperationListed, of);
        };
        self.holds(operation.kind == span.operation_type(), Rule::OperationType, || {
            format!("{of}: {}", span.operation_type())
        });
        let Some(kind) = kind(operation.kind, span.kind) else {
            return self.breaks(Rule::Kind, format!("{of}: {:?}", span.kind));
        };
        let mut levels = Convention::get().span(self.broker.name, kind);
        for (key, level) in &mut levels {
            if self.lacks(key, operation.name) {
                *level = (*level).max(Level::ConditionallyRequired);
            }
        }
        self.attributes(&of, &span.attributes, &levels);
        self.listed(span, operation, &levels);
        self.start(span, operation);
        self.links(span, operation, all);
    }

    fn links(&mut self, span: &Span, operation: &Operation, all: &[Span]) {
        let of = format!("a link of `{}`", span.name);
        let levels = Convention::get().span(self.broker.name, "process.consumer");
        for link in &span.links {
            for (key, value) in &link.attributes.0 {
                self.attribute(&of, key, value, &levels);
                // A settlement of all up to a tag has that tag, and its links have theirs; several destinations may have
                // a name together.
                let called_together = key == "messaging.destination.name" && span.attributes.get(key) != Some(value);
                let apart = operation.kind == "settle" || called_together || !span.attributes.has(key);
                self.holds(apart, Rule::LinkAttributes, || format!("{of}: {key}"));
            }
        }
        // Where a batch is settled together its messages have one span, and each link is about one of them.
        let together = |id: &[u8]| operation.kind == "settle" && id == span.parent;
        let targets: Vec<_> = span.links.iter().map(|link| &link.span).filter(|id| !together(id)).collect();
        let different: BTreeSet<_> = targets.iter().collect();
        self.holds(different.len() == targets.len(), Rule::LinksDiffer, || of.clone());
        let named = |id: &[u8]| all.iter().find(|other| other.id == id).map(|it| line::plain(&it.name, &it.attributes));
        if let Some(parent) = named(&span.parent) {
            let mut same = span.links.iter().filter(|link| named(&link.span).as_ref() == Some(&parent)).peekable();
            let linked = same.peek().is_none() || same.any(|link| link.span == span.parent);
            self.holds(linked, Rule::ParentLinked, || format!("`{}` is a child of another `{parent}`", span.name));
        }
    }

    /// No message has another's context.
    fn each_its_own(&mut self, spans: &[&Span], all: &[Span]) {
        let mut linked = BTreeSet::new();
        for span in spans.iter().filter(|span| span.operation_type() == "process" && !span.links.is_empty()) {
            let line = line::span(span, all);
            let links: Vec<_> = span.links.iter().map(|link| &link.span).collect();
            self.holds(linked.insert((line.clone(), links)), Rule::EachItsOwn, || line);
        }
    }

    /// How long messages waited for their handlers: of a batch on each link, else on the span.
    fn waits(&mut self, spans: &[&Span], points: &[Point]) {
        let waiting = WAITING.iter().any(|name| self.is(name));
        let at_once = AT_ONCE.iter().any(|name| self.is(name));
        for span in spans.iter().filter(|span| span.operation_type() == "process") {
            let of = format!("`{}`", span.name);
            let on_links = span.links.iter().filter(|link| link.attributes.has(WAIT_TIME)).count();
            let on_span = usize::from(span.attributes.has(WAIT_TIME));
            let (here, elsewhere, all) =
                if span.is_batch() { (on_links, on_span, span.links.len()) } else { (on_span, on_links, 1) };
            self.holds(elsewhere == 0, Rule::WaitTime, || format!("{of}: it is in the wrong place"));
            self.holds(!waiting || here > 0 && here == all, Rule::WaitTime, || format!("{of}: {here} of {all}"));
            self.holds(!at_once || here == 0, Rule::WaitTime, || format!("{of} did not wait"));
            let shortest = recorded_waits(span).fold(SHORTEST_WAIT, f64::min);
            self.holds(shortest >= SHORTEST_WAIT, Rule::WaitTime, || format!("{of}: {shortest} s"));
        }
        let measured = points.iter().any(|point| point.metric == WAIT_TIME);
        self.holds(!at_once || !measured, Rule::WaitTime, || "what did not wait is measured".to_owned());
    }

    /// What a function finds has its words.
    fn described(&mut self, spans: &[&Span]) {
        if !self.is("outcomes") {
            return;
        }
        for span in spans.iter().filter(|span| span.status == StatusCode::Error) {
            self.holds(span.says == DECLINED.1, Rule::Described, || format!("`{}`: {}", span.name, span.says));
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
        let bare = span.name == operation && (self.is("destination_limit") || span.operation_type() == "settle");
        self.holds(span.name == named || bare, Rule::Name, || format!("`{}` should be `{named}`", span.name));
    }

    /// Names, types and requirement levels.
    fn attributes(&mut self, of: &str, attributes: &Attributes, levels: &BTreeMap<&str, Level>) {
        for (key, value) in &attributes.0 {
            self.attribute(of, key, value, levels);
        }
        let different: BTreeSet<_> = attributes.0.iter().map(|(key, _)| key).collect();
        self.holds(different.len() == attributes.0.len(), Rule::Once, || format!("{of}: {attributes:?}"));
        for key in levels.keys().filter(|key| required(key, levels)) {
            self.holds(attributes.has(key), Rule::Required, || format!("{of}: {key}"));
        }
    }

    fn attribute(&mut self, of: &str, key: &str, value: &Value, levels: &BTreeMap<&str, Level>) {
        let convention = Convention::get();
        let Some(known) = convention.attribute(key) else {
            let why = convention.knows(key).err().unwrap_or_default();
            return self.breaks(Rule::Known, format!("{of}: {why}"));
        };
        let fits = match (&known.value, value) {
            (Type::String, Value::String(_))
            | (Type::Int, Value::Int(_))
            | (Type::Double, Value::Double(_))
            | (Type::Boolean, Value::Bool(_))
            | (Type::Lists, Value::Strings(_)) => true,
            (Type::OneOf(values), Value::String(value)) => values.contains(value),
            _ => false,
        };
        self.holds(fits, Rule::ValueType, || format!("{of}: {key} = {value:?}"));
        let belongs =
            levels.contains_key(key) || (known.value == Type::Lists && levels.contains_key("otel_messaging.header"));
        self.holds(belongs, Rule::Belongs, || format!("{of}: {key}"));
    }

    /// What the adapter's own list says.
    fn listed(&mut self, span: &Span, operation: &Operation, levels: &BTreeMap<&str, Level>) {
        let failed = span.status == StatusCode::Error;
        let of = format!("`{}`", span.name);
        let there = |key: &str| {
            let of_each = !span.links.is_empty() && span.links.iter().all(|link| link.attributes.has(key));
            span.attributes.has(key) || of_each
        };
        for key in words(operation.always).filter(|key| !required(key, levels)) {
            let lacks = self.lacks(key, operation.name);
            self.holds(lacks || there(key), Rule::KnownAtCall, || format!("{of}: {key}"));
        }
        for key in words(operation.answered).filter(|_| !failed) {
            let lacks = self.lacks(key, operation.name);
            self.holds(lacks || there(key), Rule::Answered, || format!("{of}: {key}"));
        }
        for &group in operation.together.iter().filter(|group| words(group).any(there)) {
            for key in words(group) {
                self.holds(there(key), Rule::Together, || format!("{of}: {key}"));
            }
        }
        for (key, _) in &span.attributes.0 {
            let elsewhere = self.broker.elsewhere.iter().any(|it| it.excuses(key, operation.name));
            let listed = operation.lists(key) || key == "error.type" || elsewhere;
            self.holds(listed, Rule::AttributeListed, || format!("{of}: {key}"));
        }
    }

    /// What comes late is listed.
    fn start(&mut self, span: &Span, operation: &Operation) {
        let of = format!("`{}`", span.name);
        let Some(at_start) = &span.at_start else {
            return self.breaks(Rule::StartSeen, of);
        };
        let late = |key: &str| key == "error.type" || words(operation.late).any(|late| late == key);
        for (key, _) in span.attributes.0.iter().filter(|(key, _)| !at_start.attributes.contains(key)) {
            self.holds(late(key), Rule::AtStart, || format!("{of}: {key} came late"));
        }
        let at_start = at_start.links;
        self.holds(late("links") || at_start == span.links.len(), Rule::LinksAtStart, || {
            format!("{of}: {at_start} of {}", span.links.len())
        });
    }

    fn event(&mut self, event: &Event, spans: &[&Span]) {
        let of = event.name.clone();
        self.scope(&event.scope, &of);
        let Some(known) = Convention::get().event(&event.name) else {
            return self.breaks(Rule::EventKnown, of);
        };
        self.holds(known.severity == event.severity, Rule::Severity, || format!("{of}: {}", event.severity));
        for (key, value) in &event.attributes.0 {
            let fits = known.attributes.contains(&key.as_str()) && matches!(value, Value::String(_));
            self.holds(fits, Rule::EventAttributes, || format!("{of}: {key}"));
        }
        let says = event.attributes.has("exception.type") && event.attributes.has("exception.message");
        let message = event.attributes.text("exception.message");
        let same = spans.iter().all(|span| span.id != event.span || span.says == message);
        self.holds(says && same, Rule::EventSays, || of.clone());
        // Where nothing is recorded it has no span to belong to.
        if self.is("sampled_out") || event.span.is_empty() && spans.is_empty() {
            return;
        }
        let belongs = spans.iter().any(|span| {
            (&span.trace, &span.id) == (&event.trace, &event.span)
                && span.status == StatusCode::Error
                && event.name == format!("messaging.{}.exception", span.operation_type())
                && event.attributes.text("exception.type") == span.attributes.text("error.type")
        });
        self.holds(belongs, Rule::EventBelongs, || of.clone());
    }

    fn events_of_failures(&mut self, spans: &[&Span], events: &[Event]) {
        for span in spans.iter().filter(|span| span.status == StatusCode::Error) {
            let recorded = events.iter().filter(|event| event.span == span.id).count();
            let wanted = usize::from(!self.is("without_logger"));
            self.holds(recorded == wanted, Rule::EachFailure, || format!("`{}` has {recorded}", span.name));
        }
    }

    /// Where nothing is recorded but metrics, the metrics say which operations failed.
    fn events_of_measured_failures(&mut self, points: &[Point], events: &[Event]) {
        let mut failures = BTreeMap::<_, (u64, u64)>::new();
        for point in points.iter().filter(|it| it.metric.ends_with(".duration") && it.attributes.has("error.type")) {
            let operation = match point.attributes.text("messaging.operation.type").as_str() {
                "" => "process".to_owned(),
                operation => operation.to_owned(),
            };
            failures.entry((operation, point.attributes.text("error.type"))).or_default().0 += point.count;
        }
        for event in events {
            let operation = event.name.trim_start_matches("messaging.").trim_end_matches(".exception").to_owned();
            failures.entry((operation, event.attributes.text("exception.type"))).or_default().1 += 1;
        }
        for ((operation, error), (failed, recorded)) in failures {
            self.holds(failed == recorded, Rule::EachFailure, || {
                format!("{failed} {operation} ! {error} have {recorded}")
            });
        }
    }
}

/// How long the messages of a process span waited, as far as the span and its links record it, in seconds.
fn recorded_waits(span: &Span) -> impl Iterator<Item = f64> {
    let of_links = span.links.iter().map(|link| &link.attributes);
    of_links.chain([&span.attributes]).filter_map(|attributes| match attributes.get(WAIT_TIME) {
        Some(Value::Double(wait)) => Some(*wait),
        _ => None,
    })
}

/// Whether the convention requires it without a condition. That of the type is that it applies, and it always does.
fn required(key: &str, levels: &BTreeMap<&str, Level>) -> bool {
    let level = levels.get(key);
    level == Some(&Level::Required) || level.is_some() && key == "messaging.operation.type"
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
