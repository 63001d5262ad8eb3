pub(crate) mod arrival;
pub(crate) mod operation;
pub(crate) mod policy;
pub mod semconv;
pub(crate) mod source;
