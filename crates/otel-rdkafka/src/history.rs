//! Delivery history from headers: attempt number and dead letters.
//!
//! Kafka has neither. These headers of other projects are read:
//!
//! | header | written by | meaning |
//! |---|---|---|
//! | `retry_topic-attempts` | Spring, retry topics | the attempt number: a big-endian integer of 1 to 8 bytes, or text |
//! | `delayed-retry-count` | SmallRye (Quarkus), delayed retry topics | the number of retries: text |
//! | `kafka_dlt-…` | Spring, dead letters | the message is a dead letter |
//! | `__connect.errors.…` | Kafka Connect, dead letters | the message is a dead letter |
//! | `dead-letter-…` | SmallRye (Quarkus), dead letters | the message is a dead letter |

use otel_messaging::adapter::DeliveryHistory;

const ATTEMPTS: &[u8] = b"retry_topic-attempts";
const RETRIES: &[u8] = b"delayed-retry-count";
const DEAD_LETTER: [&[u8]; 3] = [b"kafka_dlt-", b"__connect.errors.", b"dead-letter-"];

/// Reads one header. Callers start at the last one, which counts if a name occurs several times.
#[inline]
pub(crate) fn read_header(history: &mut DeliveryHistory, name: &[u8], value: Option<&[u8]>) {
    // The first letter rules out almost every other header.
    match name.first() {
        Some(b'r') if history.attempt.is_none() && name == ATTEMPTS => {
            history.attempt = value.and_then(number).filter(|&attempt| attempt > 0);
        }
        Some(b'd') if history.attempt.is_none() && name == RETRIES => {
            history.attempt = value.and_then(text).and_then(|retries| retries.checked_add(1));
        }
        Some(b'k' | b'_' | b'd') => {
            history.dead_lettered |= DEAD_LETTER.iter().any(|prefix| name.starts_with(prefix));
        }
        _ => (),
    }
}

/// A number as text, otherwise as the bytes of an integer. Two bytes that are digits are read as text: as an integer they would
/// be more than 12,000 attempts.
fn number(value: &[u8]) -> Option<u64> {
    text(value).or_else(|| {
        let mut bytes = [0; 8];
        let room = bytes.len().checked_sub(value.len()).filter(|_| !value.is_empty())?;
        bytes[room..].copy_from_slice(value);
        let negative = value.first().is_some_and(|first| first & 0x80 != 0);
        (!negative).then(|| u64::from_be_bytes(bytes))
    })
}

fn text(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(headers: &[(&str, Option<&[u8]>)]) -> DeliveryHistory {
        let mut history = DeliveryHistory::default();
        headers.iter().rev().for_each(|(name, value)| read_header(&mut history, name.as_bytes(), *value));
        history
    }

    type Case<'a> = (&'a str, Option<&'a [u8]>, Option<u64>);

    #[test]
    fn an_attempt_is_an_integer_or_text() {
        let cases: [Case<'_>; 15] = [
            ("retry_topic-attempts", Some(&[0, 0, 0, 3]), Some(3)),
            ("retry_topic-attempts", Some(&[2]), Some(2)),
            ("retry_topic-attempts", Some(&[0, 0, 0, 0, 0, 0, 1, 0]), Some(256)),
            ("retry_topic-attempts", Some(b"4"), Some(4)),
            ("retry_topic-attempts", Some(&[0, 0, 0, 0]), None),
            ("retry_topic-attempts", Some(&[0xff, 0xff, 0xff, 0xff]), None),
            ("retry_topic-attempts", Some(&[0, 0, 0, 0, 0, 0, 0, 0, 1]), None),
            ("retry_topic-attempts", Some(b""), None),
            ("retry_topic-attempts", None, None),
            ("delayed-retry-count", Some(b"1"), Some(2)),
            ("delayed-retry-count", Some(b"-1"), None),
            ("delayed-retry-count", Some(b"18446744073709551615"), None),
            ("delayed-retry-count", Some(b"99999999999999999999"), None),
            ("delayed-retry-count", Some(&[0, 0, 0, 1]), None),
            ("attempts", Some(b"7"), None),
        ];
        for (name, value, attempt) in cases {
            assert_eq!(
                of(&[(name, value)]),
                DeliveryHistory { attempt, ..DeliveryHistory::default() },
                "{name} {value:?}"
            );
        }
        let twice = [("retry_topic-attempts", Some(&b"2"[..])), ("retry_topic-attempts", Some(b"3"))];
        assert_eq!(of(&twice).attempt, Some(3));
    }

    #[test]
    fn a_dead_letter_says_so() {
        for (name, dead_lettered) in [
            ("kafka_dlt-original-topic", true),
            ("__connect.errors.topic", true),
            ("dead-letter-reason", true),
            ("dead", false),
            ("kafka_original-topic", false),
            ("tenant", false),
        ] {
            assert_eq!(of(&[("", None), (name, Some(b"x"))]).dead_lettered, dead_lettered, "{name}");
        }
    }

    /// The expected number: from digits, or from the bytes of a signed integer.
    fn meant(value: &[u8], as_bytes: bool) -> Option<i128> {
        let digits = !value.is_empty() && value.len() <= 30 && value.iter().all(u8::is_ascii_digit);
        if digits {
            let number = value.iter().fold(0, |number, digit| 10 * number + i128::from(digit - b'0'));
            return (number <= i128::from(u64::MAX)).then_some(number);
        }
        let bytes = as_bytes && (1..=8).contains(&value.len());
        bytes.then(|| {
            value.iter().fold(if value[0] >= 0x80 { -1 } else { 0 }, |number, byte| number << 8 | i128::from(*byte))
        })
    }

    fn value() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..12),
            any::<u128>().prop_map(|number| number.to_string().into_bytes()),
            any::<u64>().prop_map(|number| number.to_string().into_bytes()),
            any::<i64>().prop_map(|number| number.to_string().into_bytes()),
            any::<i64>().prop_map(|number| number.to_be_bytes().to_vec()),
            any::<i32>().prop_map(|number| number.to_be_bytes().to_vec()),
            Just(u64::MAX.to_string().into_bytes()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_attempt_is_the_right_number_or_none(value in value()) {
            let attempt = |name| of(&[(name, Some(&value[..]))]).attempt.map(i128::from);
            prop_assert_eq!(attempt("retry_topic-attempts"), meant(&value, true).filter(|&number| number > 0));
            let retries = meant(&value, false).map(|number| number + 1);
            prop_assert_eq!(attempt("delayed-retry-count"), retries.filter(|&number| number <= i128::from(u64::MAX)));
        }

        #[test]
        fn any_headers_have_an_attempt_from_one_on_or_none(
            headers in prop::collection::vec(
                (prop_oneof![any::<String>(), Just("retry_topic-attempts".to_owned()), Just("delayed-retry-count".to_owned())],
                 prop::option::of(value())),
                0..6,
            ),
        ) {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, value.as_deref())).collect();
            let history = of(&headers);
            prop_assert!(history.attempt.is_none_or(|attempt| attempt > 0));
            let tells = |name: &str| name == "retry_topic-attempts" || name == "delayed-retry-count";
            prop_assert!(history.attempt.is_none() || headers.iter().any(|(name, _)| tells(name)));
        }
    }
}
