//! The limit on the size of a message's headers.

use opentelemetry::propagation::Injector;

/// The number of bytes of headers that can be added to a message.
///
/// Headers that do not fit are left out. The message is still sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct HeaderBudget {
    bytes: usize,
    per_header: usize,
}

impl HeaderBudget {
    /// The budget of a message without a limit.
    pub const UNLIMITED: Self = Self { bytes: usize::MAX, per_header: 0 };

    /// Creates a budget of `bytes` bytes. Each header takes its name, its value and `per_header` bytes.
    pub fn new(bytes: usize, per_header: usize) -> Self {
        Self { bytes, per_header }
    }

    /// Whether every context fits, so that measuring is not needed.
    #[inline]
    pub(crate) fn is_large(self) -> bool {
        self.bytes >= LONGEST_CONTEXT
    }

    /// Whether the headers in this buffer fit.
    pub(crate) fn fits(self, headers: &HeaderBuffer) -> bool {
        headers.size(self.per_header) <= self.bytes
    }
}

/// An upper bound for the size of a context: 16,447 bytes of `tracestate` (the API's limit), 8,192 bytes of baggage (the limit
/// for every propagator), their names, `traceparent`, and 3 KiB for the headers of other propagators.
const LONGEST_CONTEXT: usize = 28 * 1024;

/// A buffer that collects headers in order to measure them.
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
