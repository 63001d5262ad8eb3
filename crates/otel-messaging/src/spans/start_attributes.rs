//! The attributes that a process span starts with, and those of them that the message alone has.

use std::{
    mem,
    sync::{Mutex, PoisonError},
};

use opentelemetry::KeyValue;

use crate::{
    description::{arrival::Arrival, attributes::Attributes},
    recording::{metrics::partition_attribute, prepared_operation::PreparedOperation},
};

/// Shorter waits are not recorded on the span.
pub(crate) const SHORTEST_WAIT: std::time::Duration = std::time::Duration::from_millis(1);

/// The attributes of the operation, then those of the message, then captured headers and those of the user's hook.
#[derive(Default)]
pub(crate) struct StartAttributes {
    all: Mutex<Attributes>,
    /// Where those of the message end.
    message_end: usize,
}

impl StartAttributes {
    #[inline]
    pub(crate) fn new(
        operation: &PreparedOperation,
        arrival: &Arrival<'_>,
        of_message: impl FnOnce(&mut Attributes),
    ) -> Self {
        if operation.filtered_out {
            return Self::default();
        }
        let settings = operation.pipeline.settings();
        let mut message_end = 0;
        let all = operation.attributes(|all| {
            of_message(all);
            arrival.attributes(all);
            message_end = all.0.len();
            if let Some(headers) = arrival.headers {
                settings.capture.capture(headers, &settings.propagator, all);
            }
        });
        Self { all: Mutex::new(all), message_end }
    }

    #[inline]
    pub(crate) fn partition(&mut self, operation: &PreparedOperation) -> Option<KeyValue> {
        let is_wanted = operation.pipeline.settings().metric_partition;
        let all = self.all.get_mut().unwrap_or_else(PoisonError::into_inner);
        partition_attribute(is_wanted, &all.0)
    }

    /// Takes the attributes for the start of the span; a copy where they `stay`.
    #[inline]
    pub(crate) fn take(&self, stay: bool) -> Attributes {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if stay { all.clone() } else { mem::take(&mut *all) }
    }

    #[inline]
    pub(crate) fn take_last(&mut self) -> Attributes {
        mem::take(self.all.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// All attributes, or those of the operation where all were taken.
    pub(crate) fn all(&self, operation: &PreparedOperation) -> Vec<KeyValue> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.0.is_empty() { operation.fixed_attributes().0 } else { all.0.clone() }
    }

    /// Adds those of the message, unless all were taken.
    pub(crate) fn add_message_attributes(&self, operation: &PreparedOperation, to: &mut Attributes) {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        to.0.extend_from_slice(all.0.get(operation.fixed()..self.message_end).unwrap_or_default());
    }
}
