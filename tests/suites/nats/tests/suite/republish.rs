//! Messages that are sent again.

use async_nats::HeaderMap;
use opentelemetry::trace::{SpanContext, TraceContextExt};
use otel_async_nats::otel::MessageExt;
use support::Sdk;

use crate::{connect, header, headers, next, traceparent, unique};

/// What a server has renamed is read by the next reader as if it were the context that is written now.
#[tokio::test]
async fn a_forward_removes_xraceparent_and_a_kept_context_keeps_both() {
    const OTHER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let forms: [fn(&SpanContext) -> HeaderMap; 2] = [
        |context| headers(&[("Xraceparent", &traceparent(context))]),
        |context| headers(&[("Xraceparent", OTHER), ("traceparent", &traceparent(context))]),
    ];
    for form in forms {
        let sdk = Sdk::new();
        let client = connect(&sdk).await;
        let (from, to) = (unique("from"), unique("to"));
        let mut source = client.subscribe(from.clone()).await.unwrap();
        let mut arrived = client.subscribe(to.clone()).await.unwrap();
        let app = sdk.app_span("app");
        let original = form(app.span().span_context());
        client.get_ref().publish_with_headers(from, original.clone(), "1".into()).await.unwrap();
        let message = next(&mut source).await;
        let forward = || client.publish_with_headers(to.clone(), message.headers.clone().unwrap(), "1".into());
        message.process(|| async { forward().await }).await.unwrap();
        message.republish(forward).await.unwrap();
        for _ in 0..2 {
            let forwarded = next(&mut arrived).await;
            assert_eq!(header(&forwarded.headers, "Xraceparent"), None);
            let written = header(&forwarded.headers, "traceparent").unwrap();
            assert!(sdk.spans().iter().any(|span| traceparent(&span.span_context) == written));
        }

        // Nothing says that this is a forward: an outbox, for example.
        client.publish_with_headers(to.clone(), original.clone(), "1".into()).await.unwrap();
        assert_eq!(next(&mut arrived).await.headers.unwrap(), original);
    }
}
