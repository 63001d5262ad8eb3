//! Publishes of one channel whose answer is still out.
//!
//! Two things of lapin's make more of this than a span in a future. A confirm may be dropped unresolved, to be collected by
//! `wait_for_confirms`: it is parked here. And a message that comes back may be handed to the confirm of *another*
//! publish that was in flight: so the spans of publishes that may come back are kept here, found by what was written into
//! their messages, and called successful when nothing in flight can prove the opposite any more.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::SystemTime,
};

use lapin::{Error, Result};
use otel_messaging::adapter::ClientSpan;

use crate::{
    error::{NACK, error_type, reply_type},
    headers::InjectedHeaders,
    message::BasicReturnMessage,
    publisher_confirm::Confirmation,
};

/// One publish of a channel, in the order of the calls.
type ConfirmId = u64;

/// How many acknowledged publishes wait for others to be answered, where some are not for long; the oldest are believed first.
/// And how many whose spans are told already are known again when they come back.
const LIMIT: usize = 1_000;

/// All publishes of one channel whose answer is still out.
#[derive(Default)]
pub(crate) struct PendingConfirms {
    state: Mutex<State>,
    woken: Arc<WokenConfirms>,
}

#[derive(Default)]
struct State {
    next: ConfirmId,
    generation: Generation,
    returnable: BTreeMap<ConfirmId, Returnable>,
    /// Those of `returnable` that were acknowledged and in which generation, oldest first.
    acknowledged: VecDeque<(ConfirmId, u64)>,
    /// Those that were dropped midway, and once there is one all that are believed, oldest first: lapin has a confirm of
    /// its own then, and may have it bring any of them to the next `wait_for_confirms`.
    remembered: VecDeque<ConfirmId>,
    parked: BTreeMap<ConfirmId, Parked>,
    /// What came back with parked confirms, for the next `wait_for_confirms`.
    returned: Vec<BasicReturnMessage>,
}

/// The last generation of publishes. One begins when all that are older than the last one are answered.
#[derive(Default)]
struct Generation {
    number: u64,
    /// Its first publish.
    first: ConfirmId,
    /// How many of it have no answer yet.
    unanswered: usize,
    /// And how many of the one before.
    unanswered_in_previous: usize,
}

impl Generation {
    fn note_answer(&mut self, publish: ConfirmId) {
        let unanswered = if publish < self.first { &mut self.unanswered_in_previous } else { &mut self.unanswered };
        *unanswered -= 1;
    }

    /// The next one, which begins with this publish.
    fn next(&self, first: ConfirmId) -> Self {
        Self { number: self.number + 1, first, unanswered: 0, unanswered_in_previous: self.unanswered }
    }
}

/// A publish whose message may come back.
struct Returnable {
    /// None when it is told: believed, or dropped midway.
    span: Option<ClientSpan>,
    injected: InjectedHeaders,
    acknowledged_at: SystemTime,
}

struct Parked {
    confirm: lapin::PublisherConfirm,
    pending: PendingConfirm,
}

/// One publish on its way. Dropped without an answer, its span says that the outcome is unknown.
pub(crate) struct ConfirmHandle {
    confirms: Arc<PendingConfirms>,
    pending: Option<PendingConfirm>,
}

struct PendingConfirm {
    id: ConfirmId,
    /// None while it is in [`State::returnable`].
    span: Option<ClientSpan>,
    waker: Arc<ConfirmWaker>,
}

/// Notes when the answer came: somebody may look much later.
struct ConfirmWaker {
    id: ConfirmId,
    answered_at: OnceLock<SystemTime>,
    woken: Arc<WokenConfirms>,
}

/// The publishes whose answers came while nobody was looking.
#[derive(Default)]
struct WokenConfirms(Mutex<Vec<ConfirmId>>);

impl Wake for ConfirmWaker {
    // lapin holds locks here: nothing of its own may be touched, and nothing of ours that is held while lapin is called.
    fn wake(self: Arc<Self>) {
        self.answered_at.get_or_init(SystemTime::now);
        self.woken.lock().push(self.id);
    }
}

impl WokenConfirms {
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Vec<ConfirmId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingConfirm {
    /// Asks lapin for the answer; what it wakes later notes the time.
    fn poll(&self, confirm: &mut lapin::PublisherConfirm) -> Poll<Result<lapin::Confirmation>> {
        let waker = Waker::from(self.waker.clone());
        Pin::new(confirm).poll(&mut Context::from_waker(&waker))
    }
}

/// A span whose outcome is known, to be ended when nothing is locked: processors run then.
struct SpanEnd {
    span: ClientSpan,
    at: SystemTime,
    failure: Option<(&'static str, String)>,
}

impl SpanEnd {
    fn apply(self) {
        let span = self.span.ended_at(self.at);
        match self.failure {
            None => span.succeed(),
            Some((error_type, description)) => span.fail(error_type, description),
        }
    }
}

type SpanEnds = Vec<SpanEnd>;

impl PendingConfirms {
    /// Notes a publish that is about to be sent. `injected` is there when the message may come back.
    pub(crate) fn add(self: &Arc<Self>, span: ClientSpan, injected: Option<InjectedHeaders>) -> ConfirmHandle {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.generation.unanswered += 1;
        let span = match injected {
            Some(injected) => {
                let (span, acknowledged_at) = (Some(span), SystemTime::UNIX_EPOCH);
                state.returnable.insert(id, Returnable { span, injected, acknowledged_at });
                None
            }
            None => Some(span),
        };
        let waker = Arc::new(ConfirmWaker { id, answered_at: OnceLock::new(), woken: self.woken.clone() });
        ConfirmHandle { confirms: self.clone(), pending: Some(PendingConfirm { id, span, waker }) }
    }

    /// Settles the parked confirms whose answers came.
    #[inline]
    pub(crate) fn resolve_woken(&self) {
        let woken = mem::take(&mut *self.woken.lock());
        if !woken.is_empty() {
            self.poll_parked(|state| woken.iter().filter_map(|id| state.parked.remove(id)).collect());
        }
    }

    /// Settles all parked confirms that have an answer, in the order they were published in.
    pub(crate) fn resolve_parked(&self) {
        self.woken.lock().clear();
        self.poll_parked(|state| mem::take(&mut state.parked).into_values().collect());
    }

    fn poll_parked(&self, parked: impl FnOnce(&mut State) -> Vec<Parked>) {
        self.update(|state, span_ends| {
            for mut parked in parked(state) {
                match parked.pending.poll(&mut parked.confirm) {
                    Poll::Ready(answer) => {
                        let answer = state.record_answer(parked.pending, answer, span_ends);
                        state.keep_returned(answer);
                    }
                    Poll::Pending => _ = state.parked.insert(parked.pending.id, parked),
                }
            }
        });
    }

    /// What came back and was kept, after what lapin gives itself.
    pub(crate) fn take_returned(&self, theirs: Vec<lapin::message::BasicReturnMessage>) -> Vec<BasicReturnMessage> {
        let mut returned: Vec<_> = theirs.into_iter().map(BasicReturnMessage::from).collect();
        self.update(|state, span_ends| {
            for message in &mut returned {
                state.message_returned(message, None, SystemTime::now(), span_ends);
            }
            returned.append(&mut state.returned);
        });
        returned
    }

    /// Keeps what came with an answer that nobody took.
    pub(crate) fn keep_returned(&self, answer: Result<Confirmation>) {
        self.state().keep_returned(answer);
    }

    /// What becomes known by a change is told when nothing is locked any more.
    fn update<T>(&self, update: impl FnOnce(&mut State, &mut SpanEnds) -> T) -> T {
        let mut span_ends = SpanEnds::new();
        let changed = update(&mut self.state(), &mut span_ends);
        span_ends.into_iter().for_each(SpanEnd::apply);
        changed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep_returned(&mut self, answer: Result<Confirmation>) {
        self.returned.extend(answer.ok().and_then(Confirmation::take_message));
    }

    /// Takes lapin's answer, finds out whose it is, and gives it on without what we added to the message.
    fn record_answer(
        &mut self,
        pending: PendingConfirm,
        answer: Result<lapin::Confirmation>,
        span_ends: &mut SpanEnds,
    ) -> Result<Confirmation> {
        let at = pending.waker.answered_at.get().copied().unwrap_or_else(SystemTime::now);
        let mut answer = answer.map(Confirmation::from);
        self.generation.note_answer(pending.id);
        if let Ok(Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message))) = &mut answer {
            self.message_returned(message, Some(pending.id), at, span_ends);
        }
        let failure = match &answer {
            Err(error) => Some((error_type(error), error.to_string())),
            Ok(Confirmation::Nack(_)) => Some((NACK, "refused by the broker".to_owned())),
            Ok(Confirmation::Ack(_) | Confirmation::NotRequested) => None,
        };
        match (pending.span, failure) {
            (Some(span), failure) => span_ends.push(SpanEnd { span, at, failure }),
            // If it is not there any more, its message came back already, perhaps with the answer to another publish.
            (None, Some(failure)) => {
                let span = self.returnable.remove(&pending.id).and_then(|own| own.span);
                span_ends.extend(span.map(|span| SpanEnd { span, at, failure: Some(failure) }));
            }
            (None, None) => {
                if let Some(own) = self.returnable.get_mut(&pending.id) {
                    own.acknowledged_at = at;
                    self.acknowledged.push_back((pending.id, self.generation.number));
                }
            }
        }
        self.complete_safe_acks(span_ends);
        answer
    }

    /// A message came back: whichever publish it was has failed. `with` is the publish whose answer it came with.
    fn message_returned(
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
        // Where nobody's mark is on it there is only lapin's word for it.
        let unmarked = || own.filter(|(_, own)| !own.is_marked()).map(|(id, _)| id);
        let Some(id) = marked.or_else(unmarked) else { return };
        if let Some(Returnable { span, injected, .. }) = self.returnable.remove(&id) {
            message.delivery.properties = injected.undo(properties);
            let failure = Some((reply_type(message.reply_code), message.reply_text.to_string()));
            span_ends.extend(span.map(|span| SpanEnd { span, at, failure }));
        }
    }

    /// Nobody will see the answer, and lapin has sent it: what is left is to know the message, should it come back.
    fn handle_dropped(&mut self, id: ConfirmId, span_ends: &mut SpanEnds) -> Option<ClientSpan> {
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

    /// Ends the acknowledged publishes whose messages cannot come back any more.
    ///
    /// What comes back is there before its publish is acknowledged. lapin hands it on with the next answer, whosever that is;
    /// where several came back, one with each, the oldest first. There are never more of them than publishes that came back and
    /// are not answered yet. So when all that had begun at the acknowledgement are answered, it is handed on; and when all
    /// that have begun by then are answered too, it was looked at. Each takes a generation from its beginning to the end, and
    /// the acknowledgement came in the middle of one.
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
}

impl ConfirmHandle {
    /// Asks lapin for the answer, and has the time noted when it comes.
    pub(crate) fn poll_answer(&self, confirm: &mut lapin::PublisherConfirm) -> Poll<Result<lapin::Confirmation>> {
        self.pending.as_ref().map_or(Poll::Pending, |pending| pending.poll(confirm))
    }

    /// The answer came.
    pub(crate) fn finish(mut self, answer: Result<lapin::Confirmation>) -> Result<Confirmation> {
        let Some(pending) = self.pending.take() else { return answer.map(Confirmation::from) };
        self.confirms.update(|state, span_ends| state.record_answer(pending, answer, span_ends))
    }

    /// It was not even sent.
    pub(crate) fn publish_failed(self, error: &Error) {
        // The error goes to the user as it is; this one is only told of.
        _ = self.finish(Err(error.clone()));
    }

    /// The user dropped the confirm: it waits here.
    pub(crate) fn park(mut self, confirm: lapin::PublisherConfirm) {
        let Some(pending) = self.pending.take() else { return };
        let waker = pending.waker.clone();
        self.confirms.state().parked.insert(pending.id, Parked { confirm, pending });
        // The answer may have come since it was asked for, and have been looked for here in vain.
        if waker.answered_at.get().is_some() {
            waker.woken.lock().push(waker.id);
        }
    }

    pub(crate) fn all(&self) -> &Arc<PendingConfirms> {
        &self.confirms
    }
}

impl Drop for ConfirmHandle {
    fn drop(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        let span = self.confirms.update(|state, span_ends| state.handle_dropped(pending.id, span_ends));
        drop((span, pending));
    }
}

impl Drop for PendingConfirms {
    /// The channel goes. What was acknowledged was acknowledged; of the rest the outcome is unknown.
    fn drop(&mut self) {
        self.resolve_parked();
        let rest = self.update(|state, span_ends| {
            (state.generation.unanswered, state.generation.unanswered_in_previous) = (0, 0);
            state.complete_safe_acks(span_ends);
            mem::take(state)
        });
        drop(rest);
    }
}

impl fmt::Debug for PendingConfirms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let Generation { unanswered, unanswered_in_previous, .. } = state.generation;
        f.debug_struct("PendingConfirms")
            .field("unanswered", &(unanswered + unanswered_in_previous))
            .field("parked", &state.parked.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_n;

    use lapin::{BasicProperties, message::Delivery};
    use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
    use otel_messaging::{
        Instrumentation,
        adapter::{Destination, Telemetry, scope},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::{headers::Outgoing, telemetry::PUBLISH};

    /// What happens next, to any one of those to which it can happen.
    #[derive(Debug, Clone)]
    enum Event {
        /// A publish to somewhere, or to nowhere.
        Begins { routed: bool },
        /// Its message comes back, if it was to nowhere.
        Returns(usize),
        /// It is acknowledged. lapin has its confirm bring the message that came back first.
        Acknowledged(usize),
        /// The user looks at its confirm.
        LookedAt(usize),
        /// The user drops it before there is a confirm, which is lapin's then.
        Abandoned(usize),
    }

    const EVENTS: usize = 300;

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            3 => any::<bool>().prop_map(|routed| Event::Begins { routed }),
            1 => any::<usize>().prop_map(Event::Returns),
            3 => any::<usize>().prop_map(Event::Acknowledged),
            3 => any::<usize>().prop_map(Event::LookedAt),
            1 => any::<usize>().prop_map(Event::Abandoned),
        ]
    }

    fn take<T>(from: &mut Vec<T>, which: usize) -> Option<T> {
        which.checked_rem(from.len()).map(|which| from.remove(which))
    }

    fn no_route(properties: BasicProperties) -> lapin::message::BasicReturnMessage {
        let mut delivery = Delivery::mock(0, "".into(), "nowhere".into(), false, Vec::new());
        delivery.properties = properties;
        lapin::message::BasicReturnMessage { delivery, reply_code: 312, reply_text: "NO_ROUTE".into() }
    }

    proptest! {
        #[test]
        fn in_whatever_order_answers_come_and_are_looked_at_those_fail_that_came_back(
            events in prop::collection::vec(event(), 0..EVENTS),
        ) {
            let telemetry = Telemetry::new(scope("otel-lapin", "0"), "rabbitmq");
            let provider = SdkTracerProvider::builder().build();
            let instrumentation = Instrumentation::builder().tracer_provider(provider);
            telemetry.instrument(instrumentation.propagator(TraceContextPropagator::new()).build()).unwrap();
            let operation = telemetry.operation(PUBLISH, &["orders"], || Destination::named("orders"));
            let confirms = Arc::new(PendingConfirms::default());
            let begin = || {
                let given = BasicProperties::default();
                let mut outgoing = Outgoing::new(&given, usize::MAX, true);
                let span = telemetry.send(telemetry.start_operation().unwrap(), &operation, Some(&mut outgoing), |_| ());
                let (headers, injected) = outgoing.finish();
                (confirms.add(span, injected), BasicProperties::default().with_headers(headers.unwrap()))
            };

            let (mut in_flight, mut message_returned, mut answered) = (Vec::new(), VecDeque::new(), Vec::new());
            let (mut routed_ones, mut others, mut untold) = (0, 0, [0, 0]);
            let (mut abandons, mut in_lapins_hands) = (false, Vec::new());
            let mut span_ends = SpanEnds::new();
            let rest = repeat_n(Event::Acknowledged(0), EVENTS).chain(repeat_n(Event::LookedAt(0), EVENTS));
            for event in events.into_iter().chain(rest) {
                match event {
                    Event::Begins { routed } => {
                        let (publish, sent) = begin();
                        *if routed { &mut routed_ones } else { &mut others } += 1;
                        in_flight.push((Some(publish), routed, (!routed).then(|| no_route(sent))));
                    }
                    Event::Returns(which) => {
                        let which = which.checked_rem(in_flight.len());
                        message_returned.extend(which.and_then(|which| in_flight[which].2.take()));
                    }
                    Event::Acknowledged(which) => {
                        if let Some((publish, _, returned)) = take(&mut in_flight, which) {
                            message_returned.extend(returned);
                            let brought = message_returned.pop_front();
                            match publish {
                                Some(publish) => answered.push((publish, brought)),
                                None => in_lapins_hands.extend(brought),
                            }
                        }
                    }
                    Event::Abandoned(which) => {
                        let which = which.checked_rem(in_flight.len());
                        if let Some((publish @ Some(_), routed, _)) = which.map(|which| &mut in_flight[which]) {
                            let id = publish.take().unwrap().pending.take().unwrap().id;
                            let span = confirms.state().handle_dropped(id, &mut span_ends);
                            untold[usize::from(*routed)] += usize::from(span.is_some());
                            abandons = true;
                        }
                    }
                    Event::LookedAt(which) => {
                        if let Some((mut publish, brought)) = take(&mut answered, which) {
                            let pending = publish.pending.take().unwrap();
                            let answer = Ok(lapin::Confirmation::Ack(brought));
                            let answer = confirms.state().record_answer(pending, answer, &mut span_ends);
                            let brought = answer.unwrap().take_message();
                            prop_assert!(brought.is_none_or(|message| message.properties == BasicProperties::default()));
                        }
                    }
                }
            }
            let failed = span_ends.iter().filter(|span_end| span_end.failure.is_some()).count();
            let [untold_others, untold_routed] = untold;
            if abandons {
                // What came back in lapin's hands is not seen to have failed.
                prop_assert!(failed <= others - untold_others);
                prop_assert_eq!(span_ends.len() + untold_others + untold_routed, routed_ones + others);
            } else {
                prop_assert_eq!((span_ends.len() - failed, failed), (routed_ones, others));
                prop_assert!(confirms.state().returnable.is_empty());
            }
            for message in confirms.take_returned(in_lapins_hands) {
                prop_assert_eq!(message.properties.clone(), BasicProperties::default());
            }
        }
    }
}
