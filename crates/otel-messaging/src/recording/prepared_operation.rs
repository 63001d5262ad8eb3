//! An operation with the prepared attributes of its spans and measurements.

use std::{
    borrow::Cow,
    fmt,
    ops::Deref,
    ptr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Key, KeyValue, Value,
    trace::{Link, SpanBuilder, SpanKind},
};

use crate::{
    catch_panic::{catch_panic, unwind_safe},
    description::{
        arrival::Clock,
        attributes::Attributes,
        destination::Destination,
        destination_limit::Admission,
        operation::Operation,
        operation_name::{OperationName, OperationType},
        semconv::attribute,
        settlement::Settlement,
    },
    recording::{
        exceptions::Exceptions,
        interned::intern,
        metrics::{Instruments, MeasurementAttributes, Series},
        pipeline::Pipeline,
    },
};

/// One operation on one destination, ready to be recorded: [`Telemetry::operation`](crate::adapter::Telemetry::operation)
/// prepares and caches it.
pub struct PreparedOperation {
    pub(crate) description: Operation,
    pub(crate) pipeline: Arc<Pipeline>,
    // The attributes that are the same for all messages. Most are interned text or numbers, which a span copies without a call
    // for each.
    texts: Box<[(&'static str, &'static str)]>,
    numbers: Box<[(&'static str, i64)]>,
    rest: Box<[KeyValue]>,
    series: Series,
    /// The user's filter excludes the operation.
    pub(crate) filtered_out: bool,
}

/// The spare capacity for a message's own attributes, so that one allocation holds all attributes.
const SPARE: usize = 4;

impl PreparedOperation {
    pub(crate) fn new(
        pipeline: Arc<Pipeline>,
        system: &'static str,
        name: OperationName,
        key: &[&str],
        destination: Destination,
        Admission { is_shown, is_cached }: Admission,
    ) -> Self {
        let mut description = Operation::new(system, name, key, &destination, is_shown);
        if let (true, Cow::Owned(span_name)) = (is_cached, &description.span_name) {
            description.span_name = intern(span_name);
        }
        let all = destination.into_attributes(system, name);
        let series = Series::new(&description, is_shown, &all);
        let (mut texts, mut numbers, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for (key, value) in all {
            match &value {
                Value::String(text) if is_cached => match intern(text.as_str()) {
                    Cow::Borrowed(text) => texts.push((key, text)),
                    Cow::Owned(text) => rest.push(KeyValue::new(key, Arc::<str>::from(text))),
                },
                Value::I64(number) => numbers.push((key, *number)),
                _ => rest.push(KeyValue::new(key, value)),
            }
        }
        // If the filter panics, the operation is recorded.
        let filter = pipeline.settings().filter.as_ref();
        let filtered_out = filter.is_some_and(|wants| catch_panic(|| wants(&description)) == Some(false));
        Self {
            description,
            pipeline,
            texts: texts.into(),
            numbers: numbers.into(),
            rest: rest.into(),
            series: if is_cached { series.kept() } else { series },
            filtered_out,
        }
    }

    /// Returns the operation for messages of this and of other destinations.
    pub(crate) fn of_batch(self: &Arc<Self>, others: &[&Arc<Self>]) -> Arc<Self> {
        if others.iter().all(|other| self.shows_the_same(other)) {
            return self.clone();
        }
        let (descriptions, all_series): (Vec<_>, Vec<_>) =
            others.iter().map(|other| (&other.description, &other.series)).unzip();
        let admits = |name: &str| self.pipeline.settings().destination_limit.admits_shown(name);
        let (description, common_name) = self.description.of_batch(&descriptions, admits);
        Arc::new(Self {
            description,
            pipeline: self.pipeline.clone(),
            texts: Box::default(),
            numbers: Box::default(),
            rest: Box::default(),
            series: self.series.common(&all_series, common_name.as_ref()),
            filtered_out: self.filtered_out,
        })
    }

    fn shows_the_same(&self, other: &Self) -> bool {
        ptr::eq(self, other)
            || (self.description.span_name == other.description.span_name
                && self.description.destination == other.description.destination
                && self.series.duration == other.series.duration)
    }

    /// The attributes of the operation, of one message, and of the user's hook.
    #[inline(always)]
    pub(crate) fn attributes(&self, of_message: impl FnOnce(&mut Attributes)) -> Attributes {
        let mut all = self.fixed_attributes();
        of_message(&mut all);
        if self.pipeline.settings().hook.is_some() {
            let mut added = Attributes::default();
            self.call_hook(&mut added);
            all.merge(added);
        }
        all
    }

    /// Calls the user's hook, which may add attributes.
    pub(crate) fn call_hook(&self, added: &mut Attributes) {
        if let Some(hook) = &self.pipeline.settings().hook {
            catch_panic(|| hook(&self.description, added));
        }
    }

    /// Whether an attribute is the same for each message.
    pub(crate) fn has_fixed(&self, key: &Key) -> bool {
        let key = key.as_str();
        self.texts.iter().any(|(fixed, _)| *fixed == key)
            || self.numbers.iter().any(|(fixed, _)| *fixed == key)
            || self.rest.iter().any(|fixed| fixed.key.as_str() == key)
    }

    /// The attributes that are the same for all messages.
    #[inline(always)]
    pub(crate) fn fixed_attributes(&self) -> Attributes {
        let count = self.texts.len() + self.numbers.len() + self.rest.len();
        let mut fixed = Attributes(Vec::with_capacity(count + SPARE));
        fixed.0.extend(self.texts.iter().map(|&(key, text)| KeyValue::new(key, text)));
        fixed.0.extend(self.numbers.iter().map(|&(key, number)| KeyValue::new(key, number)));
        fixed.0.extend_from_slice(&self.rest);
        fixed
    }

    /// The destination's name as an attribute, if it has one.
    pub(crate) fn destination_attribute(&self) -> Option<KeyValue> {
        let name = self.description.destination.clone()?;
        Some(KeyValue::new(attribute::MESSAGING_DESTINATION_NAME, name))
    }

    /// Returns the builder of a span of the operation.
    #[inline(always)]
    pub(crate) fn span(
        &self,
        kind: SpanKind,
        at: SystemTime,
        attributes: Attributes,
        links: Option<Vec<Link>>,
    ) -> SpanBuilder {
        SpanBuilder {
            name: self.description.span_name.clone(),
            span_kind: Some(kind),
            start_time: Some(at),
            attributes: Some(attributes.0),
            links,
            ..SpanBuilder::default()
        }
    }

    /// Returns the sink for exception events; `None` without a logger, or if the filter excludes the operation.
    #[inline]
    pub(crate) fn exceptions(&self) -> Option<(&dyn Exceptions, OperationType)> {
        let exceptions = self.pipeline.exceptions.as_deref().filter(|_| !self.filtered_out)?;
        Some((exceptions, self.description.kind()))
    }

    /// Returns the instruments; `None` without a meter, or if the filter excludes the operation.
    #[inline]
    pub(crate) fn instruments(&self) -> Option<&Instruments> {
        self.pipeline.instruments().filter(|_| !self.filtered_out)
    }

    /// Records the end of an operation in metrics, with its duration if that is known.
    pub(crate) fn ended(&self, took: Option<Duration>, messages: u64, of: &MeasurementAttributes<'_>) {
        let Some(instruments) = self.instruments() else { return };
        instruments.ended(self.description.kind(), &self.series, (took, messages), of);
    }

    /// Records the delivery of a message in metrics, with the time since the message was sent if that is known.
    pub(crate) fn delivered(&self, queued: Option<(Duration, Clock)>, of: &MeasurementAttributes<'_>) {
        let Some(instruments) = self.instruments() else { return };
        instruments.delivered(&self.series, queued, of);
    }

    /// Records the time that a message waited for its handler in metrics.
    pub(crate) fn waited(&self, wait: Duration, of: &MeasurementAttributes<'_>) {
        let Some(instruments) = self.instruments() else { return };
        instruments.waited(&self.series, wait, of);
    }

    /// Counts messages by settlement outcome.
    pub(crate) fn settled(&self, outcome: Settlement, messages: u64) {
        let Some(instruments) = self.instruments().filter(|_| messages > 0) else { return };
        instruments.settled(&self.series, outcome, messages);
    }
}

impl Deref for PreparedOperation {
    type Target = Operation;

    fn deref(&self) -> &Operation {
        &self.description
    }
}

unwind_safe!(PreparedOperation);

impl fmt::Debug for PreparedOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedOperation")
            .field("description", &self.description)
            .field("texts", &self.texts)
            .field("rest", &self.rest)
            .finish_non_exhaustive()
    }
}
