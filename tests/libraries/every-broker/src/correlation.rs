//! Parents, links and baggage; contexts that are in a message already.

use opentelemetry::{
    Context, KeyValue, SpanId,
    baggage::BaggageExt,
    trace::{SpanKind, TraceContextExt},
};
use opentelemetry_sdk::trace::SpanData;
use otel_messaging::MessageExt;
use support::Sdk;

use crate::{Broker, Received, connected, headers, linked, named, processed, sent, take, traceparent, within};

/// The only span in these.
fn one(spans: Vec<SpanData>, sdk: &Sdk) -> SpanData {
    let Ok([span]) = <[SpanData; 1]>::try_from(spans) else { panic!("{}", sdk.described()) };
    span
}

/// Where a span stands: its parent, what it links, and its trace.
fn stands(span: &SpanData) -> (SpanId, Vec<SpanId>, opentelemetry::TraceId) {
    (span.parent_span_id, linked(span), span.span_context.trace_id())
}

fn below(parent: &SpanData, links: &[&SpanData]) -> (SpanId, Vec<SpanId>, opentelemetry::TraceId) {
    let links = links.iter().map(|link| link.span_context.span_id()).collect();
    (parent.span_context.span_id(), links, parent.span_context.trace_id())
}

pub async fn one_request_is_one_trace_and_its_baggage_arrives<B: Broker>() {
    for &source in B::USUAL {
        let sdk = Sdk::new();
        let (broker, first) = connected::<B>(&sdk).await;
        let second = broker.destination().await;
        let receiver = broker.open(source, &first, &[]).await;
        let request = sdk.app_span("request");
        let context = request.with_baggage([KeyValue::new("tenant.id", "blue")]);
        within(&context, || broker.send(&first, &[], "1")).await;
        request.span().end();
        let message = take::<B>(&mut B::messages(&receiver)).await;
        let names: Vec<_> = message.headers().into_iter().map(|(name, value)| (name, value.len())).collect();
        assert_eq!(names, [("baggage".to_owned(), 14), ("traceparent".to_owned(), 55)]);
        let tenant = |context: &Context| context.baggage().get("tenant.id").map(ToString::to_string);
        assert_eq!(tenant(&message.otel_context()).as_deref(), Some("blue"));
        let handler = async {
            assert_eq!(tenant(&Context::current()).as_deref(), Some("blue"));
            broker.send(&second, &[], "2").await;
        };
        message.process(|| handler).await;
        drop(message);
        let [request, published, process, onward] =
            [named(&sdk, "request"), sent::<B>(&sdk, &first), processed(&sdk, &first), sent::<B>(&sdk, &second)]
                .map(|spans| one(spans, &sdk));
        assert_eq!(stands(&published), below(&request, &[]));
        assert_eq!(stands(&process), below(&published, &[&published]));
        assert_eq!(stands(&onward), below(&process, &[]));
    }
}

/// A relay sends what another request has written to an outbox.
pub async fn a_context_stored_earlier_is_kept_and_linked<B: Broker>() {
    for &source in B::USUAL {
        let sdk = Sdk::new();
        let (broker, destination) = connected::<B>(&sdk).await;
        let receiver = broker.open(source, &destination, &[]).await;
        let stored = sdk.app_span("order");
        stored.span().end();
        let relay = sdk.app_span("relay");
        let own = traceparent(stored.span().span_context());
        let own = headers(&[("tenant", "blue"), ("traceparent", &own), ("tracestate", "vendor=1")]);
        let elsewhere = broker.destination().await;
        for to in [&destination, &elsewhere] {
            within(&relay, || broker.send(to, &own, "1")).await;
        }
        relay.span().end();
        drop(take::<B>(&mut B::messages(&receiver)).await);
        let [order, relay, published, process] =
            [named(&sdk, "order"), named(&sdk, "relay"), sent::<B>(&sdk, &destination), processed(&sdk, &destination)]
                .map(|spans| one(spans, &sdk));
        assert_eq!(published.span_kind, SpanKind::Client, "the message does not carry this span's context");
        assert_eq!(stands(&published), below(&relay, &[&order]));
        assert_eq!(stands(&process), below(&order, &[&order]));
        assert_eq!(broker.on_the_wire(&elsewhere).await, own);
    }
}

pub async fn a_forward_gets_a_context_of_its_own<B: Broker>() {
    for &source in B::USUAL {
        let sdk = Sdk::new();
        let (broker, first) = connected::<B>(&sdk).await;
        let second = broker.destination().await;
        let receiver = broker.open(source, &first, &[]).await;
        broker.send(&first, &headers(&[("tenant", "blue")]), "1").await;
        let message = take::<B>(&mut B::messages(&receiver)).await;
        let copied = message.headers();
        message.process(|| broker.send(&second, &copied, "1")).await;
        drop(message);
        let [published, process, forward] =
            [sent::<B>(&sdk, &first), processed(&sdk, &first), sent::<B>(&sdk, &second)].map(|spans| one(spans, &sdk));
        assert_eq!(stands(&process), below(&published, &[&published]));
        assert_eq!(stands(&forward), below(&process, &[&published]));
        assert_eq!(forward.span_kind, SpanKind::Producer);
        let expected = headers(&[("tenant", "blue"), ("traceparent", &traceparent(&forward.span_context))]);
        assert_eq!(broker.on_the_wire(&second).await, expected);
    }
}

pub async fn a_hand_written_injection_is_replaced_and_linked<B: Broker>() {
    for names in [&["traceparent"][..], &["Traceparent"], &["TRACEPARENT", "TraceParent", "traceparent"]] {
        let sdk = Sdk::new();
        let (broker, destination) = connected::<B>(&sdk).await;
        let request = sdk.app_span("request");
        let by_hand = traceparent(request.span().span_context());
        let own = [("tenant", "blue"), ("tracestate", "vendor=1")];
        let by_hand = headers(&names.iter().map(|name| (*name, &*by_hand)).chain(own).collect::<Vec<_>>());
        within(&request, || broker.send(&destination, &by_hand, "1")).await;
        request.span().end();
        let [request, published] =
            [named(&sdk, "request"), sent::<B>(&sdk, &destination)].map(|spans| one(spans, &sdk));
        assert_eq!(stands(&published), below(&request, &[&request]));
        assert_eq!(published.span_kind, SpanKind::Producer);
        let expected = headers(&[("tenant", "blue"), ("traceparent", &traceparent(&published.span_context))]);
        assert_eq!(broker.on_the_wire(&destination).await, expected);
    }
}
