//! What is measured, and when.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use otel_messaging::adapter::{Attributes, Clock, Settles, SourceId};

use crate::queue::*;

/// Instrument, kind, unit, description: the convention's own, and ours.
const INSTRUMENTS: &str = "
    messaging.client.consumed.messages  counter   {message} Number of messages that were delivered to the application.
    messaging.client.operation.duration histogram s         Duration of messaging operation initiated by a producer or consumer client.
    messaging.client.sent.messages      counter   {message} Number of messages producer attempted to send to the broker.
    messaging.process.duration          histogram s         Duration of processing operation.
    otel_messaging.deliveries           counter   {message} Number of messages by settlement outcome.
    otel_messaging.queue_time           histogram s         Time from sending a message until it is delivered to the application.
    otel_messaging.wait_time            histogram s         Time from the delivery of a message to the application until its handler starts.
";

/// The convention's boundaries for durations, and ours for times in queues.
const DURATIONS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const QUEUE_TIMES: [f64; 14] =
    [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0];

/// The convention's table "Metrics" (1.44.0), and ours: R is on every series, C where its condition holds, r recommended,
/// - never.
const ATTRIBUTES: &str = "
    attribute                                operation sent consumed process deliveries queue_time wait_time
    error.type                               C         C    C        C       -          -          -
    messaging.consumer.group.name            C         -    C        C       C          C          C
    messaging.destination.name               C         C    C        C       C          C          C
    messaging.destination.partition.id       r         r    r        r       -          -          r
    messaging.destination.subscription.name  C         -    C        C       C          C          C
    messaging.destination.template           C         C    C        C       C          C          C
    messaging.operation.name                 R         R    R        R       R          R          R
    messaging.operation.type                 C         -    -        -       -          -          -
    messaging.system                         R         R    R        R       R          R          R
    server.address                           C         C    C        C       C          C          C
    server.port                              r         r    r        r       r          r          r
    otel_messaging.settlement.outcome        -         -    -        -       R          -          -
    otel_messaging.clock                     -         -    -        -       -          R          -
";

const METRICS: [&str; 7] = [
    "messaging.client.operation.duration",
    "messaging.client.sent.messages",
    "messaging.client.consumed.messages",
    "messaging.process.duration",
    "otel_messaging.deliveries",
    "otel_messaging.queue_time",
    "otel_messaging.wait_time",
];

/// A queue whose metrics alone are recorded.
fn metered(settings: impl FnOnce(InstrumentationBuilder) -> InstrumentationBuilder) -> (Sdk, Queue) {
    let sdk = Sdk::new();
    let builder = Instrumentation::builder().with_meter_provider(sdk.meter_provider()).with_spans(false);
    (sdk, Queue::new(settings(builder).build()))
}

fn series_of(sdk: &Sdk, metric: &str) -> Vec<Series> {
    sdk.series().into_iter().filter(|series| series.name == metric).collect()
}

/// A message with a handler.
struct Handled(Arc<ProcessSpan>);

impl ReceivedMessage for Handled {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        Some(&self.0)
    }
}

/// Everything there is, once well and once badly.
fn everything(queue: &mut Queue) {
    let producer = |destination: &str| {
        Destination::named(destination).with(attribute::SERVER_ADDRESS, "localhost").with(attribute::SERVER_PORT, 4222)
    };
    let consumer = |destination: &str| {
        producer(destination)
            .with(attribute::MESSAGING_CONSUMER_GROUP_NAME, "billing")
            .with(attribute::MESSAGING_DESTINATION_SUBSCRIPTION_NAME, "durable")
            .with(attribute::MESSAGING_CLIENT_ID, "not on metrics")
    };
    let partition = |attributes: &mut Attributes| attributes.set(attribute::MESSAGING_DESTINATION_PARTITION_ID, "3");
    let telemetry = queue.telemetry.clone();
    let sent = SystemTime::now() - Duration::from_secs(2);
    for destination in ["orders", "refunds.1"] {
        let consumes = |name| telemetry.operation(name, &[destination], || consumer(destination));
        for failed in [false, true] {
            let start = || telemetry.start_operation().unwrap();
            let push = telemetry.operation(PUSH, &[destination], || producer(destination));
            let mut send = telemetry.send(start(), &push, None, |_| ());
            send.set(attribute::MESSAGING_DESTINATION_PARTITION_ID, "3");
            let arrival = Arrival::new(SourceId::new(), None).sent(sent, Clock::CreateTime).awaits_settlement(true);
            let message = telemetry.deliver(start(), consumes(PROCESS), arrival, partition);
            let receive = telemetry.receive(start(), &consumes(PULL), [&message].into_iter(), partition);
            let settle = telemetry.settle(start(), &consumes(ACK), Settles::Message(&message), partition);
            let arrival = Arrival::new(SourceId::new(), None);
            Handled(telemetry.deliver(start(), consumes(PROCESS), arrival, partition)).in_scope(|| ());
            if failed {
                send.fail("queue_full", "full");
                receive.fail("not-found", "none");
                settle.fail("closed", "closed");
                message.fail("declined", "declined");
            } else {
                send.succeed();
                receive.succeed();
                settle.settled(Settlement::Ack);
                message.end();
            }
        }
    }
}

/// One of both names the destination.
const SHOWN: [&str; 2] = [attribute::MESSAGING_DESTINATION_NAME, attribute::MESSAGING_DESTINATION_TEMPLATE];

fn templates(builder: InstrumentationBuilder) -> InstrumentationBuilder {
    builder.with_destination_template(|name| name.starts_with("refunds.").then(|| "refunds.{id}".to_owned()))
}

#[test]
fn instruments_are_those_of_the_convention_and_three_of_ours() {
    let (sdk, mut queue) = metered(|builder| builder);
    everything(&mut queue);
    let mut found = BTreeSet::new();
    let collected = sdk.metrics();
    for metric in collected.iter().flat_map(|all| all.scope_metrics()).flat_map(|scope| scope.metrics()) {
        let kind = match metric.data() {
            AggregatedMetrics::U64(MetricData::Sum(sum)) if sum.is_monotonic() => "counter",
            AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
                let is_ours = metric.name().starts_with("otel_messaging.");
                let expected = if is_ours { QUEUE_TIMES } else { DURATIONS };
                for point in histogram.data_points() {
                    assert_eq!(point.bounds().collect::<Vec<_>>(), expected);
                    assert_eq!(point.count(), point.bucket_counts().sum::<u64>());
                }
                "histogram"
            }
            other => panic!("{}: {other:?}", metric.name()),
        };
        found.insert(format!("{} {kind} {} {}", metric.name(), metric.unit(), metric.description()));
    }
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected: BTreeSet<_> = INSTRUMENTS.lines().map(words).filter(|line| !line.is_empty()).collect();
    assert_eq!(found, expected);
}

#[test]
fn each_series_has_the_attributes_of_its_metric_and_no_others() {
    let (sdk, mut queue) = metered(|builder| templates(builder).with_metric_partition(true));
    everything(&mut queue);
    let table: BTreeMap<&str, Vec<&str>> = ATTRIBUTES
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|row| row.len() == 8 && row[0] != "attribute")
        .map(|row| (row[0], row[1..].to_vec()))
        .collect();
    assert_eq!(table.len(), 13);
    let mut seen = BTreeSet::new();
    for series in sdk.series() {
        let column = METRICS.iter().position(|metric| *metric == series.name).unwrap();
        for (attribute, levels) in &table {
            let there = series.attribute(attribute).is_some();
            match levels[column] {
                "R" => assert!(there, "{series}: no {attribute}"),
                "-" => assert!(!there, "{series}: {attribute}"),
                _ => (),
            }
            if there {
                seen.insert((column, *attribute));
            }
        }
        assert!(series.attributes.iter().all(|one| table.contains_key(one.key.as_str())), "{series}");
        let [name, template] = SHOWN.map(|key| series.attribute(key).is_some());
        assert_ne!(name, template, "{series}");
    }
    // Whatever may be there was, but for a message that cannot fail to be delivered.
    for (attribute, levels) in &table {
        for (column, level) in levels.iter().enumerate() {
            let possible = *level != "-" && (*attribute, METRICS[column]) != ("error.type", METRICS[2]);
            assert_eq!(seen.contains(&(column, attribute)), possible, "{attribute} of {}", METRICS[column]);
        }
    }
}

#[test]
fn a_partition_or_server_known_late_is_measured_on_request() {
    for wanted in [false, true] {
        let sdk = Sdk::new();
        let queue = Queue::new(sdk.all_signals_builder().with_metric_partition(wanted).build());
        let push = queue.telemetry.operation(PUSH, &["orders"], || Destination::named("orders"));
        let mut send = queue.telemetry.send(queue.start(), &push, None, |_| ());
        send.set(attribute::MESSAGING_DESTINATION_PARTITION_ID, "3");
        send.set(attribute::SERVER_ADDRESS, "broker-2");
        send.set(attribute::MESSAGING_MESSAGE_ID, "17");
        send.succeed();
        let measured = sdk.measured();
        assert_eq!(measured.matches("messaging.destination.partition.id = \"3\"").count(), if wanted { 2 } else { 0 });
        assert_eq!(measured.matches("server.address = \"broker-2\"").count(), 2, "{measured}");
        assert!(!measured.contains("17"), "{measured}");
    }
}

#[test]
fn a_batch_of_one_partition_tells_it() {
    for (partitions, recorded) in [(["3", "3"], true), (["3", "4"], false)] {
        let sdk = Sdk::new();
        let mut queue = Queue::new(sdk.all_signals_builder().with_metric_partition(true).build());
        let messages = partitions.map(|partition| {
            queue.push("1").unwrap();
            queue.pop_of_partition(partition).unwrap()
        });
        block_on(process_batch(&messages, || async {}));
        let process = series_of(&sdk, metric::PROCESS_DURATION);
        let [process] = &process[..] else { panic!("{process:?}") };
        let partition = process.attribute(attribute::MESSAGING_DESTINATION_PARTITION_ID);
        assert_eq!(partition, recorded.then(|| "3".into()).as_ref());
    }
}

#[test]
fn each_operation_is_measured_once() {
    let (sdk, mut queue) = observed();
    queue.push("1").unwrap();
    queue.push("2").unwrap();
    queue.capacity = 2;
    queue.push("3").unwrap_err();
    let first = queue.pop().unwrap();
    first.in_scope(|| ());
    first.ack();
    queue.pop().unwrap().fail(&"no such order");

    let measured = sdk.measured().replace(r#"messaging.destination.name = "orders""#, "orders");
    let measured = measured.replace(r#", messaging.system = "queue""#, "");
    assert_eq!(
        measured,
        r#"
messaging.client.consumed.messages [{message}] {orders, messaging.operation.name = "pull"} 2
messaging.client.operation.duration [s] {error.type = "queue_full", orders, messaging.operation.name = "push", messaging.operation.type = "send"} 1
messaging.client.operation.duration [s] {orders, messaging.operation.name = "ack", messaging.operation.type = "settle"} 1
messaging.client.operation.duration [s] {orders, messaging.operation.name = "push", messaging.operation.type = "send"} 2
messaging.client.sent.messages [{message}] {error.type = "queue_full", orders, messaging.operation.name = "push"} 1
messaging.client.sent.messages [{message}] {orders, messaging.operation.name = "push"} 2
messaging.process.duration [s] {error.type = "&str", orders, messaging.operation.name = "process"} 1
messaging.process.duration [s] {orders, messaging.operation.name = "process"} 1
otel_messaging.deliveries [{message}] {orders, messaging.operation.name = "ack", otel_messaging.settlement.outcome = "ack"} 1
otel_messaging.wait_time [s] {orders, messaging.operation.name = "process"} 1
"#
        .trim_start()
    );
}

#[test]
fn metrics_are_the_same_whatever_becomes_of_spans() {
    let measured = |sdk: &Sdk, builder: InstrumentationBuilder| {
        everything(&mut Queue::new(templates(builder).build()));
        sdk.measured()
    };
    let usual = Sdk::new();
    let expected = measured(&usual, usual.all_signals_builder());
    assert!(expected.lines().count() > 20, "{expected}");
    let out = Sdk::with_sampler(Sampler::AlwaysOff);
    assert_eq!(measured(&out, out.all_signals_builder()), expected, "sampled out");
    assert_eq!(out.spans().len(), 0);
    let off = Sdk::new();
    assert_eq!(measured(&off, off.all_signals_builder().with_spans(false)), expected, "no tracer");
    assert_eq!(off.spans().len(), 0);
    let partitioned = |builder: InstrumentationBuilder, sdk: &Sdk| measured(sdk, builder.with_metric_partition(true));
    let (on, off) = (Sdk::new(), Sdk::new());
    assert_eq!(
        partitioned(on.all_signals_builder(), &on),
        partitioned(off.all_signals_builder().with_spans(false), &off),
        "attributes of the start that metrics have too"
    );
}

#[test]
fn spans_are_the_same_whatever_becomes_of_metrics() {
    let spans = |sdk: &Sdk, builder: InstrumentationBuilder| {
        let mut queue = Queue::new(builder.build());
        queue.push("1").unwrap();
        queue.pull()[0].ack();
        sdk.described()
    };
    let (with, without) = (Sdk::new(), Sdk::new());
    let expected = spans(&with, with.all_signals_builder());
    assert_eq!(spans(&without, without.all_signals_builder().with_metrics(false)), expected);
    assert_eq!(without.measured(), "");
}

fn count(sdk: &Sdk, metric: &str, containing: &str) -> u64 {
    let series = series_of(sdk, metric).into_iter().filter(|series| series.to_string().contains(containing));
    series.map(|series| series.count).sum()
}

#[test]
fn a_message_is_counted_once_whatever_spans_it_has() {
    for receive_spans in [false, true] {
        let sdk = Sdk::new();
        let mut queue = Queue::new(sdk.all_signals_builder().with_receive_spans(receive_spans).build());
        queue.fill(3);
        assert!(queue.telemetry.records_polls());
        let polled = queue.start();
        let message = queue.pop().unwrap();
        let operation = queue.operation(PULL);
        queue.telemetry.polled(polled, &operation, message.process_span().unwrap(), |_| ());
        message.in_scope(|| ());
        message.in_scope(|| ());
        message.clone().ack();
        drop(message);
        block_on(process_batch(&queue.pull(), || async {}));
        assert_eq!(count(&sdk, "messaging.client.consumed.messages", "\"pull\""), 3);
        assert_eq!(count(&sdk, "messaging.client.consumed.messages", ""), 3, "under one name only");
        assert_eq!(count(&sdk, "messaging.client.operation.duration", "\"pull\""), 2);
        assert_eq!(count(&sdk, "messaging.process.duration", ""), 2, "one message, one batch");
        assert_eq!(sdk.named("pull orders").len(), 1 + usize::from(receive_spans));
    }
}

#[test]
fn polls_are_not_recorded_without_spans_and_metrics() {
    let sdk = Sdk::new();
    assert!(!Queue::new(sdk.instrumentation_builder().with_metrics(false).build()).telemetry.records_polls());
    let builder = sdk.instrumentation_builder().with_metrics(false);
    assert!(Queue::new(builder.with_receive_spans(true).build()).telemetry.records_polls());
}

#[test]
fn a_batch_is_measured_once_as_processed_and_its_messages_are_not() {
    let (sdk, mut queue) = observed();
    queue.fill(3);
    let messages = queue.pull();
    assert_eq!(block_on(process_batch(&messages, || async { Err::<(), _>("no disk") })), Err("no disk"));
    messages.iter().for_each(MessageExt::end);
    drop(messages);
    assert_eq!(count(&sdk, "messaging.process.duration", "error.type = \"&str\""), 1);
    assert_eq!(count(&sdk, "messaging.process.duration", ""), 1);
    assert_eq!(sdk.events().lines().count(), 1, "{}", sdk.events());
}

#[test]
fn a_message_is_settled_once_or_dropped() {
    let (sdk, mut queue) = observed();
    let outcome = |queue: &mut Queue, work: &dyn Fn(&Message)| {
        queue.push("1").unwrap();
        let before = series_of(&sdk, extension::DELIVERIES);
        work(&queue.pop_as("orders", |a| a.awaits_settlement(true)).unwrap());
        let new = series_of(&sdk, extension::DELIVERIES).into_iter().filter(|series| !before.contains(series));
        let words = new.map(|series| series.attribute(extension::SETTLEMENT_OUTCOME).unwrap().to_string());
        let process = sdk.named("process orders").pop().unwrap();
        let noted = value_of(&process, extension::SETTLEMENT_OUTCOME).map(ToString::to_string);
        (words.collect::<Vec<_>>().join(" "), noted)
    };
    let noted = |word: &str| Some(word.to_owned());
    assert_eq!(outcome(&mut queue, &|m| m.ack()), ("ack".to_owned(), noted("ack")));
    assert_eq!(outcome(&mut queue, &|m| m.settle(Settlement::Requeue)), ("requeue".to_owned(), noted("requeue")));
    assert_eq!(outcome(&mut queue, &|_| ()), ("dropped".to_owned(), noted("dropped")), "never looked at");
    assert_eq!(outcome(&mut queue, &|m| drop(m.otel_context())), ("dropped".to_owned(), noted("dropped")));
    // What is known only after the end is not on the ended span.
    let ended = |m: &Message| m.in_scope(|| ());
    assert_eq!(outcome(&mut queue, &ended), ("dropped".to_owned(), None));
    let ended_and_settled = |m: &Message| {
        m.in_scope(|| ());
        m.settle(Settlement::Term);
    };
    assert_eq!(outcome(&mut queue, &ended_and_settled), ("term".to_owned(), None));
    let twice = |m: &Message| {
        m.settle(Settlement::Reject);
        m.settle(Settlement::AlreadySettled);
    };
    assert_eq!(outcome(&mut queue, &twice), ("already_settled reject".to_owned(), noted("reject")));
    let together = |m: &Message| m.process_span().unwrap().settled(Settlement::Commit);
    assert_eq!(outcome(&mut queue, &together), (String::new(), noted("commit")), "counted with the others");

    // A settle that failed settles nothing.
    queue.push("1").unwrap();
    let message = queue.pop_as("orders", |a| a.awaits_settlement(true)).unwrap();
    message.begin_settle().unwrap().fail("closed", "the connection is closed");
    let dropped = count(&sdk, "otel_messaging.deliveries", "\"dropped\"");
    drop(message);
    assert_eq!(count(&sdk, "otel_messaging.deliveries", "\"dropped\""), dropped + 1);

    // Several at once, and those of a batch.
    let before = count(&sdk, "otel_messaging.deliveries", "\"nack\"");
    let several = queue.telemetry.settle(queue.start(), &queue.operation(ACK), Settles::Unknown, |_| ());
    several.messages(5).settled(Settlement::Nack);
    assert_eq!(count(&sdk, "otel_messaging.deliveries", "\"nack\""), before + 5);
    queue.fill(3);
    let batch: Vec<_> = (0..3).map(|_| queue.pop_as("orders", |a| a.awaits_settlement(true)).unwrap()).collect();
    block_on(process_batch(&batch, || async {}));
    batch[0].ack();
    drop(batch);
    assert_eq!(count(&sdk, "otel_messaging.deliveries", "\"dropped\""), dropped + 3);
}

#[test]
fn a_message_that_need_not_be_settled_is_not_dropped() {
    let (sdk, mut queue) = observed();
    queue.push("1").unwrap();
    drop(queue.pop());
    assert!(!sdk.measured().contains("deliveries"));
    assert!(!sdk.described().contains("settlement"));
}

/// The queue times that were recorded of a message that says it was sent then: their sum, and by which clock.
fn queue_time(at: SystemTime, clock: Clock) -> Option<(f64, String)> {
    let (sdk, mut queue) = metered(|builder| builder);
    queue.push("1").unwrap();
    drop(queue.pop_as("orders", |a| a.sent(at, clock)));
    let recorded = series_of(&sdk, extension::QUEUE_TIME).pop()?;
    Some((recorded.sum, recorded.attribute(extension::CLOCK)?.to_string()))
}

#[test]
fn a_queue_time_is_right_or_left_out() {
    let now = SystemTime::now();
    let seconds = Duration::from_secs;
    for (clock, name) in [
        (Clock::CreateTime, "create_time"),
        (Clock::LogAppendTime, "log_append_time"),
        (Clock::Broker, "broker"),
        (Clock::Header, "header"),
    ] {
        let (sum, of) = queue_time(now - seconds(10), clock).unwrap();
        assert!((10.0..20.0).contains(&sum), "{sum}");
        assert_eq!(of, name);
    }
    let time = |at| queue_time(at, Clock::CreateTime).map(|(sum, _)| sum);
    // Two machines' clocks differ: what seems to come from the near future has just been sent.
    assert_eq!(time(now + seconds(30)), Some(0.0));
    assert_eq!(time(now + seconds(3_600)), None, "the far future");
    // Milliseconds taken for seconds.
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(SystemTime::UNIX_EPOCH.checked_add(since * 1_000).and_then(time), None);
    // Seconds taken for milliseconds, and a zero: both 1970.
    assert_eq!(time(SystemTime::UNIX_EPOCH + since / 1_000), None);
    assert_eq!(time(SystemTime::UNIX_EPOCH), None);
    assert_eq!(time(SystemTime::UNIX_EPOCH - seconds(1)), None, "before 1970: a negative number");
    let farthest = (0..63).rev().map(|bit| seconds(1 << bit));
    let (past, future) = (
        farthest.clone().find_map(|by| SystemTime::UNIX_EPOCH.checked_sub(by)).unwrap(),
        farthest.clone().find_map(|by| SystemTime::UNIX_EPOCH.checked_add(by)).unwrap(),
    );
    assert_eq!((time(past), time(future)), (None, None), "as far as the clock's type goes");
    // Old is old.
    assert!(time(now - seconds(86_400 * 365)).unwrap() >= 86_400.0 * 365.0);
}

#[test]
fn an_attempt_that_is_no_number_is_left_out() {
    let (sdk, mut queue) = traced();
    let mut attempt = |number| {
        queue.push("1").unwrap();
        drop(queue.pop_as("orders", |a| a.attempt(number)));
        value_of(&sdk.named("process orders").pop().unwrap(), "otel_messaging.delivery.attempt")
            .map(ToString::to_string)
    };
    assert_eq!(attempt(3).as_deref(), Some("3"));
    assert_eq!(attempt(u64::MAX), None);
    assert_eq!(attempt(0), None, "counted from 1");
}

#[test]
fn a_clock_that_was_set_back_gives_no_duration() {
    let sdk = Sdk::new();
    let queue = Queue::new(sdk.all_signals_builder().with_spans(false).build());
    let push = queue.telemetry.operation(PUSH, &["orders"], || Destination::named("orders"));
    let send = queue.telemetry.send(queue.start(), &push, None, |_| ());
    send.ended_at(SystemTime::now() - Duration::from_secs(60)).succeed();
    assert_eq!(count(&sdk, "messaging.client.sent.messages", ""), 1);
    assert!(!sdk.measured().contains("duration"), "{}", sdk.measured());
}

#[test]
fn the_number_of_series_is_bounded_whatever_names_come() {
    let (sdk, mut queue) = metered(|builder| builder);
    for name in (0..100_000).map(|name| format!("orders.{name}")) {
        queue.push_to(&name, HeaderMap::default(), "1", |_| ()).unwrap();
        drop(queue.pop_from(&name));
    }
    // (limit + 1) × operations, of which each of these measures one.
    for metric in METRICS.into_iter().take(4) {
        assert_eq!(series_of(&sdk, metric).len(), 1_001, "{metric}");
    }
    let total = |metric| count(&sdk, metric, "");
    assert_eq!((total(METRICS[1]), total(METRICS[2])), (100_000, 100_000), "none is lost");
    let sent = series_of(&sdk, METRICS[1]);
    let unnamed = sent.iter().find(|series| series.attribute(SHOWN[0]).is_none());
    assert_eq!(unnamed.unwrap().count, 99_000);
}

#[test]
fn names_behind_a_template_take_no_place_from_others() {
    let (sdk, mut queue) = metered(templates);
    for name in (0..100_000).map(|name| format!("refunds.{name}")).chain(["orders".to_owned()]) {
        queue.push_to(&name, HeaderMap::default(), "1", |_| ()).unwrap();
        drop(queue.pop_from(&name));
    }
    for metric in METRICS.into_iter().take(4) {
        let shown = |series: &Series| SHOWN.map(|key| series.attribute(key).map(ToString::to_string));
        let mut found: Vec<_> = series_of(&sdk, metric).iter().map(shown).collect();
        found.sort();
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(found, [[None, some("refunds.{id}")], [some("orders"), None]], "{metric}");
    }
}

#[test]
fn a_span_and_its_measurement_say_the_same() {
    let (sdk, mut queue) = observed();
    queue.push_and_pop("1").in_scope(|| ());
    let took = |name: &str| {
        let span = sdk.only(name);
        span.end_time.duration_since(span.start_time).unwrap().as_secs_f64()
    };
    let measured = |metric: &str| sdk.histogram(metric).1;
    assert_eq!(measured(metric::CLIENT_OPERATION_DURATION), took("push orders"));
    assert_eq!(measured(metric::PROCESS_DURATION), took("process orders"));
    // Nothing needed the context of this one.
    queue.push_to("refunds", HeaderMap::default(), "2", |_| ()).unwrap();
    drop(queue.pop_from("refunds"));
    let all = measured(metric::PROCESS_DURATION);
    assert!((all - took("process orders") - took("process refunds")).abs() < 1e-12);
}
