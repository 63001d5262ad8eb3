pub(crate) mod capture;
pub(crate) mod exceptions;
pub(crate) mod instrumentation;
pub(crate) mod loops;
pub(crate) mod metrics;
pub(crate) mod pipeline;
