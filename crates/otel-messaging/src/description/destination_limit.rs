//! The limit on the names of destinations that are shown and cached.

use std::{
    collections::HashSet,
    sync::{PoisonError, RwLock},
};

use crate::description::destination::Destination;

/// What the bound says of a destination.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admission {
    /// Its name, or template, may appear in span names.
    pub(crate) is_shown: bool,
    /// Its operations are cached.
    pub(crate) is_cached: bool,
}

/// The longest name that may be kept and shown, in bytes. Those of Kafka and AMQP are shorter.
const LONGEST: usize = 1_024;

/// Which destination names may be shown and kept: the first so many that were seen.
///
/// It belongs to the [`Instrumentation`](crate::Instrumentation), so that all clients that share one share the bound.
#[derive(Debug)]
pub(crate) struct DestinationLimit {
    /// In span names and metrics: names, and templates instead of the names behind them.
    shown: NameSet,
    /// The names behind templates that are kept for the next message, and shown nowhere: however many they are, they take
    /// no place from those that are shown.
    behind_templates: NameSet,
}

impl DestinationLimit {
    pub(crate) fn new(limit: usize) -> Self {
        Self { shown: NameSet::new(limit), behind_templates: NameSet::new(limit) }
    }

    /// Whether this name may be shown.
    pub(crate) fn admits_shown(&self, name: &str) -> bool {
        self.shown.admit(name)
    }

    pub(crate) fn admits(&self, destination: &Destination) -> Admission {
        let (name, template) = (destination.name.as_deref(), destination.template.as_deref());
        let is_shown = destination.is_stable() && template.or(name).is_none_or(|shown| self.shown.admit(shown));
        let behind = template.and(name);
        Admission { is_shown, is_cached: is_shown && behind.is_none_or(|name| self.behind_templates.admit(name)) }
    }
}

/// The first so many names that were seen.
#[derive(Debug)]
struct NameSet {
    limit: usize,
    admitted: RwLock<HashSet<Box<str>>>,
}

impl NameSet {
    fn new(limit: usize) -> Self {
        Self { limit, admitted: RwLock::default() }
    }

    fn admit(&self, name: &str) -> bool {
        if name.len() > LONGEST {
            return false;
        }
        {
            let admitted = self.admitted.read().unwrap_or_else(PoisonError::into_inner);
            if admitted.contains(name) {
                return true;
            }
            if admitted.len() >= self.limit {
                return false;
            }
        }
        let mut admitted = self.admitted.write().unwrap_or_else(PoisonError::into_inner);
        if admitted.len() >= self.limit {
            return admitted.contains(name);
        }
        admitted.insert(name.into());
        true
    }
}
