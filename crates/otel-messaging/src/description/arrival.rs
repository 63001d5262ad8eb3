//! The delivery history and the headers of a received message.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use opentelemetry::propagation::Extractor;

use crate::description::{
    attributes::Attributes, context_headers::ContextHeaders, identity::ReplyAddress, semconv::extension,
    source::SourceId,
};

/// A received message, as its adapter describes it to [`deliver`](crate::adapter::Telemetry::deliver).
///
/// An adapter leaves out the facts that its broker does not report.
#[derive(Clone, Copy)]
#[must_use]
pub struct Arrival<'a> {
    pub(crate) source: SourceId,
    pub(crate) headers: Option<&'a dyn Extractor>,
    pub(crate) w3c: Option<&'a ContextHeaders<'a>>,
    pub(crate) reply_to: Option<ReplyAddress>,
    pub(crate) payload: &'a [u8],
    pub(crate) history: DeliveryHistory,
    pub(crate) awaits_settlement: bool,
}

/// The delivery history of a message: its earlier deliveries, and the time when it was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryHistory {
    /// The time when the message was sent, and the clock of that time: see [`Arrival::sent`].
    pub sent: Option<(SystemTime, Clock)>,
    /// The number of this delivery, counted from 1; `None` if the broker does not report it.
    pub attempt: Option<u64>,
    /// Whether the broker reports that it delivered the message before.
    pub redelivered: bool,
    /// Whether the message comes from a dead-letter queue.
    pub dead_lettered: bool,
    /// Whether the consumer replays messages that other consumers have read before.
    pub replayed: bool,
    /// Whether a schedule of the broker sent the message: see [`Arrival::scheduled`].
    pub scheduled: bool,
}

impl DeliveryHistory {
    /// The time between sending and delivery, and its clock.
    pub(crate) fn queue_time(&self, now: SystemTime) -> Option<(Duration, Clock)> {
        let (sent, clock) = self.sent.filter(|_| !self.scheduled)?;
        Some((age(sent, now)?, clock))
    }

    pub(crate) fn attempt(&self) -> u64 {
        self.attempt.unwrap_or(if self.redelivered { 2 } else { 1 })
    }
}

/// The clock that a message's sending time was read from: `otel_messaging.clock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clock {
    /// The producer's clock, in the timestamp of a Kafka message.
    CreateTime,
    /// The Kafka broker's clock, at the time when the broker appended the message.
    LogAppendTime,
    /// The broker's clock, at the time when the broker stored the message.
    Broker,
    /// The sender's clock: a property or header of the message.
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
    /// Creates the arrival of a message from this source with these headers; `None` for a message without headers.
    pub fn new(source: SourceId, headers: Option<&'a dyn Extractor>) -> Self {
        Self {
            source,
            headers,
            w3c: None,
            reply_to: None,
            payload: &[],
            history: DeliveryHistory::default(),
            awaits_settlement: false,
        }
    }

    /// Sets the values of [`CONTEXT_HEADERS`](crate::adapter::CONTEXT_HEADERS), if the adapter found them in one pass over all
    /// headers. The core then reads W3C contexts from `found`, and uses `headers` for other propagators.
    pub fn context_headers(mut self, found: &'a ContextHeaders<'a>) -> Self {
        self.w3c = Some(found);
        self
    }

    /// Sets the address that the sender expects answers at, in the form of a destination name.
    /// [`OperationStart::answers`](crate::adapter::OperationStart::answers) recognises this address while the message is
    /// processed. The core keeps only a hash of the address. An empty address is ignored.
    pub fn reply_to(mut self, address: &str) -> Self {
        self.reply_to = ReplyAddress::of(address);
        self
    }

    /// Sets the message's payload, for the function of
    /// [`with_context_reader`](crate::InstrumentationBuilder::with_context_reader). Nothing else reads the payload.
    pub fn payload(mut self, payload: &'a [u8]) -> Self {
        self.payload = payload;
        self
    }

    /// Sets the delivery history as one value, for adapters that read it from headers. It replaces all parts that were set before.
    pub fn history(mut self, history: DeliveryHistory) -> Self {
        self.history = history;
        self
    }

    /// Sets the time when the message was sent, and the clock of that time. Implausible times are ignored: times before 1971, and
    /// times more than a minute ahead.
    pub fn sent(mut self, at: SystemTime, clock: Clock) -> Self {
        self.history.sent = Some((at, clock));
        self
    }

    /// Sets the number of this delivery, counted from 1.
    pub fn attempt(mut self, attempt: u64) -> Self {
        self.history.attempt = Some(attempt);
        self
    }

    /// Sets whether the broker reports that it delivered the message before.
    pub fn redelivered(mut self, redelivered: bool) -> Self {
        self.history.redelivered = redelivered;
        self
    }

    /// Sets whether the message comes from a dead-letter queue.
    pub fn dead_lettered(mut self, dead_lettered: bool) -> Self {
        self.history.dead_lettered = dead_lettered;
        self
    }

    /// Sets whether the consumer replays messages that other consumers have read before.
    pub fn replayed(mut self, replayed: bool) -> Self {
        self.history.replayed = replayed;
        self
    }

    /// Sets whether a schedule of the broker sent the message. The age of the message is then unknown, and [`sent`](Self::sent)
    /// is ignored.
    pub fn scheduled(mut self, scheduled: bool) -> Self {
        self.history.scheduled = scheduled;
        self
    }

    /// Sets whether the application must settle the message. If so, a message that is dropped without a settlement counts as
    /// dropped.
    pub fn awaits_settlement(mut self, awaits: bool) -> Self {
        self.awaits_settlement = awaits;
        self
    }

    #[inline]
    pub(crate) fn attributes(&self, attributes: &mut Attributes) {
        if let Some(attempt) = self.history.attempt.filter(|&attempt| attempt > 0) {
            attributes.set_number(extension::DELIVERY_ATTEMPT, attempt);
        }
        if self.history.redelivered {
            attributes.set(extension::DELIVERY_REDELIVERED, true);
        }
    }
}

/// The maximum expected difference between the clocks of two machines. A message from further ahead has no usable timestamp.
const SKEW: Duration = Duration::from_secs(60);

/// A timestamp in 1970 is a zero, or a number of seconds read as milliseconds.
const FIRST_YEAR: Duration = Duration::from_secs(365 * 86_400);

/// The age of a message. A message from up to [`SKEW`] ahead has age zero. `None` for a time before 1971 or further ahead.
fn age(sent: SystemTime, now: SystemTime) -> Option<Duration> {
    let stamped = sent.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since >= FIRST_YEAR);
    match now.duration_since(sent) {
        _ if !stamped => None,
        Ok(age) => Some(age),
        Err(ahead) => (ahead.duration() <= SKEW).then_some(Duration::ZERO),
    }
}

impl fmt::Debug for Arrival<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival")
            .field("sent", &self.history.sent)
            .field("attempt", &self.history.attempt)
            .field("redelivered", &self.history.redelivered)
            .finish_non_exhaustive()
    }
}
