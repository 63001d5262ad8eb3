//! A message that is as long as it may be.

use std::time::Duration;

use futures::executor::block_on;
use opentelemetry::{
    Context,
    trace::{SpanKind, Status},
};
use otel_rdkafka::{
    message::{Header, Headers, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, FutureRecord, Producer},
};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use support::{
    Sdk,
    contexts::{context, headers_of},
};

use crate::harness::Test;

const LIMIT: i64 = 40_000;

/// What librdkafka counts beside key, value and headers, what the broker counts around them, and for each header beside its
/// name and its value.
const OVERHEAD: i64 = 36;
const BATCH: i64 = 61;
const HEADER: usize = 10;

/// How long a message is before anything is written into it.
#[derive(Debug, Clone, Copy)]
enum Length {
    /// So many bytes less than it may have.
    BelowTheLimit(i64),
    /// So many bytes less than it may have beside what is written.
    BelowTheLimitWithOurs(i64),
}

fn length() -> impl Strategy<Value = Length> {
    prop_oneof![
        3 => (-60..=3_i64).prop_map(Length::BelowTheLimit),
        1 => (0..30_000_i64).prop_map(Length::BelowTheLimit),
        4 => (-40..=64_i64).prop_map(Length::BelowTheLimitWithOurs),
    ]
}

/// What an application may have in a message: also a context, by names in other letters.
fn own() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![3 => "own-[a-z]{1,30}", 1 => "(?i:traceparent|tracestate|baggage)"];
    vec((name, "[ -~]{0,60}"), 0..6)
}

fn is_ours(name: &str) -> bool {
    ["traceparent", "tracestate", "baggage"].iter().any(|ours| name.eq_ignore_ascii_case(ours))
}

#[test]
fn whatever_is_written_the_client_and_the_broker_take_what_they_take_without() {
    // The same limit for both: the broker counts the batch around a message too.
    let test = Test::with_topic(Sdk::new(), &[("max.message.bytes", &LIMIT.to_string())]);
    let mut config = test.config();
    config.set("message.max.bytes", LIMIT.to_string());
    let producer: BaseProducer = config.create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    let raw: rdkafka::producer::FutureProducer = config.create().unwrap();
    let same = |(context, own, length): (Context, Vec<(String, String)>, Length)| {
        let counted = |headers: &[(String, usize)]| -> i64 {
            let all: usize = headers.iter().map(|(name, value)| name.len() + value + HEADER).sum();
            i64::try_from(all).unwrap()
        };
        let ours = counted(&headers_of(&context));
        let spare = match length {
            Length::BelowTheLimit(less) => less,
            Length::BelowTheLimitWithOurs(less) => ours + less,
        };
        let sizes: Vec<_> = own.iter().map(|(name, value)| (name.clone(), value.len())).collect();
        let payload = LIMIT - spare - OVERHEAD - counted(&sizes);
        prop_assume!(payload >= 0);
        let payload = "x".repeat(usize::try_from(payload).unwrap());
        let headers =
            || own.iter().fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(value) }));
        let record = BaseRecord::<(), str>::to(&test.topic).payload(&payload).headers(headers());
        let sent = raw.send_result(FutureRecord::<(), str>::to(&test.topic).payload(&payload).headers(headers()));
        let is_queued = sent.is_ok();
        let is_taken = sent.is_ok_and(|delivery| block_on(delivery).unwrap().is_ok());
        // Lengths take fewer bytes than librdkafka counts at most.
        prop_assert!(is_taken || spare < BATCH);

        test.sdk.forget();
        let sent = {
            let _current = context.attach();
            producer.send(record)
        };
        prop_assert_eq!(sent.is_ok(), is_queued);
        if let Err((_, record)) = sent {
            let given = record.headers.unwrap();
            let given: Vec<_> =
                given.iter().map(|header| (header.key.to_owned(), header.value.unwrap().to_vec())).collect();
            let own: Vec<_> = own.iter().map(|(key, value)| (key.clone(), value.clone().into_bytes())).collect();
            prop_assert_eq!(given, own);
            return Ok(());
        }
        producer.flush(Duration::from_secs(30)).unwrap();
        let span = test.sdk.wait_for(1).pop().unwrap();
        prop_assert_eq!(span.status == Status::Unset, is_taken, "as the broker has taken it without us");
        // Nothing is left out that has room.
        let had_one = own.iter().any(|(name, _)| is_ours(name));
        prop_assert!(span.span_kind == SpanKind::Producer || had_one || spare < ours + BATCH);
        Ok(())
    };
    let config =
        ProptestConfig { cases: 64, max_shrink_iters: 16, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config).run(&(context(), own(), length()), same).unwrap();
}
