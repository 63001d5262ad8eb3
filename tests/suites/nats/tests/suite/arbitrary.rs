//! Whatever can come, in subjects and in what JetStream says of a message.

use std::time::SystemTime;

use opentelemetry::Value;
use opentelemetry_sdk::trace::SpanData;
use otel_async_nats::{
    jetstream,
    otel::{Incoming, IncomingJetStream},
};
use proptest::{prelude::*, test_runner::TestRunner};
use support::{Sdk, attribute};

use crate::{connect, connect_with, durable, stream_of};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Subjects that are some, mostly.
fn subject() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z$_*>]{1,5}(\\.[A-Z0-9*>_-]{1,8}){0,6}", "\\PC{0,80}", "[a-z.]{3000,4000}"]
}

#[test]
fn every_subject_is_taken_or_refused_as_by_the_client() {
    let runtime = runtime();
    let sdk = Sdk::new();
    let client = runtime.block_on(connect(&sdk));
    let same = |subject: String| {
        let before = sdk.spans().len();
        let (ours, raw) = runtime.block_on(async {
            let ours = client.publish(subject.clone(), "1".into()).await;
            (ours, client.get_ref().publish(subject.clone(), "1".into()).await)
        });
        let text = |result: Result<(), otel_async_nats::PublishError>| result.map_err(|error| error.to_string());
        let (ours, raw) = (text(ours), text(raw));
        prop_assert_eq!(&ours, &raw);
        let spans = sdk.spans();
        prop_assert_eq!(spans.len(), before + 1);
        let span = spans.last().unwrap();
        prop_assert_eq!(attribute(span, "messaging.destination.name").map(ToString::to_string), Some(subject));
        prop_assert_eq!(attribute(span, "error.type").is_some(), raw.is_err());
        Ok(())
    };
    TestRunner::default().run(&subject(), same).unwrap();
}

/// Subjects and patterns up to what the client takes, and what looks like a wildcard and is none.
fn pattern() -> impl Strategy<Value = String> {
    let token =
        prop_oneof![Just("*".to_owned()), Just(">".to_owned()), Just(String::new()), "[a-z*>$_]{1,4}", "\\PC{1,12}"];
    prop_oneof![
        8 => proptest::collection::vec(token, 1..8).prop_map(|tokens| tokens.join(".")),
        1 => "[a-z.*>]{3000,4000}",
        1 => "\\PC{0,80}",
    ]
}

/// What a process span has to say of where its message came from.
fn recorded_of(process: &SpanData, subject: &str, filter: &str) -> Result<(), TestCaseError> {
    let is_pattern = filter.split('.').any(|token| ["*", ">"].contains(&token));
    let text = |key| attribute(process, key).map(ToString::to_string);
    prop_assert_eq!(text("messaging.destination.name"), Some(subject.to_owned()));
    prop_assert_eq!(text("messaging.destination.template"), is_pattern.then(|| filter.to_owned()));
    let temporary = ["_INBOX.", "$JS.ACK."].iter().any(|prefix| subject.starts_with(prefix));
    prop_assert_eq!(text("messaging.destination.temporary"), temporary.then(|| "true".to_owned()));
    let shown = if is_pattern { filter } else { subject };
    let name = if temporary || shown.len() > 1_024 { "process".to_owned() } else { format!("process {shown}") };
    prop_assert_eq!(&process.name, &name);
    Ok(())
}

fn arrived(subject: &str, reply: Option<&str>) -> async_nats::Message {
    async_nats::Message {
        subject: subject.into(),
        reply: reply.map(Into::into),
        payload: "four apples".into(),
        headers: None,
        status: None,
        description: None,
        length: 0,
    }
}

#[test]
fn only_a_subject_with_wildcards_becomes_a_template() {
    let runtime = runtime();
    let sdk = Sdk::new();
    // More names than proptest makes cases.
    let instrumentation = sdk.instrumentation_builder().with_destination_limit(100_000).build();
    let (context, info) = runtime.block_on(async {
        let context = jetstream::new(connect_with(instrumentation).await);
        let (stream, _) = stream_of(&context).await;
        let info = durable(&stream, "shipping").await.cached_info().clone();
        (context, info)
    });
    let client = context.client();
    let names = |(filter, subject, group): (String, String, bool)| {
        let incoming = if group {
            Incoming::queue_subscription(&client, filter.clone(), "workers")
        } else {
            Incoming::subscription(&client, filter.clone())
        };
        drop(incoming.message(arrived(&subject, None)));
        let process = sdk.spans().pop().unwrap();
        recorded_of(&process, &subject, &filter)?;
        let recorded = attribute(&process, "messaging.consumer.group.name").map(ToString::to_string);
        prop_assert_eq!(recorded, group.then(|| "workers".to_owned()));
        sdk.forget();

        let mut info = info.clone();
        info.config.filter_subject.clone_from(&filter);
        let reply = format!("$JS.ACK.S.C.1.1.1.{}.0", 1_790_230_470_084_404_000_u64);
        let message = arrived(&subject, Some(&reply));
        let message = async_nats::jetstream::Message { message, context: context.get_ref().clone() };
        drop(IncomingJetStream::of(&client, &info).message(message));
        recorded_of(&sdk.spans().pop().unwrap(), &subject, &filter)?;
        sdk.forget();
        Ok(())
    };
    TestRunner::default().run(&(pattern(), pattern(), any::<bool>()), names).unwrap();
}

#[test]
fn the_jetstream_api_and_nothing_else_is_the_clients_own_business() {
    let runtime = runtime();
    let sdk = Sdk::new();
    let client = runtime.block_on(connect(&sdk));
    let token = prop_oneof![Just("$JS"), Just("API"), Just("hub"), Just("INFO"), Just("api"), Just("ACK"), Just("*")];
    let tokens = proptest::collection::vec(token, 0..5);
    let same = |tokens: Vec<&str>| {
        let subject = std::iter::once("$JS").chain(tokens.iter().copied()).collect::<Vec<_>>().join(".");
        let is_api = matches!(tokens[..], ["API", _, ..] | [_, "API", _, ..]);
        runtime.block_on(client.publish(subject.clone(), "".into())).unwrap();
        prop_assert_eq!(sdk.spans().len(), usize::from(!is_api), "{}", subject);
        sdk.forget();
        Ok(())
    };
    TestRunner::default().run(&tokens, same).unwrap();
}

/// Numbers that a server would write, and others.
fn number() -> impl Strategy<Value = i128> {
    prop_oneof![1..9_i128, Just(-1), Just(i128::from(i64::MAX)), Just(i128::from(u64::MAX)), any::<i128>()]
}

struct Stored {
    sdk: Sdk,
    context: jetstream::Context,
    incoming: IncomingJetStream,
}

impl Stored {
    async fn new() -> Self {
        let sdk = Sdk::new();
        let context = jetstream::new(connect_with(sdk.all_signals_builder().build()).await);
        let (stream, _) = stream_of(&context).await;
        let consumer = durable(&stream, "shipping").await;
        let incoming = IncomingJetStream::of(&context.client(), consumer.cached_info());
        Self { sdk, context, incoming }
    }

    /// A message with this delivery count, these sequences, and this time of storage.
    fn deliver(&self, [count, stream, consumer, at]: [i128; 4]) -> jetstream::Message {
        let message = arrived("orders", Some(&format!("$JS.ACK.S.C.{count}.{stream}.{consumer}.{at}.0")));
        self.incoming.message(async_nats::jetstream::Message { message, context: self.context.get_ref().clone() })
    }
}

#[test]
fn numbers_that_do_not_fit_are_left_out_and_never_wrong() {
    let runtime = runtime();
    let stored = runtime.block_on(Stored::new());
    let reads = |numbers: [i128; 4]| {
        let message = stored.deliver(numbers);
        prop_assert_eq!(&message.payload, &"four apples");
        let readable = message.info().is_ok();
        drop(message);
        let span = stored.sdk.spans().pop().unwrap();
        let [count, stream, consumer, _] = numbers;
        let recorded = [
            ("messaging.nats.message.delivery_count", count),
            ("otel_messaging.delivery.attempt", count),
            ("messaging.nats.message.stream_sequence", stream),
            ("messaging.nats.message.consumer_sequence", consumer),
        ];
        for (key, number) in recorded {
            let fits = readable && (!key.contains("deliver") || number > 0);
            let expected = i64::try_from(number).ok().filter(|_| fits).map(Value::I64);
            prop_assert_eq!(attribute(&span, key), expected.as_ref(), "{}", key);
        }
        let again = (readable && count > 1).then_some(Value::Bool(true));
        prop_assert_eq!(attribute(&span, "otel_messaging.delivery.redelivered"), again.as_ref());
        Ok(())
    };
    TestRunner::default().run(&[number(), number(), number(), number()], reads).unwrap();
}

/// Before 1970, in its first second, and far ahead.
#[tokio::test]
async fn times_that_cannot_be_are_not_measured() {
    let stored = Stored::new().await;
    let measured = || stored.sdk.measured().lines().filter(|line| line.contains("queue_time")).count();
    for at in [-1, 0, 999_999_999, i128::from(i64::MAX)] {
        drop(stored.deliver([1, 1, 1, at]));
    }
    assert_eq!(measured(), 0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    drop(stored.deliver([1, 1, 1, i128::try_from(now.as_nanos()).unwrap()]));
    assert_eq!(measured(), 1);
}
