//! Orders things over HTTP: the beginning of every trace.

use std::{iter, time::Duration};

use opentelemetry::{Context, KeyValue, baggage::BaggageExt, global, trace::TraceContextExt};
use opentelemetry_http::HeaderInjector;
use reqwest::{Client, header::HeaderMap};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{Instrument, Span, field::Empty, info, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::{
    Error,
    order::{Card, Order},
    service::{self, Said, Stop, say},
};

/// A dozen orders: most are paid, two are declined, two are slow.
const DOZEN: [Card; 12] = [
    Card::Paid,
    Card::Paid,
    Card::Paid,
    Card::Declined,
    Card::Paid,
    Card::Paid,
    Card::Paid,
    Card::Declined,
    Card::Paid,
    Card::Paid,
    Card::Slow,
    Card::Slow,
];

/// How many orders there are, unless this says otherwise.
const ORDERS: &str = "DEMO_ORDERS";

/// Sends a fixed set of orders, one after another.
pub(crate) async fn run(stop: Stop) -> Result<(), Error> {
    let count = match std::env::var(ORDERS) {
        Ok(count) => count.parse().map_err(|_| format!("{ORDERS} must be a number, not {count:?}"))?,
        Err(_) => DOZEN.len(),
    };
    order(stop, Duration::from_millis(50), count).await
}

/// Keeps ordering until it is stopped.
pub(crate) async fn run_forever(stop: Stop) -> Result<(), Error> {
    order(stop, Duration::from_millis(500), usize::MAX).await
}

async fn order(stop: Stop, pace: Duration, count: usize) -> Result<(), Error> {
    let url = format!("{}/orders", service::address("ORDERS_URL")?);
    let http = Client::new();
    let mut pace = interval(pace);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    service::ready(None);

    for (id, &card) in iter::successors(Some(1), |id| Some(id + 1)).zip(DOZEN.iter().cycle()).take(count) {
        tokio::select! {
            biased;
            () = stop.clone() => break,
            _ = pace.tick() => {}
        }
        let order = Order { id, item: "teapot".to_owned(), card };
        let span = info_span!("place order", order.id = id, order.card = %card);
        // Baggage travels with the context: all services of this order will know who ordered.
        span.set_parent(Context::new().with_baggage([
            KeyValue::new("user.id", format!("user-{}", id % 5)),
            KeyValue::new("tenant.id", "tea-house"),
        ]))?;
        place(&http, &url, &order).instrument(span).await?;
    }
    Ok(())
}

async fn place(http: &Client, url: &str, order: &Order) -> Result<(), Error> {
    let current = Context::current();
    let root = current.span().span_context().clone();
    say(&Said::Ordered { id: order.id, card: order.card, trace: root.trace_id(), sampled: root.is_sampled() });

    let span = info_span!(
        "POST",
        otel.kind = "client",
        http.request.method = "POST",
        url.full = url,
        http.response.status_code = Empty,
    );
    let response = async {
        let mut headers = HeaderMap::new();
        global::get_text_map_propagator(|propagator| propagator.inject(&mut HeaderInjector(&mut headers)));
        let response = http.post(url).headers(headers).json(order).send().await?;
        Span::current().record("http.response.status_code", response.status().as_u16());
        response.error_for_status()
    };
    response.instrument(span).await?;
    info!(order.id, "ordered a {}", order.item);
    Ok(())
}
