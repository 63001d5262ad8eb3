//! `sequential` around loops over each source, on more than one runtime.

use std::{cell::Cell, future::pending, panic::AssertUnwindSafe};

use futures::{
    FutureExt, StreamExt,
    future::{join_all, join3},
};
use opentelemetry::{SpanId, trace::TraceContextExt};
use otel_messaging::{MessageExt, sequential, sequential_blocking};
use support::{DEADLINE, Sdk, attribute, describe};
use tokio::{runtime::Handle, sync::oneshot, task::block_in_place, time::timeout};

use crate::{
    Broker, PLAIN, Received, asked, connected, current, ids, is_empty, named, opened, parents, processed, sent, take,
    turn,
};

const MESSAGES: usize = 10;

/// One loop: for each message two are sent, before and after others have had their turn.
async fn work<B: Broker>(broker: &B, receiver: &B::Receiver, to: &str) {
    let mut messages = B::messages(receiver);
    sequential(async {
        for _ in 0..MESSAGES {
            let message = messages.next().await.unwrap();
            broker.send(to, &[], "1").await;
            turn().await;
            broker.send(to, &[], "1").await;
            message.settle().await;
        }
    })
    .await;
}

/// Two loops and a heartbeat in one task.
async fn keep_apart<B: Broker>(source: B::Source) {
    let sdk = Sdk::new();
    let (broker, beats) = connected::<B>(&sdk).await;
    let [left, left_to, right, right_to] = [(); 4].map(|()| broker.destination());
    let (left, left_to, right, right_to) = (left.await, left_to.await, right.await, right_to.await);
    let left_receiver = broker.open(source, &left, &[PLAIN; MESSAGES]).await;
    let right_receiver = broker.open(source, &right, &[PLAIN; MESSAGES]).await;
    let working = Cell::new(2);
    let heartbeat = async {
        let mut count = 0;
        while working.get() > 0 {
            broker.send(&beats, &[], "1").await;
            turn().await;
            count += 1;
        }
        count
    };
    let done = |()| working.set(working.get() - 1);
    let left_work = work(&broker, &left_receiver, &left_to).map(done);
    let ((), count, ()) = join3(left_work, heartbeat, work(&broker, &right_receiver, &right_to).map(done)).await;

    for (from, to) in [(&left, &left_to), (&right, &right_to)] {
        let process = ids(&processed(&sdk, from));
        assert_eq!(process.len(), MESSAGES, "{source:?}");
        let twice: Vec<_> = process.iter().flat_map(|&id| [id, id]).collect();
        assert_eq!(parents(&sent::<B>(&sdk, to)), twice, "{source:?}");
        if let Some(settlement) = B::settlement(source, from) {
            let settled = parents(&named(&sdk, &settlement)).into_iter().filter(|parent| process.contains(parent));
            assert_eq!(settled.collect::<Vec<_>>(), process, "{source:?}");
        }
    }
    let beaten = sent::<B>(&sdk, &beats);
    assert!(count >= MESSAGES && beaten.len() == count, "{source:?}: {count}");
    assert!(parents(&beaten).iter().all(|parent| *parent == SpanId::INVALID), "{source:?}: {}", describe(&beaten));
}

pub async fn two_loops_and_a_heartbeat_in_one_task_keep_apart_on_tokio<B: Broker>() {
    for source in asked::<B>() {
        timeout(2 * DEADLINE, keep_apart::<B>(source)).await.unwrap();
    }
}

/// The clients' own tasks may stay on tokio; the loops are polled by smol.
pub async fn two_loops_and_a_heartbeat_in_one_task_keep_apart_on_smol<B: Broker>() {
    for source in asked::<B>() {
        block_in_place(|| smol::block_on(keep_apart::<B>(source)));
    }
}

pub async fn a_loop_that_is_cancelled_or_panics_ends_its_message_and_leaves_nothing_current<B: Broker>() {
    for source in asked::<B>() {
        let (sdk, _broker, destination, receiver) = opened::<B>(source, &[PLAIN; 3]).await;
        let mut messages = B::messages(&receiver);
        let (in_hand, has_one) = oneshot::channel();
        let cancelled = sequential(async {
            let message = take::<B>(&mut messages).await;
            assert_eq!(current(), message.otel_context().span().span_context().span_id(), "{source:?}");
            in_hand.send(()).unwrap();
            pending::<()>().await;
        });
        tokio::select! {
            () = cancelled => unreachable!("it never ends"),
            received = has_one => received.unwrap(),
        }
        assert_eq!((current(), processed(&sdk, &destination).len()), (SpanId::INVALID, 1), "{source:?}: cancelled");
        let panics = sequential(async {
            let _message = take::<B>(&mut messages).await;
            panic!("a handler's bug");
        });
        assert!(AssertUnwindSafe(panics).catch_unwind().await.is_err());
        assert_eq!(current(), SpanId::INVALID, "{source:?}: panicked");
        let blocking = || {
            sequential_blocking(|| {
                let _message = Handle::current().block_on(take::<B>(&mut messages));
                panic!("a handler's bug");
            });
        };
        assert!(block_in_place(|| std::panic::catch_unwind(AssertUnwindSafe(blocking))).is_err());
        assert_eq!(current(), SpanId::INVALID, "{source:?}: panicked on its thread");
        let process = processed(&sdk, &destination);
        let errors: Vec<_> = process.iter().map(|span| attribute(span, "error.type").cloned()).collect();
        assert_eq!(errors, [None, Some("panic".into()), Some("panic".into())], "{source:?}");
    }
}

/// Takes messages one after the other. While each is in hand other sources are asked, which have none, then its own.
async fn ask_others_and_it<B: Broker>(broker: &B, source: B::Source, receiver: &B::Receiver, sent: &[String; 4]) {
    let [orders, onward, idle, empty] = sent;
    let next = async |messages: &mut _| {
        if B::DELIVERS_AT_ONCE {
            broker.put(orders, &[], "1").await;
        }
        take::<B>(messages).await
    };
    let others: Vec<_> = asked::<B>().filter(|other| !B::blocks(*other)).collect();
    let others = join_all(others.into_iter().map(|other| broker.open(other, empty, &[]))).await;
    let mut others: Vec<_> = others.iter().map(B::messages).collect();
    let mut messages = B::messages(receiver);
    for (way, same) in B::same(receiver) {
        let in_hand = next(&mut messages).await;
        broker.ask_others(orders).await;
        assert!(others.iter_mut().all(is_empty::<B>), "{source:?}: there is no message");
        broker.send(onward, &[], "1").await;
        assert!(is_empty::<B>(&mut same.await), "{source:?} by {way}: there is no other");
        broker.send(idle, &[], "1").await;
        in_hand.settle().await;
    }
    // Its own stream is its source, too.
    let in_hand = next(&mut messages).await;
    assert!(others.iter_mut().all(is_empty::<B>), "{source:?}: there is no message");
    broker.send(onward, &[], "1").await;
    if B::sees_asking(source) {
        assert!(is_empty::<B>(&mut messages), "{source:?}: there is no other");
        broker.send(idle, &[], "1").await;
    }
    drop(in_hand);
}

pub async fn a_message_is_in_hand_until_its_own_source_is_polled<B: Broker>() {
    let sdk = Sdk::new();
    let (broker, onward) = connected::<B>(&sdk).await;
    for source in asked::<B>().filter(|source| !B::blocks(*source)) {
        for blocking in [false, true] {
            let [orders, idle, empty] = [(); 3].map(|()| broker.destination());
            let destinations = [orders.await, onward.clone(), idle.await, empty.await];
            let [orders, onward, idle, empty] = &destinations;
            let ways = B::same(&broker.open(source, empty, &[]).await).len();
            let there = if B::DELIVERS_AT_ONCE { 0 } else { ways + 1 };
            let receiver = broker.open(source, orders, &vec![PLAIN; there]).await;
            let work = ask_others_and_it(&broker, source, &receiver, &destinations);
            match blocking {
                false => sequential(work).await,
                true => block_in_place(|| sequential_blocking(|| Handle::current().block_on(work))),
            }
            let messages = ids(&processed(&sdk, orders));
            assert_eq!(messages.len(), ways + 1, "{source:?}, {blocking}");
            assert_eq!(parents(&sent::<B>(&sdk, onward)), messages, "{source:?}, {blocking}");
            let asked = if B::sees_asking(source) { ways + 1 } else { 0 };
            assert_eq!(parents(&sent::<B>(&sdk, idle)), vec![SpanId::INVALID; asked], "{source:?}, {blocking}");
            sdk.forget();
        }
    }
}
