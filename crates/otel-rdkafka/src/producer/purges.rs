//! Which purges the application asked for. librdkafka's error is the same when a dropped producer purges.

use std::{
    io::Write,
    sync::atomic::{AtomicU32, Ordering},
};

use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    producer::PurgeConfig,
};

use crate::error::error_type;

/// What the error of a purge that the application asked for is called.
const REQUESTED: &str = "_PURGE_REQUESTED";

/// The requests of one producer, counted, and for each place where messages are the last one to purge it.
#[derive(Debug, Default)]
pub(crate) struct Purges {
    requests: AtomicU32,
    queue: AtomicU32,
    inflight: AtomicU32,
}

impl Purges {
    /// How many requests there were, for a send that begins.
    #[inline]
    pub(crate) fn before(&self) -> u32 {
        self.requests.load(Ordering::Acquire)
    }

    /// The application is about to purge. What the flags are only their `Debug` form tells.
    pub(crate) fn requested(&self, flags: PurgeConfig) {
        let mut text = [0; 128];
        // A longer form is cut, and flags that cannot be read are none.
        let _ = write!(&mut text[..], "{flags:?}");
        let has = |flag: &[u8]| text.windows(flag.len()).any(|part| part == flag);
        self.request(has(b"queue: true"), has(b"inflight: true"));
    }

    /// The application is about to abort a transaction, which purges the queue and waits for what is in flight.
    pub(crate) fn abort_requested(&self) {
        self.request(true, false);
    }

    fn request(&self, queue: bool, inflight: bool) {
        let number = self.requests.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        for place in [queue.then_some(&self.queue), inflight.then_some(&self.inflight)].into_iter().flatten() {
            place.store(number, Ordering::Release);
        }
    }

    /// The name of an error of a send before whose beginning there were so many requests.
    pub(crate) fn error_type(&self, before: u32, error: &KafkaError) -> &'static str {
        let last = match error {
            KafkaError::MessageProduction(RDKafkaErrorCode::PurgeQueue) => &self.queue,
            KafkaError::MessageProduction(RDKafkaErrorCode::PurgeInflight) => &self.inflight,
            error => return error_type(error),
        };
        if last.load(Ordering::Acquire) > before { REQUESTED } else { error_type(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: KafkaError = KafkaError::MessageProduction(RDKafkaErrorCode::PurgeQueue);
    const INFLIGHT: KafkaError = KafkaError::MessageProduction(RDKafkaErrorCode::PurgeInflight);
    const NOT_ASKED: [&str; 2] = ["_PURGE_QUEUE", "_PURGE_INFLIGHT"];

    fn types(request: impl Fn(&Purges)) -> [&'static str; 2] {
        let purges = Purges::default();
        let before = purges.before();
        request(&purges);
        for error in [QUEUE, INFLIGHT] {
            assert!(NOT_ASKED.contains(&purges.error_type(purges.before(), &error)), "the send began after the call");
        }
        let timed_out = KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut);
        assert_eq!(purges.error_type(before, &timed_out), "_MSG_TIMED_OUT");
        [QUEUE, INFLIGHT].map(|error| purges.error_type(before, &error))
    }

    #[test]
    fn a_call_purges_what_its_flags_say() {
        let flags = PurgeConfig::default;
        assert_eq!(types(|_| ()), NOT_ASKED);
        assert_eq!(types(|purges| purges.requested(flags())), NOT_ASKED);
        assert_eq!(types(|purges| purges.requested(flags().queue())), [REQUESTED, "_PURGE_INFLIGHT"]);
        assert_eq!(types(|purges| purges.requested(flags().inflight().non_blocking())), ["_PURGE_QUEUE", REQUESTED]);
        assert_eq!(types(|purges| purges.requested(flags().queue().inflight().non_blocking())), [REQUESTED; 2]);
        assert_eq!(types(Purges::abort_requested), [REQUESTED, "_PURGE_INFLIGHT"]);
    }
}
