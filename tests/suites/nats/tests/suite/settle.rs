//! Acknowledgements: spans of their own, children of the message's processing.

use std::{pin::pin, time::Duration};

use async_nats::jetstream::AckKind;
use brokers::Nats;
use futures::poll;
use otel_async_nats::{
    ConnectOptions,
    jetstream::{
        self,
        consumer::{AckPolicy, pull},
        message::{Acker, PublishMessage},
    },
    otel::MessageExt,
};
use support::{Sdk, attribute, describe};

use crate::{at_peer, at_server, connect_with, counted, durable, next, stream_of, unique};

struct Consumed {
    context: jetstream::Context,
    stream: jetstream::stream::Stream,
    messages: pull::Stream,
    subject: String,
    name: String,
}

/// A stream with so many messages, and a durable consumer's view of it. Its spans of sending are not in `sdk`.
async fn consume(sdk: &Sdk, count: usize) -> Consumed {
    let context = jetstream::new(connect_with(sdk.all_signals_builder().build()).await);
    let (stream, name) = stream_of(&context).await;
    let subject = format!("{name}.paid");
    for _ in 0..count {
        context.get_ref().publish(subject.clone(), "".into()).await.unwrap().await.unwrap();
    }
    let messages = durable(&stream, "shipping").await.messages().await.unwrap();
    Consumed { context, stream, messages, subject, name }
}

/// A settle span and, before it, the process span that it is a child of.
fn settled(consumed: &Consumed, sequence: u64, operation: &str, outcome: &str) -> String {
    let Consumed { subject, name, .. } = consumed;
    let (peer, at) = (at_peer(), at_server());
    format!(
        "\
process {subject}
  kind CONSUMER
  scope otel-async-nats https://opentelemetry.io/schemas/1.44.0
  root
  status unset
  messaging.client.id = \"shop\"
  messaging.destination.name = \"{subject}\"
  messaging.destination.subscription.name = \"shipping\"
  messaging.nats.message.consumer_sequence = {sequence}
  messaging.nats.message.delivery_count = 1
  messaging.nats.message.stream_sequence = {sequence}
  messaging.nats.stream.name = \"{name}\"
  messaging.operation.name = \"process\"
  messaging.operation.type = \"process\"
  messaging.system = \"nats\"
  otel_messaging.delivery.attempt = 1
  otel_messaging.settlement.outcome = \"{outcome}\"
{at}{operation} {subject}
  kind CLIENT
  scope otel-async-nats https://opentelemetry.io/schemas/1.44.0
  parent process {subject}
  status unset
  messaging.client.id = \"shop\"
  messaging.destination.name = \"{subject}\"
  messaging.destination.subscription.name = \"shipping\"
  messaging.nats.stream.name = \"{name}\"
  messaging.operation.name = \"{operation}\"
  messaging.operation.type = \"settle\"
  messaging.system = \"nats\"
{peer}  otel_messaging.settlement.outcome = \"{outcome}\"
{at}"
    )
}

#[tokio::test]
async fn each_way_to_settle_has_its_span_and_progress_has_none() {
    let sdk = Sdk::new();
    let mut consumed = consume(&sdk, 5).await;
    let mut expected = String::new();
    let kinds = [
        (AckKind::Ack, "ack", "ack"),
        (AckKind::Nak(Some(Duration::from_secs(60))), "nak", "nack"),
        (AckKind::Term, "term", "term"),
        (AckKind::Next, "ack", "ack"),
    ];
    for (sequence, (kind, operation, outcome)) in (1..).zip(kinds) {
        let message = next(&mut consumed.messages).await.unwrap();
        message.ack_with(AckKind::Progress).await.unwrap();
        message.ack_with(kind).await.unwrap();
        message.end();
        expected += &settled(&consumed, sequence, operation, outcome);
    }
    let message = next(&mut consumed.messages).await.unwrap();
    message.ack().await.unwrap();
    drop(message);
    expected += &settled(&consumed, 5, "ack", "ack");
    assert_eq!(sdk.described(), expected);

    let consumer: jetstream::consumer::PullConsumer = consumed.stream.get_consumer("shipping").await.unwrap();
    let unsettled = || async { consumer.get_info().await.unwrap().num_ack_pending };
    let deadline = std::time::Instant::now() + support::DEADLINE;
    while unsettled().await != 1 {
        assert!(std::time::Instant::now() < deadline, "all but the one to be redelivered are settled");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_double_ack_waits_for_the_server() {
    let sdk = Sdk::new();
    let mut consumed = consume(&sdk, 3).await;
    let message = next(&mut consumed.messages).await.unwrap();
    message.double_ack().await.unwrap();
    drop(message);
    let message = next(&mut consumed.messages).await.unwrap();
    message.double_ack_with(AckKind::Term).await.unwrap();
    drop(message);
    let (message, acker) = next(&mut consumed.messages).await.unwrap().split();
    drop(message);
    acker.double_ack().await.unwrap();
    drop(acker);
    let expected = settled(&consumed, 1, "ack", "ack")
        + &settled(&consumed, 2, "term", "term")
        + &settled(&consumed, 3, "ack", "ack");
    assert_eq!(sdk.described(), expected);
    let consumer: jetstream::consumer::PullConsumer = consumed.stream.get_consumer("shipping").await.unwrap();
    assert_eq!(consumer.cached_info().num_ack_pending, 0);
}

#[tokio::test]
async fn an_acker_carries_the_process_span() {
    let sdk = Sdk::new();
    let mut consumed = consume(&sdk, 1).await;
    let (message, acker) = next(&mut consumed.messages).await.unwrap().split();
    assert_eq!(message.reply, None, "as the client splits");
    drop(message);
    assert_eq!(sdk.spans().len(), 0, "its other part lives");
    acker.ack().await.unwrap();
    drop(acker);
    assert_eq!(sdk.described(), settled(&consumed, 1, "ack", "ack"));
}

#[tokio::test]
async fn settling_after_the_end_is_a_child_of_the_ended_span() {
    let sdk = Sdk::new();
    let mut consumed = consume(&sdk, 1).await;
    let message = next(&mut consumed.messages).await.unwrap();
    message.process(|| async {}).await;
    message.ack().await.unwrap();
    let expected = settled(&consumed, 1, "ack", "ack");
    let outcome = "  otel_messaging.settlement.outcome = \"ack\"\n";
    assert_eq!(sdk.described(), expected.replacen(outcome, "", 1), "it ended without an outcome");
}

#[tokio::test]
async fn a_handlers_error_and_its_settlement_stand_on_one_span() {
    let sdk = Sdk::new();
    let mut consumed = consume(&sdk, 1).await;
    let message = next(&mut consumed.messages).await.unwrap();
    let refuses = async {
        message.ack_with(AckKind::Nak(Some(Duration::from_secs(60)))).await.unwrap();
        Err::<(), _>("sour")
    };
    assert_eq!(message.process(|| refuses).await, Err("sour"));
    let handled = settled(&consumed, 1, "nak", "nack");
    let failed = handled.replacen("status unset\n", "status error: sour\n  error.type = \"&str\"\n", 1);
    assert_eq!(sdk.described(), failed);
}

#[tokio::test]
async fn work_after_the_acknowledgement_is_seen_whole() {
    let sdk = Sdk::new();
    let mut consumed = consume(&sdk, 1).await;
    let message = next(&mut consumed.messages).await.unwrap();
    let onward = unique("onward");
    let works = async {
        message.double_ack().await.unwrap();
        assert_eq!(sdk.spans().len(), 1, "the acknowledgement alone has ended");
        consumed.context.client().publish(onward.clone(), "2".into()).await
    };
    message.process(|| works).await.unwrap();
    let spans = sdk.spans();
    let [process, ack, publish] = &spans[..] else { panic!("{}", describe(&spans)) };
    assert_eq!(describe(&spans[..2]), settled(&consumed, 1, "ack", "ack"));
    assert_eq!(publish.name, format!("publish {onward}"));
    assert_eq!(publish.parent_span_id, process.span_context.span_id());
    assert!(ack.end_time <= publish.start_time && publish.end_time <= process.end_time);
}

#[tokio::test]
async fn the_domain_of_a_stream_is_recorded_for_its_messages() {
    let start = || Nats::own_of_domain("hub").unwrap_or_else(|missing| panic!("{missing}"));
    let server = tokio::task::spawn_blocking(start).await.unwrap();
    let sdk = Sdk::new();
    let options = ConnectOptions::new().with_instrumentation(sdk.instrumentation());
    let context = jetstream::with_domain(options.connect(&server.url).await.unwrap(), "hub");
    let (stream, name) = stream_of(&context).await;
    context.publish(format!("{name}.paid"), "".into()).await.unwrap().await.unwrap();
    let mut batch = durable(&stream, "shipping").await.fetch().messages().await.unwrap();
    let (message, acker) = next(&mut batch).await.unwrap().split();
    acker.double_ack().await.unwrap();
    drop((message, acker, batch));
    let spans = sdk.spans();
    let recorded: Vec<_> = spans
        .iter()
        .map(|span| {
            let domain = attribute(span, "messaging.nats.domain").map(ToString::to_string);
            (span.name.split(' ').next().unwrap().to_owned(), domain)
        })
        .collect();
    let hub = |name: &str| (name.to_owned(), Some("hub".to_owned()));
    assert_eq!(recorded, ["publish", "fetch", "process", "ack"].map(hub), "{}", describe(&spans));
}

#[tokio::test]
async fn what_cannot_be_acknowledged_is_the_clients_error_and_a_failed_span() {
    let sdk = Sdk::new();
    let consumed = consume(&sdk, 0).await;
    let subject = unique("plain");
    let mut subscriber = consumed.context.client().subscribe(subject.clone()).await.unwrap();
    consumed.context.client().get_ref().publish(subject.clone(), "".into()).await.unwrap();
    let message = next(&mut subscriber).await;
    let message = jetstream::Message { message, context: consumed.context.clone() };
    let error = message.ack().await.unwrap_err();
    let raw: async_nats::jetstream::Message = message.clone().into();
    assert_eq!(error.to_string(), raw.ack().await.unwrap_err().to_string());
    assert_eq!(message.info().unwrap_err().to_string(), raw.info().unwrap_err().to_string());
    drop(message);

    let spans = sdk.spans();
    let [process, ack] = &spans[..] else { panic!("{}", describe(&spans)) };
    assert_eq!(attribute(ack, "error.type").unwrap().to_string(), "_OTHER");
    assert_eq!(attribute(ack, "otel_messaging.settlement.outcome"), None);
    assert_eq!(attribute(process, "otel_messaging.settlement.outcome"), None);
    assert_eq!(ack.status, opentelemetry::trace::Status::error("No reply subject, not a JetStream message"));
}

#[tokio::test]
async fn an_acker_made_by_hand_settles_what_nobody_knows() {
    let sdk = Sdk::new();
    let mut consumed = consume(&sdk, 1).await;
    let message = next(&mut consumed.messages).await.unwrap();
    let reply = message.reply.clone();
    let message: async_nats::jetstream::Message = message.into();
    let acker = Acker::new(message.context.into(), reply);
    acker.ack().await.unwrap();
    // It came from a raw context, so it reports to the global tracer, of which there is none.
    assert_eq!(sdk.spans().iter().filter(|span| span.name.starts_with("ack")).count(), 0);

    let acker = Acker::new(consumed.context.clone(), acker_reply(&consumed).await);
    acker.ack_with(AckKind::Term).await.unwrap();
    let spans = sdk.spans();
    let term = spans.iter().find(|span| span.name.starts_with("term")).unwrap();
    assert_eq!(term.parent_span_id, opentelemetry::SpanId::INVALID);
    assert_eq!(attribute(term, "messaging.destination.name"), None);
    assert_eq!(attribute(term, "otel_messaging.settlement.outcome").unwrap().to_string(), "term");
}

async fn acker_reply(consumed: &Consumed) -> Option<async_nats::Subject> {
    let Consumed { context, subject, stream, .. } = consumed;
    context.get_ref().publish(subject.clone(), "".into()).await.unwrap().await.unwrap();
    let other = durable(stream, "other").await.into_inner();
    let message = next(&mut other.messages().await.unwrap()).await.unwrap();
    message.message.reply
}

#[tokio::test]
async fn a_server_that_does_not_answer_a_double_ack_is_a_failure() {
    let mut server = Nats::own().unwrap_or_else(|missing| panic!("{missing}"));
    let sdk = Sdk::new();
    let options = ConnectOptions::new().with_instrumentation(sdk.all_signals_builder().build());
    let context = jetstream::new(options.connect(&server.url).await.unwrap());
    let (stream, name) = stream_of(&context).await;
    context.get_ref().publish(format!("{name}.paid"), "".into()).await.unwrap().await.unwrap();
    let mut messages = durable(&stream, "shipping").await.messages().await.unwrap();
    let mut message = next(&mut messages).await.unwrap();
    server.kill();
    message.context.set_timeout(Duration::from_millis(50));
    let error = message.double_ack().await.unwrap_err();
    drop(message);
    let spans = sdk.spans();
    let [process, ack] = &spans[..] else { panic!("{}", describe(&spans)) };
    assert_eq!(attribute(ack, "error.type").unwrap().to_string(), "timed_out");
    assert_eq!(ack.status, opentelemetry::trace::Status::error(error.to_string()));
    assert_eq!(attribute(ack, "otel_messaging.settlement.outcome"), None);
    assert_eq!(process.status, opentelemetry::trace::Status::Unset, "the work was done");
    assert_eq!(attribute(process, "otel_messaging.settlement.outcome"), None, "it may be settled");
    let measured = sdk.measured();
    assert!(!measured.contains("otel_messaging.deliveries"), "{measured}");
}

/// What became of the message nobody knows, as long as nobody tries again.
#[tokio::test]
async fn a_message_whose_double_ack_is_dropped_midway_is_not_called_dropped() {
    let sdk = Sdk::new();
    let mut consumed = consume(&sdk, 4).await;
    let outcomes = || {
        let spans = sdk.spans();
        let outcome = |process| attribute(process, "otel_messaging.settlement.outcome").map(ToString::to_string);
        spans.iter().filter(|span| span.name.starts_with("process")).map(outcome).collect::<Vec<_>>()
    };
    let message = next(&mut consumed.messages).await.unwrap();
    assert!(poll!(pin!(message.double_ack())).is_pending());
    drop(message);
    let (message, acker) = next(&mut consumed.messages).await.unwrap().split();
    assert!(poll!(pin!(acker.double_ack())).is_pending());
    drop((message, acker));
    assert_eq!(outcomes(), [None, None]);

    let message = next(&mut consumed.messages).await.unwrap();
    assert!(poll!(pin!(message.double_ack())).is_pending());
    message.ack_with(AckKind::Term).await.unwrap();
    drop(message);
    assert_eq!(outcomes(), [None, None, Some("term".to_owned())]);

    let message = next(&mut consumed.messages).await.unwrap();
    assert!(poll!(pin!(message.double_ack_with(AckKind::Progress))).is_pending());
    drop((message, consumed));
    assert_eq!(outcomes()[3], None);
    assert_eq!(counted(&sdk, "dropped"), 1, "progress settles nothing");
}

#[tokio::test]
async fn only_what_has_to_be_settled_one_by_one_can_be_dropped() {
    let outcome_of = async |ack_policy| {
        let sdk = Sdk::new();
        let context = jetstream::new(connect_with(sdk.all_signals_builder().build()).await);
        let (stream, name) = stream_of(&context).await;
        let config = pull::Config { ack_policy, ..Default::default() };
        let mut messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
        context.get_ref().publish(format!("{name}.paid"), "".into()).await.unwrap().await.unwrap();
        drop(next(&mut messages).await.unwrap());
        let process = sdk.spans().pop().unwrap();
        assert_eq!(attribute(&process, "otel_messaging.settlement.outcome"), None, "it ended before");
        drop((messages, stream, context));
        counted(&sdk, "dropped")
    };
    assert_eq!(outcome_of(AckPolicy::Explicit).await, 1);
    assert_eq!(outcome_of(AckPolicy::All).await, 0, "a later one may settle it");
    assert_eq!(outcome_of(AckPolicy::None).await, 0);
}

#[tokio::test]
async fn what_is_settled_by_raw_types_is_not_called_dropped() {
    let sdk = Sdk::new();
    let mut consumed = consume(&sdk, 3).await;
    let raw: async_nats::jetstream::Message = next(&mut consumed.messages).await.unwrap().into();
    raw.ack().await.unwrap();
    let jetstream::Message { message, context } = next(&mut consumed.messages).await.unwrap();
    let raw = async_nats::jetstream::Message { message: message.into(), context: context.into_inner() };
    raw.ack().await.unwrap();
    let (message, acker) = next(&mut consumed.messages).await.unwrap().split();
    drop(message);
    acker.into_inner().ack().await.unwrap();
    drop(consumed);
    let spans = sdk.spans();
    assert_eq!(spans.len(), 3, "{}", describe(&spans));
    assert!(spans.iter().all(|process| attribute(process, "otel_messaging.settlement.outcome").is_none()));
    assert_eq!(counted(&sdk, "dropped"), 0);
}

#[tokio::test]
async fn a_settlement_tells_which_message_it_was() {
    let sdk = Sdk::new();
    let mut consumed = consume(&sdk, 0).await;
    let message = || PublishMessage::build().message_id("id-17");
    consumed.context.get_ref().send_publish(consumed.subject.clone(), message()).await.unwrap().await.unwrap();
    let (message, acker) = next(&mut consumed.messages).await.unwrap().split();
    acker.ack().await.unwrap();
    drop((message, acker));
    let ids: Vec<_> =
        sdk.spans().iter().map(|span| attribute(span, "messaging.message.id").unwrap().to_string()).collect();
    assert_eq!(ids, ["id-17", "id-17"]);
}
