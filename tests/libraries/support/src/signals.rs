//! Metrics and events as text, held against both registries.

use std::collections::BTreeSet;

use conventions::Convention;
use opentelemetry::trace::SpanContext;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use otel_messaging_testing::{Recorder, Series};

use crate::known;

pub(crate) fn measured(recorder: &Recorder) -> String {
    let metrics = recorder.metrics();
    for metric in metrics.iter().flat_map(|all| all.scope_metrics()).flat_map(|scope| scope.metrics()) {
        assert!(Convention::get().metric(metric.name()).is_some(), "neither registry knows {}", metric.name());
        match metric.data() {
            AggregatedMetrics::U64(MetricData::Sum(_)) | AggregatedMetrics::F64(MetricData::Histogram(_)) => (),
            other => panic!("{} is of a kind that no test knows: {other:?}", metric.name()),
        }
    }
    let line = |series: Series| {
        series.attributes.iter().for_each(|attribute| known(&series.name, attribute.key.as_str()));
        format!("{series}\n")
    };
    recorder.series().into_iter().map(line).collect::<BTreeSet<_>>().into_iter().collect()
}

pub(crate) fn events(recorder: &Recorder) -> String {
    let spans = recorder.spans();
    let mut text = String::new();
    for log in recorder.logs() {
        let record = &log.record;
        let event = record.event_name().unwrap_or("-");
        assert!(Convention::get().event(event).is_some(), "the convention knows no event {event}");
        record.attributes_iter().for_each(|(key, _)| known(event, key.as_str()));
        let severity = record.severity_text().unwrap_or("-");
        let span = record.trace_context().map_or_else(
            || "no span".to_owned(),
            |of| {
                let is_it = |span: &SpanContext| (span.trace_id(), span.span_id()) == (of.trace_id, of.span_id);
                let named = spans.iter().find(|span| is_it(&span.span_context));
                named.map_or_else(|| of.span_id.to_string(), |span| span.name.to_string())
            },
        );
        let mut recorded: Vec<_> = record.attributes_iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        recorded.sort();
        text += &format!("{severity} {event} in {span} {}\n", recorded.join(" "));
    }
    text
}
