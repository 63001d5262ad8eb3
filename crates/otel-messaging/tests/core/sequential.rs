//! One line around a loop.

use std::{cell::RefCell, panic::AssertUnwindSafe, rc::Rc};

use futures::{FutureExt, future::join3};

use crate::queue::*;

fn current() -> SpanId {
    Context::current().span().span_context().span_id()
}

/// A queue with so many messages in it, each under a root of its own.
fn queue(sdk: &Sdk, messages: usize) -> Queue {
    let mut queue = Queue::new(sdk.instrumentation());
    for id in 0..messages {
        queue.push(&id.to_string()).unwrap();
    }
    queue
}

/// The id of the message whose process span is the parent, of each span of this name.
fn parents(sdk: &Sdk, name: &str) -> Vec<Option<String>> {
    let spans = sdk.spans();
    let of = |id| spans.iter().find(|span| span.span_context.span_id() == id && span.name == "process orders");
    let named = spans.iter().filter(|span| span.name == name);
    named.map(|span| Some(value_of(of(span.parent_span_id)?, "messaging.message.id")?.to_string())).collect()
}

#[test]
fn each_message_is_current_from_its_delivery_until_it_is_dropped() {
    let sdk = Sdk::new();
    let mut queue = queue(&sdk, 2);
    let tracer = sdk.tracer();
    block_on(sequential(async {
        while let Some(message) = queue.pop() {
            drop(tracer.start("before an await"));
            yield_now().await;
            drop(tracer.start("after an await"));
            drop(message);
            drop(tracer.start("without a message"));
            yield_now().await;
            assert_eq!(current(), SpanId::INVALID);
        }
    }));
    let both = [Some("0".to_owned()), Some("1".to_owned())];
    assert_eq!(parents(&sdk, "before an await"), both);
    assert_eq!(parents(&sdk, "after an await"), both);
    assert_eq!(parents(&sdk, "without a message"), [None, None]);
    assert_eq!(current(), SpanId::INVALID);
}

#[test]
fn a_blocking_loop_has_the_same_in_closure_form() {
    let sdk = Sdk::new();
    let mut queue = queue(&sdk, 3);
    let tracer = sdk.tracer();
    sequential_blocking(|| {
        while let Some(message) = queue.pop() {
            drop(tracer.start("work"));
            drop(message);
            drop(tracer.start("none"));
        }
    });
    assert_eq!(parents(&sdk, "work"), [Some("0".to_owned()), Some("1".to_owned()), Some("2".to_owned())]);
    assert_eq!(parents(&sdk, "none"), [None, None, None]);
}

#[test]
fn two_loops_and_a_heartbeat_in_one_task_keep_apart() {
    const MESSAGES: usize = 20;
    let sdk = Sdk::new();
    let tracer = sdk.tracer();
    let run = |mut queue: Queue, name: &'static str| {
        let tracer = sdk.tracer();
        sequential(async move {
            while let Some(message) = queue.pop() {
                yield_now().await;
                drop(tracer.start(name));
                yield_now().await;
                drop(message);
                yield_now().await;
            }
        })
    };
    let heartbeat = async {
        for _ in 0..3 * MESSAGES {
            drop(tracer.start("heartbeat"));
            yield_now().await;
        }
    };
    block_on(join3(run(queue(&sdk, MESSAGES), "left"), heartbeat, run(queue(&sdk, MESSAGES), "right")));
    let ids: Vec<_> = (0..MESSAGES).map(|id| Some(id.to_string())).collect();
    assert_eq!(parents(&sdk, "left"), ids);
    assert_eq!(parents(&sdk, "right"), ids);
    assert_eq!(parents(&sdk, "heartbeat"), vec![None; 3 * MESSAGES]);
}

#[test]
fn none_is_current_while_two_are_alive_and_the_last_one_is_again() {
    let sdk = Sdk::new();
    let mut queue = queue(&sdk, 2);
    let tracer = sdk.tracer();
    block_on(sequential(async {
        let kept = queue.pop().unwrap();
        let second = queue.pop().unwrap();
        drop(tracer.start("two"));
        drop(kept);
        drop(tracer.start("one"));
        drop(second);
        drop(tracer.start("none"));
    }));
    assert_eq!(parents(&sdk, "two"), [None]);
    assert_eq!(parents(&sdk, "one"), [Some("1".to_owned())]);
    assert_eq!(parents(&sdk, "none"), [None]);
}

/// What a handler does with other queues while it has a message in hand.
fn asks_others(queue: &mut Queue) {
    assert!(queue.pop_from("nothing here").is_none());
}

#[test]
fn a_message_stays_in_hand_while_its_handler_asks_another_queue() {
    let sdk = Sdk::new();
    let tracer = sdk.tracer();
    let (mut orders, mut other) = (queue(&sdk, 2), queue(&sdk, 0));
    block_on(sequential(async {
        while let Some(message) = orders.pop() {
            asks_others(&mut other);
            drop(tracer.start("after an empty queue"));
            yield_now().await;
            other.push("stock").unwrap();
            let found = other.pop_from("stock").unwrap();
            drop(tracer.start("with both"));
            drop(found);
            drop(tracer.start("after the other message"));
            drop(message);
        }
    }));
    let mut orders = queue(&sdk, 1);
    sequential_blocking(|| {
        let _in_hand = orders.pop();
        asks_others(&mut other);
        drop(tracer.start("in the closure form"));
    });
    let both = [Some("0".to_owned()), Some("1".to_owned())];
    assert_eq!(parents(&sdk, "after an empty queue"), both);
    assert_eq!(parents(&sdk, "with both"), [None, None], "nothing is guessed while two are alive");
    assert_eq!(parents(&sdk, "after the other message"), both);
    assert_eq!(parents(&sdk, "in the closure form"), [Some("0".to_owned())]);
}

#[test]
fn an_empty_poll_of_its_source_takes_a_message_out_of_hand() {
    let sdk = Sdk::new();
    let tracer = sdk.tracer();
    let mut queue = queue(&sdk, 2);
    block_on(sequential(async {
        let kept = queue.pop().unwrap();
        let second = queue.pop().unwrap();
        drop(second);
        drop(tracer.start("its source gave another"));
        assert!(queue.pop().is_none());
        yield_now().await;
        drop(tracer.start("its source gave none"));
        drop(kept);
    }));
    assert_eq!(parents(&sdk, "its source gave another"), [None]);
    assert_eq!(parents(&sdk, "its source gave none"), [None]);
}

#[test]
fn a_message_that_moved_to_another_thread_is_let_go_there() {
    let sdk = Sdk::new();
    let mut queue = queue(&sdk, 2);
    let tracer = sdk.tracer();
    block_on(sequential(async {
        let moved = queue.pop().unwrap();
        std::thread::spawn(move || {
            assert_eq!(current(), SpanId::INVALID, "a thread inherits nothing");
            drop(moved);
            assert_eq!(current(), SpanId::INVALID);
        })
        .join()
        .unwrap();
        // The context is still attached here until the loop asks for the next message or is polled again.
        yield_now().await;
        drop(tracer.start("none"));
        let _second = queue.pop().unwrap();
        drop(tracer.start("second"));
    }));
    assert_eq!(parents(&sdk, "none"), [None]);
    assert_eq!(parents(&sdk, "second"), [Some("1".to_owned())]);
}

#[test]
fn a_loop_that_is_cancelled_or_panics_leaves_nothing_current() {
    let sdk = Sdk::new();
    let source = Rc::new(RefCell::new(queue(&sdk, 2)));
    let held = source.clone();
    let mut cancelled = Box::pin(sequential(async move {
        let _message = held.borrow_mut().pop();
        assert_ne!(current(), SpanId::INVALID);
        std::future::pending::<()>().await;
    }));
    assert!(block_on(async { futures::poll!(&mut cancelled) }).is_pending());
    assert_eq!(current(), SpanId::INVALID);
    drop(cancelled);
    assert_eq!(sdk.spans().len(), 3, "the message was dropped with its loop");

    let panics = sequential(async {
        let _message = source.borrow_mut().pop();
        panic!("a handler's bug");
    });
    assert!(block_on(AssertUnwindSafe(panics).catch_unwind()).is_err());
    assert_eq!(current(), SpanId::INVALID);
    assert_eq!(value_of(&sdk.spans()[3], "error.type").unwrap().as_str(), "panic");
}

#[test]
fn a_loop_inside_a_span_gives_it_back() {
    let sdk = Sdk::new();
    let mut queue = queue(&sdk, 1);
    let ambient = sdk.app_span("ambient");
    let _attached = ambient.clone().attach();
    let outside = current();
    sequential_blocking(|| {
        let message = queue.pop();
        assert_ne!(current(), outside);
        sequential_blocking(|| queue.push_with(HeaderMap::default(), "inner")).unwrap();
        drop(message);
        assert_eq!(current(), outside);
    });
    assert_eq!(current(), outside);
}

#[test]
fn in_a_loop_too_each_links_attributes_are_its_messages() {
    let works: [fn(&mut Queue); 2] = [|queue| drop(queue.pull()), |queue| drop(sequential_blocking(|| queue.pull()))];
    for work in works {
        let sdk = Sdk::new();
        work(&mut queue(&sdk, 2));
        sdk.assert_contains(pull().batch_of(2).link_with(0, id("0")).link_with(1, id("1")));
    }
}
