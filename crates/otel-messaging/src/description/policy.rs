//! The rules a user chooses: how consumer spans relate to their messages, and what happens to a context already there.

use std::time::Duration;

use crate::description::arrival::DeliveryHistory;

/// How the process span of a message relates to the context that its sender left in it.
///
/// The creation context is linked in every mode, and baggage arrives in every mode, but from an
/// [untrusted source](crate::InstrumentationBuilder::with_untrusted_source). A batch is never the child of one of its messages.
///
/// A consumer that is to have another policy than the rest is given an instrumentation of its own: see its
/// `with_instrumentation`.
///
/// Source: "Trace structure" of the messaging spans convention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Correlation {
    /// A child of the span that was active when the message was delivered, else the root of a new trace.
    Link,
    /// As [`Link`](Self::Link) where a span was active, else a child of the creation context. The default: one request,
    /// one trace, in a consumer loop that is not itself inside a span.
    #[default]
    ParentIfNoAmbient,
    /// Always a child of the creation context; a span that was active is linked.
    Parent,
    /// As [`ParentIfNoAmbient`](Self::ParentIfNoAmbient) for a message on its usual way. One that is late, comes again, or
    /// was parked elsewhere starts a trace of its own, so that no trace grows for days.
    Auto(AutoCorrelation),
}

impl Correlation {
    pub(crate) fn starts_new_trace(self, history: impl FnOnce() -> DeliveryHistory) -> bool {
        matches!(self, Self::Auto(auto) if auto.starts_new_trace(&history()))
    }
}

/// When [`Correlation::Auto`] starts a new trace for a message.
///
/// A reason is what the broker tells, or a header that its libraries agree on. What nobody tells is none:
///
/// | | old | comes again | dead letter | replayed | sent by a schedule |
/// |---|---|---|---|---|---|
/// | Kafka | by its timestamp | `retry_topic-attempts`, `delayed-retry-count` | headers of Spring, Kafka Connect and SmallRye | no: an offset that is read again looks as it did the first time | no: it has none |
/// | RabbitMQ | by its `timestamp` property | redelivered flag, `x-delivery-count`, `x-death` | `x-death` | no: a stream does not tell what was read from it before | no: a delayed message has its sender's time |
/// | JetStream | by the time it was stored at | count of its deliveries | no: it has no queue for dead letters | stored before the consumer was created | `Nats-Scheduler` |
/// | core NATS | no: it keeps no message, so none has a past | no | no | no | `Nats-Scheduler` |
///
/// ```
/// use std::time::Duration;
///
/// use otel_messaging::{AutoCorrelation, Correlation, Instrumentation};
///
/// let auto = AutoCorrelation::default().max_age(Duration::from_secs(600)).max_attempts(3);
/// let instrumentation = Instrumentation::builder().with_correlation(Correlation::Auto(auto)).build();
/// # let _ = instrumentation;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoCorrelation {
    max_age: Duration,
    max_attempts: u64,
    dead_letters: bool,
    replays: bool,
}

impl Default for AutoCorrelation {
    /// An hour, one attempt, no dead letters, no replays.
    fn default() -> Self {
        Self { max_age: Duration::from_secs(3_600), max_attempts: 1, dead_letters: false, replays: false }
    }
}

impl AutoCorrelation {
    /// A message that was sent longer ago starts a new trace. Default: an hour. Where nothing tells when it was sent, age
    /// is no reason.
    #[must_use]
    pub fn max_age(self, max_age: Duration) -> Self {
        Self { max_age, ..self }
    }

    /// A delivery after so many starts a new trace. Default: 1, which is each redelivery. One of which no more is known
    /// than that it is a redelivery counts as the second.
    #[must_use]
    pub fn max_attempts(self, max_attempts: u64) -> Self {
        Self { max_attempts, ..self }
    }

    /// Whether dead-lettered messages stay in their trace. Default: no. NATS has no dead-letter queue of its own, so none of
    /// its messages is known to come from one.
    #[must_use]
    pub fn follow_dead_letters(self, follow: bool) -> Self {
        Self { dead_letters: follow, ..self }
    }

    /// Whether messages that JetStream replays stay in their trace. Default: no.
    #[must_use]
    pub fn follow_replays(self, follow: bool) -> Self {
        Self { replays: follow, ..self }
    }

    fn starts_new_trace(&self, history: &DeliveryHistory) -> bool {
        history.age.is_some_and(|age| age > self.max_age)
            || history.attempt() > self.max_attempts
            || history.dead_lettered && !self.dead_letters
            || history.replayed && !self.replays
            || history.scheduled
    }
}

/// What to do with a context that a message already carries when it is sent. One that is sent by
/// [`republish`](crate::MessageExt::republish) always gets a new one.
///
/// Source: "Context propagation" of the messaging spans convention, which leaves such a context alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CarriedContext {
    /// Kept and linked (a message stored earlier and sent now), unless it is the context of the span that is current
    /// (a hand-written injector) or that of the message being processed (a forward): then replaced and linked.
    ///
    /// Which message is being processed is known where its process span was made current by this crate: inside
    /// [`process`](crate::MessageExt::process) and the like, not in a task that is spawned there (give it
    /// [`otel_context`](crate::MessageExt::otel_context)), nor in a batch (forward by
    /// [`republish`](crate::MessageExt::republish), or inside the message's own
    /// [`in_scope`](crate::MessageExt::in_scope)).
    #[default]
    Auto,
    /// Always kept and linked.
    Keep,
    /// Always replaced and linked. The headers that the propagator names are replaced, and others that it read go where the
    /// next reader would read the old context by them.
    Replace,
}
