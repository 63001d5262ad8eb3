//! Metrics and events in memory, and as text.

use std::{collections::BTreeSet, time::Duration};

use conventions::Convention;
use opentelemetry::{KeyValue, trace::SpanContext};
use opentelemetry_sdk::{
    logs::{InMemoryLogExporter, SdkLoggerProvider},
    metrics::{
        InMemoryMetricExporter, PeriodicReader, SdkMeterProvider,
        data::{AggregatedMetrics, MetricData, ResourceMetrics},
    },
    trace::SpanData,
};
use otel_messaging::InstrumentationBuilder;

use crate::{attributes, known, name_of};

#[derive(Debug, Clone)]
pub(crate) struct Signals {
    pub(crate) meters: SdkMeterProvider,
    metrics: InMemoryMetricExporter,
    pub(crate) loggers: SdkLoggerProvider,
    logs: InMemoryLogExporter,
}

impl Signals {
    pub(crate) fn new() -> Self {
        let metrics = InMemoryMetricExporter::default();
        // Only collected when a test asks.
        let reader = PeriodicReader::builder(metrics.clone()).with_interval(Duration::from_secs(86_400)).build();
        let logs = InMemoryLogExporter::default();
        Self {
            meters: SdkMeterProvider::builder().with_reader(reader).build(),
            metrics,
            loggers: SdkLoggerProvider::builder().with_simple_exporter(logs.clone()).build(),
            logs,
        }
    }

    pub(crate) fn given_to(&self, builder: InstrumentationBuilder) -> InstrumentationBuilder {
        builder.with_meter_provider(self.meters.clone()).with_logger_provider(self.loggers.clone())
    }

    pub(crate) fn metrics(&self) -> Option<ResourceMetrics> {
        self.metrics.reset();
        self.meters.force_flush().expect("metrics are collected");
        self.metrics.get_finished_metrics().expect("the exporter answers").pop()
    }

    pub(crate) fn measured(&self) -> String {
        let lines: BTreeSet<_> = self.metrics().as_ref().map(lines).unwrap_or_default();
        lines.into_iter().map(|line| line + "\n").collect()
    }

    pub(crate) fn histogram(&self, name: &str) -> (u64, f64) {
        let metrics = self.metrics();
        let named = metrics.iter().flat_map(|all| all.scope_metrics()).flat_map(|scope| scope.metrics());
        let points = named.filter(|metric| metric.name() == name).flat_map(|metric| match metric.data() {
            AggregatedMetrics::F64(MetricData::Histogram(histogram)) => histogram.data_points(),
            other => panic!("{name} is no histogram: {other:?}"),
        });
        points.fold((0, 0.0), |(count, sum), point| (count + point.count(), sum + point.sum()))
    }

    pub(crate) fn everything(&self) -> String {
        let logs = self.logs.get_emitted_logs().expect("the exporter answers");
        format!("{:?}{logs:?}", self.metrics())
    }

    pub(crate) fn events(&self, spans: &[SpanData]) -> String {
        let logs = self.logs.get_emitted_logs().expect("the exporter answers");
        let mut text = String::new();
        for log in logs {
            let record = &log.record;
            let event = record.event_name().unwrap_or("-");
            assert!(Convention::get().event(event).is_some(), "the convention knows no event {event}");
            record.attributes_iter().for_each(|(key, _)| known(event, key.as_str()));
            let severity = record.severity_text().unwrap_or("-");
            let span = record.trace_context().map_or_else(
                || "no span".to_owned(),
                |context| {
                    let context = SpanContext::new(
                        context.trace_id,
                        context.span_id,
                        context.trace_flags.unwrap_or_default(),
                        false,
                        opentelemetry::trace::TraceState::NONE,
                    );
                    name_of(&context, spans)
                },
            );
            let mut recorded: Vec<_> =
                record.attributes_iter().map(|(key, value)| format!("{key}={value:?}")).collect();
            recorded.sort();
            text += &format!("{severity} {event} in {span} {}\n", recorded.join(" "));
        }
        text
    }
}

fn lines(metrics: &ResourceMetrics) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for scope in metrics.scope_metrics() {
        for metric in scope.metrics() {
            assert!(Convention::get().metric(metric.name()).is_some(), "neither registry knows {}", metric.name());
            let mut line = |attributes_of: Vec<&KeyValue>, count: u64| {
                attributes_of.iter().for_each(|attribute| known(metric.name(), attribute.key.as_str()));
                let attributes = attributes(attributes_of).join(", ");
                lines.insert(format!("{} [{}] {{{attributes}}} {count}", metric.name(), metric.unit()));
            };
            match metric.data() {
                AggregatedMetrics::U64(MetricData::Sum(sum)) => {
                    sum.data_points().for_each(|point| line(point.attributes().collect(), point.value()));
                }
                AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
                    histogram.data_points().for_each(|point| line(point.attributes().collect(), point.count()));
                }
                other => panic!("{} is of a kind that no test knows: {other:?}", metric.name()),
            }
        }
    }
    lines
}
