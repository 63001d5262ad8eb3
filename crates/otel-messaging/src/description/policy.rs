//! The policies that a user chooses for parents, links and contexts.

use std::time::{Duration, SystemTime};

use crate::description::arrival::DeliveryHistory;

/// How the process span of a message relates to the creation context, which is the context that the sender left in the message.
///
/// In every mode, the process span links the creation context, and the handler sees the message's baggage. Baggage from an
/// [untrusted source](crate::InstrumentationBuilder::with_untrusted_source) is dropped. The span of a batch is never a child of
/// one of its messages.
///
/// To give one consumer another policy, give it an instrumentation of its own: see its `with_instrumentation`.
///
/// Source: "Trace structure" of the messaging spans convention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Correlation {
    /// The process span is a child of the span that was active at the delivery. Without an active span, it is the root of a new
    /// trace.
    Link,
    /// The process span is a child of the span that was active at the delivery. Without an active span, it is a child of the
    /// creation context. This is the default: each request is one trace, if no span is active around the consumer loop.
    #[default]
    ParentIfNoAmbient,
    /// The process span is always a child of the creation context. It links a span that was active at the delivery.
    Parent,
    /// As [`ParentIfNoAmbient`](Self::ParentIfNoAmbient), except that a message that is old, redelivered, dead-lettered, replayed
    /// or scheduled starts a new trace. So no trace continues for days.
    Auto(AutoCorrelation),
}

impl Correlation {
    #[inline]
    pub(crate) fn starts_new_trace(self, history: &DeliveryHistory, delivered_at: SystemTime) -> bool {
        matches!(self, Self::Auto(auto) if auto.starts_new_trace(history, delivered_at))
    }
}

/// The conditions under which [`Correlation::Auto`] starts a new trace for a message.
///
/// A condition counts only if the broker reports it, or if a header reports it that the broker's client libraries agree on:
///
/// | | old | redelivered | dead letter | replayed | sent by a schedule |
/// |---|---|---|---|---|---|
/// | Kafka | by its timestamp | `retry_topic-attempts`, `delayed-retry-count` | headers of Spring, Kafka Connect and SmallRye | no: an offset that is read again looks the same as at the first read | no: Kafka has no schedules |
/// | RabbitMQ | by its `timestamp` property | redelivered flag, `x-delivery-count`, `x-death` | `x-death` | no: a stream does not report earlier reads | no: a delayed message has its sender's time |
/// | JetStream | by the time when it was stored | number of its deliveries | no: JetStream has no dead-letter queue | stored before the consumer was created | `Nats-Scheduler` |
/// | core NATS | no: core NATS stores no messages | no | no | no | `Nats-Scheduler` |
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
    /// Sets the maximum age of a message that stays in its trace; an older message starts a new trace. Default: one hour. If the
    /// sending time is unknown, the age is no condition.
    #[must_use]
    pub fn max_age(self, max_age: Duration) -> Self {
        Self { max_age, ..self }
    }

    /// Sets the maximum number of deliveries in one trace; later deliveries start a new trace. Default: 1, so every redelivery
    /// starts a new trace. A redelivery with an unknown attempt number counts as attempt 2.
    #[must_use]
    pub fn max_attempts(self, max_attempts: u64) -> Self {
        Self { max_attempts, ..self }
    }

    /// Whether dead-lettered messages stay in their trace. Default: no. NATS has no dead-letter queue, so no message of NATS is
    /// known to be dead-lettered.
    #[must_use]
    pub fn follow_dead_letters(self, follow: bool) -> Self {
        Self { dead_letters: follow, ..self }
    }

    /// Whether messages that JetStream replays stay in their trace. Default: no.
    #[must_use]
    pub fn follow_replays(self, follow: bool) -> Self {
        Self { replays: follow, ..self }
    }

    fn starts_new_trace(&self, history: &DeliveryHistory, delivered_at: SystemTime) -> bool {
        history.queue_time(delivered_at).is_some_and(|(age, _)| age > self.max_age)
            || history.attempt() > self.max_attempts
            || history.dead_lettered && !self.dead_letters
            || history.replayed && !self.replays
            || history.scheduled
    }
}

/// The treatment of a context that a message already carries when it is sent. A message that is sent by
/// [`republish`](crate::MessageExt::republish) always gets a new context.
///
/// Source: "Context propagation" of the messaging spans convention, which leaves such a context alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CarriedContext {
    /// The context is kept and linked, as for a message that is stored first and sent later. But the context is replaced and
    /// linked if it is that of the current span (a hand-written injector) or that of the message being processed (a forward).
    ///
    /// This crate knows which message is being processed wherever it made the message's process span current: inside
    /// [`process`](crate::MessageExt::process), [`in_scope`](crate::MessageExt::in_scope),
    /// [`process_each`](crate::MessageStreamExt::process_each) and [`sequential`](crate::sequential). In a spawned task, attach
    /// [`otel_context`](crate::MessageExt::otel_context). In a batch, forward by [`republish`](crate::MessageExt::republish), or
    /// inside the message's own [`in_scope`](crate::MessageExt::in_scope).
    #[default]
    Auto,
    /// The context is always kept and linked.
    Keep,
    /// The context is always replaced and linked. The headers that the propagator lists are replaced. Other headers that the
    /// propagator reads are removed if the next reader would read the old context from them.
    Replace,
}
