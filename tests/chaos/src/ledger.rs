//! What callers were told, held against what is at the broker and against what the spans say.

use std::collections::HashMap;

use opentelemetry::SpanId;
use serde::{Deserialize, Serialize};

use crate::spans::Outcome;

/// What the caller of a send was told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    Acknowledged,
    Failed(String),
    /// Nothing: it never returned.
    Nothing,
}

/// One send.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) told: Told,
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
        match call.told {
            Told::Acknowledged => {
                counts.acknowledged += 1;
                counts.at_broker += u64::from(times.contains_key(&call.number));
            }
            Told::Failed(_) => counts.failed += 1,
            Told::Nothing => counts.never_returned += 1,
        }
    }
    counts
}

/// What is wrong with what the spans say of a send, if something is. One span is right, and tells the same as the caller
/// was told; that of a call that never returned may say anything.
pub(crate) fn disagreement(call: &Call, outcomes: &[Outcome]) -> Option<String> {
    let agrees = match (&call.told, outcomes) {
        (Told::Acknowledged, [Outcome::Succeeded]) => true,
        (Told::Failed(told), [Outcome::Failed(description)]) => told == description,
        (Told::Nothing, [Outcome::Succeeded | Outcome::Failed(_) | Outcome::Unknown]) => true,
        _ => false,
    };
    (!agrees)
        .then(|| format!("message {}: the caller was told {:?}, and its span {outcomes:?}", call.number, call.told))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: u64, told: Told) -> Call {
        Call { number, told, around: SpanId::INVALID }
    }

    fn failed(text: &str) -> Told {
        Told::Failed(text.to_owned())
    }

    #[test]
    fn an_acknowledged_message_that_is_not_there_is_missing() {
        let calls = [
            call(0, Told::Acknowledged),
            call(1, failed("refused")),
            call(2, Told::Acknowledged),
            call(3, Told::Nothing),
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
        let agree = |told, outcomes: &[Outcome]| disagreement(&call(7, told), outcomes).is_none();
        let error = || Outcome::Failed("refused".to_owned());
        assert!(agree(Told::Acknowledged, &[Outcome::Succeeded]));
        assert!(agree(failed("refused"), &[error()]));
        assert!(agree(Told::Nothing, &[Outcome::Succeeded]));

        assert!(!agree(Told::Acknowledged, &[]));
        assert!(!agree(Told::Acknowledged, &[Outcome::Succeeded, Outcome::Succeeded]));
        assert!(!agree(Told::Acknowledged, &[error()]));
        assert!(!agree(Told::Acknowledged, &[Outcome::Unknown]));
        assert!(!agree(failed("refused"), &[Outcome::Succeeded]));
        assert!(!agree(failed("refused"), &[Outcome::Unknown]));
        assert!(!agree(failed("timed out"), &[error()]));
        assert!(!agree(failed("refused"), &[Outcome::Contradicts("refused".to_owned())]));
        assert!(!agree(Told::Nothing, &[]));
        let named = disagreement(&call(7, failed("refused")), &[Outcome::Succeeded]).unwrap();
        assert_eq!(named, r#"message 7: the caller was told Failed("refused"), and its span [Succeeded]"#);
    }
}
