//! The purges that the application requested. librdkafka reports the same error if a dropped producer purges.

use std::sync::atomic::{AtomicU32, Ordering};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::error_type;

/// `error.type` of a message that the application purged.
const REQUESTED: &str = "_PURGE_REQUESTED";

/// The number of times that the application called `purge` of one producer, or `abort_transaction`, which purges too.
#[derive(Debug, Default)]
pub(crate) struct Purges(AtomicU32);

impl Purges {
    /// The number of requests until now: a send keeps it from its start.
    #[inline]
    pub(crate) fn requests(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Called before the client's own call.
    pub(crate) fn note_request(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// The `error.type` of a send that started after `before` requests. rdkafka does not say which messages a request is about,
    /// so every later request explains a purge.
    pub(crate) fn error_type(&self, before: u32, error: &KafkaError) -> &'static str {
        let purged = matches!(
            error,
            KafkaError::MessageProduction(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
        );
        if purged && self.requests() != before { REQUESTED } else { error_type(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_explains_the_purge_of_what_was_sent_before_it() {
        let error = KafkaError::MessageProduction;
        let purges = Purges::default();
        let before = purges.requests();
        let types = |before| {
            let codes =
                [RDKafkaErrorCode::PurgeQueue, RDKafkaErrorCode::PurgeInflight, RDKafkaErrorCode::MessageTimedOut];
            codes.map(|code| purges.error_type(before, &error(code)))
        };
        assert_eq!(types(before), ["_PURGE_QUEUE", "_PURGE_INFLIGHT", "_MSG_TIMED_OUT"]);
        purges.note_request();
        assert_eq!(types(before), [REQUESTED, REQUESTED, "_MSG_TIMED_OUT"]);
        assert_eq!(types(purges.requests()), ["_PURGE_QUEUE", "_PURGE_INFLIGHT", "_MSG_TIMED_OUT"]);
    }
}
