//! Takes orders over HTTP and writes them to Kafka.

use std::{env, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use opentelemetry::global;
use opentelemetry_http::HeaderExtractor;
use otel_rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{FutureProducer, FutureRecord, Producer},
};
use tokio::net::TcpListener;
use tracing::{Instrument, error, field::Empty, info, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::kafka;
use crate::{
    Error,
    order::{ORDERS_TOPIC, Order},
    service::{self, Stop},
};

/// How long an order may wait for the broker.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn run(stop: Stop) -> Result<(), Error> {
    let servers = service::address("KAFKA_BOOTSTRAP_SERVERS")?;
    kafka::topics(&servers).await?;
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", servers).create()?;

    let listen = env::var("ORDERS_LISTEN").unwrap_or_else(|_| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(listen).await?;
    service::ready(Some(&format!("http://{}", listener.local_addr()?)));
    let app = Router::new().route("/orders", post(serve)).with_state(producer.clone());
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    producer.flush(PATIENCE)?;
    Ok(())
}

/// The server's span of one request, child of the client's.
async fn serve(State(producer): State<FutureProducer>, headers: HeaderMap, Json(order): Json<Order>) -> StatusCode {
    let span = info_span!(
        "POST /orders",
        otel.kind = "server",
        http.request.method = "POST",
        http.route = "/orders",
        url.path = "/orders",
        url.scheme = "http",
        http.response.status_code = Empty,
    );
    let caller = global::get_text_map_propagator(|propagator| propagator.extract(&HeaderExtractor(&headers)));
    if let Err(error) = span.set_parent(caller) {
        error!(%error, "the request starts a trace of its own");
    }
    let status = match accept(&producer, &order).instrument(span.clone()).await {
        Ok(()) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    span.record("http.response.status_code", status.as_u16());
    status
}

async fn accept(producer: &FutureProducer, order: &Order) -> Result<(), KafkaError> {
    let payload = order.to_json();
    let key = order.id.to_string();
    let record = FutureRecord::to(ORDERS_TOPIC).key(&key).payload(&payload);
    match producer.send(record, PATIENCE).await {
        Ok(delivery) => {
            info!(order.id, partition = delivery.partition, offset = delivery.offset, "accepted");
            Ok(())
        }
        Err((error, _)) => {
            error!(order.id, %error, "cannot be accepted");
            Err(error)
        }
    }
}
