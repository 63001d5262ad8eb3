//! A purge that the application asked for, and one because its producer is dropped: the caller gets the same error, and the
//! span says which it was.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use otel_rdkafka::{
    ClientConfig, ClientContext, Message, Statistics,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    mocking::MockCluster,
    otel::Traced,
    producer::{
        BaseProducer, BaseRecord, DefaultProducerContext, DeliveryResult, FutureProducer, FutureRecord, Producer,
        ProducerContext, PurgeConfig, ThreadedProducer,
    },
};
use rdkafka::producer as raw;
use support::eventually;

use crate::{faults::failed, harness::Test};

const PATIENCE: Duration = Duration::from_secs(20);

const IN_QUEUE: &str = "Message production error: PurgeQueue (Local: Purged in queue)";
const IN_FLIGHT: &str = "Message production error: PurgeInflight (Local: Purged in flight)";

fn purged(status: &str, error_type: &str) -> String {
    failed("PRODUCER", status, error_type, "")
}

/// Purged messages may have been assigned to a partition by then, and to a cluster.
fn described(test: &Test, count: usize) -> String {
    let described = test.described(count).replace("  messaging.destination.partition.id = \"0\"\n", "");
    let lines = described.lines().filter(|line| !line.contains("messaging.kafka.cluster.id"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Keeps what the reports said, and how many messages statistics told to be in flight.
#[derive(Clone, Default)]
struct Reports {
    errors: Arc<Mutex<Vec<Option<KafkaError>>>>,
    inflight: Arc<AtomicI64>,
}

impl ClientContext for Reports {
    fn stats(&self, statistics: Statistics) {
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        self.inflight.store(partitions.map(|partition| partition.msgs_inflight).sum(), Ordering::Relaxed);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.errors.lock().unwrap().push(result.as_ref().err().map(|(error, _)| error.clone()));
    }
}

impl Reports {
    fn assert_recorded(&self, code: RDKafkaErrorCode) {
        assert_eq!(*self.errors.lock().unwrap(), [Some(KafkaError::MessageProduction(code))]);
    }
}

/// What an application has a producer do to what is queued.
type Ask<P> = fn(&P) -> KafkaResult<()>;

/// Every way to ask for it: whether it takes a transaction, and the call.
fn asks<P, C>() -> [(bool, Ask<P>); 4]
where
    P: Producer<C> + raw::Producer<Traced<C>>,
    C: ProducerContext + 'static,
{
    const AT_A_TIME: Duration = Duration::from_millis(100);
    [
        (false, |producer| {
            Producer::purge(producer, PurgeConfig::default().queue().inflight());
            Ok(())
        }),
        (false, |producer| {
            raw::Producer::purge(producer, PurgeConfig::default().queue().inflight());
            Ok(())
        }),
        (true, |producer| Producer::abort_transaction(producer, AT_A_TIME)),
        (true, |producer| raw::Producer::abort_transaction(producer, AT_A_TIME)),
    ]
}

/// A message that is queued and then purged as it is asked for.
fn is_purged_as_asked<P, C>(make: impl Fn(&Test, &ClientConfig) -> P, send: impl Fn(&P, &str))
where
    P: Producer<C> + raw::Producer<Traced<C>>,
    C: ProducerContext + 'static,
{
    for (transaction, ask) in asks::<P, C>() {
        let test = Test::new();
        let mut config = test.config();
        config.set("linger.ms", "20000");
        if transaction {
            config.set("transactional.id", &test.topic);
        }
        let producer = make(&test, &config);
        if transaction {
            Producer::init_transactions(&producer, PATIENCE).unwrap();
            Producer::begin_transaction(&producer).unwrap();
        }
        send(&producer, &test.topic);
        eventually("it is done", || {
            let done = ask(&producer);
            // An abort waits for reports, and is resumed once they are served.
            Producer::flush(&producer, PATIENCE).unwrap();
            done.is_ok()
        });
        assert_eq!(described(&test, 1), purged(IN_QUEUE, "_PURGE_REQUESTED"));
        // Of what is sent later nobody has asked that it be purged.
        if !transaction {
            send(&producer, &test.topic);
            drop(producer);
            let both = purged(IN_QUEUE, "_PURGE_REQUESTED") + &purged(IN_QUEUE, "_PURGE_QUEUE");
            assert_eq!(described(&test, 2), both);
        }
    }
}

fn base_producer(test: &Test, config: &ClientConfig) -> BaseProducer<Reports> {
    let producer: BaseProducer<Reports> = config.create_with_context(Reports::default()).unwrap();
    producer.with_instrumentation(test.sdk.instrumentation())
}

fn threaded_producer(test: &Test, config: &ClientConfig) -> ThreadedProducer<Reports> {
    let producer: ThreadedProducer<Reports> = config.create_with_context(Reports::default()).unwrap();
    producer.with_instrumentation(test.sdk.instrumentation())
}

fn future_producer(test: &Test, config: &ClientConfig) -> FutureProducer {
    let producer: FutureProducer = config.create().unwrap();
    producer.with_instrumentation(test.sdk.instrumentation())
}

#[test]
fn what_an_application_purges_from_a_base_producer_says_so() {
    is_purged_as_asked(base_producer, |producer, topic| {
        producer.send(BaseRecord::<(), str>::to(topic).payload("x")).unwrap();
    });
}

#[test]
fn what_an_application_purges_from_a_threaded_producer_says_so() {
    is_purged_as_asked(threaded_producer, |producer, topic| {
        producer.clone().send(BaseRecord::<(), str>::to(topic).payload("x")).unwrap();
    });
}

#[test]
fn what_an_application_purges_from_a_future_producer_says_so() {
    is_purged_as_asked(future_producer, |producer, topic| {
        drop(producer.clone().send_result(FutureRecord::<(), str>::to(topic).payload("x")).unwrap());
    });
}

#[test]
fn a_purge_is_reported_at_the_producers_poll_with_the_clients_error() {
    let test = Test::new();
    let producer = base_producer(&test, test.config().set("linger.ms", "60000"));
    producer.send(BaseRecord::<(), str>::to(&test.topic).payload("x")).unwrap();
    producer.purge(PurgeConfig::default().queue().inflight());
    assert_eq!(test.sdk.spans().len(), 0);
    producer.flush(PATIENCE).unwrap();
    assert_eq!(described(&test, 1), purged(IN_QUEUE, "_PURGE_REQUESTED"));
    producer.context().assert_recorded(RDKafkaErrorCode::PurgeQueue);
}

#[test]
fn a_dropped_base_producer_is_no_request() {
    let test = Test::new();
    let producer = base_producer(&test, test.config().set("linger.ms", "60000"));
    let reports = producer.context().clone();
    producer.send(BaseRecord::<(), str>::to(&test.topic).payload("x")).unwrap();
    drop(producer);
    assert_eq!(described(&test, 1), purged(IN_QUEUE, "_PURGE_QUEUE"));
    reports.assert_recorded(RDKafkaErrorCode::PurgeQueue);
}

#[test]
fn a_dropped_threaded_producer_is_no_request() {
    let test = Test::new();
    let producer = threaded_producer(&test, test.config().set("linger.ms", "60000"));
    let reports = producer.context().clone();
    producer.send(BaseRecord::<(), str>::to(&test.topic).payload("x")).unwrap();
    drop(producer);
    assert_eq!(described(&test, 1), purged(IN_QUEUE, "_PURGE_QUEUE"));
    reports.assert_recorded(RDKafkaErrorCode::PurgeQueue);
}

#[tokio::test]
async fn a_dropped_future_producer_is_no_request() {
    let test = Test::new();
    let producer = future_producer(&test, test.config().set("linger.ms", "60000"));
    let record = || FutureRecord::<(), str>::to(&test.topic).payload("x");
    let futures = [producer.send_result(record()).unwrap(), producer.send_result(record()).unwrap()];
    drop(producer);
    for future in futures {
        let (error, message) = future.await.unwrap().unwrap_err();
        assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::PurgeQueue));
        assert!(message.headers().is_none());
    }
    assert_eq!(described(&test, 2), purged(IN_QUEUE, "_PURGE_QUEUE").repeat(2));
}

/// A message whose answer does not come.
fn in_flight(test: &Test) -> (BaseProducer<Reports>, MockCluster<'static, DefaultProducerContext>) {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic(&test.topic, 1, 1).unwrap();
    let mut config = test.config();
    config.set("bootstrap.servers", mock.bootstrap_servers()).set("statistics.interval.ms", "50");
    let producer = base_producer(test, &config);
    let send = || producer.send(BaseRecord::<(), str>::to(&test.topic).payload("x")).unwrap();
    // Connected by then.
    send();
    producer.flush(PATIENCE).unwrap();
    test.sdk.forget();
    producer.context().errors.lock().unwrap().clear();
    mock.broker_round_trip_time(1, Duration::from_secs(3_600)).unwrap();
    send();
    eventually("it is in flight", || {
        producer.poll(Duration::from_millis(50));
        producer.context().inflight.load(Ordering::Relaxed) == 1
    });
    (producer, mock)
}

#[test]
fn what_an_application_purges_in_flight_says_so() {
    let test = Test::new();
    let (producer, _mock) = in_flight(&test);
    producer.purge(PurgeConfig::default().inflight());
    producer.flush(PATIENCE).unwrap();
    assert_eq!(described(&test, 1), purged(IN_FLIGHT, "_PURGE_REQUESTED"));
    producer.context().assert_recorded(RDKafkaErrorCode::PurgeInflight);
}

#[test]
fn what_is_in_flight_when_its_producer_is_dropped_is_no_request() {
    let test = Test::new();
    let (producer, _mock) = in_flight(&test);
    let reports = producer.context().clone();
    drop(producer);
    assert_eq!(described(&test, 1), purged(IN_FLIGHT, "_PURGE_INFLIGHT"));
    reports.assert_recorded(RDKafkaErrorCode::PurgeInflight);
}
