//! What sends returned, compared with what is at the broker and with what the spans say.

use std::collections::HashMap;

use opentelemetry::SpanId;
use serde::{Deserialize, Serialize};

use crate::spans::Outcome;

/// What a send returned.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Returned {
    Acknowledged,
    Failed(String),
    /// It did not return in time.
    Never,
}

/// One send.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) returned: Returned,
    /// The application's span around it.
    pub(crate) around: SpanId,
}

/// What came of the calls of a phase.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) acknowledged: u64,
    pub(crate) failed: u64,
    pub(crate) never_returned: u64,
    /// Of those that were acknowledged, how many are at the broker.
    pub(crate) at_broker: u64,
    /// How many messages more than once, and how many after one that was sent later.
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
    /// How many are not what was sent.
    pub(crate) damaged: u64,
    pub(crate) disagree: u64,
}

/// Compares the calls with the numbers of the messages at the broker, in its order; `None` is a message that is not what was
/// sent.
pub(crate) fn compare(calls: &[Call], at_broker: &[Option<u64>]) -> Counts {
    let mut times: HashMap<u64, u64> = HashMap::new();
    let mut counts = Counts::default();
    let mut last = None;
    for number in at_broker {
        let Some(number) = number else {
            counts.damaged += 1;
            continue;
        };
        let times = times.entry(*number).or_default();
        *times += 1;
        if *times == 2 {
            counts.doubled += 1;
        }
        if *times == 1 {
            counts.reordered += u64::from(Some(number) < last);
            last = last.max(Some(number));
        }
    }
    for call in calls {
        match call.returned {
            Returned::Acknowledged => {
                counts.acknowledged += 1;
                counts.at_broker += u64::from(times.contains_key(&call.number));
            }
            Returned::Failed(_) => counts.failed += 1,
            Returned::Never => counts.never_returned += 1,
        }
    }
    counts
}

/// Why the spans of a send disagree with what it returned, if they do. A send has one span, which says what the send returned;
/// the span of a send that never returned may say anything.
pub(crate) fn disagreement(call: &Call, outcomes: &[Outcome]) -> Option<String> {
    let agrees = match (&call.returned, outcomes) {
        (Returned::Acknowledged, [Outcome::Succeeded]) => true,
        (Returned::Failed(error), [Outcome::Failed(description)]) => error == description,
        (Returned::Never, [Outcome::Succeeded | Outcome::Failed(_) | Outcome::Unknown]) => true,
        _ => false,
    };
    (!agrees).then(|| {
        format!("message {}: the send returned {:?}, and its span says {outcomes:?}", call.number, call.returned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: u64, returned: Returned) -> Call {
        Call { number, returned, around: SpanId::INVALID }
    }

    fn failed(text: &str) -> Returned {
        Returned::Failed(text.to_owned())
    }

    #[test]
    fn an_acknowledged_message_that_is_not_there_is_missing() {
        let calls = [
            call(0, Returned::Acknowledged),
            call(1, failed("refused")),
            call(2, Returned::Acknowledged),
            call(3, Returned::Never),
        ];
        let counts = compare(&calls, &[Some(0), Some(1)]);
        let expected = Counts { acknowledged: 2, failed: 1, never_returned: 1, at_broker: 1, ..Counts::default() };
        assert_eq!(counts, expected);
    }

    #[test]
    fn doubled_and_reordered_are_counted_once_for_each_message() {
        let at_broker = [1, 2, 1, 1, 4, 3, 3, 5].map(Some);
        let counts = compare(&[], &at_broker);
        assert_eq!((counts.doubled, counts.reordered, counts.damaged), (2, 1, 0));
        assert_eq!(compare(&[], &[Some(1), None]).damaged, 1);
    }

    #[test]
    fn a_span_agrees_with_its_caller_or_is_named() {
        let agree = |returned, outcomes: &[Outcome]| disagreement(&call(7, returned), outcomes).is_none();
        let error = || Outcome::Failed("refused".to_owned());
        assert!(agree(Returned::Acknowledged, &[Outcome::Succeeded]));
        assert!(agree(failed("refused"), &[error()]));
        assert!(agree(Returned::Never, &[Outcome::Succeeded]));

        assert!(!agree(Returned::Acknowledged, &[]));
        assert!(!agree(Returned::Acknowledged, &[Outcome::Succeeded, Outcome::Succeeded]));
        assert!(!agree(Returned::Acknowledged, &[error()]));
        assert!(!agree(Returned::Acknowledged, &[Outcome::Unknown]));
        assert!(!agree(failed("refused"), &[Outcome::Succeeded]));
        assert!(!agree(failed("refused"), &[Outcome::Unknown]));
        assert!(!agree(failed("timed out"), &[error()]));
        assert!(!agree(failed("refused"), &[Outcome::Contradicts("refused".to_owned())]));
        assert!(!agree(Returned::Never, &[]));
        let named = disagreement(&call(7, failed("refused")), &[Outcome::Succeeded]).unwrap();
        assert_eq!(named, r#"message 7: the send returned Failed("refused"), and its span says [Succeeded]"#);
    }
}
