//! The message in hand of a sequential loop.

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

/// For adapters: a poll of this source starts. From now on, no message of this source is in hand.
///
/// Call this first in every `poll_next`, `recv` and `poll`, even if the poll returns no message.
/// [`deliver`](crate::adapter::Telemetry::deliver) takes the next message in hand.
#[inline]
pub fn poll_started(source: SourceId) {
    if let Some(hand) = here() {
        hand.lock().asked(source);
        attach(&hand);
    }
}

/// The live messages of one loop: the delivered messages that are not dropped.
#[derive(Default)]
pub(crate) struct Hand(Mutex<Alive>);

#[derive(Default)]
struct Alive(Vec<Message>);

struct Message {
    id: usize,
    source: SourceId,
    /// The source of the message was not polled since the delivery.
    in_hand: bool,
    current: Current,
    processed: Processed,
}

impl Alive {
    fn asked(&mut self, source: SourceId) {
        self.0.iter_mut().filter(|message| message.source == source).for_each(|message| message.in_hand = false);
    }

    /// The message to make current: the only live message, if it is in hand.
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

    /// Marks this loop as polled by this thread, until the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        let here = Here { hand: self.clone(), outer: Context::current(), attached: None };
        let entered = Entered { outer: HERE.with(|cell| cell.replace(Some(here))), processed: processed_here() };
        attach(self);
        entered
    }

    /// The number of live messages.
    pub(crate) fn alive(&self) -> usize {
        self.lock().0.len()
    }

    /// Takes a message of this source in hand. `id` is the address of its process span.
    pub(crate) fn take(self: &Arc<Self>, id: usize, source: SourceId, current: Current, processed: Processed) {
        self.lock().0.push(Message { id, source, in_hand: true, current, processed });
        attach(self);
    }

    /// Releases a message whose last part was dropped, on any thread.
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
    /// The context that is current around the loop.
    outer: Context,
    /// Held only for its drop.
    attached: Option<Attached>,
}

/// The loop that this thread is polling, if there is one.
#[inline]
pub(crate) fn here() -> Option<Arc<Hand>> {
    HERE.try_with(|here| here.borrow().as_ref().map(|here| here.hand.clone())).ok().flatten()
}

/// The context around the loop that this thread is polling, if `context` is that of the message in hand. A newly delivered
/// message must not become a child of the message in hand.
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

/// Makes the message in hand of a loop current, if this thread is polling that loop.
fn attach(hand: &Arc<Hand>) {
    let outer = |here: &RefCell<Option<Here>>| {
        here.borrow().as_ref().filter(|here| Arc::ptr_eq(&here.hand, hand)).map(|here| here.outer.clone())
    };
    let Ok(Some(outer)) = HERE.try_with(outer) else { return };
    let put = |attached| {
        HERE.with(|here| here.borrow_mut().as_mut().and_then(|here| std::mem::replace(&mut here.attached, attached)))
    };
    // The guard is dropped before the next one is attached, and outside the borrow: its context may be the last owner of a span.
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
        // The guard of this loop is dropped before the outer loop is restored.
        drop(HERE.with(|cell| cell.replace(None)));
        HERE.with(|cell| cell.replace(self.outer.take()));
        // The guards of the loop may have been dropped in another order than they were created.
        process_here(self.processed);
    }
}
