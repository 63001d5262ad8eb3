use std::fmt;

use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};

use crate::attributes;

/// One series of a metric: a counter's or a histogram's, with one set of attributes.
///
/// As text: name, unit, attributes and count, in one line.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Series {
    /// Of the metric.
    pub name: String,
    /// Of the metric, such as `s` or `{message}`.
    pub unit: String,
    /// Sorted by key.
    pub attributes: Vec<KeyValue>,
    /// A counter's value, or how often a histogram was recorded to.
    pub count: u64,
    /// A counter's value, or the sum of all that a histogram recorded.
    pub sum: f64,
}

impl Series {
    /// The value of an attribute.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        self.attributes.iter().find(|one| one.key.as_str() == key).map(|one| &one.value)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, unit, count, .. } = self;
        write!(f, "{name} [{unit}] {{{}}} {count}", attributes(&self.attributes).join(", "))
    }
}

pub(crate) fn of(metrics: &ResourceMetrics) -> Vec<Series> {
    let mut all = Vec::new();
    for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()) {
        let mut add = |attributes: Vec<KeyValue>, count: u64, sum: f64| {
            let mut one =
                Series { name: metric.name().to_owned(), unit: metric.unit().to_owned(), attributes, count, sum };
            one.attributes.sort_by(|one, other| one.key.cmp(&other.key));
            all.push(one);
        };
        match metric.data() {
            AggregatedMetrics::U64(MetricData::Sum(sum)) => sum
                .data_points()
                .for_each(|point| add(point.attributes().cloned().collect(), point.value(), point.value() as f64)),
            AggregatedMetrics::F64(MetricData::Histogram(histogram)) => histogram
                .data_points()
                .for_each(|point| add(point.attributes().cloned().collect(), point.count(), point.sum())),
            // No instrumentation of messaging has others.
            _ => (),
        }
    }
    all.sort_by_cached_key(ToString::to_string);
    all
}
