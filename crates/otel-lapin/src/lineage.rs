//! What RabbitMQ says of a message's past: earlier deliveries, dead letters, and when it was sent.

use std::time::{Duration, SystemTime};

use lapin::{
    message::Delivery,
    types::{AMQPValue, FieldTable},
};
use otel_messaging::adapter::{Arrival, Clock};

/// A quorum queue's count of the deliveries that came back.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// Where the message was dead-lettered, how often and why: a table for each queue and reason.
const DEATH: &str = "x-death";

/// Reasons of a dead letter that mean that it was delivered, unlike `expired` and `maxlen`.
const AFTER_DELIVERY: [&str; 2] = ["rejected", "delivery_limit"];

/// Adds a delivery's past to its arrival.
///
/// Its attempt is one more than a quorum queue's `x-delivery-count`. Without that it is one more than the dead letters
/// after a delivery that `x-death` counts, and two more where it was redelivered since. Without any of them nobody knows
/// more than whether it was redelivered. Whatever is of another shape than the broker's is as if it were not there.
pub(crate) fn tell<'a>(arrival: Arrival<'a>, delivery: &Delivery) -> Arrival<'a> {
    let mut arrival = arrival.redelivered(delivery.redelivered);
    if let Some(sent) = delivery.properties.timestamp().and_then(time) {
        arrival = arrival.sent(sent, Clock::Header);
    }
    let Some(headers) = delivery.properties.headers() else { return arrival };
    let past = Past::of(headers);
    if let Some(attempt) = past.attempt(delivery.redelivered) {
        arrival = arrival.attempt(attempt);
    }
    arrival.dead_lettered(past.dead_lettered)
}

/// AMQP's timestamps are seconds since 1970.
fn time(seconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// What the headers say of a message's past.
#[derive(Debug, Default, PartialEq, Eq)]
struct Past {
    /// How many deliveries came back to this queue.
    came_back: Option<u64>,
    /// How many dead letters there were after a delivery.
    rejected: u64,
    dead_lettered: bool,
}

impl Past {
    fn of(headers: &FieldTable) -> Self {
        let headers = headers.inner();
        let mut past = Self { came_back: headers.get(DELIVERY_COUNT).and_then(count), ..Self::default() };
        let Some(AMQPValue::FieldArray(deaths)) = headers.get(DEATH) else { return past };
        for death in deaths.as_slice() {
            let AMQPValue::FieldTable(death) = death else { continue };
            past.dead_lettered = true;
            let after_delivery = death
                .inner()
                .get("reason")
                .is_some_and(|reason| AFTER_DELIVERY.iter().any(|known| text(reason) == Some(known.as_bytes())));
            if after_delivery {
                let count = death.inner().get("count").and_then(count).unwrap_or_default();
                past.rejected = past.rejected.saturating_add(count);
            }
        }
        past
    }

    fn attempt(&self, redelivered: bool) -> Option<u64> {
        match self.came_back {
            Some(came_back) => came_back.checked_add(1),
            None if self.rejected == 0 => None,
            None => self.rejected.checked_add(1 + u64::from(redelivered)),
        }
    }
}

/// A count in any of AMQP's integer encodings; `None` for a negative one.
fn count(value: &AMQPValue) -> Option<u64> {
    match *value {
        AMQPValue::ShortShortInt(count) => count.try_into().ok(),
        AMQPValue::ShortShortUInt(count) => Some(count.into()),
        AMQPValue::ShortInt(count) => count.try_into().ok(),
        AMQPValue::ShortUInt(count) => Some(count.into()),
        AMQPValue::LongInt(count) => count.try_into().ok(),
        AMQPValue::LongUInt(count) => Some(count.into()),
        AMQPValue::LongLongInt(count) => count.try_into().ok(),
        _ => None,
    }
}

fn text(value: &AMQPValue) -> Option<&[u8]> {
    match value {
        AMQPValue::LongString(text) => Some(text.as_bytes()),
        AMQPValue::ShortString(text) => Some(text.as_str().as_bytes()),
        AMQPValue::ByteArray(bytes) => Some(bytes.as_slice()),
        _ => None,
    }
}
