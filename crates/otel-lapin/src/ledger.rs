//! Which messages of a channel are not settled yet: for settling them by their tags.

use std::{
    collections::BTreeMap,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use lapin::types::DeliveryTag;
use opentelemetry::trace::SpanContext;
use otel_messaging::adapter::{ProcessSpan, Unsettled};

use crate::{
    receive::DeliveredMessage,
    telemetry::{MessageIds, Route},
};

/// How many messages one channel remembers; the oldest are forgotten first.
const LIMIT: usize = 4_096;

/// The messages of one channel that were delivered and not settled yet, by delivery tag.
#[derive(Default)]
pub(crate) struct Ledger {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<DeliveryTag, Entry>,
    /// An acker of the first message, told of or not: when the channel closes or is recovered, tags start anew, and it is
    /// poisoned.
    epoch_acker: Option<lapin::Acker>,
    /// Between which tags there are messages that may not be settled yet and of which nothing is known.
    untracked: Option<(DeliveryTag, DeliveryTag)>,
}

impl State {
    fn note_untracked(&mut self, tag: DeliveryTag) {
        let (first, last) = self.untracked.unwrap_or((tag, tag));
        self.untracked = Some((first.min(tag), last.max(tag)));
    }
}

/// What is known of all messages up to a tag.
pub(crate) struct TrackedMessages {
    pub(crate) messages: Vec<(DeliveryTag, Entry)>,
    /// There are no others.
    pub(crate) complete: bool,
}

/// One message, which may be gone before it is settled.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) message: Weak<DeliveredMessage>,
    pub(crate) route: Arc<Route>,
    /// What is left of it, once the message is gone.
    pub(crate) remnant: Option<Arc<UnsettledRemnant>>,
}

/// What a message leaves that is gone before it is settled.
#[derive(Debug)]
pub(crate) struct UnsettledRemnant {
    /// The context of its process span.
    pub(crate) context: SpanContext,
    pub(crate) ids: MessageIds,
    /// Counts as dropped, unless somebody settles it by its tag.
    pub(crate) unsettled: Option<Unsettled>,
}

impl Entry {
    /// Of a message at hand.
    pub(crate) fn of(message: &Arc<DeliveredMessage>) -> Self {
        Self { message: Arc::downgrade(message), route: message.origin.route.clone(), remnant: None }
    }

    /// The message counts as dropped no more.
    fn discharge(&self) {
        let remnant = self.remnant.iter();
        remnant.filter_map(|remnant| remnant.unsettled.as_ref()).for_each(Unsettled::discharge);
    }
}

impl Ledger {
    /// Remembers a message that is delivered.
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
        // It may be settled all the same: by its tag, nobody will know.
        if let Some((_, forgotten)) = forgotten {
            forgotten.discharge();
            if let Some(message) = forgotten.message.upgrade() {
                message.span.may_settle_elsewhere();
            }
        }
    }

    /// A message is delivered while nothing is told, or is given away.
    pub(crate) fn note_untracked(&self, tag: DeliveryTag, acker: &lapin::Acker) {
        let mut state = self.state();
        state.epoch_acker.get_or_insert_with(|| acker.clone());
        state.note_untracked(tag);
    }

    /// What is known of the message with this tag.
    pub(crate) fn find(&self, tag: DeliveryTag) -> Option<Entry> {
        self.state().entries.get(&tag).cloned()
    }

    /// What is known of all messages up to this tag; 0 means all.
    pub(crate) fn find_up_to(&self, tag: DeliveryTag) -> TrackedMessages {
        let last_tag = last_tag(tag);
        let state = self.state();
        TrackedMessages {
            messages: state.entries.range(..=last_tag).map(|(tag, entry)| (*tag, entry.clone())).collect(),
            complete: state.untracked.is_none_or(|(first, _)| first > last_tag),
        }
    }

    /// These are settled.
    pub(crate) fn remove_settled(&self, messages: &[(DeliveryTag, Entry)], note: impl Fn(&ProcessSpan)) {
        for (tag, entry) in messages {
            self.remove(*tag, entry.message.as_ptr());
            entry.discharge();
            if let Some(message) = entry.message.upgrade() {
                note(&message.span);
            }
        }
    }

    /// All messages up to this tag are settled, these and those that were forgotten.
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

    /// The message is settled, if it was not before. By tag alone it could be a later one, since tags start anew.
    pub(crate) fn remove(&self, tag: DeliveryTag, message: *const DeliveredMessage) -> bool {
        let settled = {
            let mut state = self.state();
            let is_same = state.entries.get(&tag).is_some_and(|entry| entry.message.as_ptr() == message);
            if is_same { state.entries.remove(&tag) } else { None }
        };
        // It may have gone while it was being settled, and have left something since.
        settled.inspect(Entry::discharge).is_some()
    }

    /// The message with this tag, or all up to it, are settled where nobody here sees it.
    pub(crate) fn remove_settled_elsewhere(&self, tag: DeliveryTag, multiple: bool) {
        if multiple {
            self.remove_settled_up_to(tag, &self.find_up_to(tag).messages, ProcessSpan::settles_elsewhere);
        } else if let Some(entry) = self.find(tag) {
            self.remove_settled(&[(tag, entry)], ProcessSpan::settles_elsewhere);
        }
    }

    /// All messages are to be delivered again, under other tags.
    pub(crate) fn clear(&self) {
        // What is dropped is counted, when no lock is held.
        let _cleared = mem::take(&mut *self.state());
    }

    /// A message goes before it is settled. `remains` is asked only then, and outside the lock.
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
            // Settled since.
            None => remnant.unsettled.iter().for_each(Unsettled::discharge),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        if state.epoch_acker.as_ref().is_some_and(lapin::Acker::poisoned) {
            let past = mem::take(&mut *state);
            drop(state);
            drop(past);
            state = self.lock();
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last tag that a settlement of several is about.
fn last_tag(tag: DeliveryTag) -> DeliveryTag {
    if tag == 0 { DeliveryTag::MAX } else { tag }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("unsettled", &self.state().entries.len()).finish()
    }
}
