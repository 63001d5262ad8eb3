//! Keeps a thread from starting a span inside the start of another.

use std::cell::Cell;

thread_local! {
    static STARTING: Cell<bool> = const { Cell::new(false) };
}

/// While this lives, this thread starts the span of a message. A sampler or a processor that is called there may ask for the
/// context of the same message, and would wait for its own thread.
pub(crate) struct StartGuard;

impl StartGuard {
    /// `None` inside another.
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
