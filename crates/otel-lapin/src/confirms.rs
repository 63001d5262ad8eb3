//! The publishes of one channel that wait for the broker's answer.
//!
//! A user may drop a confirm before its answer and call `wait_for_confirms` later. Such a confirm is *parked* here.

use std::{
    collections::BTreeMap,
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
    confirmation::Confirmation,
    error::{NACK, error_type},
    headers::InjectedHeaders,
    message::BasicReturnMessage,
    returns::{ConfirmId, ReturnablePublishes, SpanEnd, SpanEnds},
};

/// All publishes of one channel that wait for the broker's answer.
#[derive(Default)]
pub(crate) struct PendingConfirms {
    state: Mutex<State>,
    woken: Arc<WokenConfirms>,
}

#[derive(Default)]
struct State {
    publishes: ReturnablePublishes,
    parked: BTreeMap<ConfirmId, Parked>,
    /// Messages that were returned with parked confirms, for the next `wait_for_confirms`.
    returned: Vec<BasicReturnMessage>,
}

struct Parked {
    confirm: lapin::PublisherConfirm,
    pending: PendingConfirm,
}

/// Waits for the answer to one publish. If this is dropped without an answer, the span has an unknown outcome.
pub(crate) struct ConfirmHandle {
    confirms: Arc<PendingConfirms>,
    pending: Option<PendingConfirm>,
}

struct PendingConfirm {
    id: ConfirmId,
    /// None while it is in [`ReturnablePublishes`].
    span: Option<ClientSpan>,
    waker: Arc<ConfirmWaker>,
}

/// Notes the time of the answer: the user may poll the confirm much later.
struct ConfirmWaker {
    id: ConfirmId,
    answered_at: OnceLock<SystemTime>,
    woken: Arc<WokenConfirms>,
}

/// The publishes whose wakers were called.
#[derive(Default)]
struct WokenConfirms(Mutex<Vec<ConfirmId>>);

impl Wake for ConfirmWaker {
    // lapin holds locks here: do not call lapin, and take no lock that is held while lapin is called.
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
    /// Polls lapin's confirm with a waker that notes the time of the answer.
    fn poll_confirm(&self, confirm: &mut lapin::PublisherConfirm) -> Poll<Result<lapin::Confirmation>> {
        let waker = Waker::from(self.waker.clone());
        Pin::new(confirm).poll(&mut Context::from_waker(&waker))
    }
}

impl PendingConfirms {
    /// Adds a publish that is about to be sent. `injected` is `Some` if its message may be returned.
    pub(crate) fn add(self: &Arc<Self>, span: ClientSpan, injected: Option<InjectedHeaders>) -> ConfirmHandle {
        let mut state = self.state();
        let (id, span) = state.publishes.register(span, injected);
        let waker = Arc::new(ConfirmWaker { id, answered_at: OnceLock::new(), woken: self.woken.clone() });
        ConfirmHandle { confirms: self.clone(), pending: Some(PendingConfirm { id, span, waker }) }
    }

    /// Resolves the parked confirms whose wakers were called.
    #[inline]
    pub(crate) fn resolve_woken(&self) {
        let woken = mem::take(&mut *self.woken.lock());
        if !woken.is_empty() {
            self.poll_parked(|state| woken.iter().filter_map(|id| state.parked.remove(id)).collect());
        }
    }

    /// Resolves all parked confirms that have an answer, in the order of their publishes.
    pub(crate) fn resolve_parked(&self) {
        self.woken.lock().clear();
        self.poll_parked(|state| mem::take(&mut state.parked).into_values().collect());
    }

    fn poll_parked(&self, parked: impl FnOnce(&mut State) -> Vec<Parked>) {
        self.update(|state, span_ends| {
            for mut parked in parked(state) {
                match parked.pending.poll_confirm(&mut parked.confirm) {
                    Poll::Ready(answer) => {
                        let answer = state.record_answer(parked.pending, answer, span_ends);
                        state.keep_returned(answer);
                    }
                    Poll::Pending => _ = state.parked.insert(parked.pending.id, parked),
                }
            }
        });
    }

    /// The returned messages that lapin gives, then those that were kept here.
    pub(crate) fn take_returned(&self, theirs: Vec<lapin::message::BasicReturnMessage>) -> Vec<BasicReturnMessage> {
        let mut returned: Vec<_> = theirs.into_iter().map(BasicReturnMessage::from).collect();
        self.update(|state, span_ends| {
            for message in &mut returned {
                state.publishes.message_returned(message, None, SystemTime::now(), span_ends);
            }
            returned.append(&mut state.returned);
        });
        returned
    }

    /// Keeps the returned message of an answer whose confirm was dropped.
    pub(crate) fn keep_returned(&self, answer: Result<Confirmation>) {
        self.state().keep_returned(answer);
    }

    /// Changes the state under the lock, then ends the spans whose outcome is known.
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

    /// Records lapin's answer to a publish. The injected headers are removed from a returned message in it.
    fn record_answer(
        &mut self,
        pending: PendingConfirm,
        answer: Result<lapin::Confirmation>,
        span_ends: &mut SpanEnds,
    ) -> Result<Confirmation> {
        let at = pending.waker.answered_at.get().copied().unwrap_or_else(SystemTime::now);
        let mut answer = answer.map(Confirmation::from);
        self.publishes.generation.note_answer(pending.id);
        if let Ok(Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message))) = &mut answer {
            self.publishes.message_returned(message, Some(pending.id), at, span_ends);
        }
        let failure = match &answer {
            Err(error) => Some((error_type(error), error.to_string())),
            Ok(Confirmation::Nack(_)) => Some((NACK, "refused by the broker".to_owned())),
            Ok(Confirmation::Ack(_) | Confirmation::NotRequested) => None,
        };
        self.publishes.record_outcome(pending.id, pending.span, at, failure, span_ends);
        answer
    }
}

impl ConfirmHandle {
    /// Polls lapin's confirm. The time of a later answer is noted.
    pub(crate) fn poll_answer(&self, confirm: &mut lapin::PublisherConfirm) -> Poll<Result<lapin::Confirmation>> {
        self.pending.as_ref().map_or(Poll::Pending, |pending| pending.poll_confirm(confirm))
    }

    /// Records the answer.
    pub(crate) fn finish(mut self, answer: Result<lapin::Confirmation>) -> Result<Confirmation> {
        let Some(pending) = self.pending.take() else { return answer.map(Confirmation::from) };
        self.confirms.update(|state, span_ends| state.record_answer(pending, answer, span_ends))
    }

    /// Records that lapin could not send the message.
    pub(crate) fn publish_failed(self, error: &Error) {
        // The user gets the original error; this copy is only recorded.
        _ = self.finish(Err(error.clone()));
    }

    /// Keeps a confirm that the user dropped before its answer.
    pub(crate) fn park(mut self, confirm: lapin::PublisherConfirm) {
        let Some(pending) = self.pending.take() else { return };
        let waker = pending.waker.clone();
        self.confirms.state().parked.insert(pending.id, Parked { confirm, pending });
        // If the answer came before the confirm was parked, `resolve_woken` may have run without it.
        if waker.answered_at.get().is_some() {
            waker.woken.lock().push(waker.id);
        }
    }

    pub(crate) fn confirms(&self) -> &Arc<PendingConfirms> {
        &self.confirms
    }
}

impl Drop for ConfirmHandle {
    fn drop(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        let span = self.confirms.update(|state, span_ends| state.publishes.handle_dropped(pending.id, span_ends));
        drop((span, pending));
    }
}

impl Drop for PendingConfirms {
    /// Acknowledged publishes succeed; the outcome of the others is unknown.
    fn drop(&mut self) {
        self.resolve_parked();
        let rest = self.update(|state, span_ends| {
            state.publishes.complete_all_acks(span_ends);
            mem::take(state)
        });
        drop(rest);
    }
}

impl fmt::Debug for PendingConfirms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("PendingConfirms")
            .field("unanswered", &state.publishes.unanswered())
            .field("parked", &state.parked.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, iter::repeat_n};

    use lapin::{BasicProperties, message::Delivery};
    use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
    use otel_messaging::{
        Instrumentation, Propagation,
        adapter::{Destination, Telemetry, scope},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::{headers::OutgoingHeaders, telemetry::PUBLISH};

    /// The next event, and the index of the publish that it happens to.
    #[derive(Debug, Clone)]
    enum Event {
        /// A publish with a route, or without one.
        Begins { routed: bool },
        /// Its message is returned, if it has no route.
        Returns(usize),
        /// It is acknowledged. lapin attaches the oldest returned message to its confirm.
        Acknowledged(usize),
        /// The user polls its confirm.
        Polled(usize),
        /// The user drops its future before there is a confirm, which lapin keeps then.
        Dropped(usize),
    }

    const EVENTS: usize = 300;

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            3 => any::<bool>().prop_map(|routed| Event::Begins { routed }),
            1 => any::<usize>().prop_map(Event::Returns),
            3 => any::<usize>().prop_map(Event::Acknowledged),
            3 => any::<usize>().prop_map(Event::Polled),
            1 => any::<usize>().prop_map(Event::Dropped),
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
        fn returned_publishes_fail_in_any_order_of_answers_and_polls(
            events in prop::collection::vec(event(), 0..EVENTS),
        ) {
            let telemetry = Telemetry::new(scope("otel-lapin", "0"), "rabbitmq");
            let provider = SdkTracerProvider::builder().build();
            let instrumentation = Instrumentation::builder().with_tracer_provider(provider);
            telemetry.instrument(instrumentation.with_propagation(Propagation::custom(TraceContextPropagator::new())).build());
            let operation = telemetry.operation(PUBLISH, &["orders"], || Destination::named("orders"));
            let confirms = Arc::new(PendingConfirms::default());
            let begin = || {
                let given = BasicProperties::default();
                let mut outgoing = OutgoingHeaders::new(&given, usize::MAX, true);
                let span = telemetry.send(telemetry.start_operation().unwrap(), &operation, Some(&mut outgoing), |_| ());
                let (headers, injected) = outgoing.finish();
                (confirms.add(span, injected), BasicProperties::default().with_headers(headers.unwrap()))
            };

            let (mut in_flight, mut returned_messages, mut answered) = (Vec::new(), VecDeque::new(), Vec::new());
            let (mut routed_ones, mut others, mut unknown) = (0, 0, [0, 0]);
            let (mut abandons, mut kept_by_lapin) = (false, Vec::new());
            let mut span_ends = SpanEnds::new();
            let rest = repeat_n(Event::Acknowledged(0), EVENTS).chain(repeat_n(Event::Polled(0), EVENTS));
            for event in events.into_iter().chain(rest) {
                match event {
                    Event::Begins { routed } => {
                        let (publish, sent) = begin();
                        *if routed { &mut routed_ones } else { &mut others } += 1;
                        in_flight.push((Some(publish), routed, (!routed).then(|| no_route(sent))));
                    }
                    Event::Returns(which) => {
                        let which = which.checked_rem(in_flight.len());
                        returned_messages.extend(which.and_then(|which| in_flight[which].2.take()));
                    }
                    Event::Acknowledged(which) => {
                        if let Some((publish, _, returned)) = take(&mut in_flight, which) {
                            returned_messages.extend(returned);
                            let brought = returned_messages.pop_front();
                            match publish {
                                Some(publish) => answered.push((publish, brought)),
                                None => kept_by_lapin.extend(brought),
                            }
                        }
                    }
                    Event::Dropped(which) => {
                        let which = which.checked_rem(in_flight.len());
                        if let Some((publish @ Some(_), routed, _)) = which.map(|which| &mut in_flight[which]) {
                            let id = publish.take().unwrap().pending.take().unwrap().id;
                            let span = confirms.state().publishes.handle_dropped(id, &mut span_ends);
                            unknown[usize::from(*routed)] += usize::from(span.is_some());
                            abandons = true;
                        }
                    }
                    Event::Polled(which) => {
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
            let [unknown_others, unknown_routed] = unknown;
            if abandons {
                // A message that was returned with a confirm that lapin keeps is not seen to fail.
                prop_assert!(failed <= others - unknown_others);
                prop_assert_eq!(span_ends.len() + unknown_others + unknown_routed, routed_ones + others);
            } else {
                prop_assert_eq!((span_ends.len() - failed, failed), (routed_ones, others));
                prop_assert!(confirms.state().publishes.is_empty());
            }
            for message in confirms.take_returned(kept_by_lapin) {
                prop_assert_eq!(message.properties.clone(), BasicProperties::default());
            }
        }
    }
}
