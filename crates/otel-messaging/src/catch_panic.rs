//! Isolation of panics in samplers, processors, exporters, propagators and functions of the application.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `theirs` and returns its result, or `None` if it panics. The panic hook still reports the panic.
///
/// A panic must not reach the client. On the client's delivery thread, a panic would block all later sends. In a drop during
/// unwinding, a panic would abort the process.
#[inline]
pub(crate) fn catch_panic<T>(theirs: impl FnOnce() -> T) -> Option<T> {
    // A panic can leave inconsistent only the state of the SDK, which must expect panics in any case.
    catch_unwind(AssertUnwindSafe(theirs)).ok()
}

/// Declares types as unwind safe. [`catch_panic`] catches every panic of foreign code, and the core's own state consists of
/// atomics and of locks around single assignments. So a wrapper is as unwind safe as the client that it wraps.
macro_rules! unwind_safe {
    ($($type:ty),*) => {$(
        impl std::panic::UnwindSafe for $type {}
        impl std::panic::RefUnwindSafe for $type {}
    )*};
}

pub(crate) use unwind_safe;
