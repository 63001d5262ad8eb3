pub(crate) mod batch_attributes;
pub(crate) mod client_span;
pub(crate) mod context_state;
pub(crate) mod current;
pub(crate) mod hand;
pub(crate) mod operation_start;
pub(crate) mod outgoing;
pub(crate) mod process_span;
