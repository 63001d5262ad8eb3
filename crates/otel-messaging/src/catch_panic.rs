//! What is not ours and may panic: samplers, processors, propagators, hooks.

use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};

use crate::{
    adapter::{ClientSpan, ProcessSpan, Telemetry},
    description::operation::Operation,
    recording::instrumentation::Instrumentation,
};

// Wrappers are as unwind safe as the clients they wrap. Nothing of ours is left half changed by a panic: theirs are caught
// below, and our own state is atomics and locks around single assignments.
impl UnwindSafe for ClientSpan {}
impl RefUnwindSafe for ClientSpan {}
impl UnwindSafe for ProcessSpan {}
impl RefUnwindSafe for ProcessSpan {}
impl UnwindSafe for Operation {}
impl RefUnwindSafe for Operation {}
impl UnwindSafe for Telemetry {}
impl RefUnwindSafe for Telemetry {}
impl UnwindSafe for Instrumentation {}
impl RefUnwindSafe for Instrumentation {}

/// Runs `theirs`; `None` when it panicked, which the panic hook has reported by then.
///
/// A panic must not reach the client: on its delivery thread it would hang every send that follows, and in a drop that
/// is part of an unwinding it would abort the process.
#[inline]
pub(crate) fn catch_panic<T>(theirs: impl FnOnce() -> T) -> Option<T> {
    // What a panic leaves half done belongs to the SDK, which has to cope with that anyway.
    catch_unwind(AssertUnwindSafe(theirs)).ok()
}
