//! The message in hand of a loop that works on one after the other.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use opentelemetry::{Context, trace::TraceContextExt};

use crate::{
    description::source::SourceId,
    spans::{
        context_state::{Attached, Processed, process_here, processed_here},
        current::Current,
    },
};

/// For adapters: this source was asked for its next message, so none of its messages is in hand any more.
///
/// The first thing in every `poll_next`, `recv` and `poll`, whether a message comes or not. What is delivered next is in
/// hand again, by [`deliver`](crate::adapter::Telemetry::deliver).
#[inline]
pub fn poll_started(source: SourceId) {
    if let Some(hand) = here() {
        hand.lock().asked(source);
        attach(&hand);
    }
}

/// The messages of one loop that are alive.
#[derive(Default)]
pub(crate) struct Hand(Mutex<Alive>);

#[derive(Default)]
struct Alive(Vec<Message>);

struct Message {
    id: usize,
    source: SourceId,
    /// Its source was not asked for another one since.
    in_hand: bool,
    current: Current,
    processed: Processed,
}

impl Alive {
    fn asked(&mut self, source: SourceId) {
        self.0.iter_mut().filter(|message| message.source == source).for_each(|message| message.in_hand = false);
    }

    /// The message to work on: the only one, if it is in hand.
    fn in_hand(&self) -> Option<&Message> {
        match &self.0[..] {
            [only] => Some(only).filter(|only| only.in_hand),
            _ => None,
        }
    }
}

impl Hand {
    fn lock(&self) -> MutexGuard<'_, Alive> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the guard is dropped this thread is polling that loop.
    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        let here = Here { hand: self.clone(), outer: Context::current(), attached: None };
        let entered = Entered { outer: HERE.with(|cell| cell.replace(Some(here))), processed: processed_here() };
        attach(self);
        entered
    }

    /// The number of messages that are alive.
    pub(crate) fn alive(&self) -> usize {
        self.lock().0.len()
    }

    /// Takes a message of this source in hand. `id` is the address of its process span.
    pub(crate) fn take(self: &Arc<Self>, id: usize, source: SourceId, current: Current, processed: Processed) {
        self.lock().0.push(Message { id, source, in_hand: true, current, processed });
        attach(self);
    }

    /// Releases a message, on whatever thread its last part was dropped.
    pub(crate) fn release(self: &Arc<Self>, id: usize) {
        let released = {
            let mut alive = self.lock();
            let at = alive.0.iter().position(|message| message.id == id);
            at.map(|at| alive.0.swap_remove(at))
        };
        attach(self);
        drop(released);
    }
}

thread_local! {
    /// The loop that this thread is polling.
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

struct Here {
    hand: Arc<Hand>,
    /// What is current around the loop.
    outer: Context,
    /// Never used again: dropping it is its purpose.
    attached: Option<Attached>,
}

/// The loop that this thread is polling, if it is.
#[inline]
pub(crate) fn here() -> Option<Arc<Hand>> {
    HERE.try_with(|here| here.borrow().as_ref().map(|here| here.hand.clone())).ok().flatten()
}

/// The context around the loop that this thread is polling, if `context` is that of the message in hand. A message that is
/// delivered there has nothing to do with the one in hand.
pub(crate) fn around_hand(context: &Context) -> Option<Context> {
    let around = |here: &RefCell<Option<Here>>| {
        let here = here.borrow();
        let here = here.as_ref()?;
        let alive = here.hand.lock();
        let in_hand = alive.in_hand()?.current.context.span().span_context().clone();
        (in_hand.is_valid() && in_hand == *context.span().span_context()).then(|| here.outer.clone())
    };
    HERE.try_with(around).ok().flatten()
}

/// Makes current what the loop has in hand, if the loop is the one that this thread is polling.
fn attach(hand: &Arc<Hand>) {
    let outer = |here: &RefCell<Option<Here>>| {
        here.borrow().as_ref().filter(|here| Arc::ptr_eq(&here.hand, hand)).map(|here| here.outer.clone())
    };
    let Ok(Some(outer)) = HERE.try_with(outer) else { return };
    let put = |attached| {
        HERE.with(|here| here.borrow_mut().as_mut().and_then(|here| std::mem::replace(&mut here.attached, attached)))
    };
    // Let go of before the next is attached, and outside the borrow: a context may be the last owner of a span.
    drop(put(None));
    let in_hand = hand.lock().in_hand().map(|message| (message.current.inside(|| outer), message.processed));
    if let Some((context, processed)) = in_hand {
        drop(put(Some(Attached::new(context, processed))));
    }
}

pub(crate) struct Entered {
    outer: Option<Here>,
    processed: Processed,
}

impl Drop for Entered {
    fn drop(&mut self) {
        // The guard of the loop that is left goes first, then the outer loop is what it was.
        drop(HERE.with(|cell| cell.replace(None)));
        HERE.with(|cell| cell.replace(self.outer.take()));
        // Guards of the loop may have gone in another order than they came.
        process_here(self.processed);
    }
}
