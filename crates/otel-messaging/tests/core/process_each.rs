//! Several messages at a time.

use std::{
    cell::{Cell, RefCell},
    panic::AssertUnwindSafe,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as TaskContext, Wake},
};

use futures::{FutureExt, Stream, StreamExt, channel::oneshot, future::join, stream};
use opentelemetry::{SpanId, trace::Tracer};
use otel_messaging::{MessageExt, MessageStreamExt, adapter::HandingOut, sequential};
use support::{Sdk, attribute as value_of};
use tokio::task::yield_now;

use crate::{
    block_on,
    queue::{Message, Queue},
};

type Shared = Rc<RefCell<Queue>>;

fn queue(sdk: &Sdk, messages: usize) -> Shared {
    let mut queue = Queue::new(sdk.instrumentation());
    for id in 0..messages {
        queue.push(&id.to_string()).unwrap();
    }
    Rc::new(RefCell::new(queue))
}

/// The queue as a stream that is ready as long as there are messages, and then ends.
fn messages(queue: &Shared) -> impl Stream<Item = Message> + Unpin + use<> {
    let queue = queue.clone();
    stream::poll_fn(move |_| queue.borrow_mut().pop().into())
}

/// The message that each span of this name belongs to.
fn messages_of(sdk: &Sdk, name: &str) -> Vec<String> {
    let spans = sdk.spans();
    let message = |id: SpanId| {
        let process = spans.iter().find(|span| span.span_context.span_id() == id && span.name == "process orders");
        value_of(process?, "messaging.message.id").map(|id| id.as_str().into_owned())
    };
    let mut of = spans.iter().filter(|span| span.name == name).map(|span| message(span.parent_span_id));
    let mut of: Vec<_> = of.by_ref().map(|id| id.expect("inside a process span")).collect();
    of.sort_by_key(|id| id.parse::<usize>().unwrap());
    of
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|id| id.to_string()).collect()
}

#[test]
fn each_message_is_handled_inside_its_span_and_never_more_than_the_limit() {
    // Beyond what is taken in one poll.
    const MESSAGES: usize = 100;
    for limit in [0, 1, 3, 32] {
        let sdk = Sdk::new();
        let queue = queue(&sdk, MESSAGES);
        let tracer = sdk.tracer();
        let (running, most) = (Cell::new(0), Cell::new(0));
        block_on(messages(&queue).process_each(limit, |message| {
            drop(tracer.start("made"));
            running.set(running.get() + 1);
            most.set(most.get().max(running.get()));
            let (tracer, running) = (&tracer, &running);
            async move {
                yield_now().await;
                drop(tracer.start("work"));
                yield_now().await;
                message.ack();
                running.set(running.get() - 1);
            }
        }));
        assert_eq!(most.get(), limit.max(1), "limit {limit}");
        for name in ["made", "work", "ack orders"] {
            assert_eq!(messages_of(&sdk, name), ids(MESSAGES), "{name}, limit {limit}");
        }
    }
}

#[test]
fn a_handler_s_error_is_its_span_s_and_stops_no_other_message() {
    let sdk = Sdk::new();
    let queue = queue(&sdk, 3);
    block_on(messages(&queue).process_each(2, async |message| match message.id.as_str() {
        "1" => Err(std::io::Error::other("declined")),
        _ => Ok(()),
    }));
    let spans = sdk.spans();
    let mut failed = spans.iter().filter(|span| value_of(span, "error.type").is_some());
    let error = failed.next().expect("one of them");
    assert_eq!(value_of(error, "messaging.message.id").unwrap().as_str(), "1");
    assert_eq!(error.status, opentelemetry::trace::Status::error("declined"));
    assert!(failed.next().is_none());
    assert_eq!(spans.len(), 6);
}

#[test]
fn a_stream_s_error_waits_for_the_handlers_and_the_stream_goes_on() {
    let sdk = Sdk::new();
    let queue = queue(&sdk, 3);
    let mut left = messages(&queue).map(Ok).take(2).chain(stream::iter([Err("lost")])).chain(messages(&queue).map(Ok));
    let (finish, finished) = oneshot::channel::<()>();
    let finished = finished.shared();
    let handled = RefCell::new(Vec::new());
    let handle = async |message: Message| {
        let _ = finished.clone().await;
        handled.borrow_mut().push(message.id.clone());
    };
    let (ended, ()) = block_on(join(left.process_each(10, handle), async {
        yield_now().await;
        assert_eq!(handled.borrow().len(), 0);
        assert_eq!(queue.borrow().messages.len(), 1, "nothing more is taken after an error");
        finish.send(()).unwrap();
    }));
    assert_eq!(ended, Err("lost"));
    assert_eq!(*handled.borrow(), ["0", "1"]);
    assert_eq!(block_on(left.process_each(10, handle)), Ok(()));
    assert_eq!(*handled.borrow(), ["0", "1", "2"]);
    assert_eq!(sdk.spans().len(), 6);
}

#[test]
fn nothing_is_taken_that_cannot_be_handled_and_a_drop_drops_what_is() {
    let sdk = Sdk::new();
    let queue = queue(&sdk, 5);
    let mut stream = messages(&queue);
    let started = Cell::new(0);
    {
        let mut each = pin!(stream.process_each(2, |message| {
            started.set(started.get() + 1);
            async move {
                let _owned = message;
                std::future::pending::<()>().await;
            }
        }));
        for _ in 0..3 {
            assert!(block_on(async { futures::poll!(&mut each) }).is_pending());
        }
        assert_eq!((started.get(), queue.borrow().messages.len()), (2, 3));
        assert_eq!(sdk.spans().len(), 5, "their spans are open");
    }
    let spans = sdk.spans();
    assert_eq!(spans.len(), 7, "and end with them");
    assert!(spans.iter().all(|span| value_of(span, "error.type").is_none()), "{}", sdk.described());
    block_on(stream.process_each(2, async |_| ()));
    assert_eq!(sdk.spans().len(), 10, "the others are still there");
}

#[test]
fn a_panic_is_its_span_s_error_and_the_stream_goes_on() {
    let sdk = Sdk::new();
    let queue = queue(&sdk, 3);
    let mut stream = messages(&queue);
    let handle = async |message: Message| {
        yield_now().await;
        assert_ne!(message.id, "0", "a bug of the handler's");
    };
    let panics = block_on(AssertUnwindSafe(stream.process_each(1, handle)).catch_unwind());
    assert!(panics.is_err());
    assert_eq!(value_of(&sdk.spans()[3], "error.type").unwrap().as_str(), "panic");
    block_on(stream.process_each(1, handle));
    assert_eq!(sdk.spans().len(), 6);
}

#[test]
fn others_of_the_task_have_their_turn_while_messages_never_end() {
    let sdk = Sdk::new();
    let queue = queue(&sdk, 1_000);
    let ticks = Cell::new(0);
    let handling = Cell::new(true);
    block_on(join(
        async {
            messages(&queue).process_each(4, async |_| ()).await;
            handling.set(false);
        },
        async {
            while handling.get() {
                ticks.set(ticks.get() + 1);
                yield_now().await;
            }
        },
    ));
    assert!(ticks.get() > 10, "{} turns", ticks.get());
}

#[test]
fn who_stops_to_let_others_have_their_turn_asks_to_be_polled_again() {
    struct Woken(AtomicBool);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let sdk = Sdk::new();
    let queue = queue(&sdk, 100);
    let mut stream = messages(&queue);
    let mut each = stream.process_each(100, async |_| std::future::pending::<()>().await);
    let mut polls = 0;
    while !queue.borrow().messages.is_empty() {
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        assert!(each.poll_unpin(&mut TaskContext::from_waker(&woken.clone().into())).is_pending());
        // Not at the limit: a handler has to end first.
        assert_eq!(woken.0.load(Ordering::Relaxed), !queue.borrow().messages.is_empty());
        polls += 1;
    }
    assert!(polls > 1);
}

#[test]
fn without_telemetry_the_handlers_run_all_the_same() {
    let queue = Rc::new(RefCell::new(Queue::bare()));
    queue.borrow_mut().push("0").unwrap();
    let handled = Cell::new(0);
    block_on(messages(&queue).process_each(2, async |message| {
        assert!(message.process_span().is_none());
        handled.set(handled.get() + 1);
    }));
    assert_eq!(handled.get(), 1);
}

#[test]
fn a_stream_that_is_handed_out_works_in_a_sequential_loop() {
    let sdk = Sdk::new();
    let queue = queue(&sdk, 3);
    let tracer = sdk.tracer();
    // Somebody else's stream, of which one item is a message each.
    let ticks = stream::iter(0..3);
    let mut stream = HandingOut::new(ticks, |_| queue.borrow_mut().pop().unwrap());
    assert_eq!(stream.size_hint(), (3, Some(3)));
    block_on(sequential(async {
        while let Some(message) = stream.next().await {
            yield_now().await;
            drop(tracer.start("work"));
            drop(message);
        }
    }));
    assert_eq!(messages_of(&sdk, "work"), ids(3));
}
