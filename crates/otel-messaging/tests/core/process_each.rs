//! Several messages at a time.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    ops::ControlFlow,
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
use otel_messaging::adapter::{AtStreamError, DeliverStream};

use crate::queue::*;

type Shared = Rc<RefCell<Queue>>;

/// So many messages, from `0` on.
fn filled(messages: usize) -> (Sdk, Shared) {
    let (sdk, mut queue) = traced();
    (0..messages).for_each(|id| queue.push(&id.to_string()).unwrap());
    (sdk, Rc::new(RefCell::new(queue)))
}

/// The queue as a stream that is ready as long as there are messages, and then ends.
fn messages(queue: &Shared) -> impl Stream<Item = Message> + Unpin + use<> {
    let queue = queue.clone();
    stream::poll_fn(move |_| queue.borrow_mut().pop().into())
}

/// The message that each span of this name belongs to.
fn messages_of(sdk: &Sdk, name: &str) -> Vec<String> {
    let spans = sdk.spans();
    let process =
        |id: SpanId| spans.iter().find(|span| span.span_context.span_id() == id && span.name == "process orders");
    let message = |id| value_of(process(id)?, "messaging.message.id").map(ToString::to_string);
    let of = spans.iter().filter(|span| span.name == name).map(|span| message(span.parent_span_id));
    let mut of: Vec<_> = of.map(|id| id.expect("inside a process span")).collect();
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
        let (sdk, queue) = filled(MESSAGES);
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
    let (sdk, queue) = filled(3);
    block_on(messages(&queue).process_each(2, async |message| match message.id.as_str() {
        "1" => Err(std::io::Error::other("declined")),
        _ => Ok(()),
    }));
    let processed = |at: usize, of| process(of).child_of(at).link(at);
    let failed = processed(1, "1").error(std::any::type_name::<std::io::Error>(), "declined");
    sdk.assert([push(), push(), push(), processed(0, "0"), failed, processed(2, "2")]);
}

#[test]
fn a_stream_s_error_waits_for_the_handlers_and_the_stream_goes_on() {
    let (sdk, queue) = filled(3);
    let mut left = messages(&queue).map(Ok).take(2).chain(stream::iter([Err("lost")])).chain(messages(&queue).map(Ok));
    let (finish, finished) = oneshot::channel::<()>();
    let finished = finished.shared();
    let handled = RefCell::new(Vec::new());
    let handle = async |message: Message| {
        let _ = finished.clone().await;
        handled.borrow_mut().push(message.id.clone());
    };
    let (ended, ()) = block_on(join((&mut left).process_each(10, handle), async {
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
    let (sdk, queue) = filled(5);
    let mut stream = messages(&queue);
    let started = Cell::new(0);
    {
        let mut each = pin!((&mut stream).process_each(2, |message| {
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
    let (sdk, queue) = filled(3);
    let mut stream = messages(&queue);
    let handle = async |message: Message| {
        yield_now().await;
        assert_ne!(message.id, "0", "a bug of the handler's");
    };
    let panics = block_on(AssertUnwindSafe((&mut stream).process_each(1, handle)).catch_unwind());
    assert!(panics.is_err());
    assert_eq!(value_of(&sdk.spans()[3], "error.type").unwrap().as_str(), "panic");
    block_on(stream.process_each(1, handle));
    assert_eq!(sdk.spans().len(), 6);
}

#[test]
fn others_of_the_task_have_their_turn_while_messages_never_end() {
    let (_sdk, queue) = filled(1_000);
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
    let (_sdk, queue) = filled(100);
    let stream = messages(&queue);
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

/// Not `Unpin`, as what `take_until` makes of a future.
fn until<S: Stream>(stream: S, stop: impl Future<Output = ()>) -> impl Stream<Item = S::Item> {
    stream.take_until(async move {
        stop.await;
    })
}

#[test]
fn a_stream_that_is_stopped_has_its_messages_in_hand_handled_to_their_end() {
    let (sdk, queue) = filled(5);
    let (stop, stopped) = oneshot::channel::<()>();
    let (finish, finished) = oneshot::channel::<()>();
    let finished = finished.shared();
    let handled = Cell::new(0);
    let stream = until(messages(&queue).map(Ok::<_, &str>), stopped.map(drop));
    let each = stream.process_each(2, async |message| {
        let _ = finished.clone().await;
        handled.set(handled.get() + 1);
        message.ack();
    });
    let (ended, ()) = block_on(join(each, async {
        yield_now().await;
        stop.send(()).unwrap();
        yield_now().await;
        assert_eq!(handled.get(), 0);
        finish.send(()).unwrap();
    }));
    assert_eq!((ended, handled.get(), queue.borrow().messages.len()), (Ok(()), 2, 3));
    assert_eq!(messages_of(&sdk, "ack orders"), ids(2));
}

#[test]
fn what_each_handler_gives_is_seen_inside_its_message_s_span() {
    let (sdk, queue) = filled(3);
    let tracer = sdk.tracer();
    let seen = RefCell::new(Vec::new());
    let each = messages(&queue).process_each(2, async |message| match message.id.as_str() {
        "1" => Err(std::io::Error::other("declined")),
        _ => Ok(()),
    });
    block_on(each.on_outcome(|outcome| {
        drop(tracer.start("seen"));
        seen.borrow_mut().push(outcome.as_ref().err().map(ToString::to_string));
    }));
    assert_eq!(*seen.borrow(), [None, Some("declined".to_owned()), None]);
    assert_eq!(messages_of(&sdk, "seen"), ids(3));
    assert_eq!(sdk.spans().iter().filter(|span| value_of(span, "error.type").is_some()).count(), 1);
}

/// What the queue's stream may fail with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    EndOfPartition,
    Forbidden,
    MissingHeartbeat,
    Fatal,
}

/// A message of a client that says what its stream's errors are.
struct Streamed(Message);

impl ReceivedMessage for Streamed {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        self.0.process_span()
    }

    fn at_stream_error(error: &dyn Any) -> AtStreamError {
        match error.downcast_ref() {
            Some(Lost::EndOfPartition) => AtStreamError::Ignore,
            Some(Lost::Forbidden) => AtStreamError::GoOn("forbidden"),
            Some(Lost::MissingHeartbeat) => AtStreamError::GoOnUnlessLast("missing_heartbeat"),
            Some(Lost::Fatal) | None => AtStreamError::End,
        }
    }
}

/// A stream of messages and these errors; `None` is a message.
fn failing<E: Copy + 'static>(queue: &Shared, items: &[Option<E>]) -> impl Stream<Item = Result<Streamed, E>> + use<E> {
    let queue = queue.clone();
    stream::iter(items.to_vec()).map(move |item| match item {
        None => Ok(Streamed(queue.borrow_mut().pop().unwrap())),
        Some(error) => Err(error),
    })
}

#[cfg(feature = "internal-logs")]
/// How the loop ends, how many messages it handled, and which errors it warned of.
fn each_of<E: Copy + fmt::Debug + 'static>(items: &[Option<E>]) -> (Result<(), E>, usize, Vec<String>) {
    let (_sdk, queue) = filled(items.len());
    let handled = Cell::new(0);
    let mut ended = Ok(());
    let heard = support::heard(|| {
        let each = failing(&queue, items).process_each(4, async |_| handled.set(handled.get() + 1));
        ended = block_on(each);
    });
    let kind = |line: &str| Some(line.split_once("error_type=\"")?.1.split_once('"')?.0.to_owned());
    let warned = heard.lines().filter(|line| line.contains("WARN") && line.contains("messaging.stream.error"));
    (ended, handled.get(), warned.filter_map(kind).collect())
}

#[cfg(feature = "internal-logs")]
#[test]
fn the_client_says_at_which_errors_of_its_stream_a_loop_goes_on() {
    use Lost::{EndOfPartition, Fatal, Forbidden, MissingHeartbeat};
    let warned = |kinds: &[&str]| kinds.iter().map(|kind| (*kind).to_owned()).collect::<Vec<_>>();
    let error = Some;
    assert_eq!(each_of(&[error(EndOfPartition), None, error(EndOfPartition)]), (Ok(()), 1, warned(&[])));
    assert_eq!(
        each_of(&[error(Forbidden), None, error(Forbidden), error(MissingHeartbeat), None]),
        (Ok(()), 2, warned(&["forbidden", "missing_heartbeat"])),
        "each kind is warned of once"
    );
    assert_eq!(each_of(&[None, error(Forbidden)]), (Ok(()), 1, warned(&["forbidden"])));
    let last = (Err(MissingHeartbeat), 1, warned(&["missing_heartbeat"]));
    assert_eq!(each_of(&[None, error(MissingHeartbeat)]), last, "the stream ends after it");
    assert_eq!(each_of(&[error(Fatal), None]), (Err(Fatal), 0, warned(&[])));
    assert_eq!(each_of(&[None, Some("not the client's"), None]), (Err("not the client's"), 1, warned(&[])));
}

#[test]
fn the_application_decides_at_an_error_of_the_stream_where_it_says_so() {
    use Lost::{Fatal, Forbidden};
    let (_sdk, queue) = filled(3);
    let items = [Some(Fatal), None, Some(Fatal), None, Some(Forbidden), None];
    let (handled, met) = (Cell::new(0), RefCell::new(Vec::new()));
    let heard = support::heard(|| {
        let each = failing(&queue, &items).process_each(4, async |_| handled.set(handled.get() + 1));
        let ended = block_on(each.on_stream_error(|error| {
            met.borrow_mut().push(*error);
            if *error == Fatal { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        }));
        assert_eq!(ended, Err(Forbidden));
    });
    assert_eq!((handled.get(), met.into_inner()), (2, vec![Fatal, Fatal, Forbidden]));
    assert!(!heard.contains("messaging.stream.error"), "{heard}");
}

#[test]
fn without_telemetry_the_handlers_run_all_the_same() {
    let queue = Rc::new(RefCell::new(Queue::bare()));
    queue.borrow_mut().push("0").unwrap();
    let (handled, seen) = (Cell::new(0), Cell::new(0));
    let each = messages(&queue).process_each(2, async |message| {
        assert!(message.process_span().is_none());
        handled.set(handled.get() + 1);
    });
    block_on(each.on_outcome(|()| seen.set(seen.get() + 1)));
    assert_eq!((handled.get(), seen.get()), (1, 1));
}

#[test]
fn a_stream_that_is_delivered_works_in_a_sequential_loop() {
    let (sdk, queue) = filled(3);
    let tracer = sdk.tracer();
    // Somebody else's stream, of which one item is a message each.
    let ticks = stream::iter(0..3);
    let mut stream = DeliverStream::new(queue.borrow().source, ticks, |_| queue.borrow_mut().pop().unwrap());
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
