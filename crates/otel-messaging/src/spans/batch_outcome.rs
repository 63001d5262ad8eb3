//! The outcome of a batch, which is the outcome of its messages if all have the same.

use std::sync::{Mutex, PoisonError};

use crate::description::settlement::Settlement;

/// Counts the settlements of the messages of one batch.
#[derive(Debug)]
pub(crate) struct BatchOutcome {
    messages: usize,
    settled: Mutex<Settled>,
}

#[derive(Debug, Default)]
struct Settled {
    count: usize,
    /// The outcome of all settled messages so far; `None` once two outcomes differ.
    common: Option<Settlement>,
}

impl BatchOutcome {
    pub(crate) fn new(messages: usize) -> Self {
        Self { messages, settled: Mutex::default() }
    }

    /// Records the outcome of one more message. Returns whether all messages of the batch now have this outcome.
    pub(crate) fn is_common(&self, outcome: Settlement) -> bool {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.count += 1;
        let is_first = settled.count == 1;
        settled.common = if is_first { Some(outcome) } else { settled.common.filter(|common| *common == outcome) };
        settled.count == self.messages && settled.common.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::BatchOutcome;
    use crate::description::settlement::Settlement::{Ack, Nack};

    #[test]
    fn a_batch_has_an_outcome_when_all_its_messages_have_the_same() {
        for (outcomes, expected) in [
            (&[Ack, Ack, Ack][..], [false, false, true]),
            (&[Ack, Nack, Ack], [false; 3]),
            (&[Nack, Ack, Ack], [false; 3]),
        ] {
            let batch = BatchOutcome::new(outcomes.len());
            assert_eq!(outcomes.iter().map(|outcome| batch.is_common(*outcome)).collect::<Vec<_>>(), expected);
        }
    }
}
