//! The detection of a span that is active around a consumer's loop, and so becomes the parent of every message's process span.

use std::{
    borrow::Cow,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use opentelemetry::{SpanId, otel_warn};

use crate::catch_panic::catch_panic;

/// The maximum number of loops of one client that are followed at a time.
const FOLLOWED: usize = 8;

/// The consumer loops of one client.
#[derive(Default)]
pub(crate) struct Loops {
    /// Parent spans and names of process spans that started in them, the latest first. The name stands for the consumer.
    latest: Mutex<Vec<(SpanId, Cow<'static, str>)>>,
    warned: AtomicBool,
}

impl Loops {
    /// Records that a process span started as a child of the span that was active at the delivery. Warns at the second such
    /// process span, once for each client.
    pub(crate) fn started_in(&self, around: SpanId, consumer: Cow<'static, str>) {
        if self.warned.load(Ordering::Relaxed) || self.is_first(around, consumer) {
            return;
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            // The application's log subscriber may panic.
            catch_panic(|| {
                otel_warn!(
                    name: "messaging.consumer.ambient_span",
                    span_id = around.to_string(),
                    message = "a span is active around a consumer's loop: the process span of every message becomes its child. \
                        End that span before the loop, or use Correlation::Parent."
                );
            });
        }
    }

    fn is_first(&self, around: SpanId, consumer: Cow<'static, str>) -> bool {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !latest.iter().any(|(span, name)| *span == around && *name == consumer);
        if is_new {
            latest.truncate(FOLLOWED - 1);
            latest.insert(0, (around, consumer));
        }
        is_new
    }
}
