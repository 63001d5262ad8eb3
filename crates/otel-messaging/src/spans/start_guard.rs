//! A guard against starting a span inside the start of another span on the same thread.

use std::cell::Cell;

thread_local! {
    static STARTING: Cell<bool> = const { Cell::new(false) };
}

/// A guard: while it exists, this thread is starting the span of a message. A sampler or a processor that is called meanwhile may
/// need the context of the same message, and would wait for its own thread.
pub(crate) struct StartGuard;

impl StartGuard {
    /// Returns `None` while another guard exists on this thread.
    #[inline]
    pub(crate) fn enter() -> Option<Self> {
        (!STARTING.replace(true)).then(|| Self)
    }
}

impl Drop for StartGuard {
    #[inline]
    fn drop(&mut self) {
        STARTING.set(false);
    }
}
