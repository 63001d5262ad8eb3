//! Every way to send: the whole span, and the message as it was given.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    Context,
    propagation::Injector,
    trace::{FutureExt, TraceContextExt},
};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use otel_rdkafka::{
    ClientContext, Message, Statistics, Timestamp,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders, OwnedMessage},
    otel::{HeaderInjector, Instrumentation, Propagation},
    producer::{
        BaseProducer, BaseRecord, DeliveryResult, FutureProducer, FutureRecord, Partitioner, Producer, ProducerContext,
        PurgeConfig, ThreadedProducer,
    },
};
use support::{Sdk, eventually};

use crate::harness::{Test, headers, traceparent};

const SENT: &str = r#"request
  kind INTERNAL
  scope app
  root
  status unset
send orders
  kind PRODUCER
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  parent request
  status unset
  messaging.client.id = "shop"
  messaging.destination.name = "orders"
  messaging.destination.partition.id = "0"
  messaging.kafka.cluster.id = "harbour"
  messaging.kafka.offset = 0
  messaging.operation.name = "send"
  messaging.operation.type = "send"
  messaging.system = "kafka"
"#;

fn two_headers() -> OwnedHeaders {
    OwnedHeaders::new()
        .insert(Header { key: "tenant", value: Some("blue") })
        .insert::<[u8]>(Header { key: "nothing", value: None })
}

fn request(test: &Test) -> Context {
    test.sdk.app_span("request")
}

/// The only message in the topic is the one sent, with our header after the user's.
fn assert_arrived(test: &Test) {
    let messages = test.on_the_wire(1);
    let message = &messages[0];
    assert_eq!(message.payload(), Some(&b"four apples"[..]));
    assert_eq!(message.key(), Some(&b"4711"[..]));
    assert_eq!(message.timestamp().to_millis(), Some(1_700_000_000_000));
    let expected = [
        ("tenant".to_owned(), "blue".to_owned()),
        ("nothing".to_owned(), "null".to_owned()),
        ("traceparent".to_owned(), traceparent(&test.span("send orders"))),
    ];
    assert_eq!(headers(message), expected);
}

#[tokio::test]
async fn a_future_producer_sends() {
    let test = Test::new();
    let producer: FutureProducer = test.config().create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    let cx = request(&test);
    let record = FutureRecord::to(&test.topic)
        .key("4711")
        .payload("four apples")
        .timestamp(1_700_000_000_000)
        .headers(two_headers());
    let delivery = producer.send(record, Duration::from_secs(5)).with_context(cx.clone()).await.unwrap();
    cx.span().end();
    assert_eq!((delivery.partition, delivery.offset), (0, 0));
    // The context was that of the poll only: at the call there was none.
    assert_eq!(test.described(2), SENT.replace("  parent request", "  root"));
    assert_arrived(&test);
}

#[tokio::test]
async fn without_an_answer_no_offset_is_recorded() {
    let test = Test::new();
    let producer: FutureProducer = test.config().set("acks", "0").create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    let record: FutureRecord<'_, (), str> = FutureRecord::to(&test.topic).payload("four apples");
    let delivery = producer.send(record, Duration::from_secs(5)).await.unwrap();
    assert!(delivery.offset < 0, "{}", delivery.offset);
    let (_, sent) = SENT.split_once("unset\n").unwrap();
    assert_eq!(
        test.described(1),
        sent.replace("  parent request", "  root").replace("  messaging.kafka.offset = 0\n", "")
    );
    assert_eq!(test.on_the_wire(1)[0].payload(), Some(&b"four apples"[..]));
}

/// Knows when statistics have told of a broker.
#[derive(Clone, Default)]
struct Informed(Arc<AtomicBool>);

impl ClientContext for Informed {
    fn stats(&self, statistics: Statistics) {
        self.0.fetch_or(statistics.brokers.values().any(|broker| broker.nodeid >= 0), Ordering::Relaxed);
    }
}

impl ProducerContext for Informed {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok());
    }
}

/// librdkafka counts up from its number for no offset, which is -1,001.
#[test]
fn a_large_unanswered_batch_has_no_offset_and_no_broker() {
    let test = Test::new();
    let informed = Informed::default();
    let producer: BaseProducer<Informed> = test
        .config()
        .set("acks", "0")
        .set("linger.ms", "60000")
        .set("statistics.interval.ms", "50")
        .create_with_context(informed.clone())
        .unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    producer.client().fetch_metadata(Some(&test.topic), Duration::from_secs(10)).unwrap();
    eventually("statistics", || {
        producer.poll(Duration::from_millis(50));
        informed.0.load(Ordering::Relaxed)
    });
    for _ in 0..1_100 {
        producer.send(BaseRecord::<(), str>::to(&test.topic).payload("x").partition(0)).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
    let spans = test.sdk.wait_for(1_100);
    let recorded: BTreeSet<_> =
        spans.iter().flat_map(|span| &span.attributes).map(|recorded| recorded.key.as_str()).collect();
    let expected = [
        "messaging.client.id",
        "messaging.destination.name",
        "messaging.destination.partition.id",
        "messaging.kafka.cluster.id",
        "messaging.operation.name",
        "messaging.operation.type",
        "messaging.system",
    ];
    assert_eq!(recorded, BTreeSet::from(expected));
}

#[tokio::test]
async fn the_parent_of_a_send_is_the_context_at_the_call() {
    let test = Test::new();
    let producer: FutureProducer = test.config().create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    let cx = request(&test);
    let send = {
        let _attached = cx.clone().attach();
        let record: FutureRecord<'_, (), str> = FutureRecord::to(&test.topic).payload("four apples");
        producer.send(record, Duration::from_secs(5))
    };
    let other = test.sdk.app_span("another");
    send.with_context(other.clone()).await.unwrap();
    cx.span().end();
    assert_eq!(test.described(2), SENT);
}

#[tokio::test]
async fn send_result_sends() {
    let test = Test::new();
    let producer: FutureProducer = test.config().create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    let cx = request(&test);
    let future = {
        let _attached = cx.clone().attach();
        let record = FutureRecord::to(&test.topic)
            .key("4711")
            .payload("four apples")
            .timestamp(1_700_000_000_000)
            .headers(two_headers());
        producer.send_result(record).unwrap()
    };
    let delivery = future.await.unwrap().unwrap();
    cx.span().end();
    assert_eq!((delivery.partition, delivery.offset), (0, 0));
    assert_eq!(test.described(2), SENT);
    assert_arrived(&test);
}

/// A context that keeps what its delivery callback saw.
struct Reports<D> {
    sdk: Sdk,
    seen: Arc<Mutex<Vec<Report<D>>>>,
}

#[derive(Debug, PartialEq)]
struct Report<D> {
    opaque: D,
    error: Option<KafkaError>,
    payload: Option<Vec<u8>>,
    headers: Option<Vec<(String, String)>>,
    /// Spans that had ended by then.
    ended: usize,
}

impl<D: Send + Sync> ClientContext for Reports<D> {}

impl<D: otel_rdkafka::IntoOpaque> ProducerContext for Reports<D> {
    type DeliveryOpaque = D;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: D) {
        let (Ok(message) | Err((_, message))) = result;
        self.seen.lock().unwrap().push(Report {
            opaque,
            error: result.as_ref().err().map(|(error, _)| error.clone()),
            payload: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map(|_| headers(message)),
            ended: self.sdk.spans().len(),
        });
    }
}

type Seen<D> = Arc<Mutex<Vec<Report<D>>>>;

fn base_producer<D: otel_rdkafka::IntoOpaque>(test: &Test) -> (BaseProducer<Reports<D>>, Seen<D>) {
    let seen = Seen::default();
    let context = Reports { sdk: test.sdk.clone(), seen: seen.clone() };
    let producer: BaseProducer<_> = test.config().create_with_context(context).unwrap();
    (producer.with_instrumentation(test.sdk.instrumentation()), seen)
}

#[test]
fn a_base_producer_sends_and_reports_what_was_sent() {
    let test = Test::new();
    let (producer, seen) = base_producer::<usize>(&test);
    let cx = request(&test);
    {
        let _attached = cx.clone().attach();
        let record = BaseRecord::with_opaque_to(&test.topic, 7)
            .key("4711")
            .payload("four apples")
            .timestamp(1_700_000_000_000)
            .headers(two_headers());
        producer.send(record).unwrap();
    }
    cx.span().end();
    assert_eq!(test.sdk.spans().len(), 1, "the send has no answer yet");
    producer.flush(Duration::from_secs(10)).unwrap();
    let user = vec![("tenant".to_owned(), "blue".to_owned()), ("nothing".to_owned(), "null".to_owned())];
    let report =
        Report { opaque: 7, error: None, payload: Some(b"four apples".to_vec()), headers: Some(user), ended: 2 };
    assert_eq!(*seen.lock().unwrap(), [report]);
    assert_eq!(test.described(2), SENT);
    assert_arrived(&test);
}

#[test]
fn a_threaded_producer_sends_and_reports_what_was_sent() {
    let test = Test::new();
    let seen = Seen::default();
    let context = Reports { sdk: test.sdk.clone(), seen: seen.clone() };
    let producer: ThreadedProducer<Reports<Box<u8>>> = test.config().create_with_context(context).unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    let cx = request(&test);
    {
        let _attached = cx.clone().attach();
        let record = BaseRecord::with_opaque_to(&test.topic, Box::new(9))
            .key("4711")
            .payload("four apples")
            .timestamp(1_700_000_000_000)
            .headers(two_headers());
        producer.clone().send(record).unwrap();
    }
    cx.span().end();
    eventually("the report", || !seen.lock().unwrap().is_empty());
    let user = vec![("tenant".to_owned(), "blue".to_owned()), ("nothing".to_owned(), "null".to_owned())];
    let report = Report {
        opaque: Box::new(9),
        error: None,
        payload: Some(b"four apples".to_vec()),
        headers: Some(user),
        ended: 2,
    };
    assert_eq!(*seen.lock().unwrap(), [report]);
    assert_eq!(test.described(2), SENT);
    assert_arrived(&test);
}

#[test]
fn a_report_of_a_message_without_headers_has_none() {
    let test = Test::new();
    let (producer, seen) = base_producer::<()>(&test);
    producer.send(BaseRecord::<(), str, _>::with_opaque_to(&test.topic, ()).payload("x")).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    assert_eq!(seen.lock().unwrap()[0].headers, None);
    assert_eq!(headers(&test.on_the_wire(1)[0]), [("traceparent".to_owned(), traceparent(&test.span("send orders")))]);
}

#[test]
fn a_report_shows_the_header_that_was_replaced() {
    let test = Test::new();
    let (producer, seen) = base_producer::<()>(&test);
    let cx = request(&test);
    let _attached = cx.clone().attach();
    // As a hand-written injector does: the current context, and another header after it.
    let mut own = OwnedHeaders::new();
    let current = cx.span().span_context().clone();
    let old = format!("00-{}-{}-01", current.trace_id(), current.span_id());
    HeaderInjector(&mut own).set("TraceParent", old.clone());
    let own = own.insert(Header { key: "tenant", value: Some("blue") });
    producer.send(BaseRecord::<(), str, _>::with_opaque_to(&test.topic, ()).payload("x").headers(own)).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    let tenant = ("tenant".to_owned(), "blue".to_owned());
    assert_eq!(seen.lock().unwrap()[0].headers, Some(vec![("TraceParent".to_owned(), old), tenant.clone()]));
    let ours = ("traceparent".to_owned(), traceparent(&test.span("send orders")));
    assert_eq!(headers(&test.on_the_wire(1)[0]), [tenant, ours]);
}

#[test]
fn any_opaque_comes_back_traced_or_not() {
    let test = Test::new();
    let shared = Arc::new(0_u8);
    {
        let seen = Seen::default();
        let context = Reports { sdk: test.sdk.clone(), seen: seen.clone() };
        let untraced: BaseProducer<Reports<usize>> = test.config().create_with_context(context).unwrap();
        let (traced, seen_traced) = base_producer::<usize>(&test);
        let (arcs, seen_arcs) = base_producer::<Arc<u8>>(&test);
        for opaque in [0, 1, 2, 3, usize::MAX - 1, usize::MAX] {
            let record = || BaseRecord::<(), str, _>::with_opaque_to(&test.topic, opaque).payload("x");
            untraced.send(record()).unwrap();
            traced.send(record()).unwrap();
            arcs.send(BaseRecord::<(), str, _>::with_opaque_to(&test.topic, shared.clone()).payload("x")).unwrap();
        }
        untraced.flush(Duration::from_secs(10)).unwrap();
        traced.flush(Duration::from_secs(10)).unwrap();
        arcs.flush(Duration::from_secs(10)).unwrap();
        let opaques = |seen: &Seen<usize>| seen.lock().unwrap().iter().map(|report| report.opaque).collect::<Vec<_>>();
        assert_eq!(opaques(&seen), [0, 1, 2, 3, usize::MAX - 1, usize::MAX]);
        assert_eq!(opaques(&seen_traced), opaques(&seen));
        assert_eq!(seen_arcs.lock().unwrap().len(), 6);
        assert_eq!(Arc::strong_count(&shared), 7);
    }
    assert_eq!(Arc::strong_count(&shared), 1);
}

#[test]
fn a_chosen_partition_and_a_tombstone_are_known_at_the_start() {
    let test = Test::new();
    let (producer, _) = base_producer::<()>(&test);
    producer.send(BaseRecord::<str, (), _>::with_opaque_to(&test.topic, ()).key("4711").partition(0)).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    assert_eq!(
        test.described(1),
        r#"send orders
  kind PRODUCER
  scope otel-rdkafka https://opentelemetry.io/schemas/1.44.0
  root
  status unset
  messaging.client.id = "shop"
  messaging.destination.name = "orders"
  messaging.destination.partition.id = "0"
  messaging.kafka.cluster.id = "harbour"
  messaging.kafka.message.tombstone = true
  messaging.kafka.offset = 0
  messaging.operation.name = "send"
  messaging.operation.type = "send"
  messaging.system = "kafka"
"#
    );
    assert_eq!(test.on_the_wire(1)[0].payload(), None);
}

#[test]
fn without_a_client_id_the_span_says_what_the_broker_sees() {
    let test = Test::new();
    let producer: BaseProducer = test.config().remove("client.id").create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    producer.send(BaseRecord::<(), str>::to(&test.topic).payload("x")).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    assert!(test.described(1).contains(r#"messaging.client.id = "rdkafka""#));
}

/// Written for the raw trait.
struct Foreign(ForeignSeen);

type ForeignSeen = Arc<Mutex<Vec<(usize, Option<Vec<(String, String)>>)>>>;

impl ClientContext for Foreign {}

impl rdkafka::producer::ProducerContext for Foreign {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &rdkafka::message::DeliveryResult<'_>, opaque: usize) {
        let message = result.as_ref().unwrap();
        self.0.lock().unwrap().push((opaque, message.headers().map(|_| headers(message))));
    }
}

#[test]
fn a_context_written_for_the_raw_client_works() {
    let test = Test::new();
    let seen = ForeignSeen::default();
    let producer: BaseProducer<Foreign> = test.config().create_with_context(Foreign(seen.clone())).unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    producer.send(BaseRecord::<(), str, _>::with_opaque_to(&test.topic, 5).payload("x")).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    assert_eq!(*seen.lock().unwrap(), [(5, None)]);
    assert_eq!(test.span("send orders").attributes.len(), 8);
}

/// With neither a recorded span nor a measurement, the user's opaque travels alone.
#[test]
fn an_unrecorded_message_is_returned_as_it_was_given() {
    let test = Test::with_sdk(Sdk::with_sampler(Sampler::AlwaysOff));
    let silent = || {
        let tracer = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOff).build();
        Instrumentation::builder()
            .with_tracer_provider(tracer)
            .with_metrics(false)
            .with_propagation(Propagation::W3c)
            .build()
    };
    let seen = ForeignSeen::default();
    let producer: BaseProducer<Foreign> = test.config().create_with_context(Foreign(seen.clone())).unwrap();
    let producer = producer.with_instrumentation(silent());
    // Numbers that leave room for a mark, and such as do not.
    for opaque in 4..8 {
        let record = BaseRecord::<(), str, _>::with_opaque_to(&test.topic, opaque).payload("x");
        producer.send(record).unwrap();
    }
    producer
        .send(BaseRecord::<(), str, _>::with_opaque_to(&test.topic, 8).payload("x").headers(two_headers()))
        .unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    let given =
        headers(&OwnedMessage::new(None, None, String::new(), Timestamp::NotAvailable, 0, 0, Some(two_headers())));
    let mut expected: Vec<_> = (4..8).map(|opaque| (opaque, None)).collect();
    expected.push((8, Some(given)));
    assert_eq!(*seen.lock().unwrap(), expected);

    let producer: FutureProducer = test.config().create().unwrap();
    let producer = producer.with_instrumentation(silent());
    let record = FutureRecord::<(), str>::to(&test.topic).payload("x");
    let delivery = futures::executor::block_on(producer.send(record, Duration::from_secs(10))).unwrap();
    assert_eq!((delivery.partition, delivery.offset), (0, 5));
    // What was sent carries the decision.
    for message in test.on_the_wire(6) {
        let (name, value) = headers(&message).pop().unwrap();
        assert!(name == "traceparent" && value.ends_with("-00"), "{name}: {value}");
    }
}

struct Fixed(LastPartition);
struct LastPartition;

impl Partitioner for LastPartition {
    fn partition(&self, _: &str, key: Option<&[u8]>, count: i32, _: impl Fn(i32) -> bool) -> i32 {
        assert_eq!(key, Some(&b"4711"[..]));
        count - 1
    }
}

impl ClientContext for Fixed {}

impl ProducerContext<LastPartition> for Fixed {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok());
    }

    fn get_custom_partitioner(&self) -> Option<&LastPartition> {
        Some(&self.0)
    }
}

#[test]
fn a_custom_partitioner_decides_and_the_span_tells() {
    let test = Test::new();
    // rdkafka has no place for a partitioner unless a setting of topics is there.
    let producer: BaseProducer<Fixed, LastPartition> =
        test.config().set("message.timeout.ms", "20000").create_with_context(Fixed(LastPartition)).unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    // A topic of three partitions, made by its first use.
    let topic = format!("{}-three", test.topic);
    producer.send(BaseRecord::<str, str>::to(&topic).key("4711").payload("x")).unwrap();
    producer.flush(Duration::from_secs(20)).unwrap();
    let spans = test.sdk.wait_for(1);
    assert_eq!(
        support::attribute(&spans[0], "messaging.destination.partition.id").map(ToString::to_string),
        Some("2".to_owned())
    );
}

#[test]
fn a_delivered_message_of_an_aborted_transaction_was_delivered() {
    let test = Test::new();
    let producer: BaseProducer = test.config().set("transactional.id", &test.topic).create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    producer.init_transactions(Duration::from_secs(20)).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::<(), str>::to(&test.topic).payload("delivered")).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    producer.abort_transaction(Duration::from_secs(10)).unwrap();
    let (_, sent) = SENT.split_once("unset\n").unwrap();
    assert_eq!(test.described(1), sent.replace("  parent request", "  root"));
}

#[test]
fn a_refused_record_comes_back_as_it_was_given() {
    let test = Test::new();
    let config = test.config().set("queue.buffering.max.messages", "1").set("linger.ms", "60000").clone();
    let seen = Seen::default();
    let context = Reports { sdk: test.sdk.clone(), seen };
    let producer: BaseProducer<Reports<usize>> = config.create_with_context(context).unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    let record = || {
        BaseRecord::with_opaque_to(&test.topic, 3)
            .key("4711")
            .payload("four apples")
            .partition(0)
            .headers(two_headers())
    };
    producer.send(record()).unwrap();
    let (error, refused) = producer.send(record()).unwrap_err();
    assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
    assert_eq!((refused.topic, refused.partition, refused.timestamp), (&*test.topic, Some(0), None));
    assert_eq!((refused.key, refused.payload, refused.delivery_opaque), (Some("4711"), Some("four apples"), 3));
    let user = [("tenant".to_owned(), "blue".to_owned()), ("nothing".to_owned(), "null".to_owned())];
    assert_eq!(owned(refused.headers.as_ref().unwrap()), user);
    // Again and again, as a retry loop does: nothing gathers in the headers.
    let (_, refused) = producer.send(refused).unwrap_err();
    let (_, refused) = producer.send(refused).unwrap_err();
    assert_eq!(owned(refused.headers.as_ref().unwrap()), user);
    // Without headers it comes back without.
    let (_, bare) = producer.send(BaseRecord::<(), str, _>::with_opaque_to(&test.topic, 1).payload("x")).unwrap_err();
    assert!(bare.headers.is_none());
    producer.purge(PurgeConfig::default().queue());
    producer.flush(Duration::from_secs(10)).unwrap();
    let spans = test.sdk.wait_for(5);
    let types: Vec<_> =
        spans.iter().map(|span| support::attribute(span, "error.type").map(ToString::to_string).unwrap()).collect();
    assert_eq!(types, ["_PURGE_REQUESTED", "_QUEUE_FULL", "_QUEUE_FULL", "_QUEUE_FULL", "_QUEUE_FULL"]);
}

fn owned(headers: &OwnedHeaders) -> Vec<(String, String)> {
    use otel_rdkafka::message::{Headers, OwnedMessage};
    assert!(headers.count() > 0);
    let message = OwnedMessage::new(
        None,
        None,
        String::new(),
        otel_rdkafka::Timestamp::NotAvailable,
        0,
        0,
        Some(headers.clone()),
    );
    self::headers(&message)
}

#[test]
fn a_message_of_a_transaction_has_a_span_of_its_delivery() {
    let test = Test::new();
    let producer: BaseProducer = test.config().set("transactional.id", &test.topic).create().unwrap();
    let producer = producer.with_instrumentation(test.sdk.instrumentation());
    producer.init_transactions(Duration::from_secs(20)).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::<(), str>::to(&test.topic).payload("four apples")).unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    let span = test.span("send orders");
    producer.commit_transaction(Duration::from_secs(20)).unwrap();
    assert_eq!(test.sdk.spans().len(), 1, "the transaction itself has none");
    assert_eq!(headers(&test.on_the_wire(1)[0]), [("traceparent".to_owned(), traceparent(&span))]);
}
