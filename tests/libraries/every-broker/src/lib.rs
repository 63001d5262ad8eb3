//! Tests of behaviour that is the same on every broker. A suite implements [`Broker`] and runs all of them by [`tests!`].
#![allow(async_fn_in_trait, reason = "no test moves these futures to another thread")]
#![allow(missing_docs, reason = "the names of tests are sentences")]

use std::{fmt::Debug, future::Future, task::Poll};

use futures::{
    StreamExt,
    future::{FutureExt, LocalBoxFuture, poll_fn},
    stream::LocalBoxStream,
};
use opentelemetry::{
    Context, SpanId,
    trace::{SpanContext, TraceContextExt},
};
use opentelemetry_sdk::trace::SpanData;
use otel_messaging::{Instrumentation, InstrumentationBuilder, OperationType, ReceivedMessage};
use support::{DEADLINE, Sdk};
use tokio::time::timeout;

pub mod ambient;
pub mod context_reader;
pub mod correlation;
pub mod loops;
pub mod outcome;
pub mod republish;
pub mod sequential;
pub mod tracing;
pub mod user_code;
pub mod wait;

/// Names and values, sorted by name.
pub type Headers = Vec<(String, String)>;

/// What one way of receiving delivers.
pub type Messages<'a, B> = LocalBoxStream<'a, <B as Broker>::Message<'a>>;

/// One source, asked in another way: by the future, or by the stream that it gives.
pub type Same<'a, B> = Vec<(&'static str, LocalBoxFuture<'a, Messages<'a, B>>)>;

/// A wrapped client, and the raw one beside it.
pub trait Broker: Sized + 'static {
    /// A way to receive.
    type Source: Copy + Debug + PartialEq + 'static;
    /// An open source.
    type Receiver;
    /// A received message.
    type Message<'a>: Received;
    /// The client's error of a send.
    type Error: std::fmt::Display + 'static;

    /// All ways to receive.
    const SOURCES: &'static [Self::Source];
    /// Those that most applications have, and that may be opened before anything is sent.
    const USUAL: &'static [Self::Source];
    /// The name of a send.
    const SEND: &'static str;
    /// The `error.type` of [`send_in_vain`](Self::send_in_vain).
    const ERROR_TYPE: &'static str;
    /// Part of each log line of the client itself.
    const LOGGED_BY_CLIENT: &'static str;
    /// Whether a source that is asked delivers at once what is at its broker.
    const DELIVERS_AT_ONCE: bool;

    /// Whether a settlement of the source's messages is seen.
    fn settles(source: Self::Source) -> bool;
    /// What the process span of a settled message has for its outcome.
    fn outcome(source: Self::Source) -> Option<&'static str>;
    /// The name of a settlement's span.
    fn settlement(source: Self::Source, destination: &str) -> Option<String>;

    /// Whether the application asks the source for the next message.
    fn is_asked(source: Self::Source) -> bool {
        _ = source;
        true
    }

    /// Whether the instrumentation sees that the source is asked.
    fn sees_asking(source: Self::Source) -> bool {
        _ = source;
        true
    }

    /// Whether the source waits for messages that are not there yet.
    fn waits(source: Self::Source) -> bool {
        _ = source;
        true
    }

    /// Whether the source blocks its thread while it waits.
    fn blocks(source: Self::Source) -> bool {
        _ = source;
        false
    }

    /// Clients with this instrumentation.
    async fn connect(instrumentation: &Instrumentation) -> Self;

    /// A new destination.
    async fn destination(&self) -> String;

    /// Sends by the wrapped client, which is called before this returns, and waits for the broker's answer.
    fn send<'a>(&'a self, to: &'a str, headers: &[(String, String)], payload: &'a str) -> impl Future<Output = ()>;

    /// Sends by the wrapped client what cannot be sent.
    async fn send_in_vain(&self, headers: &[(String, String)], payload: &str) -> Result<(), Self::Error>;

    /// Sends by the raw client. Without any headers the message has none.
    async fn put(&self, to: &str, headers: &[(&str, &str)], payload: &str);

    /// The headers of the only message of a destination, by the raw client, which may take it.
    async fn on_the_wire(&self, destination: &str) -> Headers;

    /// Opens a source of a new destination's messages, and puts these there.
    async fn open(&self, source: Self::Source, destination: &str, messages: &[Raw<'_>]) -> Self::Receiver;

    /// Its messages; called once.
    fn messages(receiver: &Self::Receiver) -> Messages<'_, Self>;

    /// The same source, asked in other ways.
    fn same(receiver: &Self::Receiver) -> Same<'_, Self>;

    /// Asks sources that are none of [`SOURCES`](Self::SOURCES) and have no message while one of this destination is in hand.
    async fn ask_others(&self, destination: &str) {
        _ = destination;
    }

    /// Holds that so many messages of a destination were not settled.
    async fn assert_unsettled(self, destination: &str, messages: usize) {
        _ = (destination, messages);
    }

    /// Holds what else is on the process spans of a source's messages.
    fn assert_processed(source: Self::Source, destination: &str, process: &[SpanData]) {
        _ = (source, destination, process);
    }
}

/// A received message.
pub trait Received: ReceivedMessage {
    /// Settles it, where there is something to settle.
    async fn settle(&self);
    /// Its headers.
    fn headers(&self) -> Headers;
    /// Its payload.
    fn payload(&self) -> String;
}

/// The headers and the payload of a message of the raw client.
pub type Raw<'a> = (&'a [(&'a str, &'a str)], &'a str);

/// A message without a context.
const PLAIN: Raw<'static> = (&[], "four apples");

/// What of a message no telemetry shows: its payload, a header's name and its value.
const SECRET: &str = "card-4711";

/// How an instrumentation is configured.
type Configure = fn(InstrumentationBuilder) -> InstrumentationBuilder;

/// Whether a message has a process span, and the configuration for that.
const WAYS: [(bool, Configure); 3] = [
    (true, |builder| builder),
    (false, |builder| builder.with_filter(|operation| operation.kind() == OperationType::Send)),
    (false, |builder| builder.with_spans(false)),
];

/// The sources that the application asks.
fn asked<B: Broker>() -> impl Iterator<Item = B::Source> {
    B::SOURCES.iter().copied().filter(|source| B::is_asked(*source))
}

/// Clients whose spans, metrics and events an SDK records, and a source with messages.
async fn opened<B: Broker>(source: B::Source, messages: &[Raw<'_>]) -> (Sdk, B, String, B::Receiver) {
    let sdk = Sdk::new();
    let (broker, destination) = connected::<B>(&sdk).await;
    let receiver = broker.open(source, &destination, messages).await;
    (sdk, broker, destination, receiver)
}

/// Clients whose spans, metrics and events an SDK records, and a destination.
async fn connected<B: Broker>(sdk: &Sdk) -> (B, String) {
    let broker = B::connect(&sdk.all_signals_builder().build()).await;
    let destination = broker.destination().await;
    (broker, destination)
}

/// The next message, which has to come.
async fn take<'a, B: Broker>(messages: &mut Messages<'a, B>) -> B::Message<'a> {
    timeout(DEADLINE, messages.next()).await.expect("in time").expect("one more")
}

/// Whether a source has no message at once.
fn is_empty<B: Broker>(messages: &mut Messages<'_, B>) -> bool {
    !matches!(messages.next().now_or_never(), Some(Some(_)))
}

/// Lets others have their turn, on any runtime.
async fn turn() {
    let mut waited = false;
    poll_fn(|task| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        task.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The spans of this name.
fn named(sdk: &Sdk, name: &str) -> Vec<SpanData> {
    sdk.spans().into_iter().filter(|span| span.name == name).collect()
}

/// The process spans of a destination's messages.
fn processed(sdk: &Sdk, destination: &str) -> Vec<SpanData> {
    named(sdk, &format!("process {destination}"))
}

/// The spans of what was sent there.
fn sent<B: Broker>(sdk: &Sdk, destination: &str) -> Vec<SpanData> {
    named(sdk, &format!("{} {destination}", B::SEND))
}

fn ids(spans: &[SpanData]) -> Vec<SpanId> {
    spans.iter().map(|span| span.span_context.span_id()).collect()
}

fn parents(spans: &[SpanData]) -> Vec<SpanId> {
    spans.iter().map(|span| span.parent_span_id).collect()
}

fn linked(span: &SpanData) -> Vec<SpanId> {
    span.links.iter().map(|link| link.span_context.span_id()).collect()
}

/// The span that is current.
fn current() -> SpanId {
    Context::current().span().span_context().span_id()
}

/// Calls the client inside a context, which no poll of the future has.
fn within<T>(context: &Context, call: impl FnOnce() -> T) -> T {
    let _current = context.clone().attach();
    call()
}

/// The value of a `traceparent` that carries this span.
fn traceparent(span: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags())
}

/// Headers, sorted.
fn headers(pairs: &[(&str, &str)]) -> Headers {
    let mut headers: Headers = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    headers.sort();
    headers
}

/// Makes a test of each behaviour, on this broker.
#[macro_export]
macro_rules! tests {
    ($broker:ident) => {
        $crate::tests! { $broker:
            ambient {
                a_stream_that_waits_does_not_hold_it,
                it_ends_when_its_owner_drops_it_and_not_with_a_message,
                neither_a_claimed_batch_nor_a_message_in_hand_holds_it,
            }
            context_reader {
                a_forward_keeps_the_header_and_is_a_new_message,
                every_source_reads_it,
            }
            correlation {
                a_context_stored_earlier_is_kept_and_linked,
                a_forward_gets_a_context_of_its_own,
                a_hand_written_injection_is_replaced_and_linked,
                one_request_is_one_trace_and_its_baggage_arrives,
            }
            loops {
                a_dropped_loop_drops_its_messages_in_hand_and_loses_none,
                a_handlers_outcome_is_seen_inside_its_span,
                a_loop_that_is_stopped_handles_what_it_has_in_hand,
            }
            outcome {
                a_handlers_client_error_is_recorded_without_the_message,
            }
            republish {
                a_hundred_retries_add_no_header_and_link_the_failure,
            }
            sequential {
                a_loop_that_is_cancelled_or_panics_ends_its_message_and_leaves_nothing_current,
                a_message_is_in_hand_until_its_own_source_is_polled,
                two_loops_and_a_heartbeat_in_one_task_keep_apart_on_smol,
                two_loops_and_a_heartbeat_in_one_task_keep_apart_on_tokio,
            }
            user_code {
                a_hook_adds_to_every_operation,
                a_filtered_operation_passes_contexts_on_and_records_nothing,
                what_a_framework_records_is_left_alone,
            }
            wait {
                a_message_that_is_settled_before_its_handler_begins_with_its_delivery,
                a_workers_messages_begin_with_their_handlers_and_record_their_wait,
                what_calls_the_handler_itself_has_no_wait,
            }
        }
    };
    ($broker:ident: $($behaviour:ident { $($test:ident),+ $(,)? })+) => {
        mod on_every_broker {
            $(mod $behaviour {
                $(
                    #[tokio::test(flavor = "multi_thread")]
                    async fn $test() {
                        ::every_broker::$behaviour::$test::<super::super::$broker>().await;
                    }
                )+
            })+
        }
    };
}
