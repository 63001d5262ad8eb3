//! How much may be written into a message before its broker, or its client, refuses it.

use opentelemetry::propagation::Injector;

/// How many bytes of headers can be added to a message.
///
/// Headers that would not fit are left out, and not the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct HeaderBudget {
    bytes: usize,
    per_header: usize,
}

impl HeaderBudget {
    /// For a message without a limit.
    pub const UNLIMITED: Self = Self { bytes: usize::MAX, per_header: 0 };

    /// So many bytes, of which each header takes `per_header` beside its name and its value.
    pub fn new(bytes: usize, per_header: usize) -> Self {
        Self { bytes, per_header }
    }

    /// Whether there is no need to measure.
    #[inline]
    pub(crate) fn is_large(self) -> bool {
        self.bytes >= LONGEST_CONTEXT
    }

    /// Whether the headers that are written here fit.
    pub(crate) fn fits(self, headers: &HeaderBuffer) -> bool {
        headers.size(self.per_header) <= self.bytes
    }
}

/// No context takes more bytes: 16,447 of `tracestate`, as many as the API keeps, 8,192 of baggage, as many as are written
/// whatever propagator does it, their names, `traceparent`, and 3 KiB for the headers of other propagators beside them.
const LONGEST_CONTEXT: usize = 28 * 1024;

/// Headers that are written elsewhere first, to see how long they are.
#[derive(Debug, Default)]
pub(crate) struct HeaderBuffer(Vec<(String, String)>);

impl HeaderBuffer {
    fn size(&self, per_header: usize) -> usize {
        let added = self.0.iter().filter(|(_, value)| !value.is_empty());
        added.map(|(name, value)| name.len() + value.len() + per_header).sum()
    }

    pub(crate) fn write(self, headers: &mut dyn Injector) {
        self.0.into_iter().for_each(|(name, value)| headers.set(&name, value));
    }
}

impl Injector for HeaderBuffer {
    fn set(&mut self, name: &str, value: String) {
        self.0.push((name.to_owned(), value));
    }
}
