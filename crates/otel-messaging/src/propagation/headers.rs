//! The headers of a message about to be sent, as an adapter lends them to the core.

use opentelemetry::propagation::{Extractor, Injector};

use crate::propagation::header_budget::HeaderBudget;

/// The headers of a message about to be sent: written to and, for a context that it carries already, read from.
///
/// `set` with an empty value removes the entry: the W3C propagator writes an empty `tracestate` for "none".
///
/// [`keys`](Extractor::keys) returns headers alone. A broker whose messages are one list of fields keeps headers apart by a prefix
/// of their names, for instance: otherwise
/// [`with_captured_headers(["*"])`](crate::InstrumentationBuilder::with_captured_headers) records fields of the body.
pub trait Headers: Injector + Extractor {
    /// Whether the message has no headers yet; nothing is looked for then.
    fn is_empty(&self) -> bool;

    /// How much more the message can take.
    fn header_budget(&self) -> HeaderBudget {
        HeaderBudget::UNLIMITED
    }
}
