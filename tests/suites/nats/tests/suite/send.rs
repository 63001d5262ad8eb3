//! What is sent, and the span that says so.

use std::future::poll_fn;

use async_nats::HeaderMap;
use futures::SinkExt;
use opentelemetry::{KeyValue, baggage::BaggageExt, context::FutureExt};
use otel_async_nats::{
    Client, ConnectOptions, Request,
    client::traits,
    jetstream::{self, message::PublishMessage},
    message::OutboundMessage,
    otel::{HeaderCase, MessageExt, ReceivedMessage},
    service::ServiceExt,
};
use support::{Sdk, describe};

use crate::{at_peer, at_server, connect, durable, end, header, next, server, stream_of, traceparent, unique, within};

fn user_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Colour", "green");
    headers.append("Size", "1");
    headers.append("Size", "2");
    headers
}

/// The headers without those that were added.
fn without_context(headers: &Option<HeaderMap>) -> HeaderMap {
    let mut own = HeaderMap::new();
    for (name, values) in headers.iter().flat_map(HeaderMap::iter).filter(|(name, _)| name.to_string() != "traceparent")
    {
        values.iter().for_each(|value| own.append(name.clone(), value.clone()));
    }
    own
}

fn publish_span(subject: &str) -> String {
    format!(
        "\
publish {subject}
  kind PRODUCER
  scope otel-async-nats https://opentelemetry.io/schemas/1.44.0
  parent request
  status unset
  messaging.client.id = \"shop\"
  messaging.destination.name = \"{subject}\"
  messaging.operation.name = \"publish\"
  messaging.operation.type = \"send\"
  messaging.system = \"nats\"
{}{}",
        at_peer(),
        at_server()
    )
}

const REQUEST: &str = "\
request
  kind INTERNAL
  scope app
  root
  status unset
";

#[tokio::test]
async fn a_publish_has_its_calls_parent_and_its_context_travels() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("orders");
    let mut arriving = client.get_ref().subscribe(subject.clone()).await.unwrap();

    let request = sdk.app_span("request");
    let context = request.with_baggage([KeyValue::new("tenant.id", "7")]);
    let publish = within(&context, || client.publish(subject.clone(), "four apples".into()));
    publish.await.unwrap();
    end(&request);

    let spans = sdk.spans();
    assert_eq!(describe(&spans), format!("{REQUEST}{}", publish_span(&subject)));
    assert_eq!(spans[1].instrumentation_scope.version(), Some(env!("CARGO_PKG_VERSION")));
    let message = next(&mut arriving).await;
    assert_eq!((message.payload.as_ref(), message.reply), (b"four apples".as_slice(), None));
    assert_eq!(message.headers.as_ref().unwrap().len(), 2);
    assert_eq!(header(&message.headers, "traceparent").unwrap(), traceparent(&spans[1].span_context));
    assert_eq!(header(&message.headers, "baggage").unwrap(), "tenant.id=7");
}

#[tokio::test]
async fn every_way_to_publish_sends_what_it_was_given_and_makes_one_span() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("orders");
    let mut arriving = client.get_ref().subscribe(subject.clone()).await.unwrap();
    let outbound = |reply: Option<&'static str>, headers| OutboundMessage {
        subject: subject.clone().into(),
        reply: reply.map(Into::into),
        payload: "body".into(),
        headers,
    };

    let request = sdk.app_span("request");
    let (s, body) = (|| subject.clone(), || "body".into());
    within(&request, || client.publish_with_headers(s(), user_headers(), body())).await.unwrap();
    within(&request, || client.publish_with_reply(s(), "answers", body())).await.unwrap();
    within(&request, || client.publish_with_reply_and_headers(s(), "answers", user_headers(), body())).await.unwrap();
    within(&request, || traits::Publisher::publish_message(&client, outbound(Some("answers"), Some(user_headers()))))
        .await
        .unwrap();
    within(&request, || traits::Publisher::publish_with_reply(&client, s(), "answers", body())).await.unwrap();
    let mut sink = client.clone();
    // The sink takes a message within `start_send`, so the context has to be current there.
    poll_fn(|cx| sink.poll_ready_unpin(cx)).await.unwrap();
    within(&request, || sink.start_send_unpin(outbound(None, Some(user_headers())))).unwrap();
    SinkExt::flush(&mut sink).await.unwrap();
    end(&request);

    let spans = sdk.spans();
    assert_eq!(describe(&spans), format!("{REQUEST}{}", publish_span(&subject).repeat(6)));
    let given = [
        (None, user_headers()),
        (Some("answers"), HeaderMap::new()),
        (Some("answers"), user_headers()),
        (Some("answers"), user_headers()),
        (Some("answers"), HeaderMap::new()),
        (None, user_headers()),
    ];
    for ((reply, headers), span) in given.into_iter().zip(&spans[1..]) {
        let message = next(&mut arriving).await;
        assert_eq!(message.payload, "body");
        assert_eq!(message.reply.as_deref(), reply);
        assert_eq!(without_context(&message.headers), headers);
        assert_eq!(header(&message.headers, "traceparent").unwrap(), traceparent(&span.span_context));
    }
}

#[tokio::test]
async fn a_request_ends_with_its_reply_and_links_its_context() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("stock");
    let mut requests = client.get_ref().subscribe(subject.clone()).await.unwrap();
    let responder = sdk.app_span("responder");
    let foreign = traceparent(&context_of(&responder));

    let request = sdk.app_span("request");
    let ask = within(&request, || client.request_with_headers(subject.clone(), user_headers(), "apples?".into()));
    let answer = async {
        let request = next(&mut requests).await;
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", foreign.as_str());
        client.get_ref().publish_with_headers(request.reply.clone().unwrap(), headers, "four".into()).await.unwrap();
        request
    };
    let (reply, asked) = tokio::join!(ask, answer);
    end(&request);
    end(&responder);

    let reply = reply.unwrap();
    assert_eq!(reply.payload, "four");
    assert_eq!(header(&reply.headers, "traceparent").unwrap(), foreign);
    assert_eq!(without_context(&asked.headers), user_headers());
    let spans = sdk.spans();
    assert_eq!(
        describe(&spans[1..]),
        format!(
            "\
{REQUEST}request {subject}
  kind PRODUCER
  scope otel-async-nats https://opentelemetry.io/schemas/1.44.0
  parent request
  link {}
  status unset
  messaging.client.id = \"shop\"
  messaging.destination.name = \"{subject}\"
  messaging.operation.name = \"request\"
  messaging.operation.type = \"send\"
  messaging.system = \"nats\"
{}{}",
            context_of(&responder).span_id(),
            at_peer(),
            at_server()
        )
    );
    assert_eq!(header(&asked.headers, "traceparent").unwrap(), traceparent(&spans[2].span_context));
}

#[tokio::test]
async fn every_way_to_request_makes_one_span() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let subject = unique("stock");
    let mut requests = client.get_ref().subscribe(subject.clone()).await.unwrap();
    let raw = client.get_ref().clone();
    let echo = tokio::spawn(async move {
        for _ in 0..5 {
            let request = next(&mut requests).await;
            assert!(header(&request.headers, "traceparent").is_some());
            raw.publish(request.reply.unwrap(), request.payload).await.unwrap();
        }
    });
    let s = || subject.clone();
    let by_inbox = Request::new().payload("2".into()).inbox(client.new_inbox());
    let raw_trait = Request::new().payload("4".into());
    let replies = [
        client.request(s(), "1".into()).await.unwrap(),
        client.send_request(s(), by_inbox).await.unwrap(),
        traits::Requester::send_request(&client, s(), Request::new().payload("3".into())).await.unwrap(),
        async_nats::client::traits::Requester::send_request(&client, s(), raw_trait).await.unwrap().into(),
        traits::Requester::send_request(&jetstream::new(client.clone()), s(), Request::new().payload("5".into()))
            .await
            .unwrap(),
    ];
    echo.await.unwrap();

    assert_eq!(replies.map(|reply| reply.payload), ["1", "2", "3", "4", "5"]);
    let names: Vec<_> = sdk.spans().into_iter().map(|span| span.name.into_owned()).collect();
    assert_eq!(names, vec![format!("request {subject}"); 5]);
}

#[tokio::test]
async fn a_jetstream_publish_ends_with_its_acknowledgement_and_has_stream_and_sequence() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let context = jetstream::new(client);
    let (stream, name) = stream_of(&context).await;
    let subject = format!("{name}.paid");
    let s = || subject.clone();

    let request = sdk.app_span("request");
    let publish = within(&request, || context.publish(s(), "1".into()));
    let acknowledged = publish.await.unwrap();
    assert_eq!(sdk.spans().len(), 0, "the stream has not answered yet");
    assert_eq!(acknowledged.await.unwrap().sequence, 1);
    within(&request, || context.publish_with_headers(s(), user_headers(), "2".into())).await.unwrap().await.unwrap();
    let message = PublishMessage::build().payload("3".into()).message_id("id-3").header("Colour", "green");
    within(&request, || context.send_publish(s(), message)).await.unwrap().await.unwrap();
    let message = jetstream::message::OutboundMessage::new(s().into(), "4".into(), None);
    within(&request, || jetstream::context::traits::Publisher::publish_message(&context, message))
        .await
        .unwrap()
        .await
        .unwrap();
    end(&request);

    let span = |sequence: u64, id: &str| {
        format!(
            "\
publish {subject}
  kind PRODUCER
  scope otel-async-nats https://opentelemetry.io/schemas/1.44.0
  parent request
  status unset
  messaging.client.id = \"shop\"
  messaging.destination.name = \"{subject}\"
{id}  messaging.nats.message.stream_sequence = {sequence}
  messaging.nats.stream.name = \"{name}\"
  messaging.operation.name = \"publish\"
  messaging.operation.type = \"send\"
  messaging.system = \"nats\"
{}{}",
            at_peer(),
            at_server()
        )
    };
    let spans = sdk.spans();
    assert_eq!(
        describe(&spans),
        [REQUEST, &span(1, ""), &span(2, ""), &span(3, "  messaging.message.id = \"id-3\"\n"), &span(4, "")].concat()
    );
    let mut expected = [HeaderMap::new(), user_headers(), HeaderMap::new(), HeaderMap::new()];
    expected[2].insert("Nats-Msg-Id", "id-3");
    expected[2].insert("Colour", "green");
    // The client loses values when it reads a stored message by its sequence; a consumer does not.
    let mut messages = durable(&stream, "raw").await.into_inner().messages().await.unwrap();
    for (at, (headers, payload)) in expected.into_iter().zip(["1", "2", "3", "4"]).enumerate() {
        let stored = next(&mut messages).await.unwrap();
        assert_eq!(stored.payload, payload);
        assert_eq!(header(&stored.headers, "traceparent").unwrap(), traceparent(&spans[at + 1].span_context));
        assert_eq!(without_context(&stored.headers), headers);
    }
}

#[tokio::test]
async fn a_publish_writes_header_names_in_the_chosen_case() {
    let sdk = Sdk::new();
    let options = ConnectOptions::new().with_instrumentation(sdk.instrumentation());
    let canonical: Client = options.with_header_case(HeaderCase::Canonical).connect(&server().url).await.unwrap();
    let both = canonical.clone().with_header_case(HeaderCase::Both);
    let subject = unique("orders");
    let mut arriving = canonical.get_ref().subscribe(subject.clone()).await.unwrap();
    canonical.publish(subject.clone(), "1".into()).await.unwrap();
    both.publish(subject.clone(), "2".into()).await.unwrap();

    let spans = sdk.spans();
    let first = next(&mut arriving).await;
    assert_eq!(header(&first.headers, "Traceparent").unwrap(), traceparent(&spans[0].span_context));
    assert_eq!(first.headers.unwrap().len(), 1);
    let second = next(&mut arriving).await;
    assert_eq!(header(&second.headers, "Traceparent").unwrap(), traceparent(&spans[1].span_context));
    assert_eq!(header(&second.headers, "traceparent").unwrap(), traceparent(&spans[1].span_context));
    assert_eq!(second.headers.unwrap().len(), 2);
}

#[tokio::test]
async fn temporary_subjects_stay_out_of_span_names() {
    let sdk = Sdk::new();
    let options = ConnectOptions::new().custom_inbox_prefix("MINE").with_instrumentation(sdk.instrumentation());
    let client = options.connect(&server().url).await.unwrap();
    let inbox = client.new_inbox();
    assert!(inbox.starts_with("MINE."));
    client.publish(inbox.clone(), "1".into()).await.unwrap();
    client.publish("_INBOX.somebody.else", "2".into()).await.unwrap();

    let spans = sdk.spans();
    assert_eq!(
        describe(&spans[..1]),
        format!(
            "\
publish
  kind PRODUCER
  scope otel-async-nats https://opentelemetry.io/schemas/1.44.0
  root
  status unset
  messaging.destination.name = \"{inbox}\"
  messaging.destination.temporary = true
  messaging.operation.name = \"publish\"
  messaging.operation.type = \"send\"
  messaging.system = \"nats\"
{}{}",
            at_peer(),
            at_server()
        )
    );
    assert_eq!(spans[1].name, "publish");
}

/// Many a service has its own name for an inbox prefix, and for the first part of its subjects.
#[tokio::test]
async fn subjects_that_only_begin_as_an_inbox_are_no_inboxes() {
    let sdk = Sdk::new();
    let options = ConnectOptions::new().custom_inbox_prefix("acme").with_instrumentation(sdk.instrumentation());
    let client = options.connect(&server().url).await.unwrap();
    let inbox = client.new_inbox();
    let lasting = ["acme.orders.new", "acme.orders", "acme.0123456789ABCDEFGHIJK_.new", "acme.0123456789ABCDEFGHIJKLM"];
    let temporary = [inbox.clone(), format!("{inbox}.7")];
    for subject in lasting.into_iter().map(ToOwned::to_owned).chain(temporary) {
        client.publish(subject, "".into()).await.unwrap();
    }
    let recorded: Vec<_> = sdk
        .spans()
        .iter()
        .map(|span| (span.name.to_string(), support::attribute(span, "messaging.destination.temporary").is_some()))
        .collect();
    let expected = lasting.map(|subject| (format!("publish {subject}"), false));
    assert_eq!(recorded, [expected.as_slice(), &[("publish".to_owned(), true), ("publish".to_owned(), true)]].concat());
}

#[tokio::test]
async fn the_server_is_named_only_where_it_is_certain() {
    let sdk = Sdk::new();
    let subject = unique("orders");
    let server_of = |client: Client| {
        let (sdk, subject) = (sdk.clone(), subject.clone());
        async move {
            client.with_instrumentation(sdk.instrumentation()).publish(subject, "1".into()).await.unwrap();
            let span = sdk.spans().pop().unwrap();
            support::attribute(&span, "server.address").map(ToString::to_string)
        }
    };
    let url = server().url.clone();
    let one = otel_async_nats::connect(&url).await.unwrap();
    assert!(server_of(one.clone()).await.is_some());
    one.set_server_pool(vec![url.clone(), "127.0.0.1:1".to_owned()]).await.unwrap();
    assert_eq!(server_of(one).await, None, "it may go elsewhere now");
    let two = otel_async_nats::connect(vec![url.clone(), "127.0.0.1:1".to_owned()]).await.unwrap();
    assert_eq!(server_of(two).await, None);
    assert_eq!(server_of(async_nats::connect(&url).await.unwrap().into()).await, None, "connected by somebody else");
}

#[tokio::test]
async fn the_jetstream_api_makes_no_spans() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let context = jetstream::new(client.clone());
    let (mut stream, name) = stream_of(&context).await;
    stream.info().await.unwrap();
    context.query_account().await.unwrap();
    client.request(format!("$JS.API.STREAM.INFO.{name}"), "".into()).await.unwrap();
    client.publish("$JS.hub.API.STREAM.INFO.x", "".into()).await.unwrap();
    context.delete_stream(&name).await.unwrap();
    assert_eq!(sdk.described(), "");
}

fn context_of(context: &opentelemetry::Context) -> opentelemetry::trace::SpanContext {
    use opentelemetry::trace::TraceContextExt;
    context.span().span_context().clone()
}

/// What a request of one trace learns, and what it sends afterwards, belongs to no other's.
#[tokio::test]
async fn requests_of_many_traces_keep_apart() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let (stock, onward) = (unique("stock"), unique("onward"));
    let service = client.service_builder().start("stock", "1.0.0").await.unwrap();
    let mut endpoint = service.endpoint(&stock).await.unwrap();
    let answering = async {
        for _ in 0..8 {
            let request = next(&mut endpoint).await;
            // The headers make the answer carry a context.
            request.process(|| request.respond_with_headers(Ok("four".into()), user_headers())).await.unwrap();
        }
    };
    let requests: Vec<_> = (0..8).map(|_| sdk.app_span("request")).collect();
    let asking = futures::future::join_all(requests.iter().map(|request| {
        let asking = async {
            let reply = client.request(stock.clone(), "apples?".into()).await.unwrap();
            assert!(header(&reply.headers, "traceparent").is_some());
            assert!(reply.process_span().is_none(), "a reply is nobody's work");
            client.publish(onward.clone(), reply.payload).await.unwrap();
        };
        asking.with_context(request.clone())
    }));
    futures::join!(asking, answering);
    requests.iter().for_each(end);

    let spans = sdk.spans();
    for request in &requests {
        let of_trace =
            |span: &&opentelemetry_sdk::trace::SpanData| span.span_context.trace_id() == context_of(request).trace_id();
        let mut names: Vec<_> = spans.iter().filter(of_trace).map(|span| span.name.to_string()).collect();
        names.sort();
        let mut expected = [
            format!("process {stock}"),
            format!("publish {onward}"),
            "request".into(),
            format!("request {stock}"),
            "respond".into(),
        ];
        expected.sort();
        assert_eq!(names, expected);
        let onward = spans.iter().filter(of_trace).find(|span| span.name.ends_with(&onward)).unwrap();
        assert_eq!(onward.parent_span_id, context_of(request).span_id());
    }
    assert_eq!(spans.len(), 8 * 5);
}

/// A stored message that is read by its number is no delivery: who reads it stays in its own trace.
#[tokio::test]
async fn reading_a_stored_message_does_not_join_its_writers_trace() {
    let sdk = Sdk::new();
    let context = jetstream::new(connect(&sdk).await);
    let name = unique("S");
    let config = jetstream::stream::Config {
        name: name.clone(),
        subjects: vec![format!("{name}.>")],
        allow_direct: true,
        ..Default::default()
    };
    let stream = context.create_stream(config).await.unwrap();
    let writer = sdk.app_span("writer");
    within(&writer, || context.publish(format!("{name}.paid"), "1".into())).await.unwrap().await.unwrap();
    end(&writer);
    let reader = sdk.app_span("reader");
    async {
        let stored = stream.direct_get(1).await.unwrap();
        assert!(stored.headers.get("traceparent").is_some());
        assert_eq!(stream.get_raw_message(1).await.unwrap().payload, stored.payload);
        context.publish(format!("{name}.read"), stored.payload).await.unwrap().await.unwrap();
    }
    .with_context(reader.clone())
    .await;
    end(&reader);
    let spans = sdk.spans();
    assert_eq!(spans.len(), 4, "reading has no span: {}", describe(&spans));
    let onward = spans.iter().find(|span| span.name == format!("publish {name}.read")).unwrap();
    assert_eq!(onward.parent_span_id, context_of(&reader).span_id());
    assert_eq!(onward.links.len(), 0);
}
