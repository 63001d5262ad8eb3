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
    headers::Injected,
    message::BasicReturnMessage,
    publisher_confirm::Confirmation,
};

/// How many acknowledged publishes wait for others to be answered, where some are not for long; the oldest are believed first.
/// And how many whose spans are told already are known again when they come back.
const LIMIT: usize = 1_000;

/// All publishes of one channel whose answer is still out.
#[derive(Default)]
pub(crate) struct Publishes {
    state: Mutex<State>,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct State {
    next: u64,
    generation: Generation,
    returnable: BTreeMap<u64, Returnable>,
    /// Those of `returnable` that were acknowledged and in which generation, oldest first.
    acknowledged: VecDeque<(u64, u64)>,
    /// Those that were dropped midway, and once there is one all that are believed, oldest first: lapin has a confirm of
    /// its own then, and may have it bring any of them to the next `wait_for_confirms`.
    known_again: VecDeque<u64>,
    parked: BTreeMap<u64, Parked>,
    /// What came back with parked confirms, for the next `wait_for_confirms`.
    returned: Vec<BasicReturnMessage>,
}

/// The last generation of publishes. One begins when all that are older than the last one are answered.
#[derive(Default)]
struct Generation {
    number: u64,
    /// Its first publish.
    first: u64,
    /// How many of it have no answer yet.
    unanswered: usize,
    /// And how many of the one before.
    unanswered_before: usize,
}

impl Generation {
    fn answered(&mut self, publish: u64) {
        let unanswered = if publish < self.first { &mut self.unanswered_before } else { &mut self.unanswered };
        *unanswered -= 1;
    }

    /// The next one, which begins with this publish.
    fn next(&self, first: u64) -> Self {
        Self { number: self.number + 1, first, unanswered: 0, unanswered_before: self.unanswered }
    }
}

/// A publish whose message may come back.
struct Returnable {
    /// None when it is told: believed, or dropped midway.
    span: Option<ClientSpan>,
    injected: Injected,
    acknowledged_at: SystemTime,
}

struct Parked {
    confirm: lapin::PublisherConfirm,
    ticket: Ticket,
}

/// One publish on its way. Dropped without an answer, its span says that the outcome is unknown.
pub(crate) struct Publish {
    publishes: Arc<Publishes>,
    ticket: Option<Ticket>,
}

struct Ticket {
    number: u64,
    /// None while it is in [`State::returnable`].
    span: Option<ClientSpan>,
    answered: Arc<Answered>,
}

/// Notes when the answer came: somebody may look much later.
struct Answered {
    number: u64,
    at: OnceLock<SystemTime>,
    woken: Arc<Woken>,
}

/// The publishes whose answers came while nobody was looking.
#[derive(Default)]
struct Woken(Mutex<Vec<u64>>);

impl Wake for Answered {
    // lapin holds locks here: nothing of its own may be touched, and nothing of ours that is held while lapin is called.
    fn wake(self: Arc<Self>) {
        self.at.get_or_init(SystemTime::now);
        self.woken.lock().push(self.number);
    }
}

impl Woken {
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Vec<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Asks lapin for the answer; what it wakes later notes the time.
    fn poll(&self, confirm: &mut lapin::PublisherConfirm) -> Poll<Result<lapin::Confirmation>> {
        let waker = Waker::from(self.answered.clone());
        Pin::new(confirm).poll(&mut Context::from_waker(&waker))
    }
}

/// A span whose outcome is known, to be ended when nothing is locked: processors run then.
struct Outcome {
    span: ClientSpan,
    at: SystemTime,
    failure: Option<(&'static str, String)>,
}

impl Outcome {
    fn tell(self) {
        let span = self.span.ended_at(self.at);
        match self.failure {
            None => span.succeed(),
            Some((error_type, description)) => span.fail(error_type, description),
        }
    }
}

type Outcomes = Vec<Outcome>;

impl Publishes {
    /// Notes a publish that is about to be sent. `injected` is there when the message may come back.
    pub(crate) fn begin(self: &Arc<Self>, span: ClientSpan, injected: Option<Injected>) -> Publish {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.generation.unanswered += 1;
        let span = match injected {
            Some(injected) => {
                let (span, acknowledged_at) = (Some(span), SystemTime::UNIX_EPOCH);
                state.returnable.insert(number, Returnable { span, injected, acknowledged_at });
                None
            }
            None => Some(span),
        };
        let answered = Arc::new(Answered { number, at: OnceLock::new(), woken: self.woken.clone() });
        Publish { publishes: self.clone(), ticket: Some(Ticket { number, span, answered }) }
    }

    /// Settles the parked confirms whose answers came.
    #[inline]
    pub(crate) fn collect(&self) {
        let woken = mem::take(&mut *self.woken.lock());
        if !woken.is_empty() {
            self.look_at(|state| woken.iter().filter_map(|number| state.parked.remove(number)).collect());
        }
    }

    /// Settles all parked confirms that have an answer, in the order they were published in.
    pub(crate) fn collect_all(&self) {
        self.woken.lock().clear();
        self.look_at(|state| mem::take(&mut state.parked).into_values().collect());
    }

    fn look_at(&self, parked: impl FnOnce(&mut State) -> Vec<Parked>) {
        self.change(|state, outcomes| {
            for mut parked in parked(state) {
                match parked.ticket.poll(&mut parked.confirm) {
                    Poll::Ready(answer) => {
                        let answer = state.answer(parked.ticket, answer, outcomes);
                        state.keep(answer);
                    }
                    Poll::Pending => _ = state.parked.insert(parked.ticket.number, parked),
                }
            }
        });
    }

    /// What came back and was kept, after what lapin gives itself.
    pub(crate) fn returned(&self, theirs: Vec<lapin::message::BasicReturnMessage>) -> Vec<BasicReturnMessage> {
        let mut returned: Vec<_> = theirs.into_iter().map(BasicReturnMessage::from).collect();
        self.change(|state, outcomes| {
            for message in &mut returned {
                state.came_back(message, None, SystemTime::now(), outcomes);
            }
            returned.append(&mut state.returned);
        });
        returned
    }

    /// Keeps what came with an answer that nobody took.
    pub(crate) fn keep(&self, answer: Result<Confirmation>) {
        self.state().keep(answer);
    }

    /// What becomes known by a change is told when nothing is locked any more.
    fn change<T>(&self, change: impl FnOnce(&mut State, &mut Outcomes) -> T) -> T {
        let mut outcomes = Outcomes::new();
        let changed = change(&mut self.state(), &mut outcomes);
        outcomes.into_iter().for_each(Outcome::tell);
        changed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, answer: Result<Confirmation>) {
        self.returned.extend(answer.ok().and_then(Confirmation::take_message));
    }

    /// Takes lapin's answer, finds out whose it is, and gives it on without what we added to the message.
    fn answer(
        &mut self,
        ticket: Ticket,
        answer: Result<lapin::Confirmation>,
        outcomes: &mut Outcomes,
    ) -> Result<Confirmation> {
        let at = ticket.answered.at.get().copied().unwrap_or_else(SystemTime::now);
        let mut answer = answer.map(Confirmation::from);
        self.generation.answered(ticket.number);
        if let Ok(Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message))) = &mut answer {
            self.came_back(message, Some(ticket.number), at, outcomes);
        }
        let failure = match &answer {
            Err(error) => Some((error_type(error), error.to_string())),
            Ok(Confirmation::Nack(_)) => Some((NACK, "refused by the broker".to_owned())),
            Ok(Confirmation::Ack(_) | Confirmation::NotRequested) => None,
        };
        match (ticket.span, failure) {
            (Some(span), failure) => outcomes.push(Outcome { span, at, failure }),
            // If it is not there any more, its message came back already, perhaps with the answer to another publish.
            (None, Some(failure)) => {
                let span = self.returnable.remove(&ticket.number).and_then(|own| own.span);
                outcomes.extend(span.map(|span| Outcome { span, at, failure: Some(failure) }));
            }
            (None, None) => {
                if let Some(own) = self.returnable.get_mut(&ticket.number) {
                    own.acknowledged_at = at;
                    self.acknowledged.push_back((ticket.number, self.generation.number));
                }
            }
        }
        self.believe(outcomes);
        answer
    }

    /// A message came back: whichever publish it was has failed. `with` is the publish whose answer it came with.
    fn came_back(
        &mut self,
        message: &mut BasicReturnMessage,
        with: Option<u64>,
        at: SystemTime,
        outcomes: &mut Outcomes,
    ) {
        let properties = &message.delivery.properties;
        let own = with.and_then(|number| Some((number, &self.returnable.get(&number)?.injected)));
        let marked = own.filter(|(_, own)| own.are_in(properties)).map(|(number, _)| number);
        let marked = marked.or_else(|| {
            let mut all = self.returnable.iter();
            all.find(|(_, one)| one.injected.are_in(properties)).map(|(&number, _)| number)
        });
        // Where nobody's mark is on it there is only lapin's word for it.
        let unmarked = || own.filter(|(_, own)| !own.is_marked()).map(|(number, _)| number);
        let Some(number) = marked.or_else(unmarked) else { return };
        if let Some(Returnable { span, injected, .. }) = self.returnable.remove(&number) {
            message.delivery.properties = injected.undo(properties);
            let failure = Some((reply_type(message.reply_code), message.reply_text.to_string()));
            outcomes.extend(span.map(|span| Outcome { span, at, failure }));
        }
    }

    /// Nobody will see the answer, and lapin has sent it: what is left is to know the message, should it come back.
    fn abandon(&mut self, number: u64, outcomes: &mut Outcomes) -> Option<ClientSpan> {
        self.know_again(number);
        self.generation.answered(number);
        self.believe(outcomes);
        self.returnable.get_mut(&number)?.span.take()
    }

    fn know_again(&mut self, number: u64) {
        self.known_again.push_back(number);
        if self.known_again.len() > LIMIT {
            self.known_again.pop_front().and_then(|oldest| self.returnable.remove(&oldest));
        }
    }

    /// Ends the acknowledged publishes whose messages cannot come back any more.
    ///
    /// What comes back is there before its publish is acknowledged. lapin hands it on with the next answer, whosever that is;
    /// where several came back, one with each, the oldest first. There are never more of them than publishes that came back and
    /// are not answered yet. So when all that had begun at the acknowledgement are answered, it is handed on; and when all
    /// that have begun by then are answered too, it was looked at. Each takes a generation from its beginning to the end, and
    /// the acknowledgement came in the middle of one.
    fn believe(&mut self, outcomes: &mut Outcomes) {
        while let Some(&(number, generation)) = self.acknowledged.front() {
            if generation + 3 <= self.generation.number || self.acknowledged.len() > LIMIT {
                self.acknowledged.pop_front();
                let Some(Returnable { span, acknowledged_at: at, .. }) = self.returnable.get_mut(&number) else {
                    continue;
                };
                outcomes.extend(span.take().map(|span| Outcome { span, at: *at, failure: None }));
                if self.known_again.is_empty() {
                    self.returnable.remove(&number);
                } else {
                    self.know_again(number);
                }
            } else if self.generation.unanswered_before == 0 {
                self.generation = self.generation.next(self.next);
            } else {
                return;
            }
        }
    }
}

impl Publish {
    /// Asks lapin for the answer, and has the time noted when it comes.
    pub(crate) fn poll(&self, confirm: &mut lapin::PublisherConfirm) -> Poll<Result<lapin::Confirmation>> {
        self.ticket.as_ref().map_or(Poll::Pending, |ticket| ticket.poll(confirm))
    }

    /// The answer came.
    pub(crate) fn answered(mut self, answer: Result<lapin::Confirmation>) -> Result<Confirmation> {
        let Some(ticket) = self.ticket.take() else { return answer.map(Confirmation::from) };
        self.publishes.change(|state, outcomes| state.answer(ticket, answer, outcomes))
    }

    /// It was not even sent.
    pub(crate) fn refused(self, error: &Error) {
        // The error goes to the user as it is; this one is only told of.
        _ = self.answered(Err(error.clone()));
    }

    /// The user dropped the confirm: it waits here.
    pub(crate) fn park(mut self, confirm: lapin::PublisherConfirm) {
        let Some(ticket) = self.ticket.take() else { return };
        let answered = ticket.answered.clone();
        self.publishes.state().parked.insert(ticket.number, Parked { confirm, ticket });
        // The answer may have come since it was asked for, and have been looked for here in vain.
        if answered.at.get().is_some() {
            answered.woken.lock().push(answered.number);
        }
    }

    pub(crate) fn publishes(&self) -> &Arc<Publishes> {
        &self.publishes
    }
}

impl Drop for Publish {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let span = self.publishes.change(|state, outcomes| state.abandon(ticket.number, outcomes));
        drop((span, ticket));
    }
}

impl Drop for Publishes {
    /// The channel goes. What was acknowledged was acknowledged; of the rest the outcome is unknown.
    fn drop(&mut self) {
        self.collect_all();
        let rest = self.change(|state, outcomes| {
            (state.generation.unanswered, state.generation.unanswered_before) = (0, 0);
            state.believe(outcomes);
            mem::take(state)
        });
        drop(rest);
    }
}

impl fmt::Debug for Publishes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let Generation { unanswered, unanswered_before, .. } = state.generation;
        f.debug_struct("Publishes")
            .field("unanswered", &(unanswered + unanswered_before))
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
            let publishes = Arc::new(Publishes::default());
            let begin = || {
                let given = BasicProperties::default();
                let mut outgoing = Outgoing::new(&given, usize::MAX, true);
                let span = telemetry.send(telemetry.start_operation().unwrap(), &operation, Some(&mut outgoing), |_| ());
                let (headers, injected) = outgoing.finish();
                (publishes.begin(span, injected), BasicProperties::default().with_headers(headers.unwrap()))
            };

            let (mut in_flight, mut came_back, mut answered) = (Vec::new(), VecDeque::new(), Vec::new());
            let (mut routed_ones, mut others, mut untold) = (0, 0, [0, 0]);
            let (mut abandons, mut in_lapins_hands) = (false, Vec::new());
            let mut outcomes = Outcomes::new();
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
                        came_back.extend(which.and_then(|which| in_flight[which].2.take()));
                    }
                    Event::Acknowledged(which) => {
                        if let Some((publish, _, returned)) = take(&mut in_flight, which) {
                            came_back.extend(returned);
                            let brought = came_back.pop_front();
                            match publish {
                                Some(publish) => answered.push((publish, brought)),
                                None => in_lapins_hands.extend(brought),
                            }
                        }
                    }
                    Event::Abandoned(which) => {
                        let which = which.checked_rem(in_flight.len());
                        if let Some((publish @ Some(_), routed, _)) = which.map(|which| &mut in_flight[which]) {
                            let number = publish.take().unwrap().ticket.take().unwrap().number;
                            let span = publishes.state().abandon(number, &mut outcomes);
                            untold[usize::from(*routed)] += usize::from(span.is_some());
                            abandons = true;
                        }
                    }
                    Event::LookedAt(which) => {
                        if let Some((mut publish, brought)) = take(&mut answered, which) {
                            let ticket = publish.ticket.take().unwrap();
                            let answer = Ok(lapin::Confirmation::Ack(brought));
                            let answer = publishes.state().answer(ticket, answer, &mut outcomes);
                            let brought = answer.unwrap().take_message();
                            prop_assert!(brought.is_none_or(|message| message.properties == BasicProperties::default()));
                        }
                    }
                }
            }
            let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
            let [untold_others, untold_routed] = untold;
            if abandons {
                // What came back in lapin's hands is not seen to have failed.
                prop_assert!(failed <= others - untold_others);
                prop_assert_eq!(outcomes.len() + untold_others + untold_routed, routed_ones + others);
            } else {
                prop_assert_eq!((outcomes.len() - failed, failed), (routed_ones, others));
                prop_assert!(publishes.state().returnable.is_empty());
            }
            for message in publishes.returned(in_lapins_hands) {
                prop_assert_eq!(message.properties.clone(), BasicProperties::default());
            }
        }
    }
}
