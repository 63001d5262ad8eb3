//! What is not ours and may panic: samplers, processors, propagators, hooks.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `theirs`; `None` when it panicked, which the panic hook has reported by then.
///
/// A panic must not reach the client: on its delivery thread it would hang every send that follows, and in a drop that
/// is part of an unwinding it would abort the process.
pub(crate) fn shield<T>(theirs: impl FnOnce() -> T) -> Option<T> {
    // What a panic leaves half done belongs to the SDK, which has to cope with that anyway.
    catch_unwind(AssertUnwindSafe(theirs)).ok()
}
