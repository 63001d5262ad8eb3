//! What is known of a message that arrives: its headers, and its past.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use opentelemetry::propagation::Extractor;

use crate::description::{
    attributes::Attributes, context_headers::ContextHeaders, identity::ReplyAddress, semconv::extension,
    source::SourceId,
};

/// A message that arrives, as its adapter describes it to [`deliver`](crate::adapter::Telemetry::deliver).
///
/// An adapter leaves out what its broker does not say.
#[derive(Clone, Copy)]
#[must_use]
pub struct Arrival<'a> {
    pub(crate) source: SourceId,
    pub(crate) headers: Option<&'a dyn Extractor>,
    pub(crate) w3c: Option<&'a ContextHeaders<'a>>,
    pub(crate) reply_to: Option<ReplyAddress>,
    pub(crate) payload: &'a [u8],
    sent: Option<(SystemTime, Clock)>,
    attempt: Option<u64>,
    redelivered: bool,
    dead_lettered: bool,
    replayed: bool,
    scheduled: bool,
    pub(crate) awaits_settlement: bool,
}

/// Which clock says when a message was sent: `otel_messaging.clock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clock {
    /// The producer's, in a Kafka message.
    CreateTime,
    /// The Kafka broker's, when it appended the message.
    LogAppendTime,
    /// The broker's, when it stored the message.
    Broker,
    /// The sender's, in a property or header of the message.
    Header,
}

impl Clock {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::CreateTime => "create_time",
            Self::LogAppendTime => "log_append_time",
            Self::Broker => "broker",
            Self::Header => "header",
        }
    }
}

impl<'a> Arrival<'a> {
    /// A message of this source with these headers; `None` for one without any.
    pub fn new(source: SourceId, headers: Option<&'a dyn Extractor>) -> Self {
        Self {
            source,
            headers,
            w3c: None,
            reply_to: None,
            payload: &[],
            sent: None,
            attempt: None,
            redelivered: false,
            dead_lettered: false,
            replayed: false,
            scheduled: false,
            awaits_settlement: false,
        }
    }

    /// The values of [`CONTEXT_HEADERS`](crate::adapter::CONTEXT_HEADERS) among them, where the adapter came by these in a
    /// walk over all: W3C contexts are read from here then, and `headers` serve other propagators.
    pub fn context_headers(mut self, found: &'a ContextHeaders<'a>) -> Self {
        self.w3c = Some(found);
        self
    }

    /// Where the sender wants answers to it, in the words of a destination: [`OperationStart::answers`](crate::adapter::OperationStart::answers)
    /// knows it while the message is processed. Nothing of it is kept but a hash. An empty one is none.
    pub fn reply_to(mut self, address: &str) -> Self {
        self.reply_to = ReplyAddress::of(address);
        self
    }

    /// Its payload, for the function of
    /// [`with_context_reader`](crate::InstrumentationBuilder::with_context_reader); nothing else reads it.
    pub fn payload(mut self, payload: &'a [u8]) -> Self {
        self.payload = payload;
        self
    }

    /// When it was sent, and who says so. Times that cannot be are ignored.
    pub fn sent(mut self, at: SystemTime, clock: Clock) -> Self {
        self.sent = Some((at, clock));
        self
    }

    /// The number of this delivery, counted from 1.
    pub fn attempt(mut self, attempt: u64) -> Self {
        self.attempt = Some(attempt);
        self
    }

    /// Whether the broker says that it delivered the message before.
    pub fn redelivered(mut self, redelivered: bool) -> Self {
        self.redelivered = redelivered;
        self
    }

    /// Whether the message comes from a queue for those that could not be handled.
    pub fn dead_lettered(mut self, dead_lettered: bool) -> Self {
        self.dead_lettered = dead_lettered;
        self
    }

    /// Whether the consumer reads what others have read before.
    pub fn replayed(mut self, replayed: bool) -> Self {
        self.replayed = replayed;
        self
    }

    /// Whether a schedule of the broker's sent it: how long ago its sender did is not known then, whatever
    /// [`sent`](Self::sent) says.
    pub fn scheduled(mut self, scheduled: bool) -> Self {
        self.scheduled = scheduled;
        self
    }

    /// Whether the application has to settle the message: dropped without a settlement, it counts as dropped.
    pub fn awaits_settlement(mut self, awaits: bool) -> Self {
        self.awaits_settlement = awaits;
        self
    }

    #[inline]
    pub(crate) fn attributes(&self, attributes: &mut Attributes) {
        if let Some(attempt) = self.attempt.filter(|&attempt| attempt > 0) {
            attributes.set_number(extension::DELIVERY_ATTEMPT, attempt);
        }
        if self.redelivered {
            attributes.set(extension::DELIVERY_REDELIVERED, true);
        }
    }

    /// How long it was under way, and by which clock.
    pub(crate) fn queue_time(&self, now: SystemTime) -> Option<(Duration, Clock)> {
        let (sent, clock) = self.sent.filter(|_| !self.scheduled)?;
        Some((age(sent, now)?, clock))
    }

    pub(crate) fn history(&self, now: SystemTime) -> DeliveryHistory {
        DeliveryHistory {
            age: self.queue_time(now).map(|(age, _)| age),
            attempt: self.attempt,
            redelivered: self.redelivered,
            dead_lettered: self.dead_lettered,
            replayed: self.replayed,
            scheduled: self.scheduled,
        }
    }
}

/// Clocks of two machines differ by less than this; a message from further ahead was stamped with something else.
const SKEW: Duration = Duration::from_secs(60);

/// Nobody sent a message in 1970: that is a zero, or seconds taken for milliseconds.
const FIRST_YEAR: Duration = Duration::from_secs(365 * 86_400);

/// A message from the near future is new. One from 1970 or before, or from the far future, says nothing.
fn age(sent: SystemTime, now: SystemTime) -> Option<Duration> {
    let stamped = sent.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since >= FIRST_YEAR);
    match now.duration_since(sent) {
        _ if !stamped => None,
        Ok(age) => Some(age),
        Err(ahead) => (ahead.duration() <= SKEW).then_some(Duration::ZERO),
    }
}

/// What a policy may depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeliveryHistory {
    pub(crate) age: Option<Duration>,
    attempt: Option<u64>,
    redelivered: bool,
    pub(crate) dead_lettered: bool,
    pub(crate) replayed: bool,
    pub(crate) scheduled: bool,
}

impl DeliveryHistory {
    pub(crate) fn attempt(&self) -> u64 {
        self.attempt.unwrap_or(if self.redelivered { 2 } else { 1 })
    }
}

impl fmt::Debug for Arrival<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival")
            .field("sent", &self.sent)
            .field("attempt", &self.attempt)
            .field("redelivered", &self.redelivered)
            .finish_non_exhaustive()
    }
}
