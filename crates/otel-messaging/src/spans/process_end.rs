//! The end of a process span, which happens once, with or without an error.

use std::{
    borrow::Cow,
    fmt, slice,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use opentelemetry::{KeyValue, trace::SpanContext};

use crate::{
    catch_panic::catch_panic,
    recording::{
        ending::EndingSpan,
        exceptions::{Failure, record_failure},
        metrics::{MeasurementAttributes, between},
        pipeline::Pipeline,
        prepared_operation::PreparedOperation,
    },
};

pub(crate) struct ProcessEnd {
    /// The span has ended, or the batch ends it.
    has_ended: AtomicBool,
    /// The error that the message was answered with: its type and its text.
    answer: OnceLock<Box<(Cow<'static, str>, String)>>,
    /// The partition as an attribute of metrics, if metrics have it.
    partition: Option<Box<KeyValue>>,
}

impl ProcessEnd {
    #[inline]
    pub(crate) fn new(partition: Option<KeyValue>) -> Self {
        Self { has_ended: AtomicBool::new(false), answer: OnceLock::new(), partition: partition.map(Box::new) }
    }

    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Marks the span as ended by its batch.
    pub(crate) fn leave_to_batch(&self) {
        self.has_ended.store(true, Ordering::Release);
    }

    /// Whether the caller is the first that ends the span. The SDK's span ignores a second end, so only measurements and events
    /// need an atomic exchange.
    #[inline]
    pub(crate) fn is_first(&self, pipeline: &Pipeline) -> bool {
        if pipeline.instruments().is_some() || pipeline.exceptions.is_some() {
            return !self.has_ended.swap(true, Ordering::AcqRel);
        }
        let is_first = !self.has_ended();
        if is_first {
            self.has_ended.store(true, Ordering::Release);
        }
        is_first
    }

    pub(crate) fn set_answer(&self, error_type: Cow<'static, str>, description: &dyn fmt::Display) {
        // The application implements `Display`, which may panic.
        if let Some(description) = catch_panic(|| description.to_string()) {
            self.answer.get_or_init(|| Box::new((error_type, description)));
        }
    }

    /// Ends the span, and records its duration. `which` returns the span's context, also for a non-recording span.
    #[inline]
    pub(crate) fn finish<S: EndingSpan>(
        &self,
        operation: &PreparedOperation,
        began: SystemTime,
        mut span: Option<S>,
        which: impl FnOnce(Option<&S>) -> Option<SpanContext>,
        error: Option<Failure<'_>>,
    ) {
        let answer = || self.answer.get().map(|answer| (answer.0.clone(), &answer.1 as &dyn fmt::Display));
        let error = error.or_else(answer);
        if let Some(failure) = &error {
            let which = which(span.as_ref());
            record_failure(failure, operation.exceptions(), which.as_ref(), span.as_mut());
        }
        // The clock is read once, so that the span and its measurement agree.
        let ended_at = operation.instruments().map(|_| SystemTime::now());
        if let Some(span) = &mut span {
            span.end_at(ended_at);
        }
        if let Some(ended_at) = ended_at {
            let error_type = error.as_ref().map(|(error_type, _)| &**error_type);
            operation.ended(between(began, ended_at), 1, &self.measurement_attributes(error_type));
        }
    }

    pub(crate) fn measurement_attributes<'a>(&'a self, error_type: Option<&'a str>) -> MeasurementAttributes<'a> {
        MeasurementAttributes { error_type, more: self.partition.as_deref().map(slice::from_ref).unwrap_or_default() }
    }
}
