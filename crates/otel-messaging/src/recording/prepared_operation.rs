//! An operation with all that its spans and measurements are made with: prepared for the first message, kept for the next.

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
    // The attributes that no message changes. Most are interned text, or numbers: a span copies these at once, where it would
    // clone any other value by a call.
    texts: Box<[(&'static str, &'static str)]>,
    numbers: Box<[(&'static str, i64)]>,
    rest: Box<[KeyValue]>,
    series: Series,
    /// The user's filter wants no telemetry of the operation.
    pub(crate) filtered_out: bool,
}

/// How many attributes a message adds to its operation's, so that one allocation holds all of them.
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
        // Where the filter panics, the operation is recorded.
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

    /// The same for messages of this and of other destinations.
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

    /// The operation's attributes, those of one message, and what the user's hook makes of them.
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

    /// Lets the user's hook add attributes.
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

    /// The attributes that no message changes.
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

    /// What a span of the operation is started with.
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

    /// Where events of its failures go; `None` without a logger, and where the filter wants none.
    #[inline]
    pub(crate) fn exceptions(&self) -> Option<(&dyn Exceptions, OperationType)> {
        let exceptions = self.pipeline.exceptions.as_deref().filter(|_| !self.filtered_out)?;
        Some((exceptions, self.description.kind()))
    }

    /// `None` without a meter, and where the filter wants no measurement.
    #[inline]
    pub(crate) fn instruments(&self) -> Option<&Instruments> {
        self.pipeline.instruments().filter(|_| !self.filtered_out)
    }

    /// Measures the end of an operation, and its duration where that is known.
    pub(crate) fn ended(&self, took: Option<Duration>, messages: u64, of: &MeasurementAttributes<'_>) {
        let Some(instruments) = self.instruments() else { return };
        instruments.ended(self.description.kind(), &self.series, (took, messages), of);
    }

    /// Measures the delivery of a message, and the time since it was sent where that is known.
    pub(crate) fn delivered(&self, queued: Option<(Duration, Clock)>, of: &MeasurementAttributes<'_>) {
        let Some(instruments) = self.instruments() else { return };
        instruments.delivered(&self.series, queued, of);
    }

    /// Measures how long a message waited for its handler.
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
