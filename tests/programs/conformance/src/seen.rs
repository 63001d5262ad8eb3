//! What arrived at the receiver, by scenario.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    time::Duration,
};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{Metric, metric::Data, number_data_point},
    resource::v1::Resource,
    trace::v1::{self as otlp, span::SpanKind, status::StatusCode},
};
use otlp_receiver::Received;

use crate::stage::{CASE, SUITE};

/// How long a message waited for its handler: an attribute, and the metric of the same.
pub(crate) const WAIT_TIME: &str = "otel_messaging.wait_time";

/// The telemetry of one scenario.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) spans: Vec<Span>,
    pub(crate) points: Vec<Point>,
    pub(crate) events: Vec<Event>,
}

/// Whose it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) schema_url: String,
}

#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) scope: Scope,
    pub(crate) trace: Vec<u8>,
    pub(crate) id: Vec<u8>,
    pub(crate) parent: Vec<u8>,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) status: StatusCode,
    /// What the status says of a failure.
    pub(crate) says: String,
    pub(crate) attributes: Attributes,
    pub(crate) links: Vec<Link>,
    pub(crate) started: u64,
    /// In seconds.
    pub(crate) took: f64,
    /// What it had when it started; `None` where it was not noted.
    pub(crate) at_start: Option<AtStart>,
}

/// What a span had when it started.
#[derive(Debug, Clone, Default)]
pub(crate) struct AtStart {
    pub(crate) links: usize,
    pub(crate) attributes: HashSet<String>,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) span: Vec<u8>,
    pub(crate) attributes: Attributes,
}

/// One series of a metric.
#[derive(Debug)]
pub(crate) struct Point {
    pub(crate) scope: Scope,
    pub(crate) metric: String,
    pub(crate) unit: String,
    pub(crate) histogram: bool,
    pub(crate) boundaries: Vec<f64>,
    pub(crate) attributes: Attributes,
    pub(crate) count: u64,
    /// Of a histogram.
    pub(crate) sum: f64,
}

#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) scope: Scope,
    pub(crate) name: String,
    pub(crate) severity: i32,
    pub(crate) attributes: Attributes,
    pub(crate) trace: Vec<u8>,
    pub(crate) span: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes(pub(crate) Vec<(String, Value)>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    String(String),
    Int(i64),
    Double(f64),
    Bool(bool),
    Strings(Vec<String>),
    Other(String),
}

impl Attributes {
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// The value as text; empty where there is none.
    pub(crate) fn text(&self, key: &str) -> String {
        self.get(key).map(Value::to_string).unwrap_or_default()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }
}

impl Span {
    /// `messaging.operation.name`.
    pub(crate) fn operation(&self) -> String {
        self.attributes.text("messaging.operation.name")
    }

    /// `messaging.operation.type`.
    pub(crate) fn operation_type(&self) -> String {
        self.attributes.text("messaging.operation.type")
    }

    /// Whether it is of several messages that are handled together.
    pub(crate) fn is_batch(&self) -> bool {
        self.attributes.has("messaging.batch.message_count")
    }

    /// How many it is of.
    pub(crate) fn messages(&self) -> u64 {
        match self.attributes.get("messaging.batch.message_count") {
            Some(Value::Int(count)) => u64::try_from(*count).unwrap_or(0),
            _ => 1,
        }
    }
}

/// Sorts what arrived. `starts` has a line for each span: its id, and how many links and which attributes it had at its
/// start.
pub(crate) fn sort(received: &Received, starts: &str) -> BTreeMap<String, Seen> {
    let starts: HashMap<_, _> = starts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            let (id, links) = (words.next()?, words.next()?.parse().ok()?);
            Some((id, AtStart { links, attributes: words.collect() }))
        })
        .collect();
    let mut all = BTreeMap::<String, Seen>::new();
    for of_resource in &received.spans {
        let seen = all.entry(scenario(of_resource.resource.as_ref())).or_default();
        for of_scope in &of_resource.scope_spans {
            let scope = scope(of_scope.scope.as_ref(), &of_scope.schema_url);
            seen.spans.extend(of_scope.spans.iter().map(|it| span(it, &scope, &starts)));
        }
    }
    for of_resource in &received.metrics {
        let seen = all.entry(scenario(of_resource.resource.as_ref())).or_default();
        for of_scope in &of_resource.scope_metrics {
            let scope = scope(of_scope.scope.as_ref(), &of_scope.schema_url);
            seen.points.extend(of_scope.metrics.iter().flat_map(|it| points(it, &scope)));
        }
    }
    for of_resource in &received.logs {
        let seen = all.entry(scenario(of_resource.resource.as_ref())).or_default();
        for of_scope in &of_resource.scope_logs {
            let scope = scope(of_scope.scope.as_ref(), &of_scope.schema_url);
            seen.events.extend(of_scope.log_records.iter().map(|log| Event {
                scope: scope.clone(),
                name: log.event_name.clone(),
                severity: log.severity_number,
                attributes: attributes(&log.attributes),
                trace: log.trace_id.clone(),
                span: log.span_id.clone(),
            }));
        }
    }
    all.values_mut().for_each(|seen| seen.spans.sort_by_key(|span| span.started));
    all
}

fn scenario(resource: Option<&Resource>) -> String {
    let text = |key| resource.map(|resource| attributes(&resource.attributes).text(key)).unwrap_or_default();
    format!("{}/{}", text(SUITE), text(CASE))
}

fn scope(scope: Option<&InstrumentationScope>, schema_url: &str) -> Scope {
    let (name, version) = scope.map(|scope| (scope.name.clone(), scope.version.clone())).unwrap_or_default();
    Scope { name, version, schema_url: schema_url.to_owned() }
}

fn span(span: &otlp::Span, scope: &Scope, starts: &HashMap<String, AtStart>) -> Span {
    let id: String = span.span_id.iter().map(|byte| format!("{byte:02x}")).collect();
    Span {
        scope: scope.clone(),
        trace: span.trace_id.clone(),
        id: span.span_id.clone(),
        parent: span.parent_span_id.clone(),
        name: span.name.clone(),
        kind: span.kind(),
        status: span.status.as_ref().map_or(StatusCode::Unset, otlp::Status::code),
        says: span.status.as_ref().map(|status| status.message.clone()).unwrap_or_default(),
        attributes: attributes(&span.attributes),
        links: span
            .links
            .iter()
            .map(|link| Link { span: link.span_id.clone(), attributes: attributes(&link.attributes) })
            .collect(),
        started: span.start_time_unix_nano,
        took: Duration::from_nanos(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano)).as_secs_f64(),
        at_start: starts.get(&id).cloned(),
    }
}

fn points(metric: &Metric, scope: &Scope) -> Vec<Point> {
    let point = |histogram, boundaries: &[f64], of: &[KeyValue], count, sum| Point {
        scope: scope.clone(),
        metric: metric.name.clone(),
        unit: metric.unit.clone(),
        histogram,
        boundaries: boundaries.to_vec(),
        attributes: attributes(of),
        count,
        sum,
    };
    match &metric.data {
        Some(Data::Histogram(histogram)) => histogram
            .data_points
            .iter()
            .map(|it| point(true, &it.explicit_bounds, &it.attributes, it.count, it.sum()))
            .collect(),
        Some(Data::Sum(sum)) => sum
            .data_points
            .iter()
            .map(|it| match it.value {
                Some(number_data_point::Value::AsInt(count)) => {
                    point(false, &[], &it.attributes, u64::try_from(count).unwrap_or(0), 0.0)
                }
                _ => point(false, &[], &it.attributes, 0, 0.0),
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn attributes(attributes: &[KeyValue]) -> Attributes {
    Attributes(attributes.iter().map(|it| (it.key.clone(), value(it.value.as_ref()))).collect())
}

fn value(value: Option<&AnyValue>) -> Value {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => Value::String(text.clone()),
        Some(any_value::Value::BoolValue(value)) => Value::Bool(*value),
        Some(any_value::Value::IntValue(value)) => Value::Int(*value),
        Some(any_value::Value::DoubleValue(value)) => Value::Double(*value),
        Some(any_value::Value::ArrayValue(array)) => {
            let texts = array.values.iter().map(|value| match &value.value {
                Some(any_value::Value::StringValue(text)) => Some(text.clone()),
                _ => None,
            });
            texts.collect::<Option<_>>().map_or_else(|| Value::Other(format!("{array:?}")), Value::Strings)
        }
        other => Value::Other(format!("{other:?}")),
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => f.write_str(text),
            Self::Int(number) => number.fmt(f),
            Self::Double(number) => number.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::Strings(texts) => f.write_str(&texts.join(",")),
            Self::Other(text) => f.write_str(text),
        }
    }
}
