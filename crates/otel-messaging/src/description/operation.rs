//! The description of an operation on a destination, for filters and hooks.

use std::{borrow::Cow, fmt, sync::Arc};

use crate::description::{
    destination::{CommonName, Destination},
    operation_name::{OperationName, OperationType},
};

/// One operation on one destination: the argument of [`with_filter`](crate::InstrumentationBuilder::with_filter) and
/// [`with_operation_hook`](crate::InstrumentationBuilder::with_operation_hook).
pub struct Operation {
    pub(crate) system: &'static str,
    pub(crate) name: OperationName,
    pub(crate) span_name: Cow<'static, str>,
    pub(crate) destination: Option<Arc<str>>,
    pub(crate) template: Option<Arc<str>>,
    pub(crate) server: Option<(Arc<str>, u16)>,
    /// The destination is neither temporary nor anonymous: its name may appear in span names and metrics, within the limit on
    /// names.
    is_stable: bool,
    /// The key that the adapter looks the operation up with.
    key: Box<[Box<str>]>,
    common_name: Option<CommonName>,
}

impl Operation {
    /// `messaging.system`.
    #[must_use]
    pub fn system(&self) -> &'static str {
        self.system
    }

    /// The client's name of the operation: `messaging.operation.name`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name.name
    }

    /// The convention's type of the operation: `messaging.operation.type`.
    #[must_use]
    pub fn kind(&self) -> OperationType {
        self.name.kind
    }

    /// The destination's name, if it has one.
    #[must_use]
    pub fn destination(&self) -> Option<&str> {
        self.destination.as_deref()
    }

    /// The pattern that the destination's name was made from, if there is one.
    #[must_use]
    pub fn template(&self) -> Option<&str> {
        self.template.as_deref()
    }
}

impl Operation {
    /// Creates the description. `is_shown`: the destination's name may appear in the span's name.
    pub(crate) fn new(
        system: &'static str,
        name: OperationName,
        key: &[&str],
        destination: &Destination,
        is_shown: bool,
    ) -> Self {
        let Destination { name: destination_name, template, server, common_name, .. } = destination;
        let shown = template.as_ref().or(destination_name.as_ref());
        Self {
            system,
            name,
            span_name: span_name(name, shown, is_shown, server.as_ref()),
            destination: destination_name.clone(),
            template: template.clone(),
            server: server.clone(),
            is_stable: destination.is_stable(),
            key: key.iter().map(|&part| part.into()).collect(),
            common_name: *common_name,
        }
    }

    /// The operation on messages of this and of other destinations, and the common name of these destinations. The common name is
    /// `None` if all messages have one destination or a template, or if the name may not be shown. `admits` returns whether the
    /// limit admits a name.
    pub(crate) fn of_batch(&self, others: &[&Self], admits: impl FnOnce(&str) -> bool) -> (Self, Option<Arc<str>>) {
        let one_name = self.same(others, |one| one.destination.as_ref()).flatten();
        let common_name = if one_name.is_none() { self.common_name_with(others) } else { None };
        let template = self.same(others, |one| one.template.as_ref()).flatten();
        let server = self.same(others, |one| one.server.as_ref()).flatten();
        let is_stable = self.is_stable && others.iter().all(|one| one.is_stable);
        let destination = one_name.or(common_name.as_ref());
        let shown = template.or(destination);
        let is_shown = is_stable && shown.is_none_or(|shown| admits(shown));
        let same_span_name = self.same(others, |one| &one.span_name).cloned();
        let batch = Self {
            system: self.system,
            name: self.name,
            span_name: same_span_name.unwrap_or_else(|| span_name(self.name, shown, is_shown, server)),
            destination: destination.cloned(),
            template: template.cloned(),
            server: server.cloned(),
            is_stable,
            key: Box::default(),
            common_name: None,
        };
        (batch, common_name.filter(|_| is_shown && template.is_none()))
    }

    /// A part of the operation, if it is the same for all operations.
    fn same<'a, T: PartialEq>(&'a self, others: &[&'a Self], part: impl Fn(&'a Self) -> T) -> Option<T> {
        let own = part(self);
        others.iter().all(|other| part(other) == own).then_some(own)
    }

    fn common_name_with(&self, others: &[&Self]) -> Option<Arc<str>> {
        let name_of = self.common_name?;
        let parts = self.key.iter().enumerate();
        let common: Vec<_> = parts
            .map(|(at, part)| if others.iter().all(|one| one.key.get(at) == Some(part)) { part } else { "" })
            .collect();
        Some(name_of(&common)).filter(|name| !name.is_empty()).map(Arc::from)
    }

    /// Whether this name and this key identify the operation.
    #[inline]
    pub(crate) fn is(&self, name: OperationName, key: &[&str]) -> bool {
        self.name == name && self.key.len() == key.len() && self.key.iter().zip(key).all(|(own, part)| &**own == *part)
    }
}

/// `{operation} {destination}`, or `{operation} {server}` for an operation without a destination.
fn span_name(
    name: OperationName,
    destination: Option<&Arc<str>>,
    is_shown: bool,
    server: Option<&(Arc<str>, u16)>,
) -> Cow<'static, str> {
    match (destination, server) {
        (Some(destination), _) if is_shown => format!("{} {destination}", name.name).into(),
        (None, Some((host, port))) => format!("{} {host}:{port}", name.name).into(),
        _ => name.name.into(),
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation")
            .field("span_name", &self.span_name)
            .field("destination", &self.destination)
            .finish_non_exhaustive()
    }
}
