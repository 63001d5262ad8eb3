pub(crate) mod baggage;
pub(crate) mod forward;
pub(crate) mod header_budget;
pub(crate) mod headers;
pub(crate) mod propagator;
pub(crate) mod w3c;
