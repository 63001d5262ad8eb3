//! Notices a span that is held open around a consumer's loop: every message then becomes a part of it.

use std::{
    borrow::Cow,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use opentelemetry::{SpanId, otel_warn};

use crate::catch_panic::catch_panic;

/// How many loops of one client are followed at a time.
const FOLLOWED: usize = 8;

/// Of one client.
#[derive(Default)]
pub(crate) struct Loops {
    /// In which spans process spans of which names were started, the latest first: a name is that of one consumer, as far as
    /// consumers can be distinguished.
    latest: Mutex<Vec<(SpanId, Cow<'static, str>)>>,
    warned: AtomicBool,
}

impl Loops {
    /// A process span was started as a child of the span that was active at the delivery. Warns at the second, once for a
    /// client.
    pub(crate) fn started_in(&self, around: SpanId, consumer: Cow<'static, str>) {
        if self.warned.load(Ordering::Relaxed) || self.is_first(around, consumer) {
            return;
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            // Where logs go is not ours.
            catch_panic(|| {
                otel_warn!(
                    name: "messaging.consumer.ambient_span",
                    span_id = around.to_string(),
                    message = "a span is active around a consumer's loop: the process span of every message becomes its child. \
                        End the span before the loop, or use Correlation::Parent."
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
