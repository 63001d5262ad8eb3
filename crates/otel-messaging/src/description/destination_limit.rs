//! The limit on the number of destination names in span names, metrics and caches.

use std::{
    collections::HashSet,
    sync::{PoisonError, RwLock},
};

use crate::description::destination::Destination;

/// The decision of the limit on a destination.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admission {
    /// The name, or the template, may appear in span names and metrics.
    pub(crate) is_shown: bool,
    /// The operations on the destination are cached.
    pub(crate) is_cached: bool,
}

/// The longest name that may be shown and cached, in bytes. Names in Kafka and AMQP are shorter.
const LONGEST: usize = 1_024;

/// Decides which destination names may be shown and cached: the first names up to the limit.
///
/// Clients that share an [`Instrumentation`](crate::Instrumentation) share its limit.
#[derive(Debug)]
pub(crate) struct DestinationLimit {
    /// Names and templates in span names and metrics. A template replaces the names that it covers.
    shown: NameSet,
    /// Names that a template covers. Operations on them are cached, but these names do not count towards the limit on shown
    /// names.
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

/// The first names that were seen, up to the limit.
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
