//! An OpenTelemetry SDK of one test's own, which keeps its spans in memory.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use opentelemetry::{
    Context, SpanId,
    trace::{SpanContext, Status, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{InMemorySpanExporter, SdkTracerProvider, SpanData},
};
use otel_messaging::{Instrumentation, Propagation};

pub(crate) struct Recorded {
    provider: SdkTracerProvider,
    exporter: InMemorySpanExporter,
}

impl Recorded {
    pub(crate) fn new() -> Self {
        let exporter = InMemorySpanExporter::default();
        // A simple exporter has each span as soon as it has ended, so there is nothing to flush.
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        Self { provider, exporter }
    }

    /// All of it explicit: no global has a say.
    pub(crate) fn instrumentation(&self) -> Instrumentation {
        let builder = Instrumentation::builder().with_tracer_provider(self.provider.clone());
        builder.with_propagation(Propagation::custom(TraceContextPropagator::new())).with_metrics(false).build()
    }

    /// A span of the test's own. It ends when the last clone of this context is dropped.
    pub(crate) fn span(&self, name: &'static str) -> Context {
        Context::new().with_span(self.provider.tracer("test").start(name))
    }

    /// Waits until so many spans have ended, and gives them as a tree, a line each: name, kind, links, error, and those of its
    /// attributes that are asked for.
    pub(crate) fn trace(&self, count: usize, attributes: &[&str]) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut spans = self.exporter.get_finished_spans().unwrap();
        while spans.len() < count {
            assert!(Instant::now() < deadline, "only {} of {count} spans have ended: {spans:?}", spans.len());
            sleep(Duration::from_millis(1));
            spans = self.exporter.get_finished_spans().unwrap();
        }
        spans.sort_by_key(|span| span.start_time);
        let mut lines = Vec::new();
        add_children(&mut lines, &spans, SpanId::INVALID, "", attributes);
        assert_eq!(lines.len(), spans.len(), "a span's parent has not ended: {spans:?}");
        lines
    }
}

fn add_children(lines: &mut Vec<String>, spans: &[SpanData], parent: SpanId, indent: &str, attributes: &[&str]) {
    for span in spans.iter().filter(|span| span.parent_span_id == parent) {
        let mut line = format!("{indent}{} {:?}", span.name, span.span_kind);
        for link in span.links.iter() {
            line += &format!(", links {}", name_of(&link.span_context, spans));
        }
        if let Status::Error { description } = &span.status {
            line += &format!(", error: {description}");
        }
        for attribute in span.attributes.iter().filter(|attribute| attributes.contains(&attribute.key.as_str())) {
            line += &format!(", {}={}", attribute.key, attribute.value);
        }
        lines.push(line);
        add_children(lines, spans, span.span_context.span_id(), &format!("{indent}  "), attributes);
    }
}

fn name_of<'a>(context: &SpanContext, spans: &'a [SpanData]) -> &'a str {
    // Not the whole context: the one that came in a header says that it is remote.
    let ids = |context: &SpanContext| (context.trace_id(), context.span_id());
    let linked = spans.iter().find(|span| ids(&span.span_context) == ids(context));
    linked.map_or("a span that has not ended", |span| &span.name)
}
