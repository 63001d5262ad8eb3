//! The metrics that the services send: as a table, and held against what was ordered and against the spans.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use opentelemetry_proto::tonic::{
    metrics::v1::{
        HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, metric::Data, number_data_point::Value,
    },
    trace::v1::span::SpanKind,
};

use crate::{
    expectation::{BATCH, OUTCOME, Ordered, Spans, hops},
    receiver::{Span, attributes, service_name},
    waterfall::{Paint, cut},
};

const SENT: &str = "messaging.client.sent.messages";
const CONSUMED: &str = "messaging.client.consumed.messages";
const PROCESS: &str = "messaging.process.duration";
const OPERATION: &str = "messaging.client.operation.duration";
const QUEUE_TIME: &str = "otel_messaging.queue_time";
const WAIT_TIME: &str = "otel_messaging.wait_time";
const DELIVERIES: &str = "otel_messaging.deliveries";

/// The metrics shown, in this order.
const METRICS: [&str; 7] = [SENT, CONSUMED, PROCESS, OPERATION, QUEUE_TIME, WAIT_TIME, DELIVERIES];

/// What tells one line of a metric from the next, besides system and destination.
const DETAILS: [&str; 6] = [
    "messaging.operation.name",
    "messaging.consumer.group.name",
    "messaging.destination.subscription.name",
    "otel_messaging.clock",
    OUTCOME,
    "error.type",
];

/// Where a message says when it was sent: Kafka and JetStream always do, RabbitMQ only where the sender sets it, NATS never.
const TIMED: [&str; 3] = ["orders", "orders.retry", "notifications.order"];

/// The service whose operations are about batches: how many it makes of the orders is not the orders' decision.
const BATCHES: &str = "analytics";

/// What one service measured with one set of attributes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    service: String,
    metric: String,
    attributes: BTreeMap<String, String>,
    measured: Measured,
}

/// A count, and of histograms how the values are distributed.
#[derive(Debug, Clone, Default)]
struct Measured {
    count: u64,
    /// Seconds, all together.
    sum: f64,
    /// The upper bounds of all buckets but the last, in seconds; none for a counter.
    bounds: Vec<f64>,
    buckets: Vec<u64>,
}

impl Measured {
    fn of_counter(point: &NumberDataPoint) -> Self {
        let count = match point.value {
            Some(Value::AsInt(count)) => u64::try_from(count).unwrap_or_default(),
            _ => 0,
        };
        Self { count, ..Self::default() }
    }

    fn of_histogram(point: &HistogramDataPoint) -> Self {
        Self {
            count: point.count,
            sum: point.sum.unwrap_or_default(),
            bounds: point.explicit_bounds.clone(),
            buckets: point.bucket_counts.clone(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        if self.bounds.is_empty() {
            self.bounds.clone_from(&other.bounds);
            self.buckets.clone_from(&other.buckets);
        } else {
            self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, count)| *sum += count);
        }
    }

    /// The bound of the bucket that so many percent of the values are in or below: a histogram knows no more.
    fn at_most(&self, percent: u64) -> String {
        let mut below = 0;
        let bucket = self.buckets.iter().position(|count| {
            below += count;
            below * 100 >= self.count * percent
        });
        match (bucket.and_then(|bucket| self.bounds.get(bucket)), self.bounds.last()) {
            (Some(bound), _) => format!("≤ {}", bound * 1e3),
            (None, Some(last)) => format!("> {}", last * 1e3),
            (None, None) => String::new(),
        }
    }

    /// Milliseconds; nothing for a counter.
    fn mean(&self) -> String {
        if self.bounds.is_empty() || self.count == 0 {
            return String::new();
        }
        // Exact enough for a table.
        #[allow(clippy::cast_precision_loss)]
        let mean = self.sum * 1e3 / self.count as f64;
        format!("{mean:.2}")
    }
}

impl Series {
    fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }

    fn destination(&self) -> &str {
        match self.attribute("messaging.destination.template") {
            "" => self.attribute("messaging.destination.name"),
            template => template,
        }
    }

    /// What a span of the operation is called.
    fn span_name(&self) -> String {
        format!("{} {}", self.attribute("messaging.operation.name"), self.destination()).trim_end().to_owned()
    }

    fn details(&self) -> String {
        let mut shown: Vec<&str> = Vec::new();
        for key in DETAILS {
            // Of an error's type the last part: the others are its modules.
            let value = self.attribute(key).rsplit("::").next().unwrap_or_default();
            if !value.is_empty() && !shown.contains(&value) {
                shown.push(value);
            }
        }
        shown.join(", ")
    }
}

/// What every service measured in all, of messaging. A service sends each sum again and again: the last one counts.
pub(crate) fn decode(received: &[ResourceMetrics]) -> Vec<Series> {
    let mut last = BTreeMap::new();
    for resource_metrics in received {
        let service = service_name(resource_metrics.resource.as_ref());
        for metric in resource_metrics.scope_metrics.iter().flat_map(|scope_metrics| &scope_metrics.metrics) {
            if !METRICS.contains(&metric.name.as_str()) {
                continue;
            }
            for (attributes, measured) in points(metric) {
                let (service, metric) = (service.clone(), metric.name.clone());
                let key = (service.clone(), metric.clone(), attributes.clone());
                last.insert(key, Series { service, metric, attributes, measured });
            }
        }
    }
    last.into_values().collect()
}

fn points(metric: &Metric) -> Vec<(BTreeMap<String, String>, Measured)> {
    let named = |those: &_| attributes(those).into_iter().collect();
    match &metric.data {
        Some(Data::Sum(sum)) => {
            sum.data_points.iter().map(|point| (named(&point.attributes), Measured::of_counter(point))).collect()
        }
        Some(Data::Histogram(histogram)) => {
            let points = histogram.data_points.iter();
            points.map(|point| (named(&point.attributes), Measured::of_histogram(point))).collect()
        }
        _ => Vec::new(),
    }
}

/// All services together, by metric, system and destination; 100 columns wide at most.
pub(crate) fn table(series: &[Series], paint: Paint) -> String {
    let mut lines: BTreeMap<_, Measured> = BTreeMap::new();
    for one in series {
        let Some(metric) = METRICS.iter().position(|metric| *metric == one.metric) else { continue };
        let what = (one.attribute("messaging.system"), one.destination(), one.details());
        lines.entry((metric, what)).or_default().add(&one.measured);
    }
    let mut text = String::new();
    let row = |metric: &str, count: &str, [mean, median, most]: [&str; 3]| {
        format!("{metric:66} {count:>6} {mean:>8} {median:>8} {most:>8}").trim_end().to_owned()
    };
    let head = row("metric: system, destination, what", "count", ["mean ms", "p50 ms", "p95 ms"]);
    let _ = writeln!(text, "{}", paint.bold(&head));
    let mut above = None;
    for ((metric, (system, destination, what)), measured) in lines {
        if above.replace(metric) != Some(metric) {
            let _ = writeln!(text, "{}", METRICS[metric]);
        }
        let what = format!("  {system:8} {:22} {}", cut(or_dash(destination), 22), cut(&what, 32));
        let figures = [measured.mean(), measured.at_most(50), measured.at_most(95)];
        let line = row(&what, &measured.count.to_string(), [&figures[0], &figures[1], &figures[2]]);
        let _ = writeln!(text, "{line}");
    }
    text + &paint.dim("p50 and p95 are the bounds of the histogram's buckets that they fall into; the mean is exact\n")
}

/// A reply's destination has no name that would be the same twice.
fn or_dash(destination: &str) -> &str {
    if destination.is_empty() { "-" } else { destination }
}

/// Which metric, of which service, about what.
type Key = (&'static str, String, String);

/// How much was counted of each.
#[derive(Debug, Default)]
struct Tally(BTreeMap<Key, u64>);

/// A span, or a hop, as far as metrics count it.
struct Occurrence<'a> {
    service: &'a str,
    kind: SpanKind,
    name: &'a str,
    failed: bool,
    /// How it settled its message, if it is a settle operation.
    outcome: Option<&'a str>,
    /// How many messages it is about.
    messages: u64,
    /// Whether it is all of its operation, and not one message of a batch's.
    whole: bool,
}

impl Tally {
    fn add(&mut self, metric: &'static str, service: &str, what: impl Into<String>, count: u64) {
        *self.0.entry((metric, service.to_owned(), what.into())).or_default() += count;
    }

    fn count(&mut self, it: &Occurrence<'_>) {
        let destination = it.name.split_once(' ').map_or("", |(_, destination)| destination);
        match (it.kind, it.outcome) {
            (SpanKind::Producer, _) => {
                self.add(SENT, it.service, it.name, 1);
                self.add(OPERATION, it.service, recorded(it.name, it.failed), 1);
            }
            (SpanKind::Client, Some(outcome)) => {
                self.add(OPERATION, it.service, recorded(it.name, it.failed), 1);
                self.add(DELIVERIES, it.service, format!("{}, {outcome}", it.name), it.messages);
            }
            (SpanKind::Consumer, _) => {
                self.add(CONSUMED, it.service, destination, it.messages);
                // All services handle by `process` or `process_batch`, before anything else needs the span.
                self.add(WAIT_TIME, it.service, destination, it.messages);
                if TIMED.contains(&destination) {
                    self.add(QUEUE_TIME, it.service, destination, it.messages);
                }
                if it.whole {
                    self.add(PROCESS, it.service, recorded(it.name, it.failed), 1);
                }
            }
            _ => {}
        }
    }

    /// What the orders make the services do, sampled or not.
    fn of_orders(orders: &[Ordered]) -> Self {
        let mut tally = Self::default();
        for hop in orders.iter().flat_map(|order| hops(order.card)) {
            let outcome = hop.name.split_once(' ').and_then(|(verb, _)| outcome(verb));
            let whole = !hop.is_batched();
            let (service, kind, name, failed) = (hop.service, hop.kind, hop.name, hop.failed);
            tally.count(&Occurrence { service, kind, name, failed, outcome, messages: 1, whole });
        }
        tally
    }

    fn of_spans(spans: &[Span]) -> Self {
        let mut tally = Self::default();
        for span in spans {
            let messages = span.attribute(BATCH).and_then(|count| count.parse().ok()).unwrap_or(1);
            let outcome = span.attribute(OUTCOME);
            let (service, kind, name, failed) = (span.service.as_str(), span.kind, span.name.as_str(), span.failed());
            tally.count(&Occurrence { service, kind, name, failed, outcome, messages, whole: true });
        }
        tally
    }

    fn of_metrics(series: &[Series]) -> Self {
        let mut tally = Self::default();
        for one in series {
            let failed = !one.attribute("error.type").is_empty();
            let Some(&metric) = METRICS.iter().find(|metric| **metric == one.metric) else { continue };
            let what = match metric {
                SENT => one.span_name(),
                CONSUMED | QUEUE_TIME | WAIT_TIME => one.destination().to_owned(),
                DELIVERIES => format!("{}, {}", one.span_name(), one.attribute(OUTCOME)),
                // There is no span of a poll, as long as it is well.
                _ if one.attribute("messaging.operation.type") == "receive" && !failed => continue,
                _ => recorded(&one.span_name(), failed),
            };
            tally.add(metric, &one.service, what, one.measured.count);
        }
        tally
    }

    /// Where this is not what it should be.
    fn differs(&self, expected: &Self, whose: &str, skip: impl Fn(&Key) -> bool) -> Vec<String> {
        let keys: BTreeSet<_> = self.0.keys().chain(expected.0.keys()).filter(|key| !skip(key)).collect();
        let of = |tally: &Self, key| tally.0.get(key).copied().unwrap_or_default();
        keys.into_iter()
            .filter(|key| of(self, key) != of(expected, key))
            .map(|key| {
                let ((metric, service, what), counted) = (key, of(self, key));
                format!("{metric} of {service} ({what}) counts {counted}, and {whose} {}", of(expected, key))
            })
            .collect()
    }
}

/// Failures are counted by themselves.
fn recorded(name: &str, failed: bool) -> String {
    format!("{name}{}", if failed { ", failed" } else { "" })
}

/// How the operations settle that the services call.
fn outcome(verb: &str) -> Option<&'static str> {
    match verb {
        "ack" => Some("ack"),
        "commit" => Some("commit"),
        "nack" => Some("requeue"),
        "reject" => Some("reject"),
        _ => None,
    }
}

/// Where the metrics count something else than the orders make, and than the spans say where all were sampled.
pub(crate) fn problems(series: &[Series], spans: &Spans<'_>, orders: &[Ordered], all_sampled: bool) -> Vec<String> {
    let counted = Tally::of_metrics(series);
    let by_batch =
        |(metric, service, _): &Key| service == BATCHES && ![CONSUMED, QUEUE_TIME, WAIT_TIME].contains(metric);
    let mut problems = counted.differs(&Tally::of_orders(orders), "the orders make", by_batch);
    if all_sampled {
        problems.extend(counted.differs(&Tally::of_spans(spans.all), "the spans say", |_| false));
    }
    problems
}

#[cfg(test)]
mod tests {
    use opentelemetry::{SpanId, TraceId};
    use opentelemetry_proto::tonic::metrics::v1::{ScopeMetrics, Sum};

    use super::*;
    use crate::{order::Card, receiver::Status};

    const BOUNDS: [f64; 3] = [0.005, 0.01, 0.1];

    fn series(service: &str, metric: &str, attributes: &[(&str, &str)], buckets: &[u64]) -> Series {
        let mut attributes: BTreeMap<_, _> =
            attributes.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        attributes.entry("messaging.system".to_owned()).or_insert_with(|| "kafka".to_owned());
        let histogram = buckets.len() > 1;
        let measured = Measured {
            count: buckets.iter().sum(),
            sum: 0.25,
            bounds: if histogram { BOUNDS.to_vec() } else { Vec::new() },
            buckets: if histogram { buckets.to_vec() } else { Vec::new() },
        };
        Series { service: service.to_owned(), metric: metric.to_owned(), attributes, measured }
    }

    /// What the metrics are when they count just that.
    fn measured(tally: &Tally) -> Vec<Series> {
        let all = tally.0.iter().map(|((metric, service, what), &count)| {
            let (what, error) = what.strip_suffix(", failed").map_or((what.as_str(), ""), |what| (what, "Declined"));
            let (what, outcome) = what.split_once(", ").unwrap_or((what, ""));
            let (operation, destination) = match *metric {
                CONSUMED | QUEUE_TIME => ("poll", what),
                WAIT_TIME => ("process", what),
                _ => what.split_once(' ').unwrap_or((what, "")),
            };
            let attributes = [
                ("messaging.operation.name", operation),
                ("messaging.destination.name", destination),
                (OUTCOME, outcome),
                ("error.type", error),
            ];
            series(service, metric, &attributes, &[count])
        });
        all.collect()
    }

    fn orders() -> Vec<Ordered> {
        let order = |id, card| Ordered { id, card, trace: TraceId::from(u128::from(id)), sampled: false };
        vec![order(1, Card::Paid), order(2, Card::Declined), order(3, Card::Slow), order(4, Card::Paid)]
    }

    #[test]
    fn of_sums_that_come_again_and_again_the_last_one_counts() {
        let export = |count| {
            let point = NumberDataPoint { value: Some(Value::AsInt(count)), ..Default::default() };
            let sum = Sum { data_points: vec![point], ..Default::default() };
            let named =
                |name: &str| Metric { name: name.to_owned(), data: Some(Data::Sum(sum.clone())), ..Default::default() };
            let metrics = vec![named(SENT), named("somebody.elses")];
            let scope_metrics = vec![ScopeMetrics { metrics, ..Default::default() }];
            ResourceMetrics { scope_metrics, ..Default::default() }
        };
        let all = decode(&[export(3), export(7)]);
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].metric.as_str(), all[0].measured.count), (SENT, 7));
    }

    #[test]
    fn what_the_orders_make_is_counted_and_nothing_else() {
        let none = Spans::new(&[]);
        let expected = Tally::of_orders(&orders());
        let key = |metric, service: &str, what: &str| (metric, service.to_owned(), what.to_owned());
        assert_eq!(expected.0[&key(SENT, "orders", "send orders")], 4);
        assert_eq!(expected.0[&key(CONSUMED, "analytics", "orders")], 4);
        assert_eq!(expected.0[&key(PROCESS, "payment", "process orders, failed")], 1);
        assert_eq!(expected.0[&key(DELIVERIES, "payment", "nack orders.review, requeue")], 1);
        assert_eq!(expected.0[&key(QUEUE_TIME, "payment", "orders.retry")], 2);
        assert_eq!(expected.0[&key(WAIT_TIME, "analytics", "orders")], 4);
        assert!(!expected.0.contains_key(&key(PROCESS, "analytics", "process orders")));

        let all = measured(&expected);
        assert_eq!(problems(&all, &none, &orders(), false), Vec::<String>::new());
        for at in 0..all.len() {
            let mut lost = all.clone();
            let gone = lost.remove(at);
            let said = problems(&lost, &none, &orders(), false);
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].starts_with(&format!("{} of {}", gone.metric, gone.service)), "{said:?}");
            assert!(said[0].contains("counts 0"), "{said:?}");
        }
        let mut more = all;
        let dropped = [("messaging.operation.name", "process"), (OUTCOME, "dropped")];
        more.push(series("shipping", DELIVERIES, &dropped, &[1]));
        let said = problems(&more, &none, &orders(), false);
        assert_eq!(said, ["otel_messaging.deliveries of shipping (process, dropped) counts 1, and the orders make 0"]);
    }

    #[test]
    fn the_spans_of_a_batch_count_its_messages_once() {
        let span = |kind, name: &str, attributes: &[(&str, &str)]| Span {
            trace: TraceId::from(1),
            id: SpanId::from(1),
            parent: None,
            service: BATCHES.to_owned(),
            name: name.to_owned(),
            kind,
            start: 0,
            end: 1,
            attributes: attributes.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
            links: Vec::new(),
            status: Status::Unset,
        };
        let batch = span(SpanKind::Consumer, "process orders", &[(BATCH, "5")]);
        let commit = span(SpanKind::Client, "commit orders", &[(OUTCOME, "commit")]);
        let tally = Tally::of_spans(&[batch.clone(), commit]);
        let counts: Vec<_> =
            tally.0.iter().map(|((metric, _, what), count)| (*metric, what.as_str(), *count)).collect();
        assert_eq!(
            counts,
            [
                (CONSUMED, "orders", 5),
                (OPERATION, "commit orders", 1),
                (PROCESS, "process orders", 1),
                (DELIVERIES, "commit orders, commit", 1),
                (QUEUE_TIME, "orders", 5),
                (WAIT_TIME, "orders", 5),
            ]
        );
        let said = problems(&measured(&tally), &Spans::new(&[batch]), &[], true).join("\n");
        assert!(said.contains("(commit orders) counts 1, and the spans say 0"), "{said}");
    }

    #[test]
    fn a_table_is_narrow_and_says_no_more_than_buckets_know() {
        let name = ("messaging.destination.name", "orders");
        let all = [
            series("a", PROCESS, &[name, ("error.type", "demo::services::payment::PaymentError")], &[18, 0, 1, 1]),
            series("b", PROCESS, &[name, ("error.type", "demo::services::payment::PaymentError")], &[0, 0, 0, 1]),
            series(
                "a",
                SENT,
                &[("messaging.destination.name", &"long".repeat(30)), ("error.type", &"e".repeat(99))],
                &[3],
            ),
        ];
        let table = table(&all, Paint { colours: false });
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[1], SENT);
        assert!(lines[2].contains("longlonglonglonglongl… ") && lines[2].ends_with("…      3"), "{table}");
        assert_eq!(lines[3], PROCESS);
        // 18 of 21 are below 5 ms; the 20th is in the last bucket, of which only the lower bound is known.
        assert_eq!(
            lines[4].split_whitespace().collect::<Vec<_>>().join(" "),
            "kafka orders PaymentError 21 23.81 ≤ 5 > 100"
        );
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{table}");
    }
}
