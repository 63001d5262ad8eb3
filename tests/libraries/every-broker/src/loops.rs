//! `process_each` around a stream of messages: a graceful stop, a loop that is dropped, the outcomes of handlers.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use futures::{StreamExt, future::join};
use otel_messaging::{MessageStreamExt, semconv::extension};
use support::{DEADLINE, attribute};
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use crate::{Broker, PLAIN, Received, asked, current, named, opened, processed, take};

const MESSAGES: usize = 6;
const LIMIT: usize = 2;

async fn until(condition: impl Fn() -> bool) {
    let all = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(DEADLINE, all).await.expect("in time");
}

pub async fn a_loop_that_is_stopped_handles_what_it_has_in_hand<B: Broker>() {
    for source in asked::<B>() {
        let (sdk, broker, destination, receiver) = opened::<B>(source, &[PLAIN; MESSAGES]).await;
        let mut messages = B::messages(&receiver);
        let (stop, stopped) = oneshot::channel::<()>();
        let (finish, finished) = watch::channel(false);
        let (started, handled) = (Cell::new(0), Cell::new(0));
        let each = messages.by_ref().take_until(stopped).process_each(LIMIT, async |message| {
            let number = started.replace(started.get() + 1);
            finished.clone().wait_for(|finished| *finished).await.unwrap();
            // The loop notices the stop when the first handler is done.
            if number > 0 {
                sleep(Duration::from_millis(5)).await;
            }
            handled.set(handled.get() + 1);
            message.settle().await;
        });
        let operator = async {
            until(|| started.get() == LIMIT).await;
            stop.send(()).unwrap();
            assert_eq!(handled.get(), 0);
            finish.send(true).unwrap();
        };
        timeout(DEADLINE, join(each, operator)).await.expect("it stops");
        assert_eq!(handled.get(), LIMIT, "{source:?}");

        let process = processed(&sdk, &destination);
        assert_eq!(process.len(), LIMIT, "{source:?}");
        for span in process {
            assert_eq!(attribute(&span, "error.type"), None, "{source:?}");
            let outcome = B::outcome(source).map(Into::into);
            assert_eq!(attribute(&span, extension::SETTLEMENT_OUTCOME), outcome.as_ref(), "{source:?}");
        }
        if let Some(settlement) = B::settlement(source, &destination) {
            assert_eq!(named(&sdk, &settlement).len(), LIMIT, "{source:?}");
        }
        for _ in LIMIT..MESSAGES {
            drop(take::<B>(&mut messages).await);
        }
        drop(messages);
        broker.assert_unsettled(&destination, MESSAGES - LIMIT).await;
    }
}

pub async fn a_dropped_loop_drops_its_messages_in_hand_and_loses_none<B: Broker>() {
    for source in asked::<B>() {
        let (sdk, broker, destination, receiver) = opened::<B>(source, &[PLAIN; MESSAGES]).await;
        let mut messages = B::messages(&receiver);
        let started = Cell::new(0);
        let each = messages.by_ref().process_each(LIMIT, async |message| {
            started.set(started.get() + 1);
            std::future::pending::<()>().await;
            drop(message);
        });
        tokio::select! {
            () = each => panic!("{source:?}: its handlers never end"),
            () = until(|| started.get() == LIMIT) => {}
        }
        let process = processed(&sdk, &destination);
        assert_eq!(process.len(), LIMIT, "{source:?}: their spans ended with them");
        assert!(process.iter().all(|span| attribute(span, "error.type").is_none()), "{source:?}");
        for _ in LIMIT..MESSAGES {
            drop(take::<B>(&mut messages).await);
        }
        drop(messages);
        broker.assert_unsettled(&destination, MESSAGES).await;
    }
}

pub async fn a_handlers_outcome_is_seen_inside_its_span<B: Broker>() {
    for source in asked::<B>() {
        let (sdk, _broker, destination, receiver) = opened::<B>(source, &[PLAIN; MESSAGES]).await;
        let (handled, seen) = (Cell::new(0), RefCell::new(Vec::new()));
        let each = B::messages(&receiver).take(MESSAGES).process_each(LIMIT, async |message| {
            let number = handled.replace(handled.get() + 1);
            message.settle().await;
            if number == 3 { Err(std::io::Error::other("declined")) } else { Ok(()) }
        });
        let observed = each.on_outcome(|outcome| {
            seen.borrow_mut().push((outcome.as_ref().err().map(ToString::to_string), current().to_bytes()));
        });
        observed.await;
        let (mut seen, process) = (seen.into_inner(), processed(&sdk, &destination));
        let recorded = process.iter().map(|span| {
            (attribute(span, "error.type").map(|_| "declined".to_owned()), span.span_context.span_id().to_bytes())
        });
        let mut recorded: Vec<_> = recorded.collect();
        seen.sort();
        recorded.sort();
        assert_eq!((seen.len(), seen.iter().filter(|(error, _)| error.is_some()).count()), (MESSAGES, 1));
        assert_eq!(seen, recorded, "{source:?}");
    }
}
