use brokers::RabbitMq;
use lapin::{
    BasicProperties, ConnectionProperties, ErrorKind,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions},
};
use opentelemetry::trace::Status;
use otel_lapin::Connection;
use otel_messaging::semconv::attribute;
use support::{DEADLINE, Sdk, attribute as value_of};

use crate::harness::{Rabbit, SCOPE, at_peer, unique, uri};

const MANDATORY: BasicPublishOptions = BasicPublishOptions { mandatory: true, immediate: false };

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_is_lapins_error() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for uri in [format!("amqp://{nobody}/%2f"), "not a uri".to_owned()] {
        let ours = Connection::connect(&uri, ConnectionProperties::default()).await.unwrap_err();
        let raw = lapin::Connection::connect(&uri, ConnectionProperties::default()).await.unwrap_err();
        assert_eq!(ours.to_string(), raw.to_string());
        let (ErrorKind::IOError(ours), ErrorKind::IOError(raw)) = (ours.kind(), raw.kind()) else {
            panic!("{ours:?} {raw:?}")
        };
        assert_eq!(ours.kind(), raw.kind());
    }
    let parsed: lapin::uri::AMQPUri = uri().replace("/%2f", "/no-such-vhost").parse().unwrap();
    let ours = Connection::connect_uri(parsed.clone(), ConnectionProperties::default()).await.unwrap_err();
    let raw = lapin::Connection::connect_uri(parsed, ConnectionProperties::default()).await.unwrap_err();
    assert_eq!(ours, raw);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_exchange_fails_the_confirmed_publish_and_what_follows() {
    let peer = at_peer();
    let rabbit = Rabbit::confirming().await;
    let nowhere = unique("nowhere");
    let publish = || {
        rabbit.channel.basic_publish(
            nowhere.as_str().into(),
            "key".into(),
            BasicPublishOptions::default(),
            b"1",
            BasicProperties::default(),
        )
    };
    let error = publish().await.unwrap().await.unwrap_err();
    let raw = rabbit
        .raw
        .basic_publish(
            nowhere.as_str().into(),
            "key".into(),
            BasicPublishOptions::default(),
            b"1",
            BasicProperties::default(),
        )
        .await
        .unwrap()
        .await
        .unwrap_err();
    assert_eq!(error, raw);
    let next = publish().await.unwrap_err();
    let described = rabbit.described();
    assert_eq!(
        described,
        [(error.to_string(), "not-found"), (next.to_string(), "invalid-channel-state")]
            .map(|(error, error_type)| format!(
                "\
publish {nowhere}:key
  kind PRODUCER
  {SCOPE}
  root
  status error: {error}
  error.type = {error_type:?}
  messaging.destination.name = \"{nowhere}:key\"
  messaging.operation.name = \"publish\"
  messaging.operation.type = \"send\"
  messaging.rabbitmq.destination.routing_key = \"key\"
  messaging.system = \"rabbitmq\"
{peer}  server.address = HOST
  server.port = PORT
"
            ))
            .concat()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_confirms_a_publish_is_what_lapin_says_of_it() {
    let rabbit = Rabbit::new().await;
    let nowhere = unique("nowhere");
    let publish = || {
        rabbit.channel.basic_publish(
            nowhere.as_str().into(),
            "key".into(),
            BasicPublishOptions::default(),
            b"1",
            BasicProperties::default(),
        )
    };
    publish().await.unwrap().await.unwrap();
    // The broker closes the channel for it.
    support::eventually("the channel is closed", || !rabbit.channel.status().connected());
    let error = publish().await.unwrap_err();
    let spans = rabbit.sdk.spans();
    assert_eq!(spans[0].status, Status::Unset);
    assert_eq!(spans[1].status, Status::error(error.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_flight_when_the_channel_broke_failed_with_it_also_when_dropped() {
    let rabbit = Rabbit::confirming().await;
    let nowhere = unique("nowhere");
    let publish = || {
        rabbit.channel.basic_publish(nowhere.as_str().into(), "key".into(), MANDATORY, b"1", BasicProperties::default())
    };
    drop(publish().await.unwrap());
    let error = rabbit.channel.wait_for_confirms().await.unwrap_err();
    support::eventually("the channel is closed", || !rabbit.channel.status().connected());
    // Even where `wait_for_confirms` came before lapin had told everybody.
    drop(rabbit.channel.wait_for_confirms().await);
    let spans = rabbit.sdk.wait_for(1);
    assert_eq!(spans[0].status, Status::error(error.to_string()));
    assert_eq!(value_of(&spans[0], attribute::ERROR_TYPE), Some(&"not-found".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_back_before_the_channel_broke_is_kept_for_the_next_call() {
    let rabbit = Rabbit::confirming().await;
    let (queue, nowhere) = (rabbit.queue("orders").await, unique("nowhere"));
    let key =
        |key: &str| rabbit.channel.basic_publish("".into(), key.into(), MANDATORY, b"1", BasicProperties::default());
    drop(key(&nowhere).await.unwrap());
    key(&queue).await.unwrap().await.unwrap();
    let broken = rabbit.channel.basic_publish(
        nowhere.as_str().into(),
        "key".into(),
        BasicPublishOptions::default(),
        b"1",
        BasicProperties::default(),
    );
    drop(broken.await.unwrap());
    rabbit.channel.wait_for_confirms().await.unwrap_err();
    let returned = rabbit.channel.wait_for_confirms().await.unwrap();
    assert_eq!(returned.iter().map(|message| message.routing_key.as_str()).collect::<Vec<_>>(), [&*nowhere]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_fails_what_it_did_not_answer() {
    let mut broker = tokio::task::spawn_blocking(|| RabbitMq::own().expect("RabbitMQ starts")).await.unwrap();
    let sdk = Sdk::new();
    let connection = Connection::connect(&broker.uri, ConnectionProperties::default())
        .await
        .unwrap()
        .with_instrumentation(sdk.instrumentation());
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    tokio::task::block_in_place(|| broker.kill());
    let publish = || channel.basic_publish("".into(), "key".into(), MANDATORY, b"1", BasicProperties::default());
    let outcome = tokio::time::timeout(DEADLINE, async {
        match publish().await {
            Ok(confirm) => confirm.await.map(drop),
            Err(error) => Err(error),
        }
    });
    let error = outcome.await.expect("an answer in time").unwrap_err();
    let get = channel.basic_get("queue".into(), BasicGetOptions::default()).await.unwrap_err();
    let spans = sdk.wait_for(2);
    assert_eq!(spans[0].status, Status::error(error.to_string()));
    // Which of lapin's errors it is depends on how far the news had come.
    assert!(value_of(&spans[0], attribute::ERROR_TYPE).is_some());
    assert_eq!(spans[1].status, Status::error(get.to_string()));
}
