//! Whatever can come, in subjects and in what JetStream says of a message.

use std::time::SystemTime;

use opentelemetry::Value;
use otel_async_nats::{jetstream, otel::IncomingJetStream};
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
    fn hand_out(&self, [count, stream, consumer, at]: [i128; 4]) -> jetstream::Message {
        let message = async_nats::Message {
            subject: "orders".into(),
            reply: Some(format!("$JS.ACK.S.C.{count}.{stream}.{consumer}.{at}.0").into()),
            payload: "four apples".into(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        self.incoming.message(async_nats::jetstream::Message { message, context: self.context.get_ref().clone() })
    }
}

#[test]
fn numbers_that_do_not_fit_are_left_out_and_never_wrong() {
    let runtime = runtime();
    let stored = runtime.block_on(Stored::new());
    let tell = |numbers: [i128; 4]| {
        let message = stored.hand_out(numbers);
        prop_assert_eq!(&message.payload, &"four apples");
        let readable = message.info().is_ok();
        drop(message);
        let span = stored.sdk.spans().pop().unwrap();
        let [count, stream, consumer, _] = numbers;
        let told = [
            ("messaging.nats.message.delivery_count", count),
            ("otel_messaging.delivery.attempt", count),
            ("messaging.nats.message.stream_sequence", stream),
            ("messaging.nats.message.consumer_sequence", consumer),
        ];
        for (key, number) in told {
            let fits = readable && (!key.contains("deliver") || number > 0);
            let expected = i64::try_from(number).ok().filter(|_| fits).map(Value::I64);
            prop_assert_eq!(attribute(&span, key), expected.as_ref(), "{}", key);
        }
        let again = (readable && count > 1).then_some(Value::Bool(true));
        prop_assert_eq!(attribute(&span, "otel_messaging.delivery.redelivered"), again.as_ref());
        Ok(())
    };
    TestRunner::default().run(&[number(), number(), number(), number()], tell).unwrap();
}

/// Before 1970, in its first second, and far ahead.
#[tokio::test]
async fn times_that_cannot_be_are_not_measured() {
    let stored = Stored::new().await;
    let measured = || stored.sdk.measured().lines().filter(|line| line.contains("queue_time")).count();
    for at in [-1, 0, 999_999_999, i128::from(i64::MAX)] {
        drop(stored.hand_out([1, 1, 1, at]));
    }
    assert_eq!(measured(), 0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    drop(stored.hand_out([1, 1, 1, i128::try_from(now.as_nanos()).unwrap()]));
    assert_eq!(measured(), 1);
}
