//! What is received, and the span of its processing.

use std::time::Duration;

use async_nats::HeaderMap;
use futures::StreamExt;
use otel_async_nats::{
    jetstream::{
        self,
        consumer::{pull, push},
    },
    otel::{MessageExt, ReceivedMessage},
    service::ServiceExt,
};
use support::{Sdk, attribute as value_of, describe};

use crate::{at_peer, at_server, connect, connect_with, durable, header, next, stream_of, unique};

/// The span of a publish without a parent, which every test here has first.
fn publish_span(subject: &str, shown: &str, extra: &str) -> String {
    format!(
        "\
publish{shown}
  kind PRODUCER
  scope otel-async-nats https://opentelemetry.io/schemas/1.44.0
  root
  status unset
  messaging.client.id = \"shop\"
  messaging.destination.name = \"{subject}\"
{extra}  messaging.operation.name = \"publish\"
  messaging.operation.type = \"send\"
  messaging.system = \"nats\"
{}{}",
        at_peer(),
        at_server()
    )
}

/// The span of a message's processing, child of and linked to that publish.
fn process_span(shown: &str, sent_as: &str, attributes: &[String]) -> String {
    let mut attributes: Vec<_> = attributes
        .iter()
        .cloned()
        .chain([
            "messaging.client.id = \"shop\"".to_owned(),
            "messaging.operation.name = \"process\"".to_owned(),
            "messaging.operation.type = \"process\"".to_owned(),
            "messaging.system = \"nats\"".to_owned(),
        ])
        .map(|attribute| format!("  {attribute}\n"))
        .collect();
    attributes.sort();
    format!(
        "\
process{shown}
  kind CONSUMER
  scope otel-async-nats https://opentelemetry.io/schemas/1.44.0
  parent {sent_as}
  link {sent_as}
  status unset
{}{}",
        attributes.concat(),
        at_server()
    )
}

fn named(subject: &str) -> String {
    format!("messaging.destination.name = \"{subject}\"")
}

#[tokio::test]
async fn a_message_is_delivered_as_it_arrived_with_its_process_span() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("orders");
    let mut subscriber = client.subscribe(subject.clone()).await.unwrap();
    let mut raw = client.get_ref().subscribe(subject.clone()).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.append("Size", "1");
    headers.append("Size", "2");
    client.publish_with_reply_and_headers(subject.clone(), "answers", headers, "four apples".into()).await.unwrap();

    let message = next(&mut subscriber).await;
    assert_eq!(sdk.spans().len(), 1, "made when it is needed");
    let same: async_nats::Message = next(&mut raw).await;
    assert_eq!((&message.headers, message.length), (&same.headers, same.length));
    assert_eq!(serde_json::to_value(&message).unwrap(), serde_json::to_value(&same).unwrap());
    // A map has no order, so two of them may be printed differently.
    let (mut bare, mut same_bare) = (message.clone(), same);
    (bare.headers, same_bare.headers) = (None, None);
    assert_eq!(format!("{bare:?}"), format!("{same_bare:?}"));
    drop(bare);
    message.process(|| async {}).await;
    let otel_async_nats::Message { subject: moved, payload, .. } = message;
    assert_eq!((moved.as_str(), payload.as_ref()), (subject.as_str(), b"four apples".as_slice()));

    let publish = format!("publish {subject}");
    assert_eq!(
        sdk.described(),
        publish_span(&subject, &format!(" {subject}"), "")
            + &process_span(&format!(" {subject}"), &publish, &[named(&subject)])
    );
}

#[tokio::test]
async fn wildcards_are_the_template_and_a_queue_group_is_the_consumer_group() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let prefix = unique("orders");
    let subject = format!("{prefix}.4711");
    let template = format!("{prefix}.*");
    let mut subscriber = client.queue_subscribe(template.clone(), "workers".to_owned()).await.unwrap();
    client.publish(subject.clone(), "1".into()).await.unwrap();
    drop(next(&mut subscriber).await);

    assert_eq!(
        sdk.described(),
        publish_span(&subject, &format!(" {subject}"), "")
            + &process_span(
                &format!(" {template}"),
                &format!("publish {subject}"),
                &[
                    named(&subject),
                    format!("messaging.destination.template = \"{template}\""),
                    "messaging.consumer.group.name = \"workers\"".to_owned(),
                ]
            )
    );
}

#[tokio::test]
async fn an_inbox_is_temporary() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let inbox = client.new_inbox();
    let mut subscriber = client.subscribe(inbox.clone()).await.unwrap();
    client.publish(inbox.clone(), "1".into()).await.unwrap();
    drop(next(&mut subscriber).await);
    let temporary = "messaging.destination.temporary = true";
    assert_eq!(
        sdk.described(),
        publish_span(&inbox, "", &format!("  {temporary}\n"))
            + &process_span("", "publish", &[named(&inbox), temporary.to_owned()])
    );
}

#[tokio::test]
async fn a_signal_of_the_server_is_no_message_to_process() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let inbox = client.new_inbox();
    let mut subscriber = client.subscribe(inbox.clone()).await.unwrap();
    client.get_ref().publish_with_reply(unique("nobody"), inbox, "".into()).await.unwrap();
    let message = next(&mut subscriber).await;
    assert_eq!(message.status, Some(async_nats::StatusCode::NO_RESPONDERS));
    assert!(message.process_span().is_none());
    drop(message);
    assert_eq!(sdk.described(), "");
}

#[tokio::test]
async fn a_subscription_is_the_clients_own_otherwise() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("orders");
    let mut subscriber = client.subscribe(subject.clone()).await.unwrap();
    subscriber.unsubscribe_after(1).await.unwrap();
    client.publish(subject.clone(), "1".into()).await.unwrap();
    client.publish(subject.clone(), "2".into()).await.unwrap();
    assert_eq!(next(&mut subscriber).await.payload, "1");
    assert!(subscriber.next().await.is_none());
    let error = client.subscribe("not a subject").await.unwrap_err();
    assert_eq!(error.kind(), otel_async_nats::SubscribeErrorKind::InvalidSubject);
}

/// What a JetStream delivery says: the durable's name where there is one.
fn delivery(stream: &str, sequence: u64, subject: &str, more: &[String]) -> Vec<String> {
    let mut attributes = vec![
        named(subject),
        format!("messaging.nats.stream.name = \"{stream}\""),
        format!("messaging.nats.message.stream_sequence = {sequence}"),
        format!("messaging.nats.message.consumer_sequence = {sequence}"),
        "messaging.nats.message.delivery_count = 1".to_owned(),
        "otel_messaging.delivery.attempt = 1".to_owned(),
    ];
    attributes.extend_from_slice(more);
    attributes
}

fn stored(stream: &str, subject: &str, sequence: u64) -> String {
    let extra =
        format!("  messaging.nats.message.stream_sequence = {sequence}\n  messaging.nats.stream.name = \"{stream}\"\n");
    publish_span(subject, &format!(" {subject}"), &extra)
}

struct Stored {
    stream: jetstream::stream::Stream,
    name: String,
    subject: String,
}

/// A stream with so many messages, `1`, `2` ….
async fn store(sdk: &Sdk, count: usize) -> Stored {
    let context = jetstream::new(connect(sdk).await);
    let (stream, name) = stream_of(&context).await;
    let subject = format!("{name}.paid");
    for number in 1..=count {
        context.publish(subject.clone(), number.to_string().into()).await.unwrap().await.unwrap();
    }
    Stored { stream, name, subject }
}

#[tokio::test]
async fn a_pull_consumers_messages_have_process_spans_and_asking_for_them_has_none() {
    let sdk = Sdk::new();
    let Stored { stream, name, subject } = store(&sdk, 1).await;
    let consumer = durable(&stream, "shipping").await;
    let mut messages = consumer.messages().await.unwrap();
    let message = next(&mut messages).await.unwrap();
    assert_eq!(message.payload, "1");
    assert!(header(&message.headers, "traceparent").is_some(), "shown as it arrived");
    let info = message.info().unwrap();
    assert_eq!((info.stream, info.consumer, info.delivered), (name.as_str(), "shipping", 1));
    drop(message);

    let durable = "messaging.destination.subscription.name = \"shipping\"".to_owned();
    assert_eq!(
        sdk.described(),
        stored(&name, &subject, 1)
            + &process_span(
                &format!(" {subject}"),
                &format!("publish {subject}"),
                &delivery(&name, 1, &subject, &[durable])
            )
    );
}

/// The span of a fetch from the durable consumer, with these links, and attributes beyond the usual.
fn fetch_span(shown: &str, stream: &str, links: &[String], attributes: &[String]) -> String {
    let at_server = at_server() + &at_peer();
    let usual = [
        "messaging.client.id = \"shop\"".to_owned(),
        "messaging.destination.subscription.name = \"shipping\"".to_owned(),
        format!("messaging.nats.stream.name = \"{stream}\""),
        "messaging.operation.name = \"fetch\"".to_owned(),
        "messaging.operation.type = \"receive\"".to_owned(),
        "messaging.system = \"nats\"".to_owned(),
    ];
    let usual = usual.into_iter().chain(attributes.iter().cloned()).map(|attribute| format!("  {attribute}"));
    let mut attributes: Vec<_> = usual.chain(at_server.lines().map(ToOwned::to_owned)).collect();
    attributes.sort();
    let links: String = links.iter().map(|link| format!("  link {link}\n")).collect();
    format!(
        "\
fetch {shown}
  kind CLIENT
  scope otel-async-nats https://opentelemetry.io/schemas/1.44.0
  root
{links}  status unset
{}
",
        attributes.join("\n")
    )
}

/// The only fetch, as text, in which its links have the names of what they point to.
fn described_fetch(sdk: &Sdk) -> String {
    let recorded = sdk.described();
    let mut fetches = recorded.split_inclusive('\n').skip_while(|line| !line.starts_with("fetch "));
    let name = fetches.next().expect("there is one");
    let lines: String = fetches.take_while(|line| line.starts_with(' ')).collect();
    assert_eq!(recorded.matches("\nfetch ").count(), 1, "{recorded}");
    name.to_owned() + &lines
}

#[tokio::test]
async fn a_fetch_ends_with_its_batch_and_links_each_message() {
    let sdk = Sdk::new();
    let Stored { stream, name, subject } = store(&sdk, 2).await;
    let consumer = durable(&stream, "shipping").await;
    let mut batch = consumer.fetch().max_messages(10).messages().await.unwrap();
    drop(next(&mut batch).await.unwrap());
    drop(next(&mut batch).await.unwrap());
    assert_eq!(sdk.spans().len(), 4, "the batch has not ended");
    assert!(batch.next().await.is_none());

    let sequences = |number: u64| {
        let sequence = |of: &str| format!("messaging.nats.message.{of}_sequence = {number}");
        format!("publish {subject} {{{}, {}}}", sequence("consumer"), sequence("stream"))
    };
    let recorded = [
        "messaging.batch.message_count = 2".to_owned(),
        named(&subject),
        "messaging.nats.message.delivery_count = 1".to_owned(),
        "otel_messaging.delivery.attempt = 1".to_owned(),
    ];
    assert_eq!(described_fetch(&sdk), fetch_span(&subject, &name, &[sequences(1), sequences(2)], &recorded));
    let spans = sdk.spans();
    assert_eq!(describe(&spans[..2]), stored(&name, &subject, 1) + &stored(&name, &subject, 2));
    let linked: Vec<_> =
        spans.iter().find(|span| span.name.starts_with("fetch")).unwrap().links.iter().cloned().collect();
    assert_eq!(
        linked.iter().map(|link| link.span_context.span_id()).collect::<Vec<_>>(),
        spans[..2].iter().map(|publish| publish.span_context.span_id()).collect::<Vec<_>>()
    );
    let processed = spans.iter().filter(|span| span.name.starts_with("process")).count();
    assert_eq!(processed, 2, "each message also has its process span");
    let fetch = spans.iter().find(|span| span.name.starts_with("fetch")).unwrap();
    let first = spans.iter().find(|span| span.name.starts_with("process")).unwrap();
    assert!(fetch.start_time <= first.start_time && fetch.end_time >= first.end_time);
}

#[tokio::test]
async fn a_fetch_of_one_message_says_itself_what_the_message_says() {
    let sdk = Sdk::new();
    let context = jetstream::new(
        connect_with(sdk.instrumentation_builder().with_captured_sizes(true).with_captured_headers(["colour"]).build())
            .await,
    );
    let (stream, name) = stream_of(&context).await;
    let subject = format!("{name}.paid");
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", "17");
    headers.insert("Colour", "green");
    context.publish_with_headers(subject.clone(), headers, "1".into()).await.unwrap().await.unwrap();
    let batch = durable(&stream, "shipping").await.fetch().messages().await.unwrap();
    assert_eq!(batch.count().await, 1);
    let recorded = delivery(
        &name,
        1,
        &subject,
        &[
            "messaging.batch.message_count = 1".to_owned(),
            "messaging.message.body.size = 1".to_owned(),
            "messaging.message.id = \"17\"".to_owned(),
        ],
    );
    let recorded: Vec<_> = recorded.into_iter().filter(|one| !one.starts_with("messaging.nats.stream.name")).collect();
    let shown = sdk.spans().iter().filter(|span| value_of(span, "otel_messaging.header.colour").is_some()).count();
    assert_eq!(shown, 2, "headers are shown on the spans of the send and of the message");
    assert_eq!(described_fetch(&sdk), fetch_span(&subject, &name, &[format!("publish {subject}")], &recorded));
}

#[tokio::test]
async fn a_fetch_of_several_subjects_names_none_and_each_link_names_its_own() {
    let sdk = Sdk::new();
    let context = jetstream::new(connect(&sdk).await);
    let (stream, name) = stream_of(&context).await;
    for subject in ["paid", "sent", "paid"] {
        context.publish(format!("{name}.{subject}"), "".into()).await.unwrap().await.unwrap();
    }
    let batch = durable(&stream, "shipping").await.fetch().messages().await.unwrap();
    assert_eq!(batch.count().await, 3);
    let at = at_server();
    let server: Vec<_> = at.lines().map(|line| line.split(" = ").nth(1).unwrap().trim_matches('"')).collect();
    let link = |(number, subject): (u64, &str)| {
        let subject = format!("{name}.{subject}");
        let sequence = |of: &str| format!("messaging.nats.message.{of}_sequence = {number}");
        format!("publish {subject} {{{}, {}, {}}}", named(&subject), sequence("consumer"), sequence("stream"))
    };
    let recorded = [
        "messaging.batch.message_count = 3".to_owned(),
        "messaging.nats.message.delivery_count = 1".to_owned(),
        "otel_messaging.delivery.attempt = 1".to_owned(),
    ];
    let links = [(1, "paid"), (2, "sent"), (3, "paid")].map(link);
    assert_eq!(described_fetch(&sdk), fetch_span(&server.join(":"), &name, &links, &recorded));
}

#[tokio::test]
async fn beyond_the_links_that_are_allowed_messages_are_counted_and_still_compared() {
    let sdk = Sdk::new();
    let client = connect_with(sdk.instrumentation_builder().with_max_links(1).build()).await;
    let context = jetstream::new(client);
    let (stream, name) = stream_of(&context).await;
    for subject in ["paid", "sent"] {
        context.publish(format!("{name}.{subject}"), "".into()).await.unwrap().await.unwrap();
    }
    let batch = durable(&stream, "shipping").await.fetch().messages().await.unwrap();
    assert_eq!(batch.count().await, 2);
    let recorded = described_fetch(&sdk);
    assert_eq!(recorded.matches("  link ").count(), 1, "{recorded}");
    assert!(
        recorded.contains(&format!("link publish {name}.paid {{{}, ", named(&format!("{name}.paid")))),
        "{recorded}"
    );
    assert!(recorded.contains("messaging.batch.message_count = 2\n"), "{recorded}");
    assert!(!recorded.contains("  messaging.destination.name"), "not all have it: {recorded}");
}

#[tokio::test]
async fn an_empty_fetch_has_no_span_and_every_batch_is_a_fetch() {
    let sdk = Sdk::new();
    let Stored { stream, name, .. } = store(&sdk, 3).await;
    let filter = format!("{name}.>");
    let config = pull::Config { filter_subject: filter.clone(), ..Default::default() };
    let consumer = stream.create_consumer(config).await.unwrap();
    let mut batch = consumer.batch().max_messages(1).expires(Duration::from_secs(20)).messages().await.unwrap();
    drop(next(&mut batch).await.unwrap());
    // Not read to its end: the span ends with it.
    drop(batch);
    let mut sequence = consumer.sequence(2).unwrap();
    let mut batch = next(&mut sequence).await.unwrap();
    assert_eq!(batch.by_ref().take(2).count().await, 2);
    drop((batch, sequence));
    let mut empty = consumer.fetch().messages().await.unwrap();
    assert!(empty.next().await.is_none());
    drop(empty);

    let fetches: Vec<_> = sdk.spans().into_iter().filter(|span| span.name.starts_with("fetch")).collect();
    let recorded: Vec<_> = fetches
        .iter()
        .map(|span| {
            (span.name.as_ref(), support::attribute(span, "messaging.batch.message_count").unwrap().to_string())
        })
        .collect();
    let fetch = format!("fetch {filter}");
    assert_eq!(recorded, [(fetch.as_str(), "1".to_owned()), (fetch.as_str(), "2".to_owned())]);
    assert_eq!(
        support::attribute(&fetches[0], "messaging.destination.template").unwrap().to_string(),
        filter,
        "what the consumer filters by"
    );
}

#[tokio::test]
async fn ordered_and_push_consumers_deliver_the_same() {
    let sdk = Sdk::new();
    let Stored { stream, name, subject } = store(&sdk, 1).await;
    let publish = format!("publish {subject}");

    let ordered = stream.create_consumer(pull::OrderedConfig::default()).await.unwrap();
    drop(next(&mut ordered.messages().await.unwrap()).await.unwrap());
    let deliver_subject = unique("deliver");
    let config = push::OrderedConfig { deliver_subject, ..Default::default() };
    let ordered = stream.create_consumer(config).await.unwrap();
    drop(next(&mut ordered.messages().await.unwrap()).await.unwrap());
    let config = push::Config {
        deliver_subject: unique("deliver"),
        deliver_group: Some("workers".to_owned()),
        durable_name: Some("shipping".to_owned()),
        ..Default::default()
    };
    let pushed = stream.create_consumer(config).await.unwrap();
    drop(next(&mut pushed.messages().await.unwrap()).await.unwrap());

    let shown = format!(" {subject}");
    let alone = process_span(&shown, &publish, &delivery(&name, 1, &subject, &[]));
    let durable = [
        "messaging.consumer.group.name = \"workers\"".to_owned(),
        "messaging.destination.subscription.name = \"shipping\"".to_owned(),
    ];
    let of_group = process_span(&shown, &publish, &delivery(&name, 1, &subject, &durable));
    assert_eq!(sdk.described(), stored(&name, &subject, 1) + &alone + &alone + &of_group);
}

#[tokio::test]
async fn a_redelivery_is_counted() {
    let sdk = Sdk::new();
    let Stored { stream, .. } = store(&sdk, 1).await;
    let consumer = durable(&stream, "shipping").await;
    let mut messages = consumer.messages().await.unwrap();
    let first = next(&mut messages).await.unwrap();
    first.ack_with(jetstream::AckKind::Nak(None)).await.unwrap();
    drop(first);
    drop(next(&mut messages).await.unwrap());
    let spans = sdk.spans();
    let recorded = |key| {
        let processes = spans.iter().filter(|span| span.name.starts_with("process"));
        processes.map(|span| support::attribute(span, key).map(ToString::to_string)).collect::<Vec<_>>()
    };
    let [one, two, yes] = ["1", "2", "true"].map(|text| Some(text.to_owned()));
    assert_eq!(recorded("messaging.nats.message.delivery_count"), [one.clone(), two.clone()]);
    assert_eq!(recorded("otel_messaging.delivery.attempt"), [one, two]);
    assert_eq!(recorded("otel_messaging.delivery.redelivered"), [None, yes]);
}

#[tokio::test]
async fn a_consumer_that_asked_what_it_is_says_so_of_its_next_messages() {
    let sdk = Sdk::new();
    let context = jetstream::new(connect(&sdk).await);
    let (stream, name) = stream_of(&context).await;
    let of = |filter_subject: String| pull::Config {
        durable_name: Some("shipping".to_owned()),
        filter_subject,
        ..Default::default()
    };
    let mut consumer = stream.create_consumer(of(format!("{name}.*"))).await.unwrap();
    let receive = async |consumer: &jetstream::consumer::PullConsumer| {
        context.get_ref().publish(format!("{name}.paid"), "".into()).await.unwrap().await.unwrap();
        // Not `fetch`: a consumer that was just changed may find nothing at once.
        drop(next(&mut consumer.batch().max_messages(1).messages().await.unwrap()).await.unwrap());
        sdk.spans().pop().unwrap().name
    };
    assert_eq!(receive(&consumer).await, format!("process {name}.*"));
    stream.update_consumer(of(format!("{name}.>"))).await.unwrap();
    assert_eq!(receive(&consumer).await, format!("process {name}.*"), "it does not know");
    consumer.info().await.unwrap();
    assert_eq!(receive(&consumer).await, format!("process {name}.>"));
}

#[tokio::test]
async fn a_services_request_is_processed_and_answered() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let group = unique("stock");
    let subject = format!("{group}.count");
    let service = client.service_builder().start("stock", "1.0.0").await.unwrap();
    let mut endpoint = service.group(&group).endpoint("count").await.unwrap();

    let ask = client.request(subject.clone(), "apples?".into());
    let answer = async {
        let request = next(&mut endpoint).await;
        assert_eq!(request.message.payload, "apples?");
        request.respond(Ok("four".into())).await.unwrap();
        request.message.reply.clone().unwrap()
    };
    let (reply, inbox) = tokio::join!(ask, answer);
    assert_eq!(reply.as_ref().unwrap().payload, "four");
    assert_eq!(reply.unwrap().headers, None, "nobody would read a context there");
    assert_eq!(service.stats().await.values().next().unwrap().requests, 1);

    let request = format!("request {subject}");
    let process = format!("process {subject}");
    let respond = format!(
        "\
respond
  kind CLIENT
  scope otel-async-nats https://opentelemetry.io/schemas/1.44.0
  parent {process}
  status unset
  messaging.client.id = \"shop\"
  messaging.destination.name = \"{inbox}\"
  messaging.destination.temporary = true
  messaging.operation.name = \"respond\"
  messaging.operation.type = \"send\"
  messaging.system = \"nats\"
{}{}",
        at_peer(),
        at_server()
    );
    let expected =
        publish_span(&subject, "", "").replacen("publish", &request, 1).replace("\"publish\"", "\"request\"")
            + &process_span(
                &format!(" {subject}"),
                &request,
                &[named(&subject), "messaging.consumer.group.name = \"q\"".to_owned()],
            )
            + &respond;
    assert_eq!(sdk.described(), expected);
}

/// The client answers who asked, whatever was written into the request since; so says the span.
#[tokio::test]
async fn the_span_of_an_answer_names_who_gets_it() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("stock");
    let service = client.service_builder().start("stock", "1.0.0").await.unwrap();
    let mut endpoint = service.endpoint(&subject).await.unwrap();
    let ask = client.request(subject.clone(), "apples?".into());
    let answer = async {
        let mut request = next(&mut endpoint).await;
        let inbox = request.message.reply.replace("elsewhere".into()).unwrap();
        request.respond(Ok("four".into())).await.unwrap();
        inbox
    };
    let (reply, inbox) = tokio::join!(ask, answer);
    assert_eq!(reply.unwrap().payload, "four");
    let spans = sdk.spans();
    let respond = spans.iter().find(|span| span.name == "respond").unwrap();
    assert_eq!(support::attribute(respond, "messaging.destination.name").unwrap().to_string(), inbox.as_str());
}

#[tokio::test]
async fn an_answer_that_has_headers_carries_a_context_too() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("stock");
    let service = client.service_builder().queue_group("counters").start("stock", "1.0.0").await.unwrap();
    let mut endpoint = service.endpoint_builder().add(&subject).await.unwrap();
    let ask = client.request(subject.clone(), "apples?".into());
    let answer = async {
        let request = next(&mut endpoint).await;
        let mut headers = HeaderMap::new();
        headers.insert("Colour", "green");
        let failure = otel_async_nats::service::error::Error { code: 404, status: "none".to_owned() };
        request.process(|| request.respond_with_headers(Err(failure), headers)).await.unwrap();
    };
    let (reply, ()) = tokio::join!(ask, answer);
    let headers = reply.unwrap().headers;
    assert_eq!(header(&headers, "Colour").unwrap(), "green");
    assert_eq!(header(&headers, "Nats-Service-Error-Code").unwrap(), "404");
    let spans = sdk.spans();
    let [request, process, respond] = &spans[..] else { panic!("{}", describe(&spans)) };
    assert_eq!(header(&headers, "traceparent").unwrap(), crate::traceparent(&respond.span_context));
    assert_eq!(respond.span_kind, opentelemetry::trace::SpanKind::Producer);
    assert_eq!(request.links.iter().map(|link| &link.span_context).collect::<Vec<_>>().len(), 1);
    assert_eq!(request.links.iter().next().unwrap().span_context.span_id(), respond.span_context.span_id());
    assert_eq!(support::attribute(process, "messaging.consumer.group.name").unwrap().to_string(), "counters");
}
