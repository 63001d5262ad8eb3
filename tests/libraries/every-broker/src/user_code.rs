//! Code of the application that telemetry calls, and frameworks that record an operation themselves.

use std::time::Duration;

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator, text_map_propagator::FieldIter},
    trace::{FutureExt, TraceContextExt},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use otel_messaging::{Instrumentation, MessageExt, Propagation, ReceivedMessage, suppress_messaging};
use support::{Sdk, attribute};

use crate::{Broker, PLAIN, Received, asked, connected, headers, named, processed, sent, take, traceparent, within};

pub async fn what_a_framework_records_is_left_alone<B: Broker>() {
    for source in asked::<B>() {
        let sdk = Sdk::new();
        let (broker, destination) = connected::<B>(&sdk).await;
        let outer = sdk.app_span("publish");
        let work = async {
            let receiver = broker.open(source, &destination, &[PLAIN]).await;
            let message = take::<B>(&mut B::messages(&receiver)).await;
            assert_eq!(message.headers(), []);
            assert!(message.process_span().is_none());
            message.process(|| async {}).await;
            message.settle().await;
            let onward = broker.destination().await;
            broker.send(&onward, &headers(&[("tenant", "blue")]), "1").await;
            assert_eq!(broker.on_the_wire(&onward).await, headers(&[("tenant", "blue")]));
        };
        work.with_context(suppress_messaging(&outer)).await;
        outer.span().end();
        assert_eq!((sdk.spans().len(), sdk.measured()), (1, String::new()), "{source:?}: {}", sdk.described());
    }
}

pub async fn a_filtered_operation_passes_contexts_on_and_records_nothing<B: Broker>() {
    for &source in B::USUAL {
        let sdk = Sdk::new();
        let (any, quiet) = connected::<B>(&sdk).await;
        let loud = any.destination().await;
        let name = quiet.clone();
        let wanted = sdk.all_signals_builder().with_filter(move |operation| operation.destination() != Some(&name));
        let broker = B::connect(&wanted.build()).await;
        let receiver = broker.open(source, &quiet, &[]).await;
        let request = sdk.app_span("request");
        let own = headers(&[("tenant", "blue")]);
        within(&request, || broker.send(&quiet, &own, "1")).await;
        let message = take::<B>(&mut B::messages(&receiver)).await;
        let of_request = request.span().span_context().clone();
        let expected = headers(&[("tenant", "blue"), ("traceparent", &traceparent(&of_request))]);
        assert_eq!(message.headers(), expected);
        assert_eq!(message.otel_context().span().span_context().span_id(), of_request.span_id());
        message.process(|| async {}).await;
        message.settle().await;
        drop(message);
        request.span().end();
        assert_eq!((sdk.spans().len(), sdk.measured()), (1, String::new()), "{}", sdk.described());
        broker.send(&loud, &[], "1").await;
        assert_eq!(sent::<B>(&sdk, &loud).len(), 1);
    }
}

pub async fn a_hook_adds_to_every_operation<B: Broker>() {
    for source in asked::<B>() {
        let sdk = Sdk::new();
        let hooked = sdk.instrumentation_builder().with_operation_hook(|operation, attributes| {
            attributes.set("team", operation.name().to_owned());
        });
        let broker = B::connect(&hooked.build()).await;
        let (destination, onward) = (broker.destination().await, broker.destination().await);
        let receiver = broker.open(source, &destination, &[PLAIN]).await;
        broker.send(&onward, &[], "1").await;
        let message = take::<B>(&mut B::messages(&receiver)).await;
        message.process(|| async {}).await;
        message.settle().await;
        drop(message);
        let settled = B::settlement(source, &destination).map(|name| named(&sdk, &name));
        let operations = [sent::<B>(&sdk, &onward), processed(&sdk, &destination)].into_iter().chain(settled);
        for spans in operations {
            let [span] = &spans[..] else { panic!("{source:?}: {}", sdk.described()) };
            let name = span.name.split(' ').next().unwrap().to_owned();
            assert_eq!(attribute(span, "team"), Some(&name.into()), "{source:?}");
        }
    }
}

/// A propagator that panics, both ways, after it has written a header.
#[derive(Debug)]
struct Panics;

impl TextMapPropagator for Panics {
    fn inject_context(&self, _: &Context, injector: &mut dyn Injector) {
        injector.set("half", "written".to_owned());
        panic!("a propagator's own");
    }

    fn extract_with_context(&self, _: &Context, _: &dyn Extractor) -> Context {
        panic!("a propagator's own");
    }

    fn fields(&self) -> FieldIter<'_> {
        static FIELDS: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| vec!["half".to_owned()]);
        FieldIter::new(&FIELDS)
    }
}

/// A processor that panics at the start or at the end of a span. At both, the SDK itself ends the process: it ends a span
/// whose start panicked.
#[derive(Debug)]
struct PanickingProcessor {
    at_start: bool,
}

impl SpanProcessor for PanickingProcessor {
    fn on_start(&self, _: &mut Span, _: &Context) {
        assert!(!self.at_start, "a processor's own");
    }

    fn on_end(&self, _: SpanData) {
        assert!(self.at_start, "a processor's own");
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Panics whose message ends with `'s own` are not printed.
pub fn hide_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let expected = info.payload().downcast_ref::<&str>().is_some_and(|text| text.ends_with("'s own"));
            if !expected {
                usual(info);
            }
        }));
    });
}

/// An instrumentation with each kind of code of the application, which panics.
pub fn panicking() -> Vec<(&'static str, Instrumentation)> {
    hide_panics();
    let builder = || Sdk::new().all_signals_builder();
    let processed_by = |at_start| {
        let provider = SdkTracerProvider::builder().with_span_processor(PanickingProcessor { at_start }).build();
        builder().with_tracer_provider(provider).build()
    };
    let redacted = builder().with_captured_headers(["*"]).with_redaction(|_, _| panic!("a redactor's own"));
    vec![
        ("a hook", builder().with_operation_hook(|_, _| panic!("a hook's own")).build()),
        ("a hook that names errors", builder().with_error_type(|_, _| panic!("a hook's own")).build()),
        ("a filter", builder().with_filter(|_| panic!("a filter's own")).build()),
        ("a redactor", redacted.with_kafka_captured_key(true).build()),
        ("a template", builder().with_destination_template(|_| panic!("a template's own")).build()),
        ("a propagator", builder().with_propagation(Propagation::custom(Panics)).build()),
        ("a processor at the start", processed_by(true)),
        ("a processor at the end", processed_by(false)),
    ]
}
