//! The messages of a connection that are not settled yet. By them an acknowledgement that the application publishes itself
//! finds its message.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_nats::Subject;
use opentelemetry::trace::{SpanContext, TraceContextExt};
use otel_messaging::adapter::{ProcessSpan, Unsettled};

use crate::origin::Origin;

/// The largest number of messages of one connection. The oldest are removed first.
const LIMIT: usize = 4_096;

/// The messages of one connection that were delivered and are not settled yet, by the subject that acknowledges them.
pub(crate) struct Ledger {
    state: Mutex<State>,
    /// When the first dropped message is counted as dropped, in nanoseconds since 1970.
    due: AtomicU64,
}

/// A delivered message that can be settled; the message carries it.
#[derive(Debug)]
pub(crate) struct DeliveredMessage {
    pub(crate) span: Arc<ProcessSpan>,
    pub(crate) description: MessageDescription,
    /// The subject that it is acknowledged on.
    pub(crate) reply: Subject,
    /// How long the server waits for the acknowledgement.
    pub(crate) ack_wait: Duration,
    pub(crate) ledger: Arc<Ledger>,
}

/// The data of a message that the span of its settlement records.
#[derive(Debug, Clone)]
pub(crate) struct MessageDescription {
    pub(crate) origin: Arc<Origin>,
    pub(crate) subject: Subject,
    pub(crate) id: Option<Arc<str>>,
    pub(crate) domain: Option<Arc<str>>,
}

/// The part of a message that the ledger keeps when the message is dropped before it is settled.
pub(crate) struct UnsettledRemnant {
    pub(crate) description: Arc<(SpanContext, MessageDescription)>,
    /// Counts as dropped, unless it is discharged.
    unsettled: Option<Unsettled>,
    pub(crate) ack_wait: Duration,
}

impl UnsettledRemnant {
    /// The message no longer counts as dropped.
    pub(crate) fn discharge(&self) {
        self.unsettled.iter().for_each(Unsettled::discharge);
    }
}

impl Drop for DeliveredMessage {
    fn drop(&mut self) {
        self.ledger.message_dropped(self, || UnsettledRemnant {
            description: Arc::new((self.span.context().span().span_context().clone(), self.description.clone())),
            unsettled: self.span.unsettled(),
            ack_wait: self.ack_wait,
        });
    }
}

/// The message that a settlement is about.
#[derive(Debug)]
pub(crate) enum SettlementTarget<'a> {
    Message(Arc<DeliveredMessage>),
    /// A dropped message: the context of its process span, and its description.
    Remnant(Arc<(SpanContext, MessageDescription)>),
    /// A message that no consumer of a stream delivered, with its subject.
    Received(&'a Arc<ProcessSpan>, &'a Subject),
    /// Only the subject of the message is known.
    Named(&'a Subject),
    Unknown,
}

impl SettlementTarget<'_> {
    /// The message may be settled without a span.
    pub(crate) fn may_settle_elsewhere(&self) {
        match self {
            Self::Message(message) => message.span.may_settle_elsewhere(),
            Self::Received(span, _) => span.may_settle_elsewhere(),
            _ => (),
        }
    }
}

#[derive(Default)]
struct State {
    numbers: BTreeMap<Subject, u64>,
    /// In the order of their delivery.
    entries: BTreeMap<u64, Entry>,
    /// The entries of dropped messages.
    due: BTreeSet<(SystemTime, u64)>,
    next: u64,
}

/// A message, which may be dropped before it is settled.
struct Entry {
    reply: Subject,
    message: Weak<DeliveredMessage>,
    remnant: Option<(UnsettledRemnant, SystemTime)>,
}

impl State {
    fn entry(&mut self, reply: &Subject) -> Option<&mut Entry> {
        self.entries.get_mut(self.numbers.get(reply)?)
    }

    /// The entry of this message. Of a message that is delivered twice only the last delivery has an entry.
    fn entry_of(&mut self, message: &DeliveredMessage) -> Option<(u64, &mut Entry)> {
        let number = *self.numbers.get(&message.reply)?;
        let entry = self.entries.get_mut(&number)?;
        ptr::eq(entry.message.as_ptr(), message).then_some((number, entry))
    }

    /// Dropping the entry counts its message as dropped: drop it after the lock is released.
    #[must_use]
    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.numbers.remove(&entry.reply);
        if let Some((_, due)) = entry.remnant {
            self.due.remove(&(due, number));
        }
        Some(entry)
    }
}

impl Ledger {
    /// Remembers a message that is delivered.
    pub(crate) fn enter(&self, message: &Arc<DeliveredMessage>) {
        let entry = Entry { reply: message.reply.clone(), message: Arc::downgrade(message), remnant: None };
        let _forgotten = {
            let mut state = self.state();
            let before = state.numbers.get(&entry.reply).copied();
            let before = before.and_then(|before| state.remove(before));
            let number = state.next;
            state.next += 1;
            state.numbers.insert(entry.reply.clone(), number);
            state.entries.insert(number, entry);
            let first = state.entries.first_key_value().map(|(first, _)| *first);
            let oldest = first.filter(|_| state.entries.len() > LIMIT).and_then(|first| state.remove(first));
            (before, oldest)
        };
    }

    /// Finds the message that is acknowledged on this subject.
    pub(crate) fn find(&self, reply: &Subject) -> SettlementTarget<'static> {
        let mut state = self.state();
        let Some(Entry { message, remnant, .. }) = state.entry(reply) else { return SettlementTarget::Unknown };
        match (message.upgrade(), remnant) {
            (Some(message), _) => SettlementTarget::Message(message),
            (None, Some((remnant, _))) => SettlementTarget::Remnant(remnant.description.clone()),
            (None, None) => SettlementTarget::Unknown,
        }
    }

    /// The message is settled.
    pub(crate) fn settled(&self, reply: &Subject) {
        let entry = {
            let mut state = self.state();
            let number = state.numbers.get(reply).copied();
            number.and_then(|number| state.remove(number))
        };
        if let Some((remnant, _)) = entry.and_then(|entry| entry.remnant) {
            remnant.discharge();
        }
    }

    /// The message may be settled, or a settlement is in flight: it does not count as dropped.
    pub(crate) fn may_be_settled(&self, reply: &Subject) {
        if let Some((remnant, _)) = self.state().entry(reply).and_then(|entry| entry.remnant.as_ref()) {
            remnant.discharge();
        }
    }

    /// The application asks the server to wait for longer.
    pub(crate) fn in_progress(&self, reply: &Subject, now: SystemTime) {
        let mut state = self.state();
        let Some(number) = state.numbers.get(reply).copied() else { return };
        let Some((remnant, due)) = state.entries.get_mut(&number).and_then(|entry| entry.remnant.as_mut()) else {
            return;
        };
        let (before, later) = (*due, end_of_wait(now, remnant.ack_wait));
        *due = later;
        state.due.remove(&(before, number));
        state.due.insert((later, number));
        self.note_due(&state);
    }

    /// A message is dropped. If it can still be settled, its remnant is kept: `remnant` is called only then, outside the lock.
    pub(crate) fn message_dropped(&self, message: &DeliveredMessage, remnant: impl FnOnce() -> UnsettledRemnant) {
        if self.state().entry_of(message).is_none() {
            return;
        }
        let remnant = remnant();
        let due = end_of_wait(SystemTime::now(), remnant.ack_wait);
        let mut state = self.state();
        match state.entry_of(message) {
            Some((number, entry)) => {
                entry.remnant = Some((remnant, due));
                state.due.insert((due, number));
                self.note_due(&state);
            }
            // Settled in the meantime.
            None => remnant.discharge(),
        }
    }

    /// Counts the messages as dropped whose `ack_wait` is over: the server delivers them again.
    #[inline]
    pub(crate) fn expire(&self, now: SystemTime) {
        if nanoseconds(now) >= self.due.load(Ordering::Relaxed) {
            self.expire_until(now);
        }
    }

    fn expire_until(&self, now: SystemTime) {
        let mut expired = Vec::new();
        let mut state = self.state();
        while let Some((_, number)) = state.due.first().copied().filter(|(due, _)| *due <= now) {
            expired.extend(state.remove(number));
        }
        self.note_due(&state);
        drop(state);
        // Counts them.
        drop(expired);
    }

    fn note_due(&self, state: &State) {
        let first = state.due.first().map_or(u64::MAX, |(due, _)| nanoseconds(*due));
        self.due.store(first, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self { state: Mutex::default(), due: AtomicU64::new(u64::MAX) }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("unsettled", &self.state().entries.len()).finish()
    }
}

/// A consumer may be configured with any `ack_wait`: a longer one would overflow.
fn end_of_wait(now: SystemTime, ack_wait: Duration) -> SystemTime {
    const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);
    now + ack_wait.min(LONGEST)
}

/// Before 1970, 0.
fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use otel_messaging::{
        Instrumentation,
        adapter::{Arrival, Destination, OperationName, SourceId},
    };

    use super::*;
    use crate::telemetry::core;

    const ACK_WAIT: Duration = Duration::from_secs(60);
    const PROCESS: OperationName = OperationName::process("process");

    /// A message that is acknowledged on this subject.
    fn delivered(ledger: &Arc<Ledger>, reply: &Subject) -> Arc<DeliveredMessage> {
        let core = core(Some(Instrumentation::builder().with_tracer_provider(SdkTracerProvider::default()).build()));
        let operation = core.operation(PROCESS, &["orders"], || Destination::named("orders"));
        let span =
            core.deliver(core.start_operation().unwrap(), operation, Arrival::new(SourceId::new(), None), |_| ());
        let description =
            MessageDescription { origin: Arc::default(), subject: "orders".into(), id: None, domain: None };
        let delivered =
            DeliveredMessage { span, description, reply: reply.clone(), ack_wait: ACK_WAIT, ledger: ledger.clone() };
        let delivered = Arc::new(delivered);
        ledger.enter(&delivered);
        delivered
    }

    #[test]
    fn a_message_that_is_gone_is_known_until_the_server_has_waited_long_enough() {
        let (ledger, reply) = (Arc::<Ledger>::default(), Subject::from("$JS.ACK.1"));
        let message = delivered(&ledger, &reply);
        let far = SystemTime::now() + 100 * ACK_WAIT;
        ledger.expire(far);
        assert!(matches!(ledger.find(&reply), SettlementTarget::Message(_)), "it is at hand");
        drop(message);
        // It went after this, and so it counts after this.
        let went = SystemTime::now();
        ledger.expire(went + ACK_WAIT / 2);
        assert!(matches!(ledger.find(&reply), SettlementTarget::Remnant(_)));
        ledger.expire(went + ACK_WAIT);
        assert!(matches!(ledger.find(&reply), SettlementTarget::Unknown));
    }

    #[test]
    fn of_a_message_that_is_delivered_twice_the_last_one_is_known() {
        let (ledger, reply) = (Arc::<Ledger>::default(), Subject::from("$JS.ACK.1"));
        let (first, last) = (delivered(&ledger, &reply), delivered(&ledger, &reply));
        drop(first);
        ledger.expire(SystemTime::now() + 2 * ACK_WAIT);
        assert!(matches!(ledger.find(&reply), SettlementTarget::Message(message) if Arc::ptr_eq(&message, &last)));
        drop(last);
        assert!(matches!(ledger.find(&reply), SettlementTarget::Remnant(_)));
        ledger.settled(&reply);
        assert!(matches!(ledger.find(&reply), SettlementTarget::Unknown));
        ledger.expire(SystemTime::now() + 2 * ACK_WAIT);
        assert_eq!(format!("{ledger:?}"), "Ledger { unsettled: 0 }");
    }

    #[test]
    fn a_message_redelivered_after_its_drop_takes_the_place_of_the_first() {
        let (ledger, reply) = (Arc::<Ledger>::default(), Subject::from("$JS.ACK.1"));
        drop(delivered(&ledger, &reply));
        let again = delivered(&ledger, &reply);
        assert_eq!(ledger.state().due.len(), 0, "what is due belongs to an entry");
        ledger.expire(SystemTime::now() + 2 * ACK_WAIT);
        assert!(matches!(ledger.find(&reply), SettlementTarget::Message(message) if Arc::ptr_eq(&message, &again)));
    }

    #[test]
    fn a_wait_longer_than_time_itself_is_no_panic() {
        let (ledger, reply) = (Arc::<Ledger>::default(), Subject::from("$JS.ACK.1"));
        let mut message = Arc::into_inner(delivered(&ledger, &reply)).unwrap();
        message.ack_wait = Duration::MAX;
        let message = Arc::new(message);
        ledger.enter(&message);
        drop(message);
        ledger.in_progress(&reply, SystemTime::now());
        ledger.expire(SystemTime::now() + 1_000 * ACK_WAIT);
        assert!(matches!(ledger.find(&reply), SettlementTarget::Remnant(_)));
    }

    #[test]
    fn a_delayed_nak_keeps_its_message_for_the_delay() {
        let (ledger, reply) = (Arc::<Ledger>::default(), Subject::from("$JS.ACK.1"));
        drop(delivered(&ledger, &reply));
        drop(delivered(&ledger, &Subject::from("$JS.ACK.2")));
        let later = SystemTime::now() + ACK_WAIT / 2;
        ledger.in_progress(&reply, later);
        ledger.expire(SystemTime::now() + ACK_WAIT);
        assert!(matches!(ledger.find(&"$JS.ACK.2".into()), SettlementTarget::Unknown), "nobody has asked for time");
        assert!(matches!(ledger.find(&reply), SettlementTarget::Remnant(_)));
        ledger.expire(later + ACK_WAIT);
        assert!(matches!(ledger.find(&reply), SettlementTarget::Unknown));
    }
}
