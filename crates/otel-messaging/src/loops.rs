//! Notices a span that is held open around a consumer's loop: every message then becomes a part of it.

use std::{
    borrow::Cow,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use opentelemetry::{SpanId, otel_warn};

use crate::operation::Operation;

/// More process spans than this inside one span are a loop's. A request that takes a few messages, or one batch of them
/// (async-nats fetches 200 at once where it is not told), has fewer; a loop goes on until it has more.
const MANY: u32 = 250;

/// How many loops of one client are followed at a time.
const FOLLOWED: usize = 8;

/// Of one client.
#[derive(Default)]
pub(crate) struct Loops {
    /// The one that started a process span last is the first.
    latest: Mutex<Vec<Loop>>,
    warned: AtomicBool,
}

/// A span in which process spans of one name were started: those of one consumer, as far as consumers can be told apart.
struct Loop {
    around: SpanId,
    name: Cow<'static, str>,
    started: u32,
}

impl Loops {
    /// A process span was started as a child of the span that was active at the hand-out. Warns once for a client.
    pub(crate) fn started_in(&self, around: SpanId, operation: &Operation) {
        if self.warned.load(Ordering::Relaxed) || self.count(around, operation) <= MANY {
            return;
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            otel_warn!(
                name: "messaging.consumer.ambient_span",
                span_id = around.to_string(),
                message = "a consumer hands out message after message inside one span: their process spans are its \
                    children. Hold no span open around the loop, or use Correlation::Parent."
            );
        }
    }

    fn count(&self, around: SpanId, operation: &Operation) -> u32 {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match latest.iter().position(|it| it.around == around && it.name == operation.span_name) {
            Some(at) => latest[..=at].rotate_right(1),
            None => {
                latest.truncate(FOLLOWED - 1);
                latest.insert(0, Loop { around, name: operation.span_name.clone(), started: 0 });
            }
        }
        latest.first_mut().map_or(0, |it| {
            it.started += 1;
            it.started
        })
    }
}
