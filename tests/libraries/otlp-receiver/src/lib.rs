//! A receiver for OTLP, protobuf, over HTTP and over gRPC on the same port: what every backend has, as small as it gets.

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
    routing::{MethodRouter, post},
};
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    logs::v1::ResourceLogs,
    metrics::v1::ResourceMetrics,
    trace::v1::ResourceSpans,
};
use prost::Message;
use tokio::{net::TcpListener, sync::watch};
use tonic::{Request, Status, codec::CompressionEncoding::Gzip, service::Routes};

/// All that arrived, and more as it comes.
#[derive(Debug)]
pub struct Receiver {
    /// Where to send it: what `OTEL_EXPORTER_OTLP_ENDPOINT` names.
    pub endpoint: String,
    received: watch::Receiver<Received>,
}

/// What arrived, in the order in which it did.
#[derive(Debug, Clone, Default)]
pub struct Received {
    /// Spans.
    pub spans: Vec<ResourceSpans>,
    /// Metrics.
    pub metrics: Vec<ResourceMetrics>,
    /// Log records.
    pub logs: Vec<ResourceLogs>,
}

impl Receiver {
    /// Receives on a free port of this machine from now on, as long as the runtime lives.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn start() -> io::Result<Self> {
        let (send, received) = watch::channel(Received::default());
        let send = Arc::new(send);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let app = Router::new()
            .route("/v1/traces", route(ExportTraceServiceResponse::default(), keep_spans))
            .route("/v1/metrics", route(ExportMetricsServiceResponse::default(), keep_metrics))
            .route("/v1/logs", route(ExportLogsServiceResponse::default(), keep_logs))
            .layer(DefaultBodyLimit::disable())
            .with_state(send.clone());
        let grpc = Grpc(send);
        let grpc =
            Routes::new(TraceServiceServer::new(grpc.clone()).accept_compressed(Gzip).max_decoding_message_size(ANY))
                .add_service(
                    MetricsServiceServer::new(grpc.clone()).accept_compressed(Gzip).max_decoding_message_size(ANY),
                )
                .add_service(LogsServiceServer::new(grpc).accept_compressed(Gzip).max_decoding_message_size(ANY));
        let app = app.merge(grpc.into_axum_router());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { endpoint, received })
    }

    /// What arrived so far, and how to be told of more.
    #[must_use]
    pub fn received(&self) -> watch::Receiver<Received> {
        self.received.clone()
    }
}

type Sender = Arc<watch::Sender<Received>>;

fn keep_spans(received: &mut Received, request: ExportTraceServiceRequest) {
    received.spans.extend(request.resource_spans);
}

fn keep_metrics(received: &mut Received, request: ExportMetricsServiceRequest) {
    received.metrics.extend(request.resource_metrics);
}

fn keep_logs(received: &mut Received, request: ExportLogsServiceRequest) {
    received.logs.extend(request.resource_logs);
}

/// However long an export is.
const ANY: usize = usize::MAX;

/// The same over gRPC.
#[derive(Clone)]
struct Grpc(Sender);

impl Grpc {
    fn keep<T, A: Default>(&self, request: Request<T>, keep: fn(&mut Received, T)) -> Answer<A> {
        self.0.send_modify(|received| keep(received, request.into_inner()));
        Ok(tonic::Response::new(A::default()))
    }
}

type Answer<T> = Result<tonic::Response<T>, Status>;

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Answer<ExportTraceServiceResponse> {
        self.keep(request, keep_spans)
    }
}

#[tonic::async_trait]
impl MetricsService for Grpc {
    async fn export(&self, request: Request<ExportMetricsServiceRequest>) -> Answer<ExportMetricsServiceResponse> {
        self.keep(request, keep_metrics)
    }
}

#[tonic::async_trait]
impl LogsService for Grpc {
    async fn export(&self, request: Request<ExportLogsServiceRequest>) -> Answer<ExportLogsServiceResponse> {
        self.keep(request, keep_logs)
    }
}

/// Keeps what is sent there.
fn route<T: Message + Default + 'static>(answer: impl Message, keep: fn(&mut Received, T)) -> MethodRouter<Sender> {
    let answer = answer.encode_to_vec();
    post(async move |State(received): State<Sender>, headers: HeaderMap, body: Bytes| -> Response {
        let Some(request) = unpack(&headers, body).and_then(|body| T::decode(body).ok()) else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        received.send_modify(|received| keep(received, request));
        ([(CONTENT_TYPE, "application/x-protobuf")], answer.clone()).into_response()
    })
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use opentelemetry_proto::tonic::collector::{
        logs::v1::logs_service_client::LogsServiceClient, metrics::v1::metrics_service_client::MetricsServiceClient,
        trace::v1::trace_service_client::TraceServiceClient,
    };

    use super::*;

    #[tokio::test]
    async fn what_is_sent_arrives_plain_and_compressed_and_nothing_else_does() {
        let receiver = Receiver::start().await.unwrap();
        let http = reqwest::Client::new();
        let post = |signal| http.post(format!("{}/v1/{signal}", receiver.endpoint));
        let spans = ExportTraceServiceRequest { resource_spans: vec![ResourceSpans::default()] }.encode_to_vec();
        let metrics = ExportMetricsServiceRequest { resource_metrics: vec![ResourceMetrics::default()] };
        let logs = ExportLogsServiceRequest { resource_logs: vec![ResourceLogs::default()] };
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&spans).unwrap();
        let compressed = post("traces").header(CONTENT_ENCODING, "gzip").body(gzip.finish().unwrap());

        assert_eq!(post("traces").body(spans).send().await.unwrap().status(), 200);
        assert_eq!(compressed.send().await.unwrap().status(), 200);
        assert_eq!(post("metrics").body(metrics.encode_to_vec()).send().await.unwrap().status(), 200);
        assert_eq!(post("logs").body(logs.encode_to_vec()).send().await.unwrap().status(), 200);
        assert_eq!(post("traces").body("no protobuf").send().await.unwrap().status(), 400);

        let received = receiver.received().borrow().clone();
        assert_eq!((received.spans.len(), received.metrics.len(), received.logs.len()), (2, 1, 1));
    }

    #[tokio::test]
    async fn what_is_sent_over_grpc_arrives_too() {
        let receiver = Receiver::start().await.unwrap();
        let to = || receiver.endpoint.clone();
        let spans = ExportTraceServiceRequest { resource_spans: vec![ResourceSpans::default()] };
        let metrics = ExportMetricsServiceRequest { resource_metrics: vec![ResourceMetrics::default()] };
        let logs = ExportLogsServiceRequest { resource_logs: vec![ResourceLogs::default()] };
        TraceServiceClient::connect(to()).await.unwrap().send_compressed(Gzip).export(spans).await.unwrap();
        MetricsServiceClient::connect(to()).await.unwrap().export(metrics).await.unwrap();
        LogsServiceClient::connect(to()).await.unwrap().export(logs).await.unwrap();
        let received = receiver.received().borrow().clone();
        assert_eq!((received.spans.len(), received.metrics.len(), received.logs.len()), (1, 1, 1));
    }
}
