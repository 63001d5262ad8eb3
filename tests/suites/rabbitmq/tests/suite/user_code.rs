//! What others bring along: frameworks that tell of an operation themselves, filters, hooks, and code that panics.

use std::{
    collections::BTreeSet,
    panic,
    sync::{Arc, Mutex},
};

use every_broker::user_code::{hide_panics, panicking};
use futures::StreamExt;
use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions},
};
use opentelemetry::{
    Context,
    trace::{FutureExt, Status},
};
use otel_lapin::{message::DeliveryResult, otel::MessageExt};
use otel_messaging::{
    semconv::{attribute, extension},
    suppress_messaging,
};
use support::{Sdk, attribute as value_of, eventually};

use crate::harness::{Rabbit, long, next, table};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_delegate_leaves_to_somebody_else_is_left_alone_inside_its_span() {
    let rabbit = Rabbit::with_all_signals().await;
    let (queue, onwards) = (rabbit.queue("orders").await, rabbit.queue("shipping").await);
    rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    let (channel, to) = (rabbit.channel.clone(), onwards.clone());
    // lapin calls the delegate outside of the suppression: the message is recorded, the work of the delegate is not.
    rabbit.consume(&queue).await.set_delegate(move |delivery: DeliveryResult| {
        let (channel, to) = (channel.clone(), to.clone());
        let work = async move {
            let delivery = delivery.unwrap().unwrap();
            let properties = BasicProperties::default();
            channel.basic_publish("".into(), to.as_str().into(), Default::default(), b"1", properties).await.unwrap();
            assert!(delivery.ack(BasicAckOptions::default()).await.unwrap());
        };
        let outer = suppress_messaging(&Context::current());
        work.with_context(outer)
    });
    assert_eq!(*rabbit.take_raw(&onwards).await.properties.headers(), None);
    let spans = rabbit.sdk.wait_for(1);
    let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, [format!("process {queue}")]);
    assert_eq!(value_of(&spans[0], extension::SETTLEMENT_OUTCOME), None);
    // It is measured when the span has ended.
    eventually("the handling is measured", || rabbit.sdk.measured().contains("messaging.process.duration"));
    let measured = rabbit.sdk.measured();
    let metrics: Vec<_> = measured.lines().map(|line| line.split_once(' ').unwrap().0).collect();
    assert_eq!(metrics, ["messaging.client.consumed.messages", "messaging.process.duration"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_where_an_error_is_named_leaves_it_the_name_of_its_type() {
    hide_panics();
    let sdk = Sdk::new();
    let instrumentation = sdk.all_signals_builder().with_error_type(|_, _| panic!("a hook's own")).build();
    let rabbit = Rabbit::with(sdk, instrumentation).await;
    let queue = rabbit.queue("orders").await;
    rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    let delivery = next(&mut rabbit.consume(&queue).await).await;
    assert_eq!(delivery.process(|| async { Err::<(), _>("declined") }).await, Err("declined"));
    let [process] = &rabbit.sdk.spans()[..] else { panic!("one span") };
    assert_eq!(value_of(process, attribute::ERROR_TYPE), Some(&"&str".into()));
    assert_eq!(process.status, Status::error("declined"));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_shown_by_name_redacted_and_cut_and_contexts_never() {
    let sdk = Sdk::new();
    let instrumentation = sdk
        .instrumentation_builder()
        .with_captured_headers(["tenant", "x-*", "trace*"])
        .with_capture_limit(4)
        .with_redaction(|name, value| (name != "x-password").then(|| value.to_owned()))
        .with_operation_hook(|operation, attributes| attributes.set("team", operation.kind().as_str()))
        .build();
    let rabbit = Rabbit::with(sdk, instrumentation).await;
    let queue = rabbit.queue("orders").await;
    let headers = table([
        ("Tenant", long("seven")),
        ("x-password", long("secret")),
        ("x-binary", lapin::types::AMQPValue::ByteArray(vec![0xff, 0xfe].into())),
        ("other", long("not asked for")),
    ]);
    rabbit.publish(&queue, b"1", BasicProperties::default().with_headers(headers)).await;
    let delivery = next(&mut rabbit.consume(&queue).await).await;
    assert!(delivery.ack(BasicAckOptions::default()).await.unwrap());
    drop(delivery);
    for span in rabbit.sdk.wait_for(3) {
        let ours = |key: &str| !["messaging.", "network.", "server."].iter().any(|prefix| key.starts_with(prefix));
        let recorded: BTreeSet<_> = span
            .attributes
            .iter()
            .filter(|one| ours(one.key.as_str()))
            .map(|one| format!("{}={}", one.key, one.value))
            .collect();
        let kind = value_of(&span, attribute::MESSAGING_OPERATION_TYPE).unwrap().as_str().into_owned();
        let mut expected = BTreeSet::from([format!("team={kind}")]);
        if kind != "settle" {
            expected.insert("otel_messaging.header.tenant=[\"seve\"]".to_owned());
        }
        if kind != "send" {
            expected.insert("otel_messaging.settlement.outcome=ack".to_owned());
        }
        assert_eq!(recorded, expected, "{}", span.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_panics_no_message_is_lost_and_lapins_threads_live() {
    for (what, instrumentation) in panicking() {
        let rabbit = Rabbit::with(Sdk::new(), instrumentation).await;
        rabbit.channel.confirm_select(Default::default()).await.unwrap();
        let (queue, pulled) = (rabbit.queue("orders").await, rabbit.queue("pulled").await);
        let handled = Arc::new(Mutex::new(Vec::new()));
        // On lapin's own executor.
        let delegated = rabbit.consume(&queue).await;
        let seen = handled.clone();
        delegated.set_delegate(move |delivery: DeliveryResult| {
            let seen = seen.clone();
            async move {
                let delivery = delivery.unwrap().unwrap();
                assert!(delivery.ack(BasicAckOptions::default()).await.unwrap());
                seen.lock().unwrap().push(delivery.data[0]);
            }
        });
        let headers = table([("colour", long("green"))]);
        for number in 0..5 {
            let payload = [number];
            for queue in [&queue, &pulled] {
                let properties = BasicProperties::default().with_headers(headers.clone());
                let options = BasicPublishOptions { mandatory: number % 2 == 0, immediate: false };
                let publish =
                    rabbit.channel.basic_publish("".into(), queue.as_str().into(), options, &payload, properties);
                assert!(publish.await.unwrap().await.unwrap().is_ack(), "{what}");
            }
        }
        eventually(what, || handled.lock().unwrap().len() == 5);
        // Several are handled at a time.
        let mut handled = handled.lock().unwrap().clone();
        handled.sort_unstable();
        assert_eq!(handled, [0, 1, 2, 3, 4], "{what}");

        let got = rabbit.channel.basic_get(pulled.as_str().into(), BasicGetOptions::default()).await.unwrap().unwrap();
        assert_eq!(got.data, [0], "{what}");
        got.in_scope(|| ());
        assert!(got.ack(BasicAckOptions::default()).await.unwrap(), "{what}");
        let mut consumer = rabbit.consume(&pulled).await;
        let rest: Vec<_> = consumer.by_ref().take(4).map(Result::unwrap).collect().await;
        for (delivery, number) in rest.iter().zip(1..) {
            assert_eq!(delivery.data, [number], "{what}");
            assert_eq!(delivery.properties.headers().as_ref().unwrap().inner().get("colour"), Some(&long("green")));
            assert_eq!(delivery.process(|| async { Err::<(), _>("declined") }).await, Err("declined"), "{what}");
        }
        let last = rest[3].delivery_tag;
        rabbit.channel.basic_ack(last, BasicAckOptions { multiple: true }).await.unwrap();
        drop(rest);
        rabbit.connection.close(200, "bye".into()).await.unwrap();
    }
}
