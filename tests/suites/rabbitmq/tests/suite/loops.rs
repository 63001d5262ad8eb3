//! `process_each` around a queue, as people stop it, lose it and watch it.

use std::{
    cell::{Cell, RefCell},
    ops::ControlFlow,
    time::Duration,
};

use futures::future::{join, ready};
use lapin::{
    ErrorKind,
    options::{BasicAckOptions, QueueDeleteOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
};
use otel_lapin::{
    message::DeliveryResult,
    otel::{Incoming, MessageStreamExt},
};
use otel_messaging::semconv::metric;
use support::attribute as value_of;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::block_in_place,
    time::{sleep, timeout},
};

use crate::{
    harness::{Rabbit, named},
    sources::filled,
};

const LIMIT: usize = 2;

async fn until(condition: impl Fn() -> bool) {
    let all = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(support::DEADLINE, all).await.expect("in time");
}

/// The broker closes the channel because of this.
async fn break_channel(rabbit: &Rabbit) {
    // What nobody was given cannot be acknowledged.
    rabbit.channel.basic_ack(4711, BasicAckOptions::default()).await.unwrap();
    until(|| !rabbit.channel.status().connected()).await;
}

fn is_precondition_failed(error: &lapin::Error) -> bool {
    let expected = AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED);
    matches!(error.kind(), ErrorKind::ProtocolError(error) if *error.kind() == expected)
}

/// That the consumer's error is told once, by a span and by its measurement.
fn assert_consume_failed(rabbit: &Rabbit, queue: &str) {
    let spans = rabbit.sdk.spans();
    let [consume] = named(&spans, &format!("consume {queue}"))[..] else { panic!("{}", rabbit.described()) };
    assert_eq!(value_of(consume, "error.type"), Some(&"precondition-failed".into()));
    let measured = rabbit.measured(metric::CLIENT_OPERATION_DURATION);
    let consumed: Vec<_> = measured.iter().filter(|line| line.contains("\"consume\"")).collect();
    let [line] = consumed[..] else { panic!("{measured:?}") };
    assert!(line.contains("error.type = \"precondition-failed\"") && line.ends_with(" 1"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_the_broker_closes_ends_the_loop_once_its_handlers_are_done() {
    // Whether the application decides to go on: there is nothing to go on with.
    for goes_on in [false, true] {
        let rabbit = Rabbit::with_all_signals().await;
        let queue = filled(&rabbit, 1).await;
        let consumer = rabbit.consume(&queue).await;
        let (finish, finished) = watch::channel(false);
        let (started, outcomes, met) = (Cell::new(0), RefCell::new(Vec::new()), Cell::new(0));
        let each = consumer.process_each(LIMIT, async |message| {
            started.set(started.get() + 1);
            finished.clone().wait_for(|finished| *finished).await.unwrap();
            // lapin says in one way or another that the channel is gone.
            if matches!(message.ack(BasicAckOptions::default()).await, Ok(true)) { Ok(()) } else { Err("too late") }
        });
        let each = each.on_outcome(|outcome| outcomes.borrow_mut().push(outcome.is_err()));
        let broken = async {
            until(|| started.get() == 1).await;
            break_channel(&rabbit).await;
            assert!(outcomes.borrow().is_empty());
            finish.send(true).unwrap();
        };
        let mut ended = None;
        let heard = block_in_place(|| {
            support::heard(|| {
                let both = async {
                    match goes_on {
                        false => join(each, broken).await.0,
                        true => {
                            let each = each.on_stream_error(|error| {
                                assert!(is_precondition_failed(error));
                                met.set(met.get() + 1);
                                ControlFlow::Continue(())
                            });
                            join(each, broken).await.0
                        }
                    }
                };
                ended = Some(Handle::current().block_on(both));
            })
        });
        match ended.unwrap() {
            Ok(()) => assert!(goes_on),
            Err(error) => assert!(!goes_on && is_precondition_failed(&error), "{error:?}"),
        }
        assert_eq!((met.get(), outcomes.into_inner()), (usize::from(goes_on), vec![true]));
        assert!(!heard.contains("messaging.stream.error"), "it did not go on: {heard}");
        assert_consume_failed(&rabbit, &queue);
        rabbit.assert_left(&queue, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegate_s_channel_that_the_broker_closes_has_the_same_span() {
    let rabbit = Rabbit::with_all_signals().await;
    let queue = filled(&rabbit, 0).await;
    let consumer = rabbit.consume(&queue).await;
    let (seen, mut recorded) = tokio::sync::mpsc::unbounded_channel();
    consumer.set_delegate(move |message: DeliveryResult| {
        if let Err(error) = message {
            seen.send(error).unwrap();
        }
        ready(())
    });
    break_channel(&rabbit).await;
    let error = timeout(support::DEADLINE, recorded.recv()).await.unwrap().unwrap();
    assert!(is_precondition_failed(&error), "{error:?}");
    assert_consume_failed(&rabbit, &queue);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_deleted_is_the_end_of_its_stream_and_no_error() {
    let rabbit = Rabbit::with_all_signals().await;
    let queue = filled(&rabbit, 1).await;
    let consumer = rabbit.consume(&queue).await;
    let each = consumer.process_each(LIMIT, async |message| {
        rabbit.raw.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
        message.ack(BasicAckOptions::default()).await.map(drop)
    });
    timeout(support::DEADLINE, each).await.expect("it ends").unwrap();
    assert_eq!(named(&rabbit.sdk.spans(), &format!("consume {queue}")).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_stream_s_error_ends_the_loop() {
    let rabbit = Rabbit::with_all_signals().await;
    let queue = filled(&rabbit, 0).await;
    let incoming = Incoming::of_queue(queue.as_str()).with_instrumentation(rabbit.instrumentation.clone());
    let raw = rabbit.consume(&queue).await.into_inner();
    let each = incoming.stream(raw).process_each(LIMIT, |_| ready(()));
    let (ended, ()) = join(each, break_channel(&rabbit)).await;
    assert!(is_precondition_failed(&ended.unwrap_err()));
}
