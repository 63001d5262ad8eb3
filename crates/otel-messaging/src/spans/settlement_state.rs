//! Whether a message is settled, and whether to drop it unsettled counts as dropped.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{description::settlement::Settlement, recording::prepared_operation::PreparedOperation};

/// The settlement of one message.
#[derive(Debug)]
pub(crate) struct SettlementState {
    /// The outcome is recorded, or another part of the program records it.
    is_recorded: AtomicBool,
    /// Dropped without a settlement, the message counts as dropped.
    is_awaited: AtomicBool,
}

impl SettlementState {
    #[inline]
    pub(crate) fn new(is_awaited: bool) -> Self {
        Self { is_recorded: AtomicBool::new(false), is_awaited: AtomicBool::new(is_awaited) }
    }

    /// Whether this caller is the first that records an outcome.
    pub(crate) fn record(&self) -> bool {
        !self.is_recorded.swap(true, Ordering::AcqRel)
    }

    /// Another part of the program records the outcome, if there is one.
    pub(crate) fn leave_to_others(&self) {
        self.is_recorded.store(true, Ordering::Release);
    }

    /// No outcome is awaited any more; one that comes is recorded all the same.
    pub(crate) fn await_no_longer(&self) {
        self.is_awaited.store(false, Ordering::Release);
    }

    /// Whether the message is dropped unsettled; it is from now on.
    #[inline]
    pub(crate) fn record_dropped(&self) -> bool {
        self.is_awaited.load(Ordering::Acquire) && self.record()
    }

    /// Whether the message would be dropped unsettled.
    #[inline]
    pub(crate) fn is_unsettled(&mut self) -> bool {
        *self.is_awaited.get_mut() && !*self.is_recorded.get_mut()
    }
}

/// A message that was dropped and can still be settled, by its number for example. When this is dropped before
/// [`discharge`](Self::discharge) was called, the message counts as dropped.
#[must_use]
pub struct Unsettled {
    operation: Arc<PreparedOperation>,
    discharged: AtomicBool,
}

impl Unsettled {
    pub(crate) fn new(operation: Arc<PreparedOperation>) -> Self {
        Self { operation, discharged: AtomicBool::new(false) }
    }

    /// The message is settled, or its outcome will never be known.
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
