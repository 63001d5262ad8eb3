//! The attributes that a process span starts with.

use std::{
    mem,
    sync::{Mutex, PoisonError},
};

use opentelemetry::{Key, KeyValue, propagation::Extractor};

use crate::{
    description::{arrival::Arrival, attributes::Attributes},
    recording::{metrics::partition_attribute, prepared_operation::PreparedOperation},
};

/// Shorter waits are not recorded on the span.
pub(crate) const SHORTEST_WAIT: std::time::Duration = std::time::Duration::from_millis(1);

/// The attributes of the operation and of the message, the captured headers, and the attributes of the user's hook.
#[derive(Default)]
pub(crate) struct StartAttributes {
    all: Mutex<Attributes>,
    /// The keys of captured headers and of attributes that the hook added. No link of a batch has these attributes.
    on_span_only: Vec<Key>,
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
        let mut all = operation.fixed_attributes();
        of_message(&mut all);
        arrival.attributes(&mut all);
        let settings = operation.pipeline.settings();
        let adds = settings.hook.is_some() || !settings.capture.headers.is_empty();
        let on_span_only = if adds { add_captured(operation, arrival.headers, &mut all) } else { Vec::new() };
        Self { all: Mutex::new(all), on_span_only }
    }

    #[inline]
    pub(crate) fn partition(&mut self, operation: &PreparedOperation) -> Option<KeyValue> {
        let is_wanted = operation.pipeline.settings().metric_partition;
        let all = self.all.get_mut().unwrap_or_else(PoisonError::into_inner);
        partition_attribute(is_wanted, &all.0)
    }

    /// Takes the attributes for the start of the span. If `stay` is true, returns a copy.
    #[inline]
    pub(crate) fn take(&self, stay: bool) -> Attributes {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if stay { all.clone() } else { mem::take(&mut *all) }
    }

    #[inline]
    pub(crate) fn take_last(&mut self) -> Attributes {
        mem::take(self.all.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// All attributes, or those of the operation if all attributes were taken.
    pub(crate) fn all(&self, operation: &PreparedOperation) -> Vec<KeyValue> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.0.is_empty() { operation.fixed_attributes().0 } else { all.0.clone() }
    }

    /// Adds the attributes of the message, unless all attributes were taken.
    pub(crate) fn add_message_attributes(&self, operation: &PreparedOperation, to: &mut Attributes) {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let is_of_message = |key: &Key| !operation.has_fixed(key) && !self.on_span_only.contains(key);
        to.0.extend(all.0.iter().filter(|attribute| is_of_message(&attribute.key)).cloned());
    }
}

/// Adds captured headers and what the user's hook adds. Returns the names of those that are new.
fn add_captured(operation: &PreparedOperation, headers: Option<&dyn Extractor>, all: &mut Attributes) -> Vec<Key> {
    let settings = operation.pipeline.settings();
    let mut added = Attributes::default();
    if let Some(headers) = headers {
        settings.capture.capture(headers, &settings.propagator, &mut added);
    }
    operation.call_hook(&mut added);
    let is_new = |key: &Key| all.0.iter().all(|earlier| earlier.key != *key);
    let new = added.0.iter().map(|added| added.key.clone()).filter(is_new).collect();
    all.merge(added);
    new
}
