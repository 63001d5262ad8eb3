//! What the services send, as the director looks at it.

use std::{collections::BTreeSet, io};

use conventions::Convention;
use opentelemetry::{SpanId, TraceId};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{Metric, ResourceMetrics, metric::Data},
    resource::v1::Resource,
    trace::v1::{self as otlp, ResourceSpans, span::SpanKind, status::StatusCode as OtlpStatus},
};

use crate::telemetry::FROM_BAGGAGE;

/// All that arrived, and more as it comes.
pub(crate) struct Receiver {
    /// Where to send it.
    pub(crate) endpoint: String,
    receiver: otlp_receiver::Receiver,
}

/// A span as it arrived: what is needed to draw it and to judge it.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) trace: TraceId,
    pub(crate) id: SpanId,
    pub(crate) parent: Option<SpanId>,
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    /// Nanoseconds since 1970.
    pub(crate) start: u64,
    /// Nanoseconds since 1970.
    pub(crate) end: u64,
    /// Values as text.
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) links: Vec<(TraceId, SpanId)>,
    pub(crate) status: Status,
}

/// How a span ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    Unset,
    Ok,
    Error(String),
}

impl Span {
    /// The value of an attribute, as text.
    pub(crate) fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Whether it ended with an error.
    pub(crate) fn failed(&self) -> bool {
        matches!(self.status, Status::Error(_))
    }
}

impl Receiver {
    /// Receives on a free port of this machine from now on.
    pub(crate) async fn start() -> io::Result<Self> {
        let receiver = otlp_receiver::Receiver::start().await?;
        Ok(Self { endpoint: receiver.endpoint.clone(), receiver })
    }

    /// All spans that arrived so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        decode(&self.receiver.received().borrow().spans)
    }

    /// All metrics that arrived so far, as they came.
    pub(crate) fn metrics(&self) -> Vec<ResourceMetrics> {
        self.receiver.received().borrow().metrics.clone()
    }

    /// What the crates should not have sent: attributes that neither registry knows.
    pub(crate) fn unknown(&self) -> BTreeSet<String> {
        let received = self.receiver.received();
        let received = received.borrow();
        let scopes = received.spans.iter().flat_map(|resource| &resource.scope_spans);
        let spans = scopes.filter(|scope| is_ours(scope.scope.as_ref())).flat_map(|scope| &scope.spans);
        let of_spans =
            spans.flat_map(|span| span.attributes.iter().chain(span.links.iter().flat_map(|it| &it.attributes)));
        let scopes = received.metrics.iter().flat_map(|resource| &resource.scope_metrics);
        let metrics = scopes.filter(|scope| is_ours(scope.scope.as_ref())).flat_map(|scope| &scope.metrics);
        // The demo's processor adds what it finds in the baggage.
        let of_spans = of_spans.filter(|attribute| !FROM_BAGGAGE.contains(&&*attribute.key));
        let all = of_spans.chain(metrics.flat_map(of_metric));
        all.filter_map(|attribute| Convention::get().knows(&attribute.key).err()).collect()
    }

    /// Waits until the spans that arrived are enough.
    pub(crate) async fn until(&self, enough: impl Fn(&[Span]) -> bool) {
        // An error would mean that the server has gone, and with it every hope.
        let _ = self.receiver.received().wait_for(|received| enough(&decode(&received.spans))).await;
    }
}

/// Whether one of the crates is speaking, and not the demo itself.
fn is_ours(scope: Option<&InstrumentationScope>) -> bool {
    scope.is_some_and(|scope| ["otel-rdkafka", "otel-lapin", "otel-async-nats"].contains(&&*scope.name))
}

fn of_metric(metric: &Metric) -> Vec<&KeyValue> {
    match &metric.data {
        Some(Data::Sum(sum)) => sum.data_points.iter().flat_map(|point| &point.attributes).collect(),
        Some(Data::Histogram(histogram)) => histogram.data_points.iter().flat_map(|point| &point.attributes).collect(),
        _ => Vec::new(),
    }
}

fn decode(received: &[ResourceSpans]) -> Vec<Span> {
    let spans = received.iter().flat_map(|resource_spans| {
        let service = service_name(resource_spans.resource.as_ref());
        let spans = resource_spans.scope_spans.iter().flat_map(|scope_spans| &scope_spans.spans);
        spans.filter_map(move |span| decode_span(&service, span))
    });
    spans.collect()
}

/// Who sent it.
pub(crate) fn service_name(resource: Option<&Resource>) -> String {
    let resource = resource.map(|resource| attributes(&resource.attributes));
    let name = resource.into_iter().flatten().find(|(key, _)| key == "service.name");
    name.map(|(_, name)| name).unwrap_or_default()
}

/// None for a span without valid ids, which no SDK sends.
fn decode_span(service: &str, span: &otlp::Span) -> Option<Span> {
    let kind = span.kind();
    let status = match &span.status {
        None => Status::Unset,
        Some(status) => match status.code() {
            OtlpStatus::Unset => Status::Unset,
            OtlpStatus::Ok => Status::Ok,
            OtlpStatus::Error => Status::Error(status.message.clone()),
        },
    };
    Some(Span {
        trace: trace_id(&span.trace_id)?,
        id: span_id(&span.span_id)?,
        parent: span_id(&span.parent_span_id),
        service: service.to_owned(),
        name: span.name.clone(),
        kind,
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes: attributes(&span.attributes),
        links: span
            .links
            .iter()
            .filter_map(|link| Some((trace_id(&link.trace_id)?, span_id(&link.span_id)?)))
            .collect(),
        status,
    })
}

fn trace_id(bytes: &[u8]) -> Option<TraceId> {
    bytes.try_into().ok().map(TraceId::from_bytes).filter(|id| *id != TraceId::INVALID)
}

fn span_id(bytes: &[u8]) -> Option<SpanId> {
    bytes.try_into().ok().map(SpanId::from_bytes).filter(|id| *id != SpanId::INVALID)
}

/// Values as text.
pub(crate) fn attributes(attributes: &[KeyValue]) -> Vec<(String, String)> {
    attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute.value.as_ref()))).collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::BoolValue(value)) => value.to_string(),
        Some(any_value::Value::IntValue(value)) => value.to_string(),
        Some(any_value::Value::DoubleValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::trace::v1::ScopeSpans;

    use super::*;

    #[test]
    fn a_span_is_what_it_was() {
        let service = AnyValue { value: Some(any_value::Value::StringValue("orders".to_owned())) };
        let name = KeyValue { key: "service.name".to_owned(), value: Some(service), ..Default::default() };
        let resource = Resource { attributes: vec![name], ..Default::default() };
        let span = otlp::Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            parent_span_id: vec![3; 8],
            name: "send orders".to_owned(),
            kind: SpanKind::Producer.into(),
            ..Default::default()
        };
        let without_ids = otlp::Span { name: "no SDK sends it".to_owned(), ..Default::default() };
        let scope_spans = vec![ScopeSpans { spans: vec![span, without_ids], ..Default::default() }];
        let spans = decode(&[ResourceSpans { resource: Some(resource), scope_spans, ..Default::default() }]);

        assert_eq!(spans.len(), 1);
        let span = &spans[0];
        assert_eq!(
            (span.service.as_str(), span.name.as_str(), span.kind),
            ("orders", "send orders", SpanKind::Producer)
        );
        assert_eq!(span.trace, TraceId::from_bytes([1; 16]));
        assert_eq!(span.parent, Some(SpanId::from_bytes([3; 8])));
    }
}
