//! The interface to the headers of an outgoing message.

use opentelemetry::propagation::{Extractor, Injector};

use crate::propagation::header_budget::HeaderBudget;

/// The headers of an outgoing message. The core writes a context into them, and reads a context that the message already carries.
///
/// `set` with an empty value removes the header: the W3C propagator writes an empty `tracestate` if there is none.
///
/// [`keys`](Extractor::keys) returns headers alone. If a broker's message is one list of fields, the adapter must separate
/// headers from other fields, for example by a prefix. Otherwise
/// [`with_captured_headers`](crate::InstrumentationBuilder::with_captured_headers) with the pattern `*` records fields of the
/// body.
pub trait Headers: Injector + Extractor {
    /// Whether the message has no headers yet. If so, the core reads none.
    fn is_empty(&self) -> bool;

    /// The number of bytes of headers that the message can still take. Default: unlimited.
    fn header_budget(&self) -> HeaderBudget {
        HeaderBudget::UNLIMITED
    }
}
