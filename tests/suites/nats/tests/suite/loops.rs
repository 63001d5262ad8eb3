//! `process_each` around a stream of messages, as people stop it, lose it and watch it.
//!
//! A subscription of Core NATS has no errors: one that the server forbids, and one while the server is away, just wait.

use std::{
    cell::{Cell, RefCell},
    fmt,
    ops::ControlFlow,
    task::Poll,
    time::Duration,
};

use brokers::Nats;
use futures::{Stream, StreamExt, TryStreamExt, future::join, poll, stream::poll_fn};
use otel_async_nats::{
    Client, ConnectOptions,
    jetstream::{
        self,
        consumer::{pull, push},
        stream,
    },
    otel::{IncomingJetStream, MessageStreamExt, StreamItem},
};
use otel_messaging::semconv::metric;
use support::{DEADLINE, Sdk, attribute as value_of, describe};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    task::block_in_place,
    time::{sleep, timeout},
};

use crate::{connect_with, durable, sources::process, stream_of, unique};

const LIMIT: usize = 2;
/// The server is to be heard from every so often; the client misses it after two of them.
const HEARTBEAT: Duration = Duration::from_millis(100);

async fn until(condition: impl Fn() -> bool) {
    let all = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(DEADLINE, all).await.expect("in time");
}

/// A stream with one message, on the server of all tests or on another.
async fn stored(client: &Client) -> (stream::Stream, String) {
    let context = jetstream::new(client.clone());
    let (stream, name) = stream_of(&context).await;
    let subject = format!("{name}.orders");
    store(client, &subject).await;
    (stream, subject)
}

async fn store(client: &Client, subject: &str) {
    let raw = async_nats::jetstream::new(client.get_ref().clone());
    raw.publish(subject.to_owned(), "1".into()).await.unwrap().await.unwrap();
}

/// Ends after so many messages, whatever errors come between them.
fn first<M, E>(
    mut messages: impl Stream<Item = Result<M, E>> + Unpin,
    mut count: usize,
) -> impl Stream<Item = Result<M, E>> {
    poll_fn(move |task| {
        if count == 0 {
            return Poll::Ready(None);
        }
        let next = messages.poll_next_unpin(task);
        count -= usize::from(matches!(next, Poll::Ready(Some(Ok(_)))));
        next
    })
}

/// Which errors were met where the application was asked.
type Met = RefCell<Vec<String>>;

/// How a loop ended, and which kinds of errors it warned of.
struct Ended<E> {
    result: Result<(), E>,
    warned: Vec<String>,
}

/// Whether the application decides at errors, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decides {
    No,
    GoesOn,
    Ends,
}

const DECISIONS: [Decides; 3] = [Decides::No, Decides::GoesOn, Decides::Ends];

/// Handles a stream's messages beside something else that is done once the first is in hand and before it is handled.
fn run<S, T, M, E>(messages: S, decides: Decides, met: &Met, meanwhile: impl Future<Output = T>) -> Ended<E>
where
    S: Stream<Item = Result<M, E>>,
    Result<M, E>: StreamItem<Message = M, Error = E, End = Result<(), E>>,
    E: fmt::Display,
{
    let (started, handled) = (Cell::new(0), Cell::new(0));
    let (finish, finished) = watch::channel(false);
    let each = messages.process_each(LIMIT, async |_| {
        started.set(started.get() + 1);
        finished.clone().wait_for(|finished| *finished).await.unwrap();
        handled.set(handled.get() + 1);
    });
    let meanwhile = async {
        until(|| started.get() > 0).await;
        meanwhile.await;
        assert_eq!(handled.get(), 0);
        finish.send(true).unwrap();
    };
    let both = async {
        match decides {
            Decides::No => join(each, meanwhile).await.0,
            _ => {
                let each = each.on_stream_error(|error| {
                    met.borrow_mut().push(error.to_string());
                    match decides {
                        Decides::GoesOn => ControlFlow::Continue(()),
                        _ => ControlFlow::Break(()),
                    }
                });
                join(each, meanwhile).await.0
            }
        }
    };
    let mut result = None;
    let heard = block_in_place(|| {
        let in_time = async { timeout(DEADLINE, both).await.expect("it ends") };
        support::heard(|| result = Some(Handle::current().block_on(in_time)))
    });
    assert_eq!(started.get(), handled.get(), "handlers are done first");
    let kind = |line: &str| Some(line.split_once("error_type=\"")?.1.split_once('"')?.0.to_owned());
    let warned = heard.lines().filter(|line| line.contains("WARN") && line.contains("messaging.stream.error"));
    Ended { result: result.unwrap(), warned: warned.filter_map(kind).collect() }
}

/// How many spans of this operation, and how many measurements of it, tell this error.
#[track_caller]
fn failed(sdk: &Sdk, operation: &str, error_type: &str) -> usize {
    let spans = sdk.spans();
    let recorded = spans.iter().filter(|span| {
        span.name.starts_with(operation) && value_of(span, "error.type") == Some(&error_type.to_owned().into())
    });
    let recorded = recorded.count();
    let measured = sdk.measured();
    let series = measured.lines().filter(|line| {
        line.starts_with(metric::CLIENT_OPERATION_DURATION)
            && line.contains(&format!("messaging.operation.name = \"{operation}\""))
            && line.contains(&format!("error.type = \"{error_type}\""))
    });
    let counts: Vec<usize> = series.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok()).collect();
    assert_eq!(counts.iter().sum::<usize>(), recorded, "{}\n{measured}", describe(&spans));
    recorded
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_consumer_that_is_deleted_ends_the_loop_once_its_handlers_are_done() {
    for decides in DECISIONS {
        let sdk = Sdk::new();
        let client = connect_with(sdk.all_signals_builder().build()).await;
        let (stream, _) = stored(&client).await;
        let messages = durable(&stream, "packing").await.messages().await.unwrap();
        let met = Met::default();
        let delete = async {
            stream.delete_consumer("packing").await.unwrap();
            until(|| failed(&sdk, "fetch", "consumer_deleted") == 1).await;
        };
        let ended = run(messages, decides, &met, delete);
        let deleted = pull::MessagesErrorKind::ConsumerDeleted;
        let kind = ended.result.err().map(|error| error.kind());
        assert_eq!(kind, (decides != Decides::GoesOn).then_some(deleted), "{decides:?}");
        let (warned, met) = (ended.warned, met.into_inner().len());
        match decides {
            Decides::No => assert_eq!((warned, met), (vec!["consumer_deleted".to_owned()], 0)),
            _ => assert_eq!((warned, met), (Vec::new(), 1)),
        }
        assert_eq!(failed(&sdk, "fetch", "consumer_deleted"), 1);
    }
}

/// A stream that its owner made ours has the same rule; who made it may tell of its errors.
#[tokio::test(flavor = "multi_thread")]
async fn a_raw_stream_and_a_batch_end_the_loop_with_their_last_error() {
    let sdk = Sdk::new();
    let client = connect_with(sdk.all_signals_builder().build()).await;
    let (stream, _) = stored(&client).await;
    let consumer = durable(&stream, "packing").await;
    let incoming = IncomingJetStream::of(&client, consumer.cached_info());
    let raw = incoming.stream(consumer.get_ref().messages().await.unwrap());
    let delete = async { stream.delete_consumer("packing").await.unwrap() };
    let ended = run(raw, Decides::No, &Met::default(), delete);
    assert_eq!(ended.result.unwrap_err().kind(), pull::MessagesErrorKind::ConsumerDeleted);
    assert_eq!(ended.warned, ["consumer_deleted"]);

    let consumer = durable(&stream, "shipping").await;
    let batch = consumer.batch().max_messages(2).messages().await.unwrap();
    let delete = async { stream.delete_consumer("shipping").await.unwrap() };
    let ended = run(batch, Decides::No, &Met::default(), delete);
    assert!(ended.result.unwrap_err().to_string().contains("Consumer Deleted"));
    assert_eq!((ended.warned, failed(&sdk, "fetch", "_OTHER")), (vec!["_OTHER".to_owned()], 1));

    // Each batch of a sequence fails anew: the application ends it.
    let consumer = durable(&stream, "billing").await;
    let sequence = consumer.sequence(2).unwrap().map_err(otel_async_nats::Error::from).try_flatten();
    let delete = async { stream.delete_consumer("billing").await.unwrap() };
    let met = Met::default();
    let ended = run(sequence, Decides::Ends, &met, delete);
    assert_eq!((ended.result.unwrap_err().to_string(), ended.warned), (met.borrow()[0].clone(), Vec::new()));
    assert_eq!((met.borrow().len(), failed(&sdk, "fetch", "_OTHER")), (1, 2));
}

/// The client makes the consumer anew.
#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_consumer_that_is_deleted_is_no_error() {
    let sdk = Sdk::new();
    let client = connect_with(sdk.all_signals_builder().build()).await;
    let (stream, subject) = stored(&client).await;
    let consumer = stream.create_consumer(pull::OrderedConfig::default()).await.unwrap();
    let name = consumer.cached_info().name.clone();
    let messages = consumer.messages().await.unwrap().take(2);
    let delete_and_store = async {
        stream.delete_consumer(&name).await.unwrap();
        store(&client, &subject).await;
    };
    let ended = run(messages, Decides::No, &Met::default(), delete_and_store);
    assert!(ended.result.is_ok());
    assert_eq!(ended.warned, Vec::<String>::new());
    assert_eq!(process(&sdk, &subject).len(), 2, "{}", sdk.described());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_missing_heartbeat_of_a_push_consumer_is_recorded_and_one_warned_of() {
    for decides in DECISIONS {
        let sdk = Sdk::new();
        let client = connect_with(sdk.all_signals_builder().build()).await;
        let (stream, _) = stored(&client).await;
        let config = push::Config {
            deliver_subject: unique("deliver"),
            durable_name: Some("packing".to_owned()),
            idle_heartbeat: HEARTBEAT,
            ..push::Config::default()
        };
        let messages = stream.create_consumer(config.clone()).await.unwrap().messages().await.unwrap();
        let met = Met::default();
        let count = if decides == Decides::Ends { 1 } else { 3 };
        let delete_for_some_time = async {
            stream.delete_consumer("packing").await.unwrap();
            until(|| failed(&sdk, "consume", "missing_heartbeat") >= count).await;
            // It is pushed the message again.
            stream.create_consumer(config).await.unwrap();
        };
        let ended = run(first(messages, 2), decides, &met, delete_for_some_time);
        let missing = push::MessagesErrorKind::MissingHeartbeat;
        let kind = ended.result.err().map(|error| error.kind());
        assert_eq!(kind, (decides == Decides::Ends).then_some(missing), "{decides:?}");
        let warned: &[&str] = if decides == Decides::No { &["missing_heartbeat"] } else { &[] };
        assert_eq!(ended.warned, warned, "{decides:?}");
        let recorded = failed(&sdk, "consume", "missing_heartbeat");
        assert!(recorded >= count, "{decides:?}: {recorded}");
        assert_eq!(met.borrow().len(), if decides == Decides::No { 0 } else { recorded }, "{decides:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_missing_heartbeat_of_a_pull_consumer_is_recorded_and_one_warned_of() {
    let mut server = Nats::own().unwrap_or_else(|missing| panic!("{missing}"));
    for decides in DECISIONS {
        let sdk = Sdk::new();
        let options = ConnectOptions::new().with_instrumentation(sdk.all_signals_builder().build());
        let client = options.connect(&server.url).await.unwrap();
        let (stream, subject) = stored(&client).await;
        let consumer = durable(&stream, "packing").await;
        let messages = consumer.stream().heartbeat(HEARTBEAT).messages().await.unwrap();
        let met = Met::default();
        let count = if decides == Decides::Ends { 1 } else { 3 };
        let kill_for_some_time = async {
            server.kill();
            until(|| failed(&sdk, "fetch", "missing_heartbeat") >= count).await;
            server.restart().unwrap_or_else(|missing| panic!("{missing}"));
            store(&client, &subject).await;
        };
        let ended = run(first(messages, 2), decides, &met, kill_for_some_time);
        let missing = pull::MessagesErrorKind::MissingHeartbeat;
        let kind = ended.result.err().map(|error| error.kind());
        assert_eq!(kind, (decides == Decides::Ends).then_some(missing), "{decides:?}");
        let warned: &[&str] = if decides == Decides::No { &["missing_heartbeat"] } else { &[] };
        assert_eq!(ended.warned, warned, "{decides:?}");
        let recorded = failed(&sdk, "fetch", "missing_heartbeat");
        assert!(recorded >= count, "{decides:?}: {recorded}");
        assert_eq!(met.borrow().len(), if decides == Decides::No { 0 } else { recorded }, "{decides:?}");
        assert_eq!(process(&sdk, &subject).len(), if decides == Decides::Ends { 1 } else { 2 }, "{decides:?}");
    }
}

/// A server where one user may not ask a consumer for messages, nor listen to one subject.
fn forbidding() -> Nats {
    let denied = r#"publish: { deny: ["$JS.API.CONSUMER.MSG.NEXT.>"] }, subscribe: { deny: ["forbidden"] }"#;
    let user = format!("{{ user: a, password: a, permissions: {{ {denied} }} }}");
    Nats::own_with(&format!("authorization {{ users: [{user}] }}")).unwrap_or_else(|missing| panic!("{missing}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_consumer_misses_heartbeats_and_a_forbidden_subscription_waits() {
    let server = forbidding();
    let sdk = Sdk::new();
    let (seen, mut recorded) = mpsc::unbounded_channel();
    let options = ConnectOptions::with_user_and_password("a".into(), "a".into())
        .with_instrumentation(sdk.all_signals_builder().build())
        .event_callback(move |event| {
            // Nobody may be left to hear it.
            _ = seen.send(event.to_string());
            std::future::ready(())
        });
    let client = options.connect(&server.url).await.unwrap();
    let denied = async |recorded: &mut mpsc::UnboundedReceiver<String>| {
        let denied =
            async { while !recorded.recv().await.unwrap().to_lowercase().contains("permissions violation") {} };
        timeout(DEADLINE, denied).await.expect("the server says so");
    };

    let mut each = client.subscribe("forbidden").await.unwrap().process_each(LIMIT, |_| std::future::ready(()));
    denied(&mut recorded).await;
    assert!(poll!(&mut each).is_pending());
    assert_eq!(sdk.described(), "", "nobody is told");

    let (stream, _) = stored(&client).await;
    let consumer = durable(&stream, "packing").await;
    let messages = consumer.stream().heartbeat(HEARTBEAT).messages().await.unwrap();
    let twice = until(|| failed(&sdk, "fetch", "missing_heartbeat") >= 2);
    let each = messages.take_until(Box::pin(twice)).process_each(LIMIT, |_| std::future::ready(()));
    let mut ended = None;
    let heard = block_in_place(|| {
        support::heard(|| ended = Some(Handle::current().block_on(timeout(DEADLINE, each)).expect("it is stopped")))
    });
    denied(&mut recorded).await;
    assert_eq!(ended.unwrap().unwrap_err().kind(), pull::MessagesErrorKind::MissingHeartbeat, "nothing came after it");
    assert_eq!(heard.matches("messaging.stream.error").count(), 1, "{heard}");
}
