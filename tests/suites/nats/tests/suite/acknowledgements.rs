//! Acknowledgements that are published by hand, as job queues do: settlements, and no messages.

use std::{pin::pin, time::Duration};

use async_nats::Subject;
use bytes::Bytes;
use futures::{SinkExt, future::LocalBoxFuture, poll};
use opentelemetry::Context;
use opentelemetry_sdk::trace::SpanData;
use otel_async_nats::{
    Client, ConnectOptions, HeaderMap, Request,
    client::traits::Publisher as _,
    jetstream::{
        self,
        consumer::{AckPolicy, pull},
        message::{Acker, PublishMessage},
        stream::Stream,
    },
    message::OutboundMessage,
    otel::{MessageExt, suppress_messaging},
};
use support::{Sdk, attribute, describe};

use crate::{counted, headers, next, server, stream_of, within};

/// A stream, and what a consumer gives of it. Nobody is told of what was sent to it.
struct Consumed {
    sdk: Sdk,
    context: jetstream::Context,
    stream: Stream,
    messages: pull::Stream,
    subject: String,
}

async fn consume(count: usize, config: pull::Config) -> Consumed {
    consume_with(ConnectOptions::new(), count, config).await
}

async fn consume_with(options: ConnectOptions, count: usize, config: pull::Config) -> Consumed {
    let sdk = Sdk::new();
    let options = options.with_instrumentation(sdk.all_signals_builder().build());
    let context = jetstream::new(options.connect(&server().url).await.unwrap());
    let (stream, name) = stream_of(&context).await;
    let subject = format!("{name}.paid");
    for _ in 0..count {
        context.get_ref().publish(subject.clone(), "1".into()).await.unwrap().await.unwrap();
    }
    let config = pull::Config { durable_name: Some("shipping".to_owned()), ..config };
    let messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    Consumed { sdk, context, stream, messages, subject }
}

fn patient() -> pull::Config {
    pull::Config { ack_wait: Duration::from_secs(60), ..Default::default() }
}

impl Consumed {
    async fn next(&mut self) -> jetstream::Message {
        next(&mut self.messages).await.unwrap()
    }

    /// How many messages the server waits for.
    async fn awaited(&self) -> usize {
        self.stream
            .get_ref()
            .clone()
            .get_consumer::<pull::Config>("shipping")
            .await
            .unwrap()
            .cached_info()
            .num_ack_pending
    }

    /// Ends the connection: all its handles are dropped.
    fn end(self) -> Sdk {
        self.sdk
    }

    /// Returns when the server has as many settlements as it has to, whichever way they are under way.
    async fn wait_until_awaited(&self, count: usize) {
        let enough = async {
            while self.awaited().await != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(support::DEADLINE, enough).await.expect("settled in time");
    }
}

fn outcome(span: &SpanData) -> Option<String> {
    attribute(span, "otel_messaging.settlement.outcome").map(ToString::to_string)
}

/// A way to publish an acknowledgement.
type Way = for<'a> fn(&'a jetstream::Context, Subject, Bytes) -> LocalBoxFuture<'a, ()>;

const WAYS: [(&str, Way); 14] = [
    ("publish", |context, to, payload| Box::pin(async { context.client().publish(to, payload).await.unwrap() })),
    ("publish with headers", |context, to, payload| {
        Box::pin(async {
            context.client().publish_with_headers(to, headers(&[("Colour", "green")]), payload).await.unwrap()
        })
    }),
    ("publish with reply", |context, to, payload| {
        Box::pin(async { context.client().publish_with_reply(to, "answers", payload).await.unwrap() })
    }),
    ("publish with reply and headers", |context, to, payload| {
        let headers = HeaderMap::new();
        Box::pin(async {
            context.client().publish_with_reply_and_headers(to, "answers", headers, payload).await.unwrap()
        })
    }),
    ("sink", |context, subject, payload| {
        let message = OutboundMessage { subject, payload, reply: None, headers: None };
        Box::pin(async { context.client().send(message).await.unwrap() })
    }),
    ("client as publisher", |context, subject, payload| {
        let message = OutboundMessage { subject, payload, reply: None, headers: None };
        Box::pin(async { context.client().publish_message(message).await.unwrap() })
    }),
    ("context as the client's publisher", |context, subject, payload| {
        let message = OutboundMessage { subject, payload, reply: None, headers: None };
        Box::pin(async { async_nats::client::traits::Publisher::publish_message(context, message).await.unwrap() })
    }),
    ("context", |context, to, payload| Box::pin(async { drop(context.publish(to, payload).await.unwrap()) })),
    ("context, awaited", |context, to, payload| {
        Box::pin(async {
            // The server's answer is no acknowledgement of a publish.
            context.publish(to, payload).await.unwrap().await.unwrap_err();
        })
    }),
    ("context with headers", |context, to, payload| {
        let headers = HeaderMap::new();
        Box::pin(async { drop(context.publish_with_headers(to, headers, payload).await.unwrap()) })
    }),
    ("context's send_publish", |context, to, payload| {
        Box::pin(async { drop(context.send_publish(to, PublishMessage::build().payload(payload)).await.unwrap()) })
    }),
    ("request", |context, to, payload| Box::pin(async { drop(context.client().request(to, payload).await.unwrap()) })),
    ("client as requester", |context, to, payload| {
        Box::pin(async { drop(context.client().send_request(to, Request::new().payload(payload)).await.unwrap()) })
    }),
    ("an acker made by hand", |context, to, payload| {
        assert_eq!(payload, "+ACK");
        Box::pin(async { Acker::new(context.clone(), Some(to)).ack().await.unwrap() })
    }),
];

#[tokio::test]
async fn whatever_way_an_acknowledgement_is_published_it_is_the_settlement_of_its_message() {
    for (way, publish) in WAYS {
        let mut consumed = consume(3, patient()).await;
        // In the handler; after it, while the message is kept; and when the message is gone.
        let message = consumed.next().await;
        let reply = |message: &jetstream::Message| message.reply.clone().unwrap();
        message.process(|| async { publish(&consumed.context, reply(&message), "+ACK".into()).await }).await;
        drop(message);
        let kept = consumed.next().await;
        publish(&consumed.context, reply(&kept), "+ACK".into()).await;
        drop(kept);
        let gone = reply(&consumed.next().await);
        publish(&consumed.context, gone, "+ACK".into()).await;
        consumed.wait_until_awaited(0).await;

        let spans = consumed.sdk.spans();
        let (processes, acks): (Vec<_>, Vec<_>) = spans.iter().partition(|span| span.name.starts_with("process"));
        assert_eq!((processes.len(), acks.len()), (3, 3), "{way}: {}", describe(&spans));
        for (process, ack) in processes.iter().zip(&acks) {
            assert_eq!(ack.name, format!("ack {}", consumed.subject), "{way}");
            assert_eq!(ack.parent_span_id, process.span_context.span_id(), "{way}: {}", describe(&spans));
            assert_eq!(outcome(ack).as_deref(), Some("ack"), "{way}");
            assert_eq!(attribute(ack, "messaging.destination.subscription.name").unwrap().to_string(), "shipping");
        }
        let noted: Vec<_> = processes.iter().map(|process| outcome(process)).collect();
        assert_eq!(noted, [Some("ack".to_owned()), Some("ack".to_owned()), None], "{way}: the last had ended");
        let sdk = consumed.end();
        assert_eq!((counted(&sdk, "ack"), counted(&sdk, "dropped")), (3, 0), "{way}");
        assert!(!sdk.measured().contains("sent.messages"), "{way}: {}", sdk.measured());
    }
}

/// What a client writes to `$JS.ACK.`, as a server would get it.
#[tokio::test]
async fn an_acknowledgement_carries_no_header_of_ours() {
    let consumed = consume(0, patient()).await;
    let mut heard = consumed.context.client().into_inner().subscribe("$JS.ACK.nobodys.>").await.unwrap();
    let app = consumed.sdk.app_span("app");
    for (way, publish) in WAYS.into_iter().filter(|(way, _)| !way.contains("await") && !way.contains("request")) {
        let subject = Subject::from("$JS.ACK.nobodys.c.1.1.1.1790230470084404000.0");
        let published = within(&app, || publish(&consumed.context, subject, "+ACK".into()));
        published.await;
        let headers = next(&mut heard).await.headers;
        let expected = if way == "publish with headers" { Some(crate::headers(&[("Colour", "green")])) } else { None };
        assert_eq!(headers.filter(|headers| !headers.is_empty()), expected, "{way}");
    }
    let acks = consumed.sdk.spans();
    assert!(acks.iter().all(|ack| ack.name.starts_with("ack ")), "{}", describe(&acks));
}

#[tokio::test]
async fn the_payload_says_what_becomes_of_the_message() {
    // Whether the message is delivered again is the server's answer.
    let payloads = [
        ("", Some(("ack", "ack"))),
        ("+ACK", Some(("ack", "ack"))),
        ("+OK", Some(("ack", "ack"))),
        ("+NXT", Some(("ack", "ack"))),
        ("+NXT {\"batch\": 1}", Some(("ack", "ack"))),
        ("-NAK", Some(("nak", "nack"))),
        ("-NAK {\"delay\": 60000000000}", Some(("nak", "nack"))),
        ("+TERM", Some(("term", "term"))),
        ("+TERM sour", Some(("term", "term"))),
        ("+WPI", None),
        ("+ACK ", None),
        ("ack", None),
    ];
    for (payload, settles) in payloads {
        let mut consumed = consume(1, patient()).await;
        let message = consumed.next().await;
        let client = consumed.context.client();
        client.publish(message.reply.clone().unwrap(), payload.into()).await.unwrap();
        if settles.is_some_and(|(operation, _)| operation != "nak") {
            consumed.wait_until_awaited(0).await;
        }
        drop(message);
        let spans = consumed.sdk.spans();
        let names: Vec<_> = spans.iter().map(|span| span.name.clone()).collect();
        let process = format!("process {}", consumed.subject);
        let subject = consumed.subject.clone();
        drop(client);
        let sdk = consumed.end();
        match settles {
            Some((operation, expected)) => {
                assert_eq!(names, [process, format!("{operation} {subject}")], "{payload}");
                assert!(spans.iter().all(|span| outcome(span).as_deref() == Some(expected)), "{payload}");
                assert_eq!((counted(&sdk, expected), counted(&sdk, "dropped")), (1, 0), "{payload}");
            }
            None => {
                assert_eq!(names, [process], "{payload}");
                assert_eq!(counted(&sdk, "dropped"), 1, "{payload}");
            }
        }
        assert!(!sdk.measured().contains("sent.messages"), "{payload}: {}", sdk.measured());
    }
}

/// A message that is never settled.
#[tokio::test]
async fn a_dropped_message_counts_at_the_first_operation_after_its_ack_wait() {
    let ack_wait = Duration::from_millis(300);
    let mut consumed = consume(1, pull::Config { ack_wait, max_deliver: 1, ..Default::default() }).await;
    let reply = consumed.next().await.reply.clone().unwrap();
    let client = consumed.context.client();
    assert_eq!(counted(&consumed.sdk, "dropped"), 0, "it can still be settled");
    // The server is asked to wait for longer.
    client.publish(reply.clone(), "+WPI".into()).await.unwrap();
    client.publish("anything", "1".into()).await.unwrap();
    assert_eq!(counted(&consumed.sdk, "dropped"), 0);
    tokio::time::sleep(ack_wait * 2).await;
    assert_eq!(counted(&consumed.sdk, "dropped"), 0, "nobody has asked");
    client.publish("anything", "1".into()).await.unwrap();
    assert_eq!(counted(&consumed.sdk, "dropped"), 1);
    // Who settles it now settles what nobody knows any more.
    client.publish(reply, "".into()).await.unwrap();
    let ack = consumed.sdk.spans().into_iter().find(|span| span.name.starts_with("ack ")).unwrap();
    assert_eq!(ack.parent_span_id, opentelemetry::SpanId::INVALID);
    assert_eq!(counted(&consumed.sdk, "dropped"), 1);
}

#[tokio::test]
async fn of_more_than_4096_messages_the_oldest_count_as_dropped_first() {
    const LIMIT: usize = 4_096;
    let mut consumed = consume(0, pull::Config { max_ack_pending: -1, ..patient() }).await;
    let raw = consumed.context.client().into_inner();
    for _ in 0..LIMIT + 2 {
        raw.publish(consumed.subject.clone(), "1".into()).await.unwrap();
    }
    let oldest = consumed.next().await;
    for _ in 1..LIMIT {
        consumed.next().await;
    }
    assert_eq!(counted(&consumed.sdk, "dropped"), 0, "they can still be settled");
    consumed.next().await;
    assert_eq!(counted(&consumed.sdk, "dropped"), 0, "the oldest is forgotten, and at hand");
    drop(oldest);
    assert_eq!(counted(&consumed.sdk, "dropped"), 1);
    let newest = consumed.next().await;
    assert_eq!(counted(&consumed.sdk, "dropped"), 2, "the oldest that is left was let go of before");
    consumed.context.client().publish(newest.reply.clone().unwrap(), "".into()).await.unwrap();
    assert_eq!(counted(&consumed.sdk, "ack"), 1);
}

#[tokio::test]
async fn under_ack_all_a_message_settled_by_hand_is_not_dropped() {
    let mut consumed = consume(2, pull::Config { ack_policy: AckPolicy::All, ..patient() }).await;
    let _first = consumed.next().await.reply.clone();
    let second = consumed.next().await.reply.clone().unwrap();
    consumed.context.client().publish(second, "".into()).await.unwrap();
    let spans = consumed.sdk.spans();
    let [_, process, ack] = &spans[..] else { panic!("{}", describe(&spans)) };
    assert_eq!(ack.parent_span_id, process.span_context.span_id());
    let sdk = consumed.end();
    assert_eq!((counted(&sdk, "ack"), counted(&sdk, "dropped")), (1, 0));
}

/// The server may get it.
#[tokio::test]
async fn a_publish_by_hand_that_is_given_up_leaves_nothing_dropped() {
    for keeps_message in [true, false] {
        let mut consumed = consume_with(ConnectOptions::new().client_capacity(1), 1, patient()).await;
        let message = consumed.next().await;
        let reply = message.reply.clone().unwrap();
        let kept = keeps_message.then_some(message);
        let client = consumed.context.client();
        // The connection's task does not run while nothing here waits, so the second message finds no room.
        client.get_ref().publish(consumed.subject.clone(), "2".into()).await.unwrap();
        assert!(poll!(pin!(client.publish(reply, "+ACK".into()))).is_pending());
        drop(kept);
        drop(client);
        let sdk = consumed.end();
        assert_eq!((counted(&sdk, "ack"), counted(&sdk, "dropped")), (0, 0), "kept: {keeps_message}");
    }
}

/// The server may have it, or get it.
#[tokio::test]
async fn a_request_by_hand_that_is_given_up_leaves_nothing_dropped() {
    for keeps_message in [true, false] {
        let mut consumed = consume(1, patient()).await;
        let message = consumed.next().await;
        let reply = message.reply.clone().unwrap();
        let kept = keeps_message.then_some(message);
        let client = consumed.context.client();
        assert!(poll!(pin!(client.request(reply, "+ACK".into()))).is_pending());
        drop(kept);
        let unknown: Vec<_> = consumed
            .sdk
            .spans()
            .iter()
            .map(|span| attribute(span, "otel_messaging.delivery.outcome_unknown").is_some())
            .collect();
        assert_eq!(unknown, [false, true]);
        drop(client);
        let sdk = consumed.end();
        assert_eq!((counted(&sdk, "ack"), counted(&sdk, "dropped")), (0, 0), "kept: {keeps_message}");
    }
}

#[tokio::test]
async fn a_message_settled_by_hand_unrecorded_is_not_dropped() {
    for keeps_message in [true, false] {
        let mut consumed = consume(1, patient()).await;
        let message = consumed.next().await;
        let reply = message.reply.clone().unwrap();
        let kept = keeps_message.then_some(message);
        let client = consumed.context.client();
        within(&suppress_messaging(&Context::new()), || client.publish(reply, "+ACK".into())).await.unwrap();
        drop(kept);
        drop(client);
        let sdk = consumed.end();
        assert_eq!(sdk.spans().len(), 1, "{}", sdk.described());
        assert_eq!((counted(&sdk, "ack"), counted(&sdk, "dropped")), (0, 0), "kept: {keeps_message}");
    }
}

/// The client's own answer comes back, and the message can be settled again.
#[tokio::test]
async fn a_settlement_by_hand_that_fails_settles_nothing() {
    let mut consumed = consume(1, patient()).await;
    let reply = consumed.next().await.reply.clone().unwrap();
    let client: Client = consumed.context.client();
    let too_much = Bytes::from([b"-NAK ".as_slice(), &vec![b' '; client.max_payload()]].concat());
    client.publish(reply.clone(), too_much).await.unwrap_err();
    let failed = consumed.sdk.spans().pop().unwrap();
    assert_eq!(attribute(&failed, "error.type").unwrap().to_string(), "max_payload_exceeded");
    assert_eq!((failed.name.split(' ').next(), outcome(&failed)), (Some("nak"), None));
    client.publish(reply, "".into()).await.unwrap();
    drop(client);
    let sdk = consumed.end();
    assert_eq!((counted(&sdk, "ack"), counted(&sdk, "nack"), counted(&sdk, "dropped")), (1, 0, 0));
}
