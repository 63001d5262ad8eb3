//! Spans as text.

use std::fmt::Write;

use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceId, Value,
    trace::{SpanKind, Status},
};
use opentelemetry_sdk::trace::SpanData;
use otel_messaging::semconv::extension;

/// The compared parts of a span, each relation as the name of the span that it leads to.
pub(crate) struct Block {
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) scope: Option<String>,
    pub(crate) parent: Option<String>,
    pub(crate) links: Vec<String>,
    pub(crate) status: Status,
    pub(crate) events: Vec<String>,
    pub(crate) attributes: Vec<String>,
}

impl Block {
    /// `name_of` names the span with these ids.
    pub(crate) fn of(span: &SpanData, name_of: &dyn Fn(TraceId, SpanId) -> String) -> Self {
        let parent = (span.parent_span_id != SpanId::INVALID)
            .then(|| name_of(span.span_context.trace_id(), span.parent_span_id));
        let links = span.links.iter().map(|one| {
            link(&name_of(one.span_context.trace_id(), one.span_context.span_id()), &attributes(&one.attributes))
        });
        Self {
            name: span.name.to_string(),
            kind: span.span_kind.clone(),
            scope: None,
            parent,
            links: links.collect(),
            status: span.status.clone(),
            events: span.events.iter().map(|event| event.name.to_string()).collect(),
            attributes: attributes(&span.attributes),
        }
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.name)?;
        writeln!(f, "  kind {}", format!("{:?}", self.kind).to_uppercase())?;
        self.scope.iter().try_for_each(|scope| writeln!(f, "  scope {scope}"))?;
        match &self.parent {
            Some(parent) => writeln!(f, "  parent {parent}")?,
            None => writeln!(f, "  root")?,
        }
        self.links.iter().try_for_each(|link| writeln!(f, "  link {link}"))?;
        match &self.status {
            Status::Unset => writeln!(f, "  status unset")?,
            Status::Ok => writeln!(f, "  status ok")?,
            Status::Error { description } => writeln!(f, "  status error: {description}")?,
        }
        self.events.iter().try_for_each(|event| writeln!(f, "  event {event}"))?;
        self.attributes.iter().try_for_each(|attribute| writeln!(f, "  {attribute}"))
    }
}

pub(crate) fn link(to: &str, attributes: &[String]) -> String {
    if attributes.is_empty() { to.to_owned() } else { format!("{to} {{{}}}", attributes.join(", ")) }
}

pub(crate) fn scope(scope: &InstrumentationScope, version: bool) -> String {
    let mut text = scope.name().to_owned();
    for part in [scope.version().filter(|_| version), scope.schema_url()].into_iter().flatten() {
        let _ = write!(text, " {part}");
    }
    text
}

/// Attributes as `key = value`, sorted; without `otel_messaging.wait_time`, which is a time.
#[must_use]
pub fn attributes<'a>(attributes: impl IntoIterator<Item = &'a KeyValue>) -> Vec<String> {
    let compared = attributes.into_iter().filter(|one| one.key.as_str() != extension::WAIT_TIME);
    let mut lines: Vec<_> = compared.map(|one| attribute(one.key.as_str(), &one.value)).collect();
    lines.sort();
    lines
}

pub(crate) fn attribute(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) => format!("{key} = {:?}", text.as_str()),
        value => format!("{key} = {value}"),
    }
}

/// Spans as text, a block each, in their order: everything that a span has but its ids, times and events. Parents and links are
/// the names of the spans that they lead to, or the id of a span that is not among `spans`.
///
/// ```text
/// send orders
///   kind PRODUCER
///   scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
///   parent request
///   link import {messaging.message.id = "17"}
///   status unset
///   messaging.system = "kafka"
/// ```
#[must_use]
pub fn describe(spans: &[SpanData]) -> String {
    let name_of = |trace, span| {
        let mut all = spans.iter().map(|other| (&other.span_context, &other.name));
        let found = all.find(|(context, _)| (context.trace_id(), context.span_id()) == (trace, span));
        found.map_or_else(|| span.to_string(), |(_, name)| name.to_string())
    };
    let block = |span: &SpanData| Block {
        scope: Some(scope(&span.instrumentation_scope, false)),
        events: Vec::new(),
        ..Block::of(span, &name_of)
    };
    spans.iter().map(|span| block(span).to_string()).collect()
}
