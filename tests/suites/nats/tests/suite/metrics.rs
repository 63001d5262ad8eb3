//! What is measured.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::StreamExt;
use otel_async_nats::{
    Client, ConnectOptions,
    jetstream::{
        self, AckKind,
        consumer::{
            pull::{self, MessagesErrorKind},
            push,
        },
    },
    otel::{Instrumentation, MessageExt, Operation},
    service::{self, ServiceExt},
};
use support::{Sdk, attribute, describe};

use crate::{connect_with, durable, next, server, stream_of, unique, within};

/// What was measured, in short: what every line says of the system and the server is left out, and prefixes of names.
fn measured(sdk: &Sdk) -> Vec<String> {
    let (_, address) = server().url.rsplit_once('/').unwrap();
    let (host, port) = address.rsplit_once(':').unwrap();
    let everywhere = [
        "messaging.system = \"nats\"".to_owned(),
        format!("server.address = {host:?}"),
        format!("server.port = {port}"),
    ];
    let short = |line: &str| {
        let (metric, rest) = line.split_once("] {").expect("a series");
        let (attributes, count) = rest.rsplit_once("} ").expect("a series");
        let all: Vec<_> = attributes.split(", ").collect();
        assert!(everywhere.iter().all(|one| all.contains(&one.as_str())), "{line}");
        let own = all.into_iter().filter(|one| !everywhere.iter().any(|everywhere| everywhere == one));
        let own: Vec<_> = own
            .map(|one| {
                let prefixes = ["messaging.operation.name = ", "messaging.destination.", "otel_messaging.settlement."];
                prefixes.iter().find_map(|prefix| one.strip_prefix(prefix)).unwrap_or(one)
            })
            .collect();
        format!("{metric}] {{{}}} {count}", own.join(", "))
    };
    let mut lines: Vec<_> = sdk.measured().lines().map(short).collect();
    lines.sort();
    lines
}

#[track_caller]
fn assert_measured(sdk: &Sdk, expected: &[String]) {
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(measured(sdk).join("\n"), expected.join("\n"));
}

#[tokio::test]
async fn a_delivery_is_counted_once_and_its_queue_time_measured() {
    let sdk = Sdk::new();
    let context = jetstream::new(connect_with(sdk.all_signals_builder().build()).await);
    let (stream, name) = stream_of(&context).await;
    let subject = format!("{name}.paid");
    let consumer = durable(&stream, "shipping").await;
    for _ in 0..4 {
        context.publish(subject.clone(), "1".into()).await.unwrap().await.unwrap();
    }
    let mut batch = consumer.fetch().max_messages(4).messages().await.unwrap();
    let [acked, refused, given_up, dropped] = [
        next(&mut batch).await.unwrap(),
        next(&mut batch).await.unwrap(),
        next(&mut batch).await.unwrap(),
        next(&mut batch).await.unwrap(),
    ];
    assert!(batch.next().await.is_none());
    acked.double_ack().await.unwrap();
    refused.ack_with(AckKind::Nak(Some(Duration::from_secs(60)))).await.unwrap();
    given_up.ack_with(AckKind::Progress).await.unwrap();
    let (_message, acker) = given_up.split();
    acker.ack_with(AckKind::Term).await.unwrap();
    dropped.in_scope(|| ());
    drop((acked, refused, _message, acker, dropped));
    // What can be settled by hand still, until the connection is gone.
    drop((batch, consumer, stream, context));

    let to = format!("name = \"{subject}\"");
    let by = "subscription.name = \"shipping\"";
    let expected = [
        format!("messaging.client.consumed.messages [{{message}}] {{{to}, {by}, \"fetch\"}} 4"),
        format!("messaging.client.operation.duration [s] {{{to}, \"publish\", messaging.operation.type = \"send\"}} 4"),
        format!(
            "messaging.client.operation.duration [s] {{{to}, {by}, \"ack\", messaging.operation.type = \"settle\"}} 1"
        ),
        format!(
            "messaging.client.operation.duration [s] {{{to}, {by}, \"nak\", messaging.operation.type = \"settle\"}} 1"
        ),
        format!(
            "messaging.client.operation.duration [s] {{{to}, {by}, \"term\", messaging.operation.type = \"settle\"}} 1"
        ),
        format!(
            "messaging.client.operation.duration [s] {{{to}, {by}, \"fetch\", messaging.operation.type = \"receive\"}} 1"
        ),
        format!("messaging.client.sent.messages [{{message}}] {{{to}, \"publish\"}} 4"),
        format!("messaging.process.duration [s] {{{to}, {by}, \"process\"}} 4"),
        format!("otel_messaging.deliveries [{{message}}] {{{to}, {by}, \"ack\", outcome = \"ack\"}} 1"),
        format!("otel_messaging.deliveries [{{message}}] {{{to}, {by}, \"fetch\", outcome = \"dropped\"}} 1"),
        format!("otel_messaging.deliveries [{{message}}] {{{to}, {by}, \"nak\", outcome = \"nack\"}} 1"),
        format!("otel_messaging.deliveries [{{message}}] {{{to}, {by}, \"term\", outcome = \"term\"}} 1"),
        format!("otel_messaging.queue_time [s] {{{to}, {by}, \"fetch\", otel_messaging.clock = \"broker\"}} 4"),
        // The others' spans began with their settlements.
        format!("otel_messaging.wait_time [s] {{{to}, {by}, \"process\"}} 1"),
    ];
    assert_measured(&sdk, &expected);
}

#[tokio::test]
async fn what_is_pushed_counts_as_processed_and_core_nats_knows_no_time() {
    let sdk = Sdk::new();
    let client = connect_with(sdk.all_signals_builder().with_spans(false).build()).await;
    let subject = unique("orders");
    let mut subscriber = client.subscribe(subject.clone()).await.unwrap();
    client.publish(subject.clone(), "1".into()).await.unwrap();
    next(&mut subscriber).await.end();
    let to = format!("name = \"{subject}\"");
    let expected = [
        format!("messaging.client.consumed.messages [{{message}}] {{{to}, \"process\"}} 1"),
        format!("messaging.client.operation.duration [s] {{{to}, \"publish\", messaging.operation.type = \"send\"}} 1"),
        format!("messaging.client.sent.messages [{{message}}] {{{to}, \"publish\"}} 1"),
        format!("messaging.process.duration [s] {{{to}, \"process\"}} 1"),
    ];
    assert_measured(&sdk, &expected);
    assert_eq!(sdk.described(), "", "metrics without spans");

    let sdk = Sdk::new();
    let context = jetstream::new(connect_with(sdk.all_signals_builder().build()).await);
    let (stream, name) = stream_of(&context).await;
    let config = push::Config {
        deliver_subject: unique("deliver"),
        ack_policy: jetstream::consumer::AckPolicy::None,
        ..Default::default()
    };
    let mut messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    context.get_ref().publish(format!("{name}.paid"), "1".into()).await.unwrap().await.unwrap();
    drop(next(&mut messages).await.unwrap());
    let to = format!("name = \"{name}.paid\"");
    let expected = [
        format!("messaging.client.consumed.messages [{{message}}] {{{to}, \"process\"}} 1"),
        format!("messaging.process.duration [s] {{{to}, \"process\"}} 1"),
        format!("otel_messaging.queue_time [s] {{{to}, \"process\", otel_messaging.clock = \"broker\"}} 1"),
    ];
    assert_measured(&sdk, &expected);
    // Nothing is dropped that nobody has to settle.
    let process = sdk.spans().pop().unwrap();
    assert_eq!(attribute(&process, "otel_messaging.settlement.outcome"), None);
}

#[tokio::test]
async fn waiting_for_a_message_is_measured_and_on_request_a_span() {
    for receive_spans in [false, true] {
        let sdk = Sdk::new();
        let builder = sdk.all_signals_builder().with_receive_spans(receive_spans);
        let context = jetstream::new(connect_with(builder.build()).await);
        let (stream, name) = stream_of(&context).await;
        let subject = format!("{name}.paid");
        let mut messages = durable(&stream, "shipping").await.messages().await.unwrap();
        let ambient = sdk.app_span("loop");
        let waiting = futures::future::poll_fn(|cx| within(&ambient, || messages.poll_next_unpin(cx)));
        let to = format!("name = \"{subject}\"");
        let publish = async { context.publish(subject, "1".into()).await.unwrap().await.unwrap() };
        let (message, _) = futures::join!(waiting, publish);
        let message = message.unwrap().unwrap();
        message.ack().await.unwrap();
        crate::end(&ambient);
        drop(message);
        let waits: Vec<_> = measured(&sdk).into_iter().filter(|line| line.contains("\"receive\"")).collect();
        let by = "subscription.name = \"shipping\"";
        let expected = format!(
            "messaging.client.operation.duration [s] {{{to}, {by}, \"fetch\", messaging.operation.type = \"receive\"}} 1"
        );
        assert_eq!(waits, [expected]);
        let spans = sdk.spans();
        let fetches: Vec<_> = spans.iter().filter(|span| span.name.starts_with("fetch")).collect();
        assert_eq!(fetches.len(), usize::from(receive_spans), "{}", describe(&spans));
        if let [fetch] = fetches[..] {
            let publish = spans.iter().find(|span| span.name.starts_with("publish")).unwrap();
            let loop_span = spans.iter().find(|span| span.name == "loop").unwrap();
            assert_eq!(fetch.parent_span_id, loop_span.span_context.span_id());
            assert!(fetch.start_time <= publish.start_time, "it begins with the wait");
            assert_eq!(
                fetch.links.iter().map(|link| link.span_context.span_id()).collect::<Vec<_>>(),
                [publish.span_context.span_id()]
            );
            assert_eq!(attribute(fetch, "messaging.batch.message_count"), None, "it is no batch");
        }
    }
}

#[tokio::test]
async fn inboxes_and_acknowledgements_make_no_series() {
    let sdk = Sdk::new();
    let client = connect_with(sdk.all_signals_builder().build()).await;
    let inbox = client.new_inbox();
    let mut own = client.subscribe(inbox.clone()).await.unwrap();
    for (number, subject) in [inbox, client.new_inbox(), client.new_inbox()].into_iter().enumerate() {
        client.publish(subject, "1".into()).await.unwrap();
        client.publish(format!("$JS.ACK.S.C.1.1.1.{}.0", unique("1")), "".into()).await.unwrap();
        // As libraries make the subjects of their replies: a NUID, which nearly always has a digit.
        client.publish(format!("replies.srMprvODuqjQQNzXImIwC{number}"), "1".into()).await.unwrap();
    }
    // A word may be as long.
    client.publish("replies.counterrevolutionaries", "1".into()).await.unwrap();
    drop(next(&mut own).await);
    let expected = [
        "messaging.client.consumed.messages [{message}] {\"process\"} 1",
        "messaging.client.operation.duration [s] {\"ack\", messaging.operation.type = \"settle\"} 3",
        "messaging.client.operation.duration [s] {\"publish\", messaging.operation.type = \"send\"} 6",
        "messaging.client.operation.duration [s] {name = \"replies.counterrevolutionaries\", \"publish\", messaging.operation.type = \"send\"} 1",
        "messaging.client.sent.messages [{message}] {\"publish\"} 6",
        "messaging.client.sent.messages [{message}] {name = \"replies.counterrevolutionaries\", \"publish\"} 1",
        "messaging.process.duration [s] {\"process\"} 1",
        "otel_messaging.deliveries [{message}] {\"ack\", outcome = \"ack\"} 3",
    ];
    assert_eq!(measured(&sdk), expected);
    let names: BTreeSet<_> = sdk.spans().into_iter().map(|span| span.name.into_owned()).collect();
    let ack = format!("ack {}", server().url.trim_start_matches("nats://"));
    let named = "publish replies.counterrevolutionaries".to_owned();
    assert_eq!(names, BTreeSet::from([ack, "process".to_owned(), "publish".to_owned(), named]));
}

/// Whoever chose its name: a library, or a service that names the subject of its answers by its process.
#[tokio::test]
async fn what_answers_the_message_being_processed_makes_no_series_unless_a_template_names_it() {
    for template in [None, Some("answers.*")] {
        let sdk = Sdk::new();
        // What is asked, a template, and what comes last.
        let builder = sdk.all_signals_builder().with_destination_limit(2 + usize::from(template.is_some()));
        let builder = match template {
            Some(template) => {
                builder.with_destination_template(move |name| name.starts_with("answers.").then(|| template.to_owned()))
            }
            None => builder,
        };
        let client = connect_with(builder.build()).await;
        let (asked, later) = (unique("asked"), unique("later"));
        let mut asked_for = client.subscribe(asked.clone()).await.unwrap();
        for number in 0..5 {
            let reply = format!("answers.of-{number}");
            client.get_ref().publish_with_reply(asked.clone(), reply.clone(), "1".into()).await.unwrap();
            let message = next(&mut asked_for).await;
            message.process(|| async { client.publish(reply.clone(), "1".into()).await }).await.unwrap();
            message.in_scope(|| ());
        }
        client.publish(later.clone(), "1".into()).await.unwrap();
        let spans = sdk.spans();
        let answers: Vec<_> = spans.iter().filter(|span| span.name.starts_with("publish")).take(5).collect();
        for (number, answer) in answers.iter().enumerate() {
            assert_eq!(answer.name, template.map_or("publish".to_owned(), |template| format!("publish {template}")));
            let text = |key| attribute(answer, key).map(ToString::to_string);
            assert_eq!(text("messaging.destination.name"), Some(format!("answers.of-{number}")));
            assert_eq!(text("messaging.destination.temporary").is_some(), template.is_none());
        }
        let sent: Vec<_> = measured(&sdk).into_iter().filter(|line| line.contains("sent.messages")).collect();
        let of_answers =
            template.map_or_else(|| "\"publish\"".to_owned(), |name| format!("template = {name:?}, \"publish\""));
        let expected = [
            format!("messaging.client.sent.messages [{{message}}] {{{of_answers}}} 5"),
            format!("messaging.client.sent.messages [{{message}}] {{name = {later:?}, \"publish\"}} 1"),
        ];
        assert_eq!(BTreeSet::from_iter(sent), BTreeSet::from(expected));
    }
}

#[tokio::test]
async fn failures_have_events_and_their_type_on_the_series() {
    let sdk = Sdk::new();
    let client = connect_with(sdk.all_signals_builder().build()).await;
    let subject = unique("stock");
    client.request(subject.clone(), "1".into()).await.unwrap_err();
    let to = format!("name = \"{subject}\"");
    let expected = [
        format!(
            "messaging.client.operation.duration [s] {{error.type = \"no_responders\", {to}, \"request\", messaging.operation.type = \"send\"}} 1"
        ),
        format!("messaging.client.sent.messages [{{message}}] {{error.type = \"no_responders\", {to}, \"request\"}} 1"),
    ];
    assert_measured(&sdk, &expected);
    let events = sdk.events();
    assert!(events.starts_with(&format!("WARN messaging.send.exception in request {subject} ")), "{events}");

    let context = jetstream::new(client);
    let (stream, _) = stream_of(&context).await;
    let consumer = durable(&stream, "shipping").await;
    let mut messages = consumer.messages().await.unwrap();
    stream.delete_consumer("shipping").await.unwrap();
    let error = next(&mut messages).await.unwrap_err();
    let fetch = sdk.spans().pop().unwrap();
    let expected = match error.kind() {
        MessagesErrorKind::ConsumerDeleted => "consumer_deleted",
        // The first request came after it was gone.
        MessagesErrorKind::NoResponders => "no_responders",
        other => panic!("{other:?}"),
    };
    assert_eq!(attribute(&fetch, "error.type").unwrap().to_string(), expected);
    assert_eq!(fetch.status, opentelemetry::trace::Status::error(error.to_string()));
    assert!(fetch.name.starts_with("fetch"), "{}", fetch.name);
    assert!(sdk.events().contains("WARN messaging.receive.exception in fetch"), "{}", sdk.events());
}

#[tokio::test]
async fn sizes_and_headers_are_recorded_only_on_request() {
    let sdk = Sdk::new();
    let recorded: Instrumentation = sdk
        .instrumentation_builder()
        .with_captured_sizes(true)
        .with_captured_headers(["*"])
        .with_capture_limit(3)
        .build();
    let options = ConnectOptions::new().with_instrumentation(recorded);
    let client = options.connect(&server().url).await.unwrap();
    let subject = unique("orders");
    let mut subscriber = client.subscribe(subject.clone()).await.unwrap();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Colour", "green");
    client.publish_with_headers(subject.clone(), headers, "four apples".into()).await.unwrap();
    drop(next(&mut subscriber).await);
    let spans = sdk.spans();
    assert_eq!(spans.len(), 2);
    for span in &spans {
        assert_eq!(attribute(span, "messaging.message.body.size"), Some(&opentelemetry::Value::I64(11)));
        assert_eq!(attribute(span, "otel_messaging.header.colour").unwrap().to_string(), "[\"gre\"]");
        let headers = span.attributes.iter().filter(|one| one.key.as_str().starts_with("otel_messaging.header"));
        assert_eq!(headers.count(), 1, "contexts are never told: {}", describe(&spans));
    }
}

#[tokio::test]
async fn a_traceparent_renamed_by_an_older_server_is_never_shown() {
    let sdk = Sdk::new();
    let client = connect_with(sdk.instrumentation_builder().with_captured_headers(["x*"]).build()).await;
    let subject = unique("orders");
    let mut subscriber = client.subscribe(subject.clone()).await.unwrap();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Xraceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    headers.insert("X-Tenant", "blue");
    client.get_ref().publish_with_headers(subject.clone(), headers.clone(), "1".into()).await.unwrap();
    drop(next(&mut subscriber).await);
    client.publish_with_headers(subject.clone(), headers, "1".into()).await.unwrap();
    let spans = sdk.spans();
    let [process, publish] = &spans[..] else { panic!("{}", describe(&spans)) };
    for (span, related) in [(process, "it is read"), (publish, "it is kept")] {
        assert_eq!(
            span.links.iter().next().unwrap().span_context.span_id().to_string(),
            "00f067aa0ba902b7",
            "{related}"
        );
        let headers = span.attributes.iter().filter(|one| one.key.as_str().starts_with("otel_messaging.header"));
        let headers: Vec<_> = headers.map(|one| (one.key.as_str(), one.value.to_string())).collect();
        assert_eq!(headers, [("otel_messaging.header.x-tenant", "[\"blue\"]".to_owned())]);
    }
}

#[tokio::test]
async fn the_size_of_an_answer_is_that_of_its_body() {
    let sdk = Sdk::new();
    let client = connect_with(sdk.instrumentation_builder().with_captured_sizes(true).build()).await;
    let stock = unique("stock");
    let service = client.service_builder().start("stock", "1.0.0").await.unwrap();
    let mut endpoint = service.endpoint(&stock).await.unwrap();
    for (answer, size) in
        [(Ok("four".into()), 4), (Err(service::error::Error { code: 404, status: "none".to_owned() }), 0)]
    {
        let (reply, ()) = futures::join!(client.request(stock.clone(), "apples?".into()), async {
            next(&mut endpoint).await.respond(answer).await.unwrap();
        });
        assert_eq!(reply.unwrap().payload.len(), size);
        let spans = sdk.spans();
        let respond = spans.iter().rfind(|span| span.name == "respond").unwrap();
        let recorded = attribute(respond, "messaging.message.body.size").map(ToString::to_string);
        assert_eq!(recorded, Some(size.to_string()));
    }
}

/// The cells of the table in `docs/operation.md` for NATS, by metric, with one of everything that a letter stands for.
fn documented() -> BTreeMap<String, usize> {
    let page = include_str!("../../../../../docs/operation.md");
    let (_, table) = page.split_once("| metric | Kafka | RabbitMQ | NATS |\n").expect("the table is there");
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        (cells[1].trim_matches('`').to_owned(), value(cells[4]))
    })
    .collect()
}

/// `2·(D+1)·(1+4G) + 2·E`: factors are numbers with letters, and sums of them.
fn value(formula: &str) -> usize {
    let number = |term: &str| term.trim_end_matches(char::is_alphabetic).parse().unwrap_or(1);
    let sum = |factor: &str| factor.trim_matches(['(', ')']).split('+').map(number).sum::<usize>();
    formula.split(" + ").map(|term| term.split('·').map(sum).product::<usize>()).sum()
}

/// A stream that listens to a subject within the bound and to one beyond it.
struct Counted {
    client: Client,
    context: jetstream::Context,
    stream: jetstream::stream::Stream,
    /// Its requests are not told of.
    endpoint: service::endpoint::Endpoint,
    asked: String,
}

/// More than any server here allows.
const TOO_MUCH: usize = 8 * 1024 * 1024;

impl Counted {
    /// Every operation, with and without success, and every outcome.
    async fn everything(&mut self, subject: &str) {
        let too_much = || bytes::Bytes::from(vec![0; TOO_MUCH]);
        self.client.publish(subject.to_owned(), "1".into()).await.unwrap();
        self.client.publish(subject.to_owned(), too_much()).await.unwrap_err();
        // The stream's acknowledgement is a reply.
        self.client.request(subject.to_owned(), "1".into()).await.unwrap();
        self.client.request(subject.to_owned(), too_much()).await.unwrap_err();
        for answer in ["1".into(), too_much()] {
            let ask = self.client.get_ref().publish_with_reply(self.asked.clone(), subject.to_owned(), "1".into());
            ask.await.unwrap();
            let fails = answer.len() == TOO_MUCH;
            assert_eq!(next(&mut self.endpoint).await.respond(Ok(answer)).await.is_err(), fails);
        }
        for _ in 0..5 {
            self.context.get_ref().publish(subject.to_owned(), "1".into()).await.unwrap().await.unwrap();
        }
        self.pulled(subject).await;
        self.pushed(subject).await;
    }

    async fn pulled(&self, subject: &str) {
        let config = pull::Config {
            durable_name: Some("shipping".to_owned()),
            filter_subject: subject.to_owned(),
            ..Default::default()
        };
        let consumer = self.stream.create_consumer(config).await.unwrap();
        let mut batch = consumer.fetch().max_messages(5).messages().await.unwrap();
        let kinds = [AckKind::Ack, AckKind::Nak(Some(Duration::from_secs(60))), AckKind::Term];
        for kind in kinds {
            next(&mut batch).await.unwrap().ack_with(kind).await.unwrap();
        }
        let mut failing = next(&mut batch).await.unwrap();
        failing.message.reply = None;
        // Before the settlements, any of which would need the span before its handler.
        failing.process(|| async { Err::<(), _>("sour") }).await.unwrap_err();
        for kind in kinds {
            failing.ack_with(kind).await.unwrap_err();
        }
        drop((failing, next(&mut batch).await.unwrap()));
        assert!(batch.next().await.is_none());
        self.stream.delete_consumer("shipping").await.unwrap();
        let mut gone = consumer.fetch().messages().await.unwrap();
        next(&mut gone).await.unwrap_err();
    }

    async fn pushed(&self, subject: &str) {
        let config = push::Config {
            durable_name: Some("shipping".to_owned()),
            deliver_subject: unique("deliver"),
            filter_subject: subject.to_owned(),
            idle_heartbeat: Duration::from_millis(100),
            ..Default::default()
        };
        let mut messages = self.stream.create_consumer(config).await.unwrap().messages().await.unwrap();
        drop(next(&mut messages).await.unwrap());
        self.stream.delete_consumer("shipping").await.unwrap();
        while messages.next().await.unwrap().is_ok() {}
    }
}

#[tokio::test]
async fn there_are_as_many_series_as_the_page_says() {
    let sdk = Sdk::new();
    let name = unique("S");
    let [within_bound, beyond, asked] = ["paid", "sent", "asked"].map(|subject| format!("{name}-{subject}"));
    let unasked = asked.clone();
    let wanted = move |operation: &Operation| operation.destination() != Some(&unasked);
    let instrumentation = sdk.all_signals_builder().with_destination_limit(1).with_filter(wanted).build();
    let client = connect_with(instrumentation).await;
    let context = jetstream::new(client.clone());
    let subjects = vec![within_bound.clone(), beyond.clone()];
    let config = jetstream::stream::Config { name, subjects, ..Default::default() };
    let stream = context.create_stream(config).await.unwrap();
    // The first name is the one within the bound.
    client.publish(within_bound.clone(), "1".into()).await.unwrap();
    let service = client.service_builder().start("stock", "1.0.0").await.unwrap();
    let endpoint = service.endpoint(&asked).await.unwrap();
    let mut counted = Counted { client, context, stream, endpoint, asked };

    for subject in [&within_bound, &beyond] {
        counted.everything(subject).await;
    }
    // It says that there may be another server, and there is none.
    counted.client.set_server_pool(server().url.as_str()).await.unwrap();
    for subject in [&within_bound, &beyond] {
        counted.everything(subject).await;
    }

    // What nobody has settled counts as dropped with the connection.
    drop((counted, service));
    let mut series = BTreeMap::<String, usize>::new();
    for line in sdk.measured().lines() {
        *series.entry(line.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    assert_eq!(series, documented(), "{}", sdk.measured());
}
