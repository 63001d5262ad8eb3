//! Panics of samplers, processors, exporters, propagators and the application's own functions.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `theirs`; `None` when it panicked, which the panic hook has reported by then.
///
/// A panic must not reach the client: on its delivery thread it would hang every send that follows, and in a drop that
/// is part of an unwinding it would abort the process.
#[inline]
pub(crate) fn catch_panic<T>(theirs: impl FnOnce() -> T) -> Option<T> {
    // State that a panic leaves inconsistent belongs to the SDK, which has to expect panics in any case.
    catch_unwind(AssertUnwindSafe(theirs)).ok()
}

/// Declares types as unwind safe: [`catch_panic`] catches every panic of code that is not ours, and our own state is atomics and
/// locks around single assignments. So a wrapper is as unwind safe as the client that it wraps.
macro_rules! unwind_safe {
    ($($type:ty),*) => {$(
        impl std::panic::UnwindSafe for $type {}
        impl std::panic::RefUnwindSafe for $type {}
    )*};
}

pub(crate) use unwind_safe;
