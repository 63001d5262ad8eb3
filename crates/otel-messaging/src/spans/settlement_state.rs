//! The settlement state of a message: settled, awaited or dropped.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{description::settlement::Settlement, recording::prepared_operation::PreparedOperation};

/// The settlement state of one message.
#[derive(Debug)]
pub(crate) struct SettlementState {
    /// The outcome is recorded, or another part of the program records it.
    is_recorded: AtomicBool,
    /// A message that is dropped without a settlement counts as dropped.
    is_awaited: AtomicBool,
}

impl SettlementState {
    #[inline]
    pub(crate) fn new(is_awaited: bool) -> Self {
        Self { is_recorded: AtomicBool::new(false), is_awaited: AtomicBool::new(is_awaited) }
    }

    /// Marks the outcome as recorded. Returns whether this caller is the first that records an outcome.
    pub(crate) fn record(&self) -> bool {
        !self.is_recorded.swap(true, Ordering::AcqRel)
    }

    /// Leaves the outcome, if there is one, to another part of the program.
    pub(crate) fn leave_to_others(&self) {
        self.is_recorded.store(true, Ordering::Release);
    }

    /// Awaits no outcome any more. A later outcome is still recorded.
    pub(crate) fn await_no_longer(&self) {
        self.is_awaited.store(false, Ordering::Release);
    }

    /// Records the drop of the message. Returns whether the message was dropped unsettled.
    #[inline]
    pub(crate) fn record_dropped(&self) -> bool {
        self.is_awaited.load(Ordering::Acquire) && self.record()
    }

    /// Whether a drop of the message now would be recorded as unsettled.
    #[inline]
    pub(crate) fn is_unsettled(&mut self) -> bool {
        *self.is_awaited.get_mut() && !*self.is_recorded.get_mut()
    }
}

/// A message that was dropped and can still be settled, for example by its number. If this value is dropped before
/// [`discharge`](Self::discharge) is called, the message counts as dropped.
#[must_use]
pub struct Unsettled {
    operation: Arc<PreparedOperation>,
    discharged: AtomicBool,
}

impl Unsettled {
    pub(crate) fn new(operation: Arc<PreparedOperation>) -> Self {
        Self { operation, discharged: AtomicBool::new(false) }
    }

    /// Call this when the message is settled, or when its outcome will never be known.
    pub fn discharge(&self) {
        self.discharged.store(true, Ordering::Release);
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if !*self.discharged.get_mut() {
            self.operation.settled(Settlement::Dropped, 1);
        }
    }
}

impl fmt::Debug for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsettled").field("discharged", &self.discharged).finish_non_exhaustive()
    }
}
