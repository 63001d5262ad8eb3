//! Assigns returned messages to their publishes.
//!
//! lapin may attach a returned message to the confirm of *another* publish. So the spans of publishes that may be returned are
//! kept here. A returned message is assigned to its publish by the headers that were injected into it, and an acknowledged
//! publish succeeds only when its message can no longer be returned: see [`ReturnablePublishes::complete_safe_acks`].

use std::{
    collections::{BTreeMap, VecDeque},
    time::SystemTime,
};

use otel_messaging::adapter::ClientSpan;

use crate::{error::reply_type, headers::InjectedHeaders, message::BasicReturnMessage};

/// One publish of a channel, in the order of the calls.
pub(crate) type ConfirmId = u64;

/// Maximum number of acknowledged publishes whose spans are held back, and of publishes remembered after their spans ended,
/// while their messages may still be returned. The oldest leave first.
const LIMIT: usize = 1_000;

/// The publishes of one channel whose messages may be returned.
#[derive(Default)]
pub(crate) struct ReturnablePublishes {
    next: ConfirmId,
    pub(crate) generation: Generation,
    returnable: BTreeMap<ConfirmId, Returnable>,
    /// Acknowledged publishes of `returnable`, with the generation of the acknowledgement. Oldest first.
    acknowledged: VecDeque<(ConfirmId, u64)>,
    /// Publishes of `returnable` whose spans are not here any more, oldest first: those whose future was dropped and, once
    /// there is one, all completed ones. lapin keeps the confirm of a dropped future, and `wait_for_confirms` may give the
    /// returned message of any publish with it.
    remembered: VecDeque<ConfirmId>,
}

/// The newest generation of publishes. The next one starts when all publishes older than this generation are answered.
#[derive(Default)]
pub(crate) struct Generation {
    number: u64,
    /// Its first publish.
    first: ConfirmId,
    /// Number of its publishes without an answer.
    unanswered: usize,
    /// The same number for the generation before.
    unanswered_in_previous: usize,
}

impl Generation {
    pub(crate) fn note_answer(&mut self, publish: ConfirmId) {
        let unanswered = if publish < self.first { &mut self.unanswered_in_previous } else { &mut self.unanswered };
        *unanswered -= 1;
    }

    /// The next generation, which starts with this publish.
    fn next(&self, first: ConfirmId) -> Self {
        Self { number: self.number + 1, first, unanswered: 0, unanswered_in_previous: self.unanswered }
    }
}

/// A publish whose message may be returned.
struct Returnable {
    /// None once the span has ended, or the publish's future was dropped.
    span: Option<ClientSpan>,
    injected: InjectedHeaders,
    acknowledged_at: SystemTime,
}

impl ReturnablePublishes {
    /// Adds a publish. Keeps its span if its message may be returned, and gives it back otherwise.
    pub(crate) fn register(
        &mut self,
        span: ClientSpan,
        injected: Option<InjectedHeaders>,
    ) -> (ConfirmId, Option<ClientSpan>) {
        let id = self.next;
        self.next += 1;
        self.generation.unanswered += 1;
        let Some(injected) = injected else { return (id, Some(span)) };
        let (span, acknowledged_at) = (Some(span), SystemTime::UNIX_EPOCH);
        self.returnable.insert(id, Returnable { span, injected, acknowledged_at });
        (id, None)
    }

    /// Records an answer of lapin's to a publish. `span` is its span, if it is not kept here.
    pub(crate) fn record_outcome(
        &mut self,
        id: ConfirmId,
        span: Option<ClientSpan>,
        at: SystemTime,
        failure: Option<(&'static str, String)>,
        span_ends: &mut SpanEnds,
    ) {
        match (span, failure) {
            (Some(span), failure) => span_ends.push(SpanEnd { span, at, failure }),
            // A publish that is missing here was returned before, perhaps with the answer to another publish.
            (None, Some(failure)) => {
                let span = self.returnable.remove(&id).and_then(|own| own.span);
                span_ends.extend(span.map(|span| SpanEnd { span, at, failure: Some(failure) }));
            }
            (None, None) => {
                if let Some(own) = self.returnable.get_mut(&id) {
                    own.acknowledged_at = at;
                    self.acknowledged.push_back((id, self.generation.number));
                }
            }
        }
        self.complete_safe_acks(span_ends);
    }

    /// Fails the publish of the returned message. `with` is the publish whose answer lapin attached it to.
    pub(crate) fn message_returned(
        &mut self,
        message: &mut BasicReturnMessage,
        with: Option<ConfirmId>,
        at: SystemTime,
        span_ends: &mut SpanEnds,
    ) {
        let properties = &message.delivery.properties;
        let own = with.and_then(|id| Some((id, &self.returnable.get(&id)?.injected)));
        let marked = own.filter(|(_, own)| own.are_in(properties)).map(|(id, _)| id);
        let marked = marked.or_else(|| {
            let mut all = self.returnable.iter();
            all.find(|(_, one)| one.injected.are_in(properties)).map(|(&id, _)| id)
        });
        // A message without injected headers is assigned as lapin assigned it.
        let unmarked = || own.filter(|(_, own)| !own.is_marked()).map(|(id, _)| id);
        let Some(id) = marked.or_else(unmarked) else { return };
        if let Some(Returnable { span, injected, .. }) = self.returnable.remove(&id) {
            message.delivery.properties = injected.undo(properties);
            let failure = Some((reply_type(message.reply_code), message.reply_text.to_string()));
            span_ends.extend(span.map(|span| SpanEnd { span, at, failure }));
        }
    }

    /// The publish's future was dropped after lapin sent the message: nothing here will see the answer. The publish is
    /// remembered so that its message is recognised if it is returned.
    pub(crate) fn handle_dropped(&mut self, id: ConfirmId, span_ends: &mut SpanEnds) -> Option<ClientSpan> {
        self.remember_returnable(id);
        self.generation.note_answer(id);
        self.complete_safe_acks(span_ends);
        self.returnable.get_mut(&id)?.span.take()
    }

    fn remember_returnable(&mut self, id: ConfirmId) {
        self.remembered.push_back(id);
        if self.remembered.len() > LIMIT {
            self.remembered.pop_front().and_then(|oldest| self.returnable.remove(&oldest));
        }
    }

    /// Ends the spans of acknowledged publishes whose messages can no longer be returned.
    ///
    /// RabbitMQ sends `basic.return` before the `basic.ack` of the same publish, and `basic.return` does not say which publish
    /// it is about. lapin queues returned messages. It attaches the oldest one to the next confirm that is answered, whichever
    /// publish that confirm belongs to. So the confirm of a returned publish may say `Ack(None)`, and its message may arrive
    /// with the confirm of another publish: an acknowledgement alone does not prove success.
    ///
    /// lapin's queue is never longer than the number of returned publishes without an answer. Therefore:
    ///
    /// 1. Once all publishes that had started before the acknowledgement are answered, lapin has attached the message to a
    ///    confirm.
    /// 2. Once all publishes that had started by then are answered too, that confirm was read here.
    ///
    /// Each step lasts at most one whole generation, and the acknowledgement comes in the middle of one: three generations
    /// later, the publish has succeeded.
    fn complete_safe_acks(&mut self, span_ends: &mut SpanEnds) {
        while let Some(&(id, generation)) = self.acknowledged.front() {
            if generation + 3 <= self.generation.number || self.acknowledged.len() > LIMIT {
                self.acknowledged.pop_front();
                let Some(Returnable { span, acknowledged_at: at, .. }) = self.returnable.get_mut(&id) else {
                    continue;
                };
                span_ends.extend(span.take().map(|span| SpanEnd { span, at: *at, failure: None }));
                if self.remembered.is_empty() {
                    self.returnable.remove(&id);
                } else {
                    self.remember_returnable(id);
                }
            } else if self.generation.unanswered_in_previous == 0 {
                self.generation = self.generation.next(self.next);
            } else {
                return;
            }
        }
    }

    /// Ends the spans of all acknowledged publishes: no answer comes any more.
    pub(crate) fn complete_all_acks(&mut self, span_ends: &mut SpanEnds) {
        (self.generation.unanswered, self.generation.unanswered_in_previous) = (0, 0);
        self.complete_safe_acks(span_ends);
    }

    /// Number of publishes without an answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.generation.unanswered + self.generation.unanswered_in_previous
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.returnable.is_empty()
    }
}

/// A span whose outcome is known. It ends after the lock is released, because span processors run at its end.
pub(crate) struct SpanEnd {
    pub(crate) span: ClientSpan,
    pub(crate) at: SystemTime,
    pub(crate) failure: Option<(&'static str, String)>,
}

impl SpanEnd {
    pub(crate) fn apply(self) {
        let span = self.span.ended_at(self.at);
        match self.failure {
            None => span.succeed(),
            Some((error_type, description)) => span.fail(error_type, description),
        }
    }
}

pub(crate) type SpanEnds = Vec<SpanEnd>;
