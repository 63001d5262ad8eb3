//! Delivery history of a message as RabbitMQ reports it: earlier deliveries, dead letters, and the time of sending.

use std::time::{Duration, SystemTime};

use lapin::{message::Delivery, types::AMQPValue};
use otel_messaging::adapter::{Clock, DeliveryHistory};

use crate::headers::{MessageHeaders, integer};

/// Dead-letter reasons that imply a delivery, unlike `expired` and `maxlen`.
const AFTER_DELIVERY: [&str; 2] = ["rejected", "delivery_limit"];

/// The delivery history of a message.
///
/// The attempt number is a quorum queue's `x-delivery-count` plus one. Without that header it is the number of dead letters
/// after a delivery in `x-death` plus one, or plus two if the message was redelivered since. Without either header the
/// attempt number is unknown. Headers with another shape than the broker's are ignored.
#[inline]
pub(crate) fn delivery_history(delivery: &Delivery, found: &MessageHeaders<'_>) -> DeliveryHistory {
    let earlier = EarlierDeliveries::of(found);
    DeliveryHistory {
        sent: delivery.properties.timestamp().and_then(time).map(|sent| (sent, Clock::Header)),
        attempt: earlier.attempt(delivery.redelivered),
        redelivered: delivery.redelivered,
        dead_lettered: earlier.dead_lettered,
        ..DeliveryHistory::default()
    }
}

/// AMQP's timestamps are seconds since 1970.
fn time(seconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Delivery history in the headers.
#[derive(Debug, Default, PartialEq, Eq)]
struct EarlierDeliveries {
    /// Number of deliveries that were returned to this queue.
    delivery_count: Option<u64>,
    /// Number of dead letters after a delivery.
    rejections: u64,
    dead_lettered: bool,
}

impl EarlierDeliveries {
    #[inline]
    fn of(found: &MessageHeaders<'_>) -> Self {
        let mut history = Self { delivery_count: found.delivery_count, ..Self::default() };
        for death in found.deaths {
            let AMQPValue::FieldTable(death) = death else { continue };
            history.dead_lettered = true;
            let after_delivery = death
                .inner()
                .get("reason")
                .is_some_and(|reason| AFTER_DELIVERY.iter().any(|known| text(reason) == Some(known.as_bytes())));
            if after_delivery {
                let count = death.inner().get("count").and_then(integer).unwrap_or_default();
                history.rejections = history.rejections.saturating_add(count);
            }
        }
        history
    }

    fn attempt(&self, redelivered: bool) -> Option<u64> {
        match self.delivery_count {
            Some(delivery_count) => delivery_count.checked_add(1),
            None if self.rejections == 0 => None,
            None => self.rejections.checked_add(1 + u64::from(redelivered)),
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::headers::{
        DEATH, DELIVERY_COUNT, arbitrary,
        fixed::{long, table},
        read_headers,
    };

    fn death(reason: AMQPValue, count: AMQPValue) -> AMQPValue {
        AMQPValue::FieldTable(table([("reason", reason), ("count", count), ("queue", long("orders"))]))
    }

    fn deaths<const N: usize>(deaths: [AMQPValue; N]) -> (&'static str, AMQPValue) {
        (DEATH, AMQPValue::FieldArray(deaths.to_vec().into()))
    }

    #[test]
    fn the_attempt_is_counted_by_the_most_exact_header() {
        let two = || AMQPValue::LongLongInt(2);
        let cases = [
            // Headers, redelivered, expected attempt, expected dead letter.
            (table([]), false, None, false),
            (table([]), true, None, false),
            (table([(DELIVERY_COUNT, two())]), true, Some(3), false),
            (table([deaths([death(long("rejected"), two())])]), false, Some(3), true),
            (table([deaths([death(long("rejected"), two())])]), true, Some(4), true),
            // An expired message was not delivered.
            (table([deaths([death(long("expired"), two())])]), false, None, true),
            (table([deaths([death(long("expired"), two()), death(long("rejected"), two())])]), false, Some(3), true),
            (table([deaths([death(long("delivery_limit"), two())])]), false, Some(3), true),
            // The count of a quorum queue takes precedence.
            (table([(DELIVERY_COUNT, two()), deaths([death(long("rejected"), two())])]), false, Some(3), true),
        ];
        for (headers, redelivered, attempt, dead_lettered) in cases {
            let history = EarlierDeliveries::of(&read_headers(&headers));
            assert_eq!((history.attempt(redelivered), history.dead_lettered), (attempt, dead_lettered), "{headers:?}");
        }
    }

    #[test]
    fn headers_of_other_shapes_are_ignored() {
        let shapes = [
            table([(DEATH, long("rejected"))]),
            table([(DEATH, AMQPValue::FieldTable(table([("reason", long("rejected"))])))]),
            table([deaths([])]),
            table([deaths([long("rejected"), AMQPValue::Void])]),
            table([(DELIVERY_COUNT, AMQPValue::LongLongInt(-1))]),
        ];
        for headers in shapes {
            assert_eq!(EarlierDeliveries::of(&read_headers(&headers)), EarlierDeliveries::default(), "{headers:?}");
        }
        // A dead letter without a count, or with one that cannot be, is one all the same.
        for count in [AMQPValue::Void, AMQPValue::LongLongInt(-5)] {
            let history = EarlierDeliveries::of(&read_headers(&table([deaths([death(long("rejected"), count)])])));
            assert_eq!((history.attempt(false), history.dead_lettered), (None, true));
        }
        assert_eq!(time(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn any_headers_give_a_possible_history(
            headers in arbitrary::table(),
            delivery_count in arbitrary::value(),
            deaths in prop::collection::vec((arbitrary::value(), arbitrary::value()), 0..8),
            redelivered: bool,
            sent: u64,
        ) {
            let mut headers = headers;
            headers.insert(DELIVERY_COUNT.into(), delivery_count);
            let deaths: Vec<_> = deaths.into_iter().map(|(reason, count)| death(reason, count)).collect();
            headers.insert(DEATH.into(), AMQPValue::FieldArray(deaths.clone().into()));
            let history = EarlierDeliveries::of(&read_headers(&headers));
            prop_assert!(history.attempt(redelivered).is_none_or(|attempt| attempt >= 1));
            prop_assert_eq!(history.dead_lettered, !deaths.is_empty());
            let _ = time(sent);
        }
    }
}
