use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    mem,
    pin::Pin,
    task::{Context as TaskContext, Poll, Waker},
    time::SystemTime,
};

use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt};
use otel_lapin::{
    Confirmation, Connection,
    message::{BasicReturnMessage, Delivery},
};
use otel_messaging::semconv::{attribute, extension};
use support::{Sdk, attribute as value_of};

use crate::harness::{Rabbit, SCOPE, at_peer, long, named, table, traceparent, unique};

const MANDATORY: BasicPublishOptions = BasicPublishOptions { mandatory: true, immediate: false };

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_has_its_calls_parent_and_the_message_arrives_unchanged() {
    let peer = at_peer();
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    let headers = table([("colour", long("green")), ("size", AMQPValue::LongInt(7))]);
    let properties = BasicProperties::default()
        .with_content_type("text/plain".into())
        .with_priority(3)
        .with_message_id("17".into())
        .with_correlation_id("c-4".into())
        .with_headers(headers);

    let request = rabbit.sdk.app_span("request");
    let publish = {
        let _current = request.clone().attach();
        rabbit.channel.basic_publish(
            "".into(),
            queue.as_str().into(),
            BasicPublishOptions::default(),
            b"four apples",
            properties.clone(),
        )
    };
    // The parent is the one at the call: nothing is current when the future is polled.
    assert_eq!(publish.await.unwrap().await.unwrap(), Confirmation::NotRequested);
    request.span().end();

    assert_eq!(
        rabbit.described(),
        format!(
            "\
request
  kind INTERNAL
  scope app
  root
  status unset
publish {queue}
  kind PRODUCER
  {SCOPE}
  parent request
  status unset
  messaging.destination.name = {queue:?}
  messaging.message.conversation_id = \"c-4\"
  messaging.message.id = \"17\"
  messaging.operation.name = \"publish\"
  messaging.operation.type = \"send\"
  messaging.rabbitmq.destination.routing_key = {queue:?}
  messaging.system = \"rabbitmq\"
{peer}  server.address = HOST
  server.port = PORT
"
        )
    );
    let spans = rabbit.sdk.spans();
    let received = rabbit.take_raw(&queue).await;
    assert_eq!(received.data, b"four apples");
    let expected =
        table([("colour", long("green")), ("size", AMQPValue::LongInt(7)), ("traceparent", traceparent(&spans[1]))]);
    assert_eq!(received.properties, properties.with_headers(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_publish_ends_with_the_brokers_answer() {
    let peer = at_peer();
    let rabbit = Rabbit::confirming().await;
    let queue = rabbit.queue("orders").await;
    let exchange = rabbit.exchange("shop", &queue).await;
    let confirm = rabbit
        .channel
        .basic_publish(
            exchange.as_str().into(),
            "orders.new".into(),
            BasicPublishOptions::default(),
            b"1",
            BasicProperties::default(),
        )
        .await
        .unwrap();
    assert_eq!(confirm.await.unwrap(), Confirmation::Ack(None));

    assert_eq!(
        rabbit.described(),
        format!(
            "\
publish {exchange}:orders.new
  kind PRODUCER
  {SCOPE}
  root
  status unset
  messaging.destination.name = \"{exchange}:orders.new\"
  messaging.operation.name = \"publish\"
  messaging.operation.type = \"send\"
  messaging.rabbitmq.destination.routing_key = \"orders.new\"
  messaging.system = \"rabbitmq\"
{peer}  server.address = HOST
  server.port = PORT
"
        )
    );
    let received = rabbit.take_raw(&queue).await;
    let headers = table([("traceparent", traceparent(&rabbit.sdk.spans()[0]))]);
    assert_eq!(received.properties, BasicProperties::default().with_headers(headers));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_looked_at_late_came_when_it_came() {
    let rabbit = Rabbit::confirming().await;
    let queue = rabbit.queue("orders").await;
    let publish = || {
        rabbit.channel.basic_publish(
            "".into(),
            queue.as_str().into(),
            BasicPublishOptions::default(),
            b"1",
            BasicProperties::default(),
        )
    };
    let first = publish().await.unwrap();
    // Confirms come in order, or together.
    publish().await.unwrap().await.unwrap();
    rabbit.round_trip(&queue).await;
    let mut first = Box::pin(first);
    let later = SystemTime::now();
    assert_eq!(first.as_mut().await.unwrap(), Confirmation::Ack(None));
    let spans = rabbit.sdk.spans();
    assert_eq!(spans.len(), 2);
    assert!(spans[0].end_time <= later, "{:?} after {later:?}", spans[0].end_time);
    // And lapin's own answer to a second look.
    let again = first.as_mut().await.unwrap_err();
    assert!(matches!(again.kind(), lapin::ErrorKind::FutureCompleted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_to_nowhere_is_named_after_the_default_exchange() {
    let rabbit = Rabbit::new().await;
    let publish = rabbit.channel.basic_publish(
        "".into(),
        "".into(),
        BasicPublishOptions::default(),
        b"1",
        BasicProperties::default(),
    );
    publish.await.unwrap().await.unwrap();
    let spans = rabbit.sdk.spans();
    assert_eq!(spans[0].name, "publish amq.default");
    assert_eq!(value_of(&spans[0], attribute::MESSAGING_DESTINATION_NAME), Some(&"amq.default".into()));
    assert_eq!(value_of(&spans[0], attribute::MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_returned_message_failed_and_is_returned_as_it_was_sent() {
    let rabbit = Rabbit::confirming().await;
    let nowhere = unique("nowhere");
    let foreign = long("00-0123456789abcdef0123456789abcdef-0123456789abcdef-01");
    let current = rabbit.sdk.app_span("request");
    let own = crate::harness::traceparent_of(current.span().span_context());
    let sent = [
        BasicProperties::default().with_priority(4),
        BasicProperties::default().with_headers(FieldTable::default()).with_timestamp(12),
        BasicProperties::default()
            .with_headers(table([("colour", long("green"))]))
            .with_content_type("a/b".into())
            .with_content_encoding("c".into())
            .with_delivery_mode(2)
            .with_correlation_id("d".into())
            .with_reply_to("e".into())
            .with_expiration("60000".into())
            .with_message_id("f".into())
            .with_type("g".into())
            .with_user_id("guest".into())
            .with_app_id("h".into())
            .with_cluster_id("i".into()),
        // A context that stays in the message.
        BasicProperties::default().with_headers(table([("traceparent", foreign)])),
        // One that is replaced, in another spelling, with what belongs to it.
        BasicProperties::default().with_headers(table([
            ("Traceparent", own),
            ("tracestate", long("a=b")),
            ("z", AMQPValue::Void),
        ])),
    ];
    for properties in sent {
        let publish = {
            let _current = current.clone().attach();
            let properties = properties.clone();
            rabbit.channel.basic_publish("".into(), nowhere.as_str().into(), MANDATORY, b"payload", properties)
        };
        let message = publish.await.unwrap().await.unwrap().take_message().expect("it came back");
        let acker = message.delivery.acker.clone();
        assert_eq!(
            message,
            BasicReturnMessage {
                delivery: Delivery {
                    delivery_tag: 0,
                    exchange: "".into(),
                    routing_key: nowhere.as_str().into(),
                    redelivered: false,
                    properties,
                    data: b"payload".to_vec(),
                    acker,
                },
                reply_code: 312,
                reply_text: "NO_ROUTE".into(),
            }
        );
    }
    let spans = rabbit.sdk.spans();
    assert_eq!(spans.len(), 5);
    for span in &spans {
        assert_eq!(span.status, Status::error("NO_ROUTE"));
        assert_eq!(value_of(span, attribute::ERROR_TYPE), Some(&"no-route".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_that_the_broker_nacks_fails() {
    let rabbit = Rabbit::confirming().await;
    let limits = table([("x-max-length", AMQPValue::LongInt(1)), ("x-overflow", long("reject-publish"))]);
    let queue = rabbit.queue_with("small", limits).await;
    let publish = || {
        rabbit.channel.basic_publish(
            "".into(),
            queue.as_str().into(),
            BasicPublishOptions::default(),
            b"1",
            BasicProperties::default(),
        )
    };
    assert!(publish().await.unwrap().await.unwrap().is_ack());
    assert_eq!(publish().await.unwrap().await.unwrap(), Confirmation::Nack(None));
    let spans = rabbit.sdk.spans();
    assert_eq!(spans[0].status, Status::Unset);
    assert_eq!(spans[1].status, Status::error("refused by the broker"));
    assert_eq!(value_of(&spans[1], attribute::ERROR_TYPE), Some(&"nack".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_confirms_are_collected_by_wait_for_confirms_with_what_came_back() {
    let rabbit = Rabbit::confirming().await;
    let queue = rabbit.queue("orders").await;
    let nowhere = unique("nowhere");
    for key in [&queue, &nowhere, &queue, &nowhere] {
        let properties = BasicProperties::default().with_app_id("shop".into());
        let publish = rabbit.channel.basic_publish("".into(), key.as_str().into(), MANDATORY, b"1", properties);
        drop(publish.await.unwrap());
    }
    let returned = rabbit.wait_for_confirms(4).await;
    let returned: Vec<_> =
        returned.iter().map(|message| (message.routing_key.as_str(), message.properties.clone())).collect();
    let came_back = (&*nowhere, BasicProperties::default().with_app_id("shop".into()));
    assert_eq!(returned, [came_back.clone(), came_back]);
    assert_eq!(rabbit.channel.wait_for_confirms().await.unwrap(), []);

    let spans = rabbit.sdk.wait_for(4);
    let statuses = |name: String| named(&spans, &name).iter().map(|span| span.status.clone()).collect::<Vec<_>>();
    assert_eq!(statuses(format!("publish {queue}")), [Status::Unset, Status::Unset]);
    assert_eq!(statuses(format!("publish {nowhere}")), [Status::error("NO_ROUTE"), Status::error("NO_ROUTE")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_confirms_span_has_the_time_of_its_answer() {
    let rabbit = Rabbit::confirming().await;
    let queue = rabbit.queue("orders").await;
    let publish = || {
        rabbit.channel.basic_publish(
            "".into(),
            queue.as_str().into(),
            BasicPublishOptions::default(),
            b"1",
            BasicProperties::default(),
        )
    };
    drop(publish().await.unwrap());
    // The answer to the second comes after that to the first.
    publish().await.unwrap().await.unwrap();
    rabbit.round_trip(&queue).await;
    let answered = SystemTime::now();
    publish().await.unwrap().await.unwrap();
    let spans = rabbit.sdk.spans();
    assert_eq!(spans.len(), 3);
    assert_eq!(spans[0].status, Status::Unset);
    assert_eq!(value_of(&spans[0], extension::DELIVERY_OUTCOME_UNKNOWN), None);
    assert!(spans[0].end_time <= answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_publish_is_recorded_once_when_the_channel_closes() {
    let rabbit = Rabbit::confirming().await;
    let queue = rabbit.queue("orders").await;
    for _ in 0..50 {
        let publish =
            rabbit.channel.basic_publish("".into(), queue.as_str().into(), MANDATORY, b"1", BasicProperties::default());
        drop(publish.await.unwrap());
    }
    let Rabbit { sdk, channel, connection, .. } = rabbit;
    drop((channel, connection));
    let spans = sdk.spans();
    assert_eq!(spans.len(), 50);
    // Whichever answers had come by then: none of these is a failure.
    assert!(spans.iter().all(|span| span.status == Status::Unset));
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_confirm_lapin_hands_a_message_to_the_span_of_its_own_publish_fails() {
    const ROUNDS: usize = 30;

    let rabbit = Rabbit::confirming().await;
    let queue = rabbit.queue("orders").await;
    let nowhere = unique("nowhere");
    // As of lapin 4.12 a few messages of each round come with the confirm of another.
    for round in 0..ROUNDS {
        let mut confirms = Vec::new();
        for number in 0..200 {
            let key = if number % 2 == 0 { &queue } else { &nowhere };
            let id = format!("{round}-{number}");
            let properties = BasicProperties::default().with_message_id(id.as_str().into());
            let publish = rabbit.channel.basic_publish("".into(), key.as_str().into(), MANDATORY, b"1", properties);
            let confirm = publish.await.unwrap();
            // Every eighth is left to `wait_for_confirms`; the others are looked at in this order or in the other.
            if number % 8 != 7 {
                confirms.push(confirm);
            }
        }
        if round % 2 == 1 {
            confirms.reverse();
        }
        let mut returned = Vec::new();
        for confirm in confirms {
            returned.extend(confirm.await.unwrap().take_message());
        }
        returned.extend(rabbit.wait_for_confirms(200 * (round + 1)).await);
        let mut ids: Vec<_> = returned
            .iter()
            .map(|message| {
                assert_eq!(*message.properties.headers(), None, "headers of ours stayed in a returned message");
                message.properties.message_id().as_ref().unwrap().to_string()
            })
            .collect();
        ids.sort();
        let mut expected: Vec<_> = (0..100).map(|pair| format!("{round}-{}", 2 * pair + 1)).collect();
        expected.sort();
        assert_eq!(ids, expected);
    }
    let spans = rabbit.sdk.spans();
    assert_eq!(spans.len(), 200 * ROUNDS);
    let wrong: Vec<_> = spans
        .iter()
        .filter(|span| (span.name == format!("publish {nowhere}")) != (span.status == Status::error("NO_ROUTE")))
        .map(|span| (&span.name, &span.status))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_mandatory_publish_ends_while_others_are_in_flight() {
    const PUBLISHES: usize = 30;

    let rabbit = Rabbit::confirming().await;
    let queue = rabbit.queue("orders").await;
    let publish = || {
        let properties = BasicProperties::default();
        rabbit.channel.basic_publish("".into(), queue.as_str().into(), MANDATORY, b"1", properties)
    };
    let mut last = publish().await.unwrap();
    for answered in 1..PUBLISHES {
        let next = publish().await.unwrap();
        mem::replace(&mut last, next).await.unwrap();
        // One more is acknowledged, and one is in flight. What came back would have come with one of the next two.
        assert!(rabbit.sdk.spans().len() + 2 >= answered, "{} of {answered}", rabbit.sdk.spans().len());
    }
    last.await.unwrap();
    assert_eq!(rabbit.sdk.spans().len(), PUBLISHES);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_span_of_its_own_publish_fails_though_others_are_always_in_flight() {
    const PUBLISHES: usize = 4_000;
    const IN_FLIGHT: usize = 40;

    let rabbit = Rabbit::confirming().await;
    let queue = rabbit.queue("orders").await;
    let nowhere = unique("nowhere");
    let mut in_flight = VecDeque::new();
    let mut returned = 0;
    for number in 0..PUBLISHES {
        // Bursts of either, so that many come back at once.
        let key = if number % 5 < 3 { &queue } else { &nowhere };
        let properties = BasicProperties::default();
        let publish = rabbit.channel.basic_publish("".into(), key.as_str().into(), MANDATORY, b"1", properties);
        in_flight.push_back(publish.await.unwrap());
        if in_flight.len() > IN_FLIGHT {
            // Not always the oldest.
            let confirm = in_flight.remove(number * 7 % 8).unwrap();
            returned += usize::from(confirm.await.unwrap().take_message().is_some());
        }
    }
    let recorded = rabbit.sdk.spans().len();
    assert!(recorded + 4 * IN_FLIGHT > PUBLISHES, "{recorded} are told of while some are in flight");
    for confirm in in_flight {
        returned += usize::from(confirm.await.unwrap().take_message().is_some());
    }
    let spans = rabbit.sdk.spans();
    assert_eq!((spans.len(), returned), (PUBLISHES, PUBLISHES / 5 * 2));
    let failed: Vec<_> = spans.iter().filter(|span| span.status != Status::Unset).map(|span| &span.name).collect();
    assert_eq!(failed, vec![&format!("publish {nowhere}"); returned]);
}

#[tokio::test(flavor = "multi_thread")]
async fn temporary_and_anonymous_destinations_stay_out_of_span_names() {
    let rabbit = Rabbit::new().await;
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let replies = unique("replies");
    rabbit.channel.queue_declare(replies.as_str().into(), exclusive, FieldTable::default()).await.unwrap();
    let generated = rabbit.channel.queue_declare("".into(), exclusive, FieldTable::default()).await.unwrap();
    let generated = generated.name().to_string();
    let uuid = "6f1cbb4e-0c1b-4d53-8b8a-0a3a4f3d2f11";
    let reply_to = "amq.rabbitmq.reply-to.g1h2.abc";
    for key in [&*replies, &*generated, uuid, reply_to] {
        rabbit.publish(key, b"1", BasicProperties::default()).await;
    }
    let recorded = |key: &str| {
        let spans = rabbit.sdk.spans();
        let span = spans
            .iter()
            .find(|span| value_of(span, attribute::MESSAGING_DESTINATION_NAME) == Some(&key.to_owned().into()))
            .unwrap();
        assert_eq!(span.name, "publish");
        (
            value_of(span, attribute::MESSAGING_DESTINATION_TEMPORARY).is_some(),
            value_of(span, attribute::MESSAGING_DESTINATION_ANONYMOUS).is_some(),
        )
    };
    assert_eq!(recorded(&replies), (true, false));
    assert_eq!(recorded(&generated), (true, true));
    assert_eq!(recorded(uuid), (false, true));
    assert_eq!(recorded(reply_to), (true, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn routing_keys_beyond_the_limit_stay_out_of_span_names() {
    let sdk = Sdk::new();
    let instrumentation = sdk.instrumentation_builder().with_destination_limit(2).build();
    let rabbit = Rabbit::with(sdk, instrumentation).await;
    for number in 0..4 {
        rabbit.publish(&format!("user.{number}"), b"1", BasicProperties::default()).await;
    }
    let spans = rabbit.sdk.spans();
    let names: Vec<_> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["publish user.0", "publish user.1", "publish", "publish"]);
    assert_eq!(value_of(&spans[3], attribute::MESSAGING_DESTINATION_NAME), Some(&"user.3".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_too_large_for_the_frame_is_left_out() {
    let rabbit = Rabbit::confirming().await;
    let queue = rabbit.queue("orders").await;
    let frame_max = usize::try_from(rabbit.connection.configuration().frame_max()).unwrap();
    // Frame and content header, then the table: its length, and one entry's name, type and length.
    let overhead = 8 + 14 + 4 + (1 + 6) + 1 + 4;
    // `traceparent` with its name, type and length.
    let injected = (1 + 11) + 1 + 4 + 55;
    for (spare, kind) in [(0, SpanKind::Client), (injected - 1, SpanKind::Client), (injected, SpanKind::Producer)] {
        let filler = long(&"x".repeat(frame_max - overhead - spare));
        let headers = table([("filler", filler)]);
        rabbit.publish(&queue, b"1", BasicProperties::default().with_headers(headers.clone())).await;
        let received = rabbit.take_raw(&queue).await;
        let mut received_headers: BTreeMap<ShortString, AMQPValue> =
            received.properties.headers().as_ref().unwrap().inner().clone();
        let traceparent = received_headers.remove("traceparent");
        assert_eq!(traceparent.is_some(), kind == SpanKind::Producer, "with {spare} bytes to spare");
        assert_eq!(FieldTable::from(received_headers), headers);
        let span = rabbit.sdk.spans().pop().unwrap();
        assert_eq!(span.span_kind, kind);
        assert_eq!(span.status, Status::Unset);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooled_channel_is_traced_without_an_address() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    let channel = otel_lapin::Channel::from(rabbit.raw.clone()).with_instrumentation(rabbit.sdk.instrumentation());
    let publish = channel.basic_publish(
        "".into(),
        queue.as_str().into(),
        BasicPublishOptions::default(),
        b"1",
        BasicProperties::default(),
    );
    publish.await.unwrap().await.unwrap();
    let spans = rabbit.sdk.spans();
    assert_eq!(spans[0].name, format!("publish {queue}"));
    assert_eq!(value_of(&spans[0], attribute::SERVER_ADDRESS), None);
    let received = rabbit.take_raw(&queue).await;
    assert_eq!(*received.properties.headers(), Some(table([("traceparent", traceparent(&spans[0]))])));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_connect_knows_the_server() {
    use otel_lapin::{Connect, ConnectionBuilder, DefaultConnectionBuilder, tcp::OwnedTLSConfig, uri::AMQPUri};

    let uri = crate::harness::uri();
    let parsed: AMQPUri = uri.parse().unwrap();
    let options = lapin::ConnectionProperties::default;
    let runtime = || lapin::runtime::default_runtime().unwrap();
    let tls = OwnedTLSConfig::default;
    let connections = [
        Connection::connect(uri, options()).await,
        Connection::connect_with_runtime(uri, options(), runtime()).await,
        Connection::connect_with_config(uri, options(), tls(), runtime()).await,
        Connection::connect_uri(parsed.clone(), options()).await,
        Connection::connect_uri_with_runtime(parsed.clone(), options(), runtime()).await,
        Connection::connect_uri_with_config(parsed.clone(), options(), tls(), runtime()).await,
        uri.connect(options()).await,
        DefaultConnectionBuilder::new().unwrap().with_uri_str(uri.to_owned()).connect().await,
        ConnectionBuilder::new_with_runtime(runtime())
            .with_uri(parsed.clone())
            .with_properties(options())
            .connect()
            .await,
    ];
    for connection in connections {
        let sdk = Sdk::new();
        let connection = connection.unwrap().with_instrumentation(sdk.instrumentation());
        let channel = connection.create_channel().await.unwrap();
        let publish = channel.basic_publish(
            "".into(),
            "nowhere".into(),
            BasicPublishOptions::default(),
            b"1",
            BasicProperties::default(),
        );
        publish.await.unwrap().await.unwrap();
        let spans = sdk.spans();
        assert_eq!(value_of(&spans[0], attribute::SERVER_ADDRESS), Some(&parsed.authority.host.clone().into()));
        assert_eq!(value_of(&spans[0], attribute::SERVER_PORT), Some(&i64::from(parsed.authority.port).into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_transport_of_ones_own_nobody_knows_the_server() {
    use otel_lapin::{
        tcp::{AMQPUriTcpExt, TLSConfig},
        uri::AMQPUri,
    };

    let broker: AMQPUri = crate::harness::uri().parse().unwrap();
    let mut elsewhere = broker.clone();
    elsewhere.authority.host = "192.0.2.1".to_owned();
    // A tunnel, for example: the URI's host is not what is connected to.
    let tunnel = async move |_: AMQPUri, runtime| {
        Ok(broker.connect_with_config_async(TLSConfig::default(), &runtime).await.expect("the broker is there"))
    };
    let options = lapin::ConnectionProperties::default();
    let connection =
        Connection::connector(elsewhere, lapin::runtime::default_runtime().unwrap(), tunnel, options).await;
    let sdk = Sdk::new();
    let connection = connection.unwrap().with_instrumentation(sdk.instrumentation());
    let channel = connection.create_channel().await.unwrap();
    let properties = BasicProperties::default();
    let publish = channel.basic_publish("".into(), "nowhere".into(), BasicPublishOptions::default(), b"1", properties);
    publish.await.unwrap().await.unwrap();
    let spans = sdk.spans();
    for key in ["server.address", "server.port", "network.peer.address", "network.peer.port"] {
        assert_eq!(value_of(&spans[0], key), None, "{key}");
    }
}

/// Polls a future once.
fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut TaskContext::from_waker(Waker::noop()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirm_outlives_its_channel() {
    let rabbit = Rabbit::confirming().await;
    let queue = rabbit.queue("orders").await;
    let Rabbit { sdk, channel, connection, .. } = rabbit;
    let publish = channel.basic_publish(
        "".into(),
        queue.as_str().into(),
        BasicPublishOptions::default(),
        b"1",
        BasicProperties::default(),
    );
    let mut confirm = Box::pin(publish.await.unwrap());
    let polled = poll_once(confirm.as_mut());
    drop(channel);
    let acked = match polled {
        Poll::Ready(answer) => answer.is_ok(),
        Poll::Pending => confirm.await.is_ok(),
    };
    drop(connection);
    let spans = sdk.wait_for(1);
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].status == Status::Unset, acked);
}
