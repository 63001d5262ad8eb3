//! A receiver for OTLP over HTTP, protobuf: what every backend has, as small as it gets.

use std::{
    io::{self, Read},
    sync::Arc,
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_ENCODING, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::post,
};
use flate2::read::GzDecoder;
use opentelemetry::{SpanId, TraceId};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::{self as otlp, span::SpanKind, status::StatusCode as OtlpStatus},
};
use prost::Message;
use tokio::{net::TcpListener, sync::watch};

/// All spans that arrived, and more as they come.
pub(crate) struct Receiver {
    /// Where to send them.
    pub(crate) endpoint: String,
    spans: watch::Receiver<Vec<Span>>,
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
        let (send, spans) = watch::channel(Vec::new());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}/v1/traces", listener.local_addr()?);
        let app = Router::new()
            .route("/v1/traces", post(receive))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::new(send));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { endpoint, spans })
    }

    /// All spans that arrived so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.spans.borrow().clone()
    }

    /// Waits until the spans that arrived are enough.
    pub(crate) async fn until(&self, enough: impl Fn(&[Span]) -> bool) {
        // An error would mean that the server has gone, and with it every hope.
        let _ = self.spans.clone().wait_for(|spans| enough(spans)).await;
    }
}

async fn receive(State(spans): State<Arc<watch::Sender<Vec<Span>>>>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(request) = unpack(&headers, body).and_then(|body| ExportTraceServiceRequest::decode(body).ok()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    spans.send_modify(|spans| spans.extend(decode(request)));
    let answer = ExportTraceServiceResponse::default().encode_to_vec();
    ([(CONTENT_TYPE, "application/x-protobuf")], answer).into_response()
}

/// As it was before `OTEL_EXPORTER_OTLP_COMPRESSION`.
fn unpack(headers: &HeaderMap, body: Bytes) -> Option<Bytes> {
    if headers.get(CONTENT_ENCODING).is_none_or(|encoding| encoding != "gzip") {
        return Some(body);
    }
    let mut unpacked = Vec::new();
    GzDecoder::new(&body[..]).read_to_end(&mut unpacked).ok()?;
    Some(unpacked.into())
}

fn decode(request: ExportTraceServiceRequest) -> impl Iterator<Item = Span> {
    request.resource_spans.into_iter().flat_map(|resource_spans| {
        let resource = attributes(resource_spans.resource.map(|resource| resource.attributes).unwrap_or_default());
        let service = resource.into_iter().find(|(key, _)| key == "service.name").map(|(_, value)| value);
        let service = service.unwrap_or_default();
        let spans = resource_spans.scope_spans.into_iter().flat_map(|scope_spans| scope_spans.spans);
        spans.filter_map(move |span| decode_span(&service, span))
    })
}

/// None for a span without valid ids, which no SDK sends.
fn decode_span(service: &str, span: otlp::Span) -> Option<Span> {
    let kind = span.kind();
    let status = match span.status {
        None => Status::Unset,
        Some(status) => match status.code() {
            OtlpStatus::Unset => Status::Unset,
            OtlpStatus::Ok => Status::Ok,
            OtlpStatus::Error => Status::Error(status.message),
        },
    };
    Some(Span {
        trace: trace_id(&span.trace_id)?,
        id: span_id(&span.span_id)?,
        parent: span_id(&span.parent_span_id),
        service: service.to_owned(),
        name: span.name,
        kind,
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes: attributes(span.attributes),
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

fn attributes(attributes: Vec<KeyValue>) -> Vec<(String, String)> {
    attributes.into_iter().map(|attribute| (attribute.key, text(attribute.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::BoolValue(value)) => value.to_string(),
        Some(any_value::Value::IntValue(value)) => value.to_string(),
        Some(any_value::Value::DoubleValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use opentelemetry_proto::tonic::{
        resource::v1::Resource,
        trace::v1::{ResourceSpans, ScopeSpans},
    };

    use super::*;

    fn request() -> Vec<u8> {
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
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..Default::default() }];
        let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans, ..Default::default() }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    }

    #[tokio::test]
    async fn spans_arrive_plain_and_compressed_and_nothing_else_does() {
        let receiver = Receiver::start().await.unwrap();
        let http = reqwest::Client::new();
        let post = || http.post(&receiver.endpoint);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&request()).unwrap();
        let compressed = post().header(CONTENT_ENCODING, "gzip").body(gzip.finish().unwrap());

        assert_eq!(post().body(request()).send().await.unwrap().status(), 200);
        assert_eq!(compressed.send().await.unwrap().status(), 200);
        assert_eq!(post().body("no protobuf").send().await.unwrap().status(), 400);

        let spans = receiver.spans();
        assert_eq!(spans.len(), 2);
        for span in spans {
            assert_eq!(span.service, "orders");
            assert_eq!(span.name, "send orders");
            assert_eq!(span.kind, SpanKind::Producer);
            assert_eq!(span.trace, TraceId::from_bytes([1; 16]));
            assert_eq!(span.parent, Some(SpanId::from_bytes([3; 8])));
        }
    }
}
