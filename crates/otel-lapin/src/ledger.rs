//! The unsettled messages of a channel, so that a settlement by tag finds the messages it is about.

use std::{
    collections::BTreeMap,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use lapin::types::DeliveryTag;
use opentelemetry::trace::SpanContext;
use otel_messaging::adapter::{ProcessSpan, Unsettled};

use crate::{
    delivered::DeliveredMessage,
    telemetry::{MessageIds, Route},
};

/// Maximum number of messages that one channel tracks. The oldest leave first.
const LIMIT: usize = 4_096;

/// The messages of one channel that were delivered and not settled yet, by delivery tag.
#[derive(Default)]
pub(crate) struct Ledger {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<DeliveryTag, Entry>,
    /// An acker of the first message, tracked or not. lapin poisons it when the channel closes or is recovered: delivery tags
    /// start again then, and all entries are of the epoch before.
    epoch_acker: Option<lapin::Acker>,
    /// First and last tag of the range that contains unsettled messages without an entry.
    untracked: Option<(DeliveryTag, DeliveryTag)>,
}

impl State {
    fn note_untracked(&mut self, tag: DeliveryTag) {
        let (first, last) = self.untracked.unwrap_or((tag, tag));
        self.untracked = Some((first.min(tag), last.max(tag)));
    }
}

/// The tracked messages up to a tag.
pub(crate) struct TrackedMessages {
    pub(crate) messages: Vec<(DeliveryTag, Entry)>,
    /// There are no untracked messages up to the tag.
    pub(crate) complete: bool,
}

/// One message, which may be dropped before it is settled.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) message: Weak<DeliveredMessage>,
    pub(crate) route: Arc<Route>,
    /// Set once the message is dropped.
    pub(crate) remnant: Option<Arc<UnsettledRemnant>>,
}

/// The part of a message that the ledger keeps when the message is dropped before it is settled.
#[derive(Debug)]
pub(crate) struct UnsettledRemnant {
    /// The context of its process span.
    pub(crate) context: SpanContext,
    pub(crate) ids: MessageIds,
    /// Counts the message as dropped, unless it is settled by its tag.
    pub(crate) unsettled: Option<Unsettled>,
}

impl Entry {
    /// The entry of a message that lives.
    pub(crate) fn of(message: &Arc<DeliveredMessage>) -> Self {
        Self { message: Arc::downgrade(message), route: message.origin.route.clone(), remnant: None }
    }

    /// The message does not count as dropped.
    fn discharge(&self) {
        let remnant = self.remnant.iter();
        remnant.filter_map(|remnant| remnant.unsettled.as_ref()).for_each(Unsettled::discharge);
    }
}

impl Ledger {
    /// Tracks a message that is delivered.
    pub(crate) fn insert(&self, message: &Arc<DeliveredMessage>, acker: &lapin::Acker) {
        let forgotten = {
            let mut state = self.state();
            state.epoch_acker.get_or_insert_with(|| acker.clone());
            state.entries.insert(message.tag, Entry::of(message));
            let forgotten = if state.entries.len() > LIMIT { state.entries.pop_first() } else { None };
            if let Some((tag, _)) = forgotten {
                state.note_untracked(tag);
            }
            forgotten
        };
        // It can still be settled by its tag, and that is not recorded: so its drop may not be recorded either.
        if let Some((_, forgotten)) = forgotten {
            forgotten.discharge();
            if let Some(message) = forgotten.message.upgrade() {
                message.span.may_settle_elsewhere();
            }
        }
    }

    /// Notes a message without an entry: it is delivered while nothing is recorded, or its raw acker is taken.
    pub(crate) fn note_untracked(&self, tag: DeliveryTag, acker: &lapin::Acker) {
        let mut state = self.state();
        state.epoch_acker.get_or_insert_with(|| acker.clone());
        state.note_untracked(tag);
    }

    /// The tracked message with this tag.
    pub(crate) fn find(&self, tag: DeliveryTag) -> Option<Entry> {
        self.state().entries.get(&tag).cloned()
    }

    /// The tracked messages up to this tag; 0 means all.
    pub(crate) fn find_up_to(&self, tag: DeliveryTag) -> TrackedMessages {
        let last_tag = last_tag(tag);
        let state = self.state();
        TrackedMessages {
            messages: state.entries.range(..=last_tag).map(|(tag, entry)| (*tag, entry.clone())).collect(),
            complete: state.untracked.is_none_or(|(first, _)| first > last_tag),
        }
    }

    /// Removes settled messages.
    pub(crate) fn remove_settled(&self, messages: &[(DeliveryTag, Entry)], note: impl Fn(&ProcessSpan)) {
        for (tag, entry) in messages {
            self.remove(*tag, entry.message.as_ptr());
            entry.discharge();
            if let Some(message) = entry.message.upgrade() {
                note(&message.span);
            }
        }
    }

    /// Removes all settled messages up to this tag, tracked (`messages`) and untracked.
    pub(crate) fn remove_settled_up_to(
        &self,
        tag: DeliveryTag,
        messages: &[(DeliveryTag, Entry)],
        note: impl Fn(&ProcessSpan),
    ) {
        self.remove_settled(messages, note);
        let last_tag = last_tag(tag);
        let mut state = self.state();
        let left = state.untracked.filter(|(_, last)| *last > last_tag);
        state.untracked = left.map(|(first, last)| (first.max(last_tag + 1), last));
    }

    /// Removes a settled message, and says whether it was there. The pointer distinguishes it from a message of a later epoch
    /// with the same tag.
    pub(crate) fn remove(&self, tag: DeliveryTag, message: *const DeliveredMessage) -> bool {
        let settled = {
            let mut state = self.state();
            let is_same = state.entries.get(&tag).is_some_and(|entry| entry.message.as_ptr() == message);
            if is_same { state.entries.remove(&tag) } else { None }
        };
        // The message may have been dropped while it was being settled, and have left a remnant.
        settled.inspect(Entry::discharge).is_some()
    }

    /// Removes the message with this tag, or with `multiple` all up to it, whose settlement is not recorded.
    pub(crate) fn remove_settled_elsewhere(&self, tag: DeliveryTag, multiple: bool) {
        if multiple {
            self.remove_settled_up_to(tag, &self.find_up_to(tag).messages, ProcessSpan::settles_elsewhere);
        } else if let Some(entry) = self.find(tag) {
            self.remove_settled(&[(tag, entry)], ProcessSpan::settles_elsewhere);
        }
    }

    /// Removes all messages: the broker delivers them again, with other tags.
    pub(crate) fn clear(&self) {
        // Remnants are counted as dropped here, after the lock is released.
        let _cleared = mem::take(&mut *self.state());
    }

    /// Keeps the remnant of a message that is dropped before it is settled. `remnant` is called only then, without the lock.
    pub(crate) fn message_dropped(
        &self,
        tag: DeliveryTag,
        message: *const DeliveredMessage,
        remnant: impl FnOnce() -> UnsettledRemnant,
    ) {
        let is_same = |entry: &&mut Entry| entry.message.as_ptr() == message;
        if self.state().entries.get_mut(&tag).filter(is_same).is_none() {
            return;
        }
        let remnant = Arc::new(remnant());
        match self.state().entries.get_mut(&tag).filter(is_same) {
            Some(entry) => entry.remnant = Some(remnant),
            // Settled in the meantime.
            None => remnant.unsettled.iter().for_each(Unsettled::discharge),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        if state.epoch_acker.as_ref().is_some_and(lapin::Acker::poisoned) {
            let previous_epoch = mem::take(&mut *state);
            drop(state);
            drop(previous_epoch);
            state = self.lock();
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last tag of a settlement with `multiple`.
fn last_tag(tag: DeliveryTag) -> DeliveryTag {
    if tag == 0 { DeliveryTag::MAX } else { tag }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("unsettled", &self.state().entries.len()).finish()
    }
}
