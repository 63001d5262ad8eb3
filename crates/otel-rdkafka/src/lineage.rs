//! What the headers of a message say of its way before: how often it was tried, and whether it was given up.
//!
//! Kafka itself says neither. Read are the headers of those who have a convention for it:
//!
//! | header | written by | says |
//! |---|---|---|
//! | `retry_topic-attempts` | Spring for Apache Kafka, retry topics | the how-manieth attempt this is: a big-endian integer of 1 to 8 bytes, or text |
//! | `delayed-retry-count` | SmallRye (Quarkus), delayed retry topics | how often it was tried again: text |
//! | `kafka_dlt-…` | Spring, dead letters | it is one |
//! | `__connect.errors.…` | Kafka Connect, dead letters | it is one |
//! | `dead-letter-…` | SmallRye (Quarkus), dead letters | it is one |

/// What is known of a message's past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lineage {
    /// Counted from 1.
    pub(crate) attempt: Option<u64>,
    pub(crate) dead_lettered: bool,
}

const ATTEMPTS: &[u8] = b"retry_topic-attempts";
const RETRIES: &[u8] = b"delayed-retry-count";
const DEAD_LETTER: [&[u8]; 3] = [b"kafka_dlt-", b"__connect.errors.", b"dead-letter-"];

impl Lineage {
    /// Looks at one header, the last one first: of several of a name it counts.
    #[inline]
    pub(crate) fn look_at(&mut self, name: &[u8], value: Option<&[u8]>) {
        // Hardly any header is one of these, and the first letter tells.
        match name.first() {
            Some(b'r') if self.attempt.is_none() && name == ATTEMPTS => {
                self.attempt = value.and_then(number).filter(|&attempt| attempt > 0);
            }
            Some(b'd') if self.attempt.is_none() && name == RETRIES => {
                self.attempt = value.and_then(text).and_then(|retries| retries.checked_add(1));
            }
            Some(b'k' | b'_' | b'd') => {
                self.dead_lettered |= DEAD_LETTER.iter().any(|prefix| name.starts_with(prefix));
            }
            _ => (),
        }
    }
}

/// A number as text, else as the bytes of an integer. Two digits could be either; counts of 12,000 are nobody's.
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
    use super::*;

    fn of(headers: &[(&str, Option<&[u8]>)]) -> Lineage {
        let mut lineage = Lineage::default();
        headers.iter().rev().for_each(|(name, value)| lineage.look_at(name.as_bytes(), *value));
        lineage
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
            assert_eq!(of(&[(name, value)]), Lineage { attempt, dead_lettered: false }, "{name} {value:?}");
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
}
