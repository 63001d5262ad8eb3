//! The metrics of operations: the convention's four, and three of `otel_messaging.*`.

#[cfg(feature = "bound-instruments")]
use std::sync::OnceLock;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

#[cfg(feature = "bound-instruments")]
use opentelemetry::metrics::{BoundCounter, BoundHistogram};
use opentelemetry::{
    KeyValue, Value,
    metrics::{Counter, Histogram, Meter},
};

use crate::{
    catch_panic::catch_panic,
    description::{
        arrival::Clock,
        operation::Operation,
        operation_name::OperationType,
        semconv::{attribute, extension, metric},
        settlement::Settlement,
    },
};

/// The bucket boundaries that the convention advises, in seconds.
const DURATIONS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Bucket boundaries in seconds, up to a day, because messages wait longer than operations take.
const QUEUE_TIMES: [f64; 14] =
    [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0];

/// The instruments of one adapter's scope.
pub(crate) struct Instruments {
    operation_duration: Histogram<f64>,
    process_duration: Histogram<f64>,
    sent: Counter<u64>,
    consumed: Counter<u64>,
    queue_time: Histogram<f64>,
    wait_time: Histogram<f64>,
    deliveries: Counter<u64>,
}

impl Instruments {
    pub(crate) fn new(meter: &Meter) -> Self {
        let seconds = |name, description, boundaries: &[f64]| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_description(description)
                .with_boundaries(boundaries.to_vec())
                .build()
        };
        // The descriptions are the convention's, so that services in several languages describe an instrument alike.
        let messages =
            |name, description| meter.u64_counter(name).with_unit("{message}").with_description(description).build();
        Self {
            operation_duration: seconds(
                metric::CLIENT_OPERATION_DURATION,
                "Duration of messaging operation initiated by a producer or consumer client.",
                &DURATIONS,
            ),
            process_duration: seconds(metric::PROCESS_DURATION, "Duration of processing operation.", &DURATIONS),
            sent: messages(
                metric::CLIENT_SENT_MESSAGES,
                "Number of messages producer attempted to send to the broker.",
            ),
            consumed: messages(
                metric::CLIENT_CONSUMED_MESSAGES,
                "Number of messages that were delivered to the application.",
            ),
            queue_time: seconds(
                extension::QUEUE_TIME,
                "Time from sending a message until it is delivered to the application.",
                &QUEUE_TIMES,
            ),
            wait_time: seconds(
                extension::WAIT_TIME,
                "Time from the delivery of a message to the application until its handler starts.",
                &QUEUE_TIMES,
            ),
            deliveries: messages(extension::DELIVERIES, "Number of messages by settlement outcome."),
        }
    }

    pub(crate) fn ended(
        &self,
        kind: OperationType,
        series: &Series,
        (took, messages): (Option<Duration>, u64),
        of: &MeasurementAttributes<'_>,
    ) {
        let duration = match kind {
            // A create operation sends no request, and has no metric in the convention.
            OperationType::Create => return,
            OperationType::Process => &self.process_duration,
            OperationType::Send | OperationType::Receive | OperationType::Settle => &self.operation_duration,
        };
        if kind == OperationType::Send {
            series.count(&self.sent, messages, of);
        }
        series.record(duration, took, of);
    }

    pub(crate) fn delivered(&self, series: &Series, queued: Option<(Duration, Clock)>, of: &MeasurementAttributes<'_>) {
        series.count(&self.consumed, 1, of);
        if let Some((time, clock)) = queued {
            let clock = [KeyValue::new(extension::CLOCK, clock.as_str())];
            MeasurementAttributes { error_type: None, more: &clock }.with(&series.messages, |attributes| {
                catch_panic(|| self.queue_time.record(time.as_secs_f64(), attributes));
            });
        }
    }

    pub(crate) fn waited(&self, series: &Series, wait: Duration, of: &MeasurementAttributes<'_>) {
        of.with(&series.duration, |attributes| {
            catch_panic(|| self.wait_time.record(wait.as_secs_f64(), attributes));
        });
    }

    pub(crate) fn settled(&self, series: &Series, outcome: Settlement, messages: u64) {
        let outcome = [KeyValue::new(extension::SETTLEMENT_OUTCOME, outcome.as_str())];
        MeasurementAttributes { error_type: None, more: &outcome }.with(&series.messages, |attributes| {
            catch_panic(|| self.deliveries.add(messages, attributes));
        });
    }
}

/// The attributes of an operation's measurements, in a fixed order.
#[derive(Debug, Default)]
pub(crate) struct Series {
    /// The attributes of duration metrics, with the operation's type if the metric has it.
    pub(crate) duration: Box<[KeyValue]>,
    /// The attributes of counters. Process operations count messages under the name of the receive operation.
    pub(crate) messages: Box<[KeyValue]>,
    /// Set only for cached operations, because binding costs more than one measurement.
    #[cfg(feature = "bound-instruments")]
    bound: Option<Box<Bound>>,
}

/// The instruments that are bound to an operation's attributes at its first measurement. Each operation has one duration and one
/// counter.
#[cfg(feature = "bound-instruments")]
#[derive(Debug, Default)]
struct Bound {
    duration: OnceLock<BoundHistogram<f64>>,
    messages: OnceLock<BoundCounter<u64>>,
}

/// The attributes of an operation that its metrics have too. They have few distinct values.
const SHARED: [&str; 4] = [
    attribute::MESSAGING_CONSUMER_GROUP_NAME,
    attribute::MESSAGING_DESTINATION_SUBSCRIPTION_NAME,
    attribute::SERVER_ADDRESS,
    attribute::SERVER_PORT,
];

impl Series {
    /// Returns the series of a cached operation.
    pub(crate) fn kept(self) -> Self {
        #[cfg(feature = "bound-instruments")]
        let this = Self { bound: Some(Box::default()), ..self };
        #[cfg(not(feature = "bound-instruments"))]
        let this = self;
        this
    }

    /// Creates the series. `is_shown`: the limit on destinations admits the name or the template.
    pub(crate) fn new(operation: &Operation, is_shown: bool, attributes: &[(&'static str, Value)]) -> Self {
        let Operation { system, name, destination, template, .. } = operation;
        let shown = match (template, destination) {
            (Some(template), _) => Some((attribute::MESSAGING_DESTINATION_TEMPLATE, template)),
            (None, Some(name)) => Some((attribute::MESSAGING_DESTINATION_NAME, name)),
            (None, None) => None,
        };
        let named = |operation: &'static str, typed: bool| {
            let mut series = vec![
                KeyValue::new(attribute::MESSAGING_SYSTEM, *system),
                KeyValue::new(attribute::MESSAGING_OPERATION_NAME, operation),
            ];
            series.extend(typed.then(|| KeyValue::new(attribute::MESSAGING_OPERATION_TYPE, name.kind.as_str())));
            series.extend(shown.filter(|_| is_shown).map(|(key, name)| KeyValue::new(key, name.clone())));
            let shared = attributes.iter().filter(|(key, _)| SHARED.contains(key));
            series.extend(shared.map(|(key, value)| KeyValue::new(*key, value.clone())));
            series.into_boxed_slice()
        };
        Self {
            duration: named(name.name, name.kind != OperationType::Process),
            messages: named(name.brought_by(), false),
            #[cfg(feature = "bound-instruments")]
            bound: None,
        }
    }

    /// Returns the attributes that this and other series share, and the common name of their destinations, if there is one.
    pub(crate) fn common(&self, others: &[&Self], destination: Option<&Arc<str>>) -> Self {
        let common = |part: fn(&Self) -> &[KeyValue]| {
            let same = |one: &&KeyValue| others.iter().all(|other| part(other).contains(one));
            let mut series: Vec<_> = part(self).iter().filter(same).cloned().collect();
            if let Some(name) = destination {
                // The name follows the system and the operation, as in [`Series::new`].
                series.insert(series.len().min(2), KeyValue::new(attribute::MESSAGING_DESTINATION_NAME, name.clone()));
            }
            series.into_boxed_slice()
        };
        Self {
            duration: common(|series| &series.duration),
            messages: common(|series| &series.messages),
            #[cfg(feature = "bound-instruments")]
            bound: None,
        }
    }

    fn count(&self, counter: &Counter<u64>, messages: u64, of: &MeasurementAttributes<'_>) {
        #[cfg(feature = "bound-instruments")]
        if let Some(bound) = self.bound.as_ref().filter(|_| of.add_nothing()) {
            catch_panic(|| bound.messages.get_or_init(|| counter.bind(&self.messages)).add(messages));
            return;
        }
        of.with(&self.messages, |attributes| {
            catch_panic(|| counter.add(messages, attributes));
        });
    }

    fn record(&self, histogram: &Histogram<f64>, took: Option<Duration>, of: &MeasurementAttributes<'_>) {
        let Some(took) = took.map(|took| took.as_secs_f64()) else { return };
        #[cfg(feature = "bound-instruments")]
        if let Some(bound) = self.bound.as_ref().filter(|_| of.add_nothing()) {
            catch_panic(|| bound.duration.get_or_init(|| histogram.bind(&self.duration)).record(took));
            return;
        }
        of.with(&self.duration, |attributes| {
            catch_panic(|| histogram.record(took, attributes));
        });
    }
}

/// The attributes that one operation adds to its series.
#[derive(Debug, Default)]
pub(crate) struct MeasurementAttributes<'a> {
    pub(crate) error_type: Option<&'a str>,
    /// Attributes that are known only from the answer, or that are recorded on request.
    pub(crate) more: &'a [KeyValue],
}

impl MeasurementAttributes<'_> {
    fn add_nothing(&self) -> bool {
        self.error_type.is_none() && self.more.is_empty()
    }

    /// Calls `measure` with both the given attributes and these. If there are none of these, nothing is copied.
    fn with(&self, attributes: &[KeyValue], measure: impl FnOnce(&[KeyValue])) {
        if self.add_nothing() {
            return measure(attributes);
        }
        let error = self.error_type.map(|error| KeyValue::new(attribute::ERROR_TYPE, error.to_owned()));
        let all: Vec<_> = attributes.iter().chain(self.more).cloned().chain(error).collect();
        measure(&all);
    }
}

/// Returns the partition among these attributes, if metrics have it.
#[inline]
pub(crate) fn partition_attribute(is_wanted: bool, attributes: &[KeyValue]) -> Option<KeyValue> {
    if !is_wanted {
        return None;
    }
    attributes.iter().find(|one| one.key.as_str() == attribute::MESSAGING_DESTINATION_PARTITION_ID).cloned()
}

/// Returns `None` if the clock was set back in between, because no duration is better than a wrong one.
#[inline]
pub(crate) fn between(start: SystemTime, end: SystemTime) -> Option<Duration> {
    end.duration_since(start).ok()
}
