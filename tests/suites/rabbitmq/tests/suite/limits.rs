//! A message that is as long as it may be.

use std::collections::BTreeMap;

use lapin::{
    BasicProperties, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, ShortString},
    uri::AMQPUri,
};
use opentelemetry::trace::SpanKind;
use otel_lapin::{Channel, Connection, ConnectionProperties};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use support::{
    DEADLINE,
    contexts::{context, headers_of},
};
use tokio::time::timeout;

use crate::harness::{Rabbit, long, uri};

/// What a header needs beside its name and its text.
const ENTRY: usize = 1 + 1 + 4;

/// How long a message is before anything is written into it: lapin itself never ends with one that is longer than a frame.
#[derive(Debug, Clone, Copy)]
enum Length {
    /// So many bytes less than the frame has room for.
    BelowTheLimit(i32),
    /// So many bytes less than it has room for beside what is written.
    BelowTheLimitWithOurs(i32),
}

fn length() -> impl Strategy<Value = Length> {
    prop_oneof![
        3 => (0..=3_i32).prop_map(Length::BelowTheLimit),
        1 => (0..7_000_i32).prop_map(Length::BelowTheLimit),
        4 => (-3..=3_i32).prop_map(Length::BelowTheLimitWithOurs),
    ]
}

/// What an application may have in a message: also a context, by names in other letters.
fn own() -> impl Strategy<Value = FieldTable> {
    let name = prop_oneof![3 => "own-[a-z]{1,30}", 1 => "(?i:traceparent|tracestate|baggage)"];
    let entry = (name, "[ -~]{0,60}").prop_map(|(name, value)| (name.as_str().into(), long(&value)));
    vec(entry, 0..6).prop_map(|own| own.into_iter().collect::<BTreeMap<ShortString, AMQPValue>>().into())
}

fn is_ours(name: &str) -> bool {
    ["traceparent", "tracestate", "baggage"].iter().any(|ours| name.eq_ignore_ascii_case(ours))
}

/// On the wire, of text only.
fn size(headers: &FieldTable) -> usize {
    let text = |value: &AMQPValue| if let AMQPValue::LongString(text) = value { text.len() } else { unreachable!() };
    headers.inner().iter().map(|(name, value)| ENTRY + name.as_str().len() + text(value)).sum()
}

async fn published(channel: &lapin::Channel, queue: &str, properties: BasicProperties) -> bool {
    let publish = channel.basic_publish("".into(), queue.into(), BasicPublishOptions::default(), b"1", properties);
    let Ok(confirm) = publish.await else { return false };
    confirm.await.is_ok_and(|confirmation| confirmation == Confirmation::Ack(None))
}

/// A connection whose frames are no longer, and a channel of it that confirms.
async fn connect(rabbit: &Rabbit, frame_max: u32) -> (Connection, Channel) {
    let mut uri: AMQPUri = uri().parse().unwrap();
    uri.query.frame_max = Some(frame_max);
    let connection = Connection::connect_uri(uri, ConnectionProperties::default()).await.unwrap();
    assert_eq!(connection.configuration().frame_max(), frame_max);
    let connection = connection.with_instrumentation(rabbit.instrumentation.clone());
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

#[test]
fn whatever_is_written_the_broker_takes_what_it_takes_without() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let rabbit = runtime.block_on(Rabbit::new());
    let queue = runtime.block_on(rabbit.queue("orders"));
    let same = |(context, own, length, frame_max): (opentelemetry::Context, FieldTable, Length, u32)| {
        let ours: usize = headers_of(&context).iter().map(|(name, value)| ENTRY + name.len() + value).sum();
        let spare = match length {
            Length::BelowTheLimit(less) => i64::from(less),
            Length::BelowTheLimitWithOurs(less) => i64::try_from(ours).unwrap() + i64::from(less),
        };
        // Frame and content header, the table's length, and the header that fills it.
        let rest = 8 + 14 + 4 + size(&own) + ENTRY + "filler".len();
        let filler = i64::from(frame_max) - spare - i64::try_from(rest).unwrap();
        prop_assume!(filler >= 0);
        let mut headers = own.clone();
        headers.insert("filler".into(), long(&"x".repeat(usize::try_from(filler).unwrap())));
        let properties = BasicProperties::default().with_headers(headers.clone());

        rabbit.sdk.forget();
        let (raw, recorded) = runtime
            .block_on(timeout(DEADLINE, async {
                let (_connection, channel) = connect(&rabbit, frame_max).await;
                let raw = published(channel.get_ref(), &queue, properties.clone()).await;
                if raw {
                    rabbit.take_raw(&queue).await;
                }
                let (_connection, channel) = connect(&rabbit, frame_max).await;
                let publish = {
                    let _current = context.attach();
                    let options = BasicPublishOptions::default();
                    channel.basic_publish("".into(), queue.as_str().into(), options, b"1", properties)
                };
                let ours = match publish.await {
                    Ok(confirm) => confirm.await.is_ok(),
                    Err(_) => false,
                };
                let arrived = if ours { Some(rabbit.take_raw(&queue).await.properties) } else { None };
                (raw, arrived)
            }))
            .expect("in time");
        prop_assert!(raw);
        prop_assert!(recorded.is_some());
        let Some(arrived) = recorded else { return Ok(()) };
        // What the application wrote is there, and only a context is not as it was.
        let kept = |headers: &FieldTable| {
            let mut kept = headers.inner().clone();
            kept.retain(|name, _| !is_ours(name.as_str()));
            kept
        };
        let arrived = arrived.headers().clone().unwrap();
        prop_assert_eq!(kept(&arrived), kept(&headers));
        let span = rabbit.sdk.spans().pop().unwrap();
        let id = span.span_context.span_id().to_string();
        let carried = arrived.inner().get("traceparent");
        let is_written = carried
            .is_some_and(|carried| matches!(carried, AMQPValue::LongString(text) if text.to_string().contains(&id)));
        prop_assert_eq!(span.span_kind == SpanKind::Producer, is_written);
        // Nothing is left out that has room.
        let had_one = headers.inner().keys().any(|name| is_ours(name.as_str()));
        prop_assert!(is_written || had_one || spare < i64::try_from(ours).unwrap());
        if !is_written {
            prop_assert_eq!(arrived, headers);
        }
        Ok(())
    };
    let cases = (context(), own(), length(), prop::sample::select(&[8_192, 131_072][..]));
    let config =
        ProptestConfig { cases: 64, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config).run(&cases, same).unwrap();
}
