//! Which purges the application asked for. librdkafka's error is the same when a dropped producer purges.

use std::sync::atomic::{AtomicU32, Ordering};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::error_type;

/// What the error of a purge that the application asked for is called.
const REQUESTED: &str = "_PURGE_REQUESTED";

/// How often the application has asked one producer to purge, or to abort a transaction, which purges.
#[derive(Debug, Default)]
pub(crate) struct Purges(AtomicU32);

impl Purges {
    /// How many requests there were, for a send that begins.
    #[inline]
    pub(crate) fn requests(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// The application is about to purge.
    pub(crate) fn note_request(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// The name of an error of a send that began after so many requests. rdkafka keeps to itself what a request was about, so
    /// that any later one explains the purge.
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
