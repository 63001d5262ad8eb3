//! What others bring along: frameworks that tell of an operation themselves, filters, hooks, and code that panics.

use std::{
    collections::BTreeSet,
    panic,
    sync::{Arc, Mutex},
    time::Instant,
};

use futures::StreamExt;
use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions},
};
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator, text_map_propagator::FieldIter},
    trace::{FutureExt, Status},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use otel_lapin::{
    message::{BasicGetMessage, DeliveryResult},
    otel::{Instrumentation, MessageExt, Propagation},
};
use otel_messaging::{
    semconv::{attribute, extension},
    suppress_messaging,
};
use support::{Sdk, attribute as value_of, eventually};

use crate::harness::{Rabbit, long, next, table};

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_tells_of_is_left_alone() {
    let rabbit = Rabbit::with_all_signals().await;
    let queue = rabbit.queue("orders").await;
    let outer = suppress_messaging(&Context::current());
    let work = async {
        rabbit.publish(&queue, b"1", BasicProperties::default()).await;
        let mut consumer = rabbit.consume(&queue).await;
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.properties, BasicProperties::default());
        delivery.process(|| async {}).await;
        assert!(delivery.ack(BasicAckOptions::default()).await.unwrap());
        rabbit.channel.basic_cancel(consumer.tag(), Default::default()).await.unwrap();
        rabbit.publish(&queue, b"2", BasicProperties::default()).await;
        let message = got(&rabbit, &queue).await;
        assert_eq!(message.properties, BasicProperties::default());
        message.process(|| async {}).await;
        assert!(message.ack(BasicAckOptions::default()).await.unwrap());
    };
    work.with_context(outer).await;
    assert_eq!((rabbit.described(), rabbit.sdk.measured()), (String::new(), String::new()));
}

/// A message that is on the queue, or comes.
async fn got(rabbit: &Rabbit, queue: &str) -> BasicGetMessage {
    let deadline = Instant::now() + support::DEADLINE;
    loop {
        if let Some(message) = rabbit.channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap() {
            return message;
        }
        assert!(Instant::now() < deadline, "no message on {queue}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_delegate_leaves_to_somebody_else_is_left_alone_inside_its_span() {
    let rabbit = Rabbit::with_all_signals().await;
    let (queue, onwards) = (rabbit.queue("orders").await, rabbit.queue("shipping").await);
    rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    let (channel, to) = (rabbit.channel.clone(), onwards.clone());
    // lapin calls it where nothing is suppressed: its message is told of, and what it does is not.
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
    quietly(async {
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
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_message_is_delivered_and_not_recorded() {
    let sdk = Sdk::new();
    let quiet = crate::harness::unique("quiet");
    let unwanted = quiet.clone();
    let instrumentation =
        sdk.all_signals_builder().with_filter(move |operation| operation.destination() != Some(&*unwanted)).build();
    let rabbit = Rabbit::with(sdk, instrumentation).await;
    let loud = rabbit.queue("loud").await;
    rabbit.raw.queue_declare(quiet.as_str().into(), Default::default(), Default::default()).await.unwrap();
    let request = rabbit.sdk.app_span("request");
    for queue in [&quiet, &loud] {
        let publish = {
            let _current = request.clone().attach();
            rabbit.channel.basic_publish(
                "".into(),
                queue.as_str().into(),
                BasicPublishOptions::default(),
                b"1",
                BasicProperties::default(),
            )
        };
        publish.await.unwrap();
        let delivery = next(&mut rabbit.consume(queue).await).await;
        assert!(delivery.properties.headers().as_ref().unwrap().inner().contains_key("traceparent"), "{queue}");
        assert!(delivery.ack(BasicAckOptions::default()).await.unwrap());
    }
    let spans = rabbit.sdk.wait_for(3);
    let names: Vec<_> = spans.iter().map(|span| span.name.to_string()).collect();
    assert_eq!(names, [format!("publish {loud}"), format!("process {loud}"), format!("ack {loud}")]);
    assert!(!rabbit.sdk.measured().contains(&quiet));
    rabbit.raw.queue_delete(quiet.as_str().into(), Default::default()).await.unwrap();
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

/// A propagator that panics, both ways.
#[derive(Debug)]
struct Panics;

impl TextMapPropagator for Panics {
    fn inject_context(&self, _: &Context, injector: &mut dyn Injector) {
        injector.set("half", "written".to_owned());
        panic!("a propagator's own");
    }

    fn extract_with_context(&self, _: &Context, _: &dyn Extractor) -> Context {
        panic!("a propagator's own");
    }

    fn fields(&self) -> FieldIter<'_> {
        static FIELDS: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| vec!["half".to_owned()]);
        FieldIter::new(&FIELDS)
    }
}

/// A processor that panics at the start or at the end of a span. At both, the SDK itself ends the process: it ends a span
/// whose start panicked.
#[derive(Debug)]
struct PanickingProcessor {
    at_start: bool,
}

impl SpanProcessor for PanickingProcessor {
    fn on_start(&self, _: &mut Span, _: &Context) {
        assert!(!self.at_start, "a processor's own");
    }

    fn on_end(&self, _: SpanData) {
        assert!(self.at_start, "a processor's own");
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: std::time::Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Each kind of code that is not ours, panicking.
fn panicking() -> Vec<(&'static str, Instrumentation)> {
    let builder = || Sdk::new().all_signals_builder();
    let processed_by = |at_start| {
        let provider = SdkTracerProvider::builder().with_span_processor(PanickingProcessor { at_start }).build();
        Instrumentation::builder()
            .with_tracer_provider(provider)
            .with_propagation(Propagation::custom(support::w3c()))
            .build()
    };
    vec![
        ("a hook", builder().with_operation_hook(|_, _| panic!("a hook's own")).build()),
        ("a hook that names errors", builder().with_error_type(|_, _| panic!("a hook's own")).build()),
        ("a filter", builder().with_filter(|_| panic!("a filter's own")).build()),
        (
            "a redactor",
            builder().with_captured_headers(["*"]).with_redaction(|_, _| panic!("a redactor's own")).build(),
        ),
        ("a template", builder().with_destination_template(|_| panic!("a template's own")).build()),
        ("a propagator", builder().with_propagation(Propagation::custom(Panics)).build()),
        ("a processor at the start", processed_by(true)),
        ("a processor at the end", processed_by(false)),
    ]
}

/// Runs `work` without the panics' messages in the output of the tests.
async fn quietly<T>(work: impl Future<Output = T>) -> T {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let expected = info.payload().downcast_ref::<&str>().is_some_and(|text| text.ends_with("'s own"));
            if !expected {
                usual(info);
            }
        }));
    });
    work.await
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_panics_no_message_is_lost_and_lapins_threads_live() {
    quietly(async {
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

            let got =
                rabbit.channel.basic_get(pulled.as_str().into(), BasicGetOptions::default()).await.unwrap().unwrap();
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
    })
    .await;
}
