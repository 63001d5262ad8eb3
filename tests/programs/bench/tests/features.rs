//! Each feature that has a price does something on the paths that it has one for.

use std::time::Duration;

use bench::{Failed, Feature, Path, Side, Subject};
use conventions::Convention;
use opentelemetry::global;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};

/// What the hook adds.
const OF_HOOK: &str = "app.tenant";

#[test]
fn each_feature_is_seen_where_it_is_priced() -> Result<(), Failed> {
    let mode = Feature::install();
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    global::set_tracer_provider(provider);

    for path in Path::ALL {
        for feature in Feature::ALL.into_iter().filter(|feature| feature.concerns(path)) {
            let mut subject = Subject::instrumented(path, Side::Ours, mode, feature.instrumentation())?;
            exporter.reset();
            subject.batch(7, |_| Duration::ZERO)?;
            let spans = exporter.get_finished_spans()?;
            let keys = spans.iter().flat_map(|span| &span.attributes).map(|attribute| attribute.key.as_str());
            for key in keys.filter(|&key| key != OF_HOOK) {
                assert_eq!(Convention::get().knows(key), Ok(()), "{path}, {feature}");
            }
            let named = |key: &str| {
                spans.iter().filter(|span| span.attributes.iter().any(|one| one.key.as_str() == key)).count()
            };
            let seen = match feature {
                Feature::CaptureHeaders => named("otel_messaging.header.priority"),
                Feature::CaptureKey => named("messaging.kafka.message.key"),
                Feature::Hook => named(OF_HOOK),
                Feature::ReceiveSpans => spans.iter().filter(|span| is_receive(span)).count(),
                // These leave spans as they are; see the tests of the core.
                Feature::Metrics | Feature::LoggerProvider | Feature::Auto => spans.len(),
            };
            assert!(seen >= 7, "{path}, {feature}: {seen} of {spans:#?}");
        }
    }
    Ok(())
}

fn is_receive(span: &opentelemetry_sdk::trace::SpanData) -> bool {
    let of_receive = |one: &&opentelemetry::KeyValue| {
        one.key.as_str() == "messaging.operation.type" && one.value.as_str() == "receive"
    };
    span.attributes.iter().find(of_receive).is_some()
}
