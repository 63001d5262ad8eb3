//! Each rule is broken once, in what breaks no rule otherwise, and is the one that is named.

use std::collections::{BTreeMap, BTreeSet};

use conventions::{Convention, Type};
use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};

use crate::{
    broker::{BROKERS, Broker},
    check::compare,
    complete, export,
    kafka::KAFKA,
    line,
    nats::NATS,
    page,
    rabbitmq::RABBITMQ,
    rule::{Broken, Rule},
    rules::{Rules, SCHEMA_URL, VERSION},
    scenario::{LeftOut, Measure, Operation, left_out, words},
    scenarios::handling::DECLINED,
    seen::{AtStart, Attributes, Event, Link, Point, Scope, Seen, Span, Value, WAIT_TIME},
};

/// What is seen of one scenario.
struct Outcome {
    broker: &'static Broker,
    scenario: &'static str,
    seen: Seen,
}

/// What is seen of all scenarios of a broker.
struct All {
    broker: Broker,
    seen: BTreeMap<String, Seen>,
}

/// A rule, what keeps it, and how it is broken there.
type Breach<T> = (Rule, fn() -> T, fn(&mut T));

const OF_SCENARIOS: &[Breach<Outcome>] = &[
    (Rule::Scope, || call(&KAFKA, "send"), |it| it.span().scope.schema_url.push('1')),
    (Rule::Scope, || measured(&KAFKA, "otel_messaging.queue_time"), |it| it.point().scope.name.push('1')),
    (Rule::Scope, || failure(&KAFKA, "send"), |it| it.event().scope.name.push('1')),
    (Rule::Scope, || failure(&KAFKA, "send"), |it| it.event().scope.version.clear()),
    (Rule::System, || call(&KAFKA, "send"), |it| it.span().attributes.put("messaging.system", "nats")),
    (
        Rule::System,
        || measured(&KAFKA, "messaging.process.duration"),
        |it| it.point().attributes.put("messaging.system", "nats"),
    ),
    (Rule::NeverOk, || call(&NATS, "fetch"), |it| it.span().status = StatusCode::Ok),
    (Rule::ErrorType, || call(&KAFKA, "commit"), |it| it.span().attributes.put("error.type", "_FAIL")),
    (Rule::Name, || call(&RABBITMQ, "ack"), |it| it.span().name = "orders ack".to_owned()),
    (
        Rule::OperationListed,
        || call(&KAFKA, "send"),
        |it| {
            it.span().attributes.put("messaging.operation.name", "teleport");
            it.span().name = "teleport orders".to_owned();
        },
    ),
    (Rule::OperationType, || call(&KAFKA, "create"), |it| it.span().attributes.put("messaging.operation.type", "send")),
    (Rule::Kind, || call(&NATS, "process"), |it| it.span().kind = SpanKind::Client),
    (Rule::Known, linked, |it| it.link().attributes.put("messaging.url", "amqp://")),
    (
        Rule::Once,
        || call(&NATS, "publish"),
        |it| {
            let first = it.span().attributes.0[0].clone();
            it.span().attributes.0.push(first);
        },
    ),
    (Rule::ValueType, || call(&RABBITMQ, "publish"), |it| it.span().attributes.put("server.port", "5672")),
    (Rule::Belongs, linked, |it| it.link().attributes.put("otel_messaging.clock", "broker")),
    (Rule::Required, || call(&KAFKA, "poll"), |it| it.span().attributes.drop("messaging.system")),
    (
        Rule::Required,
        || measured(&NATS, "otel_messaging.deliveries"),
        |it| it.point().attributes.drop("otel_messaging.settlement.outcome"),
    ),
    (Rule::KnownAtCall, || call(&KAFKA, "send"), |it| it.span().attributes.drop("messaging.client.id")),
    (Rule::KnownAtCall, || failure(&KAFKA, "send"), |it| it.span().attributes.drop("messaging.client.id")),
    (
        Rule::KnownAtCall,
        || call(&RABBITMQ, "publish"),
        |it| it.span().attributes.drop("messaging.rabbitmq.destination.routing_key"),
    ),
    (Rule::KnownAtCall, || call(&KAFKA, "process"), |it| it.span().attributes.drop("messaging.consumer.group.name")),
    (Rule::Answered, || call(&KAFKA, "send"), |it| it.span().attributes.drop("messaging.kafka.offset")),
    (
        Rule::Answered,
        || call(&RABBITMQ, "get"),
        |it| it.span().attributes.drop("messaging.rabbitmq.message.delivery_tag"),
    ),
    (Rule::Together, || call(&NATS, "publish"), |it| it.span().attributes.put("messaging.nats.stream.name", "S")),
    (
        Rule::Together,
        || call(&NATS, "fetch"),
        |it| it.span().known("messaging.nats.message.delivery_count", Value::Int(1)),
    ),
    (Rule::Together, || call(&RABBITMQ, "ack"), |it| it.span().known("network.peer.port", Value::Int(5672))),
    (
        Rule::AttributeListed,
        || call(&KAFKA, "commit"),
        |it| it.span().known("messaging.batch.message_count", Value::Int(2)),
    ),
    (Rule::StartSeen, || call(&RABBITMQ, "nack"), |it| it.span().at_start = None),
    (
        Rule::AtStart,
        || call(&KAFKA, "process"),
        |it| {
            it.span().start().attributes.remove("messaging.client.id");
        },
    ),
    (Rule::LinksAtStart, linked, |it| it.span().start().links = 0),
    (Rule::LinkAttributes, linked, |it| {
        it.link().attributes.put("messaging.kafka.offset", value("messaging.kafka.offset"))
    }),
    (Rule::LinksDiffer, linked, |it| {
        it.span().linking(SENT);
        it.span().start().links = 2;
    }),
    (Rule::ParentLinked, linked, |it| it.span().parent = id(SENT_TOO)),
    (
        Rule::EachItsOwn,
        || {
            let mut outcome = linked();
            let mut other = linked().seen.spans.swap_remove(0);
            (other.parent, other.links[0].span) = (id(SENT_TOO), id(SENT_TOO));
            outcome.seen.spans.push(other);
            outcome
        },
        |it| {
            it.span().parent = id(SENT_TOO);
            it.link().span = id(SENT_TOO);
        },
    ),
    (Rule::WaitTime, || waiting("kafka/handler_waits"), |it| it.span().attributes.drop(WAIT_TIME)),
    (Rule::WaitTime, || waiting("kafka/send"), |it| it.span().known(WAIT_TIME, Value::Double(0.000_9))),
    (Rule::WaitTime, || linked_waiting("kafka/batch_waits"), |it| it.span().links[1].attributes.drop(WAIT_TIME)),
    (
        Rule::WaitTime,
        || linked_waiting("kafka/batch_waits"),
        |it| {
            it.span().links.clear();
            it.span().start().links = 0;
        },
    ),
    (Rule::WaitTime, || linked_waiting("kafka/batch"), |it| it.link().attributes.put(WAIT_TIME, Value::Double(0.0))),
    (
        Rule::WaitTime,
        || linked_waiting("kafka/batch"),
        |it| {
            it.span().links.iter_mut().for_each(|link| link.attributes.drop(WAIT_TIME));
            it.span().known(WAIT_TIME, Value::Double(0.25));
        },
    ),
    (Rule::WaitTime, linked, |it| it.link().attributes.put(WAIT_TIME, Value::Double(0.25))),
    (
        Rule::WaitTime,
        || Outcome { scenario: "kafka/handled_at_once", ..linked() },
        |it| it.span().known(WAIT_TIME, Value::Double(0.25)),
    ),
    (
        Rule::WaitTime,
        || Outcome { scenario: "kafka/context_before_handler", ..linked() },
        |it| it.seen.points = called(&KAFKA, WAIT_TIME).seen.points,
    ),
    (
        Rule::Described,
        || {
            let mut outcome = Outcome { scenario: "nats/outcomes", ..failure(&NATS, "process") };
            outcome.span().says = DECLINED.1.to_owned();
            outcome.event().attributes.put("exception.message", DECLINED.1);
            outcome
        },
        |it| {
            it.span().says = SAYS.to_owned();
            it.event().attributes.put("exception.message", SAYS);
        },
    ),
    (
        Rule::MetricKnown,
        || measured(&KAFKA, "messaging.process.duration"),
        |it| it.point().metric = "messaging.nap.duration".to_owned(),
    ),
    (Rule::Instrument, || measured(&KAFKA, "messaging.client.sent.messages"), |it| it.point().histogram = true),
    (Rule::Unit, || measured(&NATS, "messaging.process.duration"), |it| it.point().unit = "ms".to_owned()),
    (Rule::Boundaries, || measured(&NATS, "messaging.process.duration"), |it| it.point().boundaries[0] = 0.004),
    (
        Rule::Boundaries,
        || measured(&RABBITMQ, "otel_messaging.queue_time"),
        |it| {
            it.point().boundaries.pop();
        },
    ),
    (
        Rule::MetricOperation,
        || measured(&KAFKA, "messaging.client.sent.messages"),
        |it| it.point().attributes.put("messaging.operation.name", "create"),
    ),
    (
        Rule::MetricAlways,
        || measured(&KAFKA, "messaging.client.consumed.messages"),
        |it| it.point().attributes.drop("messaging.consumer.group.name"),
    ),
    (
        Rule::MetricAttributeListed,
        || measured(&RABBITMQ, "messaging.client.consumed.messages"),
        |it| it.point().attributes.put("messaging.consumer.group.name", "payment"),
    ),
    (
        Rule::MetricCondition,
        || {
            let mut outcome = called(&KAFKA, "messaging.client.operation.duration");
            outcome.point().attributes.put("messaging.operation.name", "poll");
            outcome.point().attributes.put("messaging.consumer.group.name", "payment");
            outcome.beside(call(&KAFKA, "poll"))
        },
        |it| it.point().attributes.drop("messaging.consumer.group.name"),
    ),
    (
        Rule::MetricCondition,
        || called(&RABBITMQ, "otel_messaging.deliveries").beside(call(&RABBITMQ, "ack")),
        |it| it.point().attributes.drop("messaging.destination.name"),
    ),
    (
        Rule::MetricCondition,
        || called(&KAFKA, "messaging.client.consumed.messages").beside(call(&KAFKA, "process")),
        |it| it.point().attributes.drop("messaging.destination.name"),
    ),
    (Rule::Counts, sent, |it| it.point().count = 2),
    (Rule::Durations, sent, |it| it.point().sum = 0.001),
    (
        Rule::Counts,
        || {
            let mut outcome = called(&RABBITMQ, "messaging.client.consumed.messages");
            outcome.seen.spans = ["get", "process"].map(|name| call(&RABBITMQ, name).seen.spans.remove(0)).into();
            let mut got = called(&RABBITMQ, "messaging.client.operation.duration").seen.points.remove(0);
            got.attributes.put("messaging.operation.name", "get");
            got.attributes.put("messaging.operation.type", "receive");
            let processed = called(&RABBITMQ, "messaging.process.duration").seen.points;
            outcome.seen.points.extend(processed.into_iter().chain([got]));
            Outcome { scenario: "rabbitmq/derived", ..outcome }
        },
        |it| it.point().attributes.put("messaging.operation.name", "process"),
    ),
    (Rule::Counts, || waited("kafka/derived"), |it| it.point().count = 0),
    (Rule::Counts, || waited("kafka/derived"), |it| it.point().count = 2),
    (Rule::Durations, || waited("kafka/derived"), |it| it.point().sum = 0.2),
    (Rule::EventKnown, || failure(&KAFKA, "send"), |it| it.event().name = "messaging.nap.exception".to_owned()),
    (Rule::Severity, || failure(&KAFKA, "process"), |it| it.event().severity = 13),
    (Rule::EventAttributes, || failure(&NATS, "request"), |it| it.event().attributes.put("messaging.system", "nats")),
    (Rule::EventSays, || failure(&NATS, "request"), |it| it.event().attributes.drop("exception.message")),
    (Rule::EventBelongs, || failure(&RABBITMQ, "get"), |it| it.event().attributes.put("exception.type", "other")),
    (Rule::EventBelongs, || failure(&RABBITMQ, "get"), |it| it.event().trace = id(SENT)),
    (Rule::EventSays, || failure(&RABBITMQ, "get"), |it| it.span().says.clear()),
    (
        Rule::EventBelongs,
        || failure(&RABBITMQ, "get"),
        |it| {
            it.seen.events.append(&mut failure(&RABBITMQ, "get").seen.events);
            it.event().span.clear();
        },
    ),
    (Rule::EachFailure, || failure(&RABBITMQ, "get"), |it| it.seen.events.clear()),
    (
        Rule::EachFailure,
        || {
            let mut outcome = measured(&KAFKA, "messaging.process.duration");
            outcome.point().attributes.put("error.type", FAILED);
            outcome.seen.events = failure(&KAFKA, "process").seen.events;
            outcome.event().span.clear();
            outcome
        },
        |it| it.seen.events.clear(),
    ),
];

/// Lines that are listed, and lines that are seen.
const OF_LINES: &[Breach<[Vec<&'static str>; 2]>] = &[
    (Rule::Shows, || [vec!["CLIENT ack"], vec!["CLIENT ack"]], |[_, seen]| seen.clear()),
    (Rule::ShowsOnly, || [vec!["n x CLIENT ack"], vec!["2 x CLIENT ack"]], |[_, seen]| seen.push("CLIENT nack")),
];

const OF_BROKERS: &[Breach<All>] = &[
    (Rule::Seen, || all(&RABBITMQ), |it| it.spans("publish", |span| span.attributes.drop("messaging.message.id"))),
    (Rule::SeenLate, || all(&NATS), |it| it.spans("request", |span| span.start().links = span.links.len())),
    (
        Rule::SeenLate,
        || all(&KAFKA),
        |it| it.spans("send", |span| span.start().attributes.extend(["messaging.kafka.offset".to_owned()])),
    ),
    (
        Rule::MetricSeen,
        || all(&KAFKA),
        |it| it.points("messaging.client.sent.messages", |point| point.attributes.drop("error.type")),
    ),
    (
        Rule::MetricSeen,
        || all(&NATS),
        |it| {
            it.points("messaging.client.consumed.messages", |point| {
                point.attributes.put("messaging.operation.name", "fetch");
            });
        },
    ),
    (Rule::Wanted, || all(&KAFKA), |it| it.broker.left_out = &it.broker.left_out[1..]),
    (Rule::LeftOut, || all(&KAFKA), |it| it.leaving_out(left_out("messaging.client.id", "send", "it is emitted"))),
    (
        Rule::LeftOut,
        || all(&KAFKA),
        |it| it.leaving_out(left_out("messaging.nats.domain", "send", "no registry has it")),
    ),
    (
        Rule::Lacking,
        || all(&RABBITMQ),
        |it| {
            it.spans("publish", |span| {
                span.attributes.put("messaging.rabbitmq.destination.routing_key", "orders");
            });
        },
    ),
    (
        Rule::Conditions,
        || all(&KAFKA),
        |it| {
            it.operation("poll", |poll| {
                poll.sometimes = format!("{} messaging.consumer.group.name", poll.sometimes).leak();
            });
        },
    ),
    (Rule::SamplingRelevant, || all(&RABBITMQ), |it| it.operation("process", |process| process.late = "")),
    (Rule::NoEmptyCell, || all(&KAFKA), |it| it.seen.values_mut().for_each(|seen| seen.events.clear())),
    (
        Rule::Switches,
        || all(&KAFKA),
        |it| {
            let (before, _) = it.broker.listed.split_once("\n\nmetric_partition_on: ").expect("it is a scenario");
            it.broker.listed = before;
        },
    ),
];

const OF_EXPORTS: &[Breach<String>] = &[
    (Rule::Exported, || EXPORT.to_owned(), |now| *now = now.replace("key = 1", "key = 2")),
    (Rule::Exported, || EXPORT.to_owned(), |now| *now = now.replace("nats/two", "nats/three")),
    (Rule::Exported, || EXPORT.to_owned(), |now| now.truncate(now.find("    counter").expect("it has one"))),
];

const EXPORT: &str = "nats/one\n    span\n        key = 1\n    counter\n\nnats/two\n    span\n\n";

const OF_THE_PAGE: &[Breach<String>] = &[(Rule::PageCurrent, page::page, |page| page.push('x'))];

#[test]
fn each_rule_that_is_broken_is_named() {
    holds(OF_SCENARIOS, |Outcome { broker, scenario, seen }| {
        let mut rules = Rules::new(broker, scenario);
        rules.apply(seen, scenario.ends_with("/derived"));
        rules.broken
    });
    holds(OF_LINES, |[listed, seen]| {
        let mut rules = Rules::new(&KAFKA, "kafka/lines");
        compare(&mut rules, listed, &seen.iter().map(|&line| line.to_owned()).collect::<Vec<_>>());
        rules.broken
    });
    holds(OF_BROKERS, |All { broker, seen }| {
        let mut broken = complete::broken(broker, seen);
        broken.extend(complete::table(&[broker], seen).1);
        broken
    });
    holds(OF_EXPORTS, |now| export::differences(EXPORT, now));
    holds(OF_THE_PAGE, |page| page::outdated(page).into_iter().collect());
}

#[test]
fn no_rule_is_forgotten() {
    let broken = OF_SCENARIOS.iter().map(|it| it.0).chain(OF_LINES.iter().map(|it| it.0));
    let broken = broken.chain(OF_BROKERS.iter().map(|it| it.0)).chain(OF_EXPORTS.iter().map(|it| it.0));
    let broken = broken.chain(OF_THE_PAGE.iter().map(|it| it.0));
    assert_eq!(broken.collect::<BTreeSet<_>>(), Rule::ALL.iter().copied().collect());
}

fn holds<T>(breaches: &[Breach<T>], judge: impl Fn(&T) -> Vec<Broken>) {
    for (rule, good, breach) in breaches {
        let mut outcome = good();
        let before = judge(&outcome);
        assert!(before.is_empty(), "before {rule:?} is broken: {before:?}");
        breach(&mut outcome);
        let named: BTreeSet<_> = judge(&outcome).iter().map(|broken| broken.rule).collect();
        assert_eq!(named, BTreeSet::from([*rule]));
    }
}

/// One good outcome of each operation, and of its failure.
#[test]
fn what_is_right_breaks_no_rule() {
    for broker in BROKERS {
        for operation in broker.operations {
            let mut outcomes = vec![call(broker, operation.name)];
            if operation.kind != "create" {
                outcomes.push(failure(broker, operation.name));
            }
            for outcome in outcomes {
                let mut rules = Rules::new(broker, outcome.scenario);
                rules.apply(&outcome.seen, false);
                assert!(rules.broken.is_empty(), "{}: {:?}", operation.name, rules.broken);
            }
        }
        let All { broker, seen } = all(broker);
        let broken = complete::broken(&broker, &seen);
        assert!(broken.is_empty(), "{broken:?}");
    }
}

/// A batch that is settled together links its one span, once for each of its messages.
#[test]
fn links_to_the_parent_may_be_several() {
    let mut outcome = call(&RABBITMQ, "ack");
    outcome.span().parent = id(SENT);
    for _ in 0..3 {
        outcome.span().linking(SENT);
    }
    outcome.span().start().links = 3;
    let mut rules = Rules::new(&RABBITMQ, outcome.scenario);
    rules.apply(&outcome.seen, false);
    assert!(rules.broken.is_empty(), "{:?}", rules.broken);
}

/// Of a batch, what differs is on the links.
#[test]
fn each_link_may_have_what_a_span_always_has() {
    let mut outcome = linked();
    outcome.span().attributes.drop("messaging.kafka.offset");
    outcome.link().attributes.put("messaging.kafka.offset", Value::Int(17));
    assert_eq!(broken(&outcome), []);
    outcome.link().attributes.drop("messaging.kafka.offset");
    assert_eq!(broken(&outcome), [Rule::KnownAtCall]);
}

/// What several destinations are called is on the span, and the name of each on its link.
#[test]
fn links_may_name_other_destinations_than_their_span() {
    let mut outcome = linked();
    outcome.link().attributes.put("messaging.destination.name", "another");
    assert_eq!(broken(&outcome), []);
    let same = outcome.span().attributes.get("messaging.destination.name").expect("a name").clone();
    outcome.link().attributes.put("messaging.destination.name", same);
    assert_eq!(broken(&outcome), [Rule::LinkAttributes]);
}

/// The rules that one of Kafka's breaks.
fn broken(outcome: &Outcome) -> Vec<Rule> {
    let mut rules = Rules::new(&KAFKA, outcome.scenario);
    rules.apply(&outcome.seen, false);
    rules.broken.iter().map(|broken| broken.rule).collect()
}

/// Spans that are only linked.
const SENT: u8 = 7;
const SENT_TOO: u8 = 8;

const FAILED: &str = "failed";
const SAYS: &str = "it failed";

fn operation(broker: &Broker, name: &str) -> &'static Operation {
    broker.operations.iter().find(|it| it.name == name).expect("it is listed")
}

/// One span of an operation that went well, with what it always has.
fn call(broker: &'static Broker, name: &str) -> Outcome {
    let operation = operation(broker, name);
    let keys = words(operation.always).chain(words(operation.answered));
    let seen = Seen { spans: vec![span(broker, operation, keys)], ..Seen::default() };
    // Metrics have outcomes of their own.
    let scenario: &'static str = format!("{}/without_metrics", broker.name).leak();
    Outcome { broker, scenario, seen }
}

/// One of an operation that failed, and its event.
fn failure(broker: &'static Broker, name: &str) -> Outcome {
    let operation = operation(broker, name);
    let mut outcome = call(broker, name);
    outcome.seen.spans = vec![span(broker, operation, words(operation.always))];
    outcome.span().status = StatusCode::Error;
    outcome.span().says = SAYS.to_owned();
    outcome.span().attributes.put("error.type", FAILED);
    let event = event(broker, operation);
    outcome.seen.events.push(event);
    outcome
}

/// A Kafka message that is processed as the child of its send, which is linked, beside another send.
fn linked() -> Outcome {
    let mut outcome = call(&KAFKA, "process");
    outcome.span().parent = id(SENT);
    outcome.span().linking(SENT);
    outcome.span().start().links = 1;
    for number in [SENT, SENT_TOO] {
        let mut sent = call(&KAFKA, "send").seen.spans;
        sent[0].id = id(number);
        outcome.seen.spans.append(&mut sent);
    }
    outcome
}

/// A Kafka message that waited for its handler.
fn waiting(scenario: &'static str) -> Outcome {
    let mut outcome = Outcome { scenario, ..linked() };
    outcome.span().known(WAIT_TIME, Value::Double(0.25));
    outcome
}

/// Two that waited, and are handled together.
fn linked_waiting(scenario: &'static str) -> Outcome {
    let mut outcome = Outcome { scenario, ..linked() };
    outcome.span().known("messaging.batch.message_count", Value::Int(2));
    outcome.span().linking(SENT_TOO);
    outcome.span().start().links = 2;
    outcome.span().parent.clear();
    for link in &mut outcome.span().links {
        link.attributes.put(WAIT_TIME, Value::Double(0.25));
    }
    outcome
}

/// One that waited, and is measured.
fn waited(scenario: &'static str) -> Outcome {
    let mut outcome = Outcome { scenario, ..call(&KAFKA, "process") };
    outcome.span().known(WAIT_TIME, Value::Double(0.25));
    outcome.seen.points = [WAIT_TIME, "messaging.process.duration", "messaging.client.consumed.messages"]
        .into_iter()
        .flat_map(|metric| called(&KAFKA, metric).seen.points)
        .collect();
    outcome.point().sum = 0.25;
    outcome
}

/// One series of a metric, with what it always has.
fn measured(broker: &'static Broker, metric: &str) -> Outcome {
    let measure = broker.measures.iter().find(|it| it.metric == metric).expect("it is listed");
    let operation = words(measure.operations).next().expect("it is of one");
    let seen = Seen { points: vec![point(broker, measure, operation, words(measure.always))], ..Seen::default() };
    Outcome { broker, scenario: "measured/without_metrics", seen }
}

/// The same, with the destination's name.
fn called(broker: &'static Broker, metric: &str) -> Outcome {
    let mut outcome = measured(broker, metric);
    outcome.point().attributes.put("messaging.destination.name", value("messaging.destination.name"));
    outcome
}

/// A Kafka message that is sent, and measured.
fn sent() -> Outcome {
    let mut outcome = call(&KAFKA, "send");
    let duration = called(&KAFKA, "messaging.client.operation.duration").seen.points;
    let sent = called(&KAFKA, "messaging.client.sent.messages").seen.points;
    outcome.seen.points = duration.into_iter().chain(sent).collect();
    Outcome { scenario: "kafka/derived", ..outcome }
}

/// All that is listed for a broker.
fn all(broker: &Broker) -> All {
    let mut whole = Seen::default();
    for operation in broker.operations {
        let mut span = span(broker, operation, operation.keys());
        if words(operation.late).any(|late| late == "links") {
            span.linking(SENT);
        }
        span.id = operation.name.as_bytes().to_owned();
        let recorded = Event { span: span.id.clone(), ..event(broker, operation) };
        whole.events.extend((operation.kind != "create").then_some(recorded));
        whole.spans.push(span);
    }
    for measure in broker.measures {
        let points = words(measure.operations).map(|operation| point(broker, measure, operation, measure.keys()));
        whole.points.extend(points);
    }
    let mut seen = BTreeMap::from([(format!("{}/all", broker.name), whole)]);
    for lacking in broker.lacking {
        let operations = words(lacking.operations).map(|name| operation(broker, name));
        let spans = operations.map(|it| span(broker, it, words(it.always).filter(|key| *key != lacking.attribute)));
        seen.entry(format!("{}/{}", broker.name, lacking.scenario)).or_default().spans.extend(spans);
    }
    All { broker: *broker, seen }
}

fn span<'a>(broker: &Broker, operation: &Operation, keys: impl Iterator<Item = &'a str>) -> Span {
    let mut attributes = Attributes(Vec::new());
    keys.for_each(|key| attributes.put(key, value(key)));
    attributes.put("messaging.system", broker.name);
    attributes.put("messaging.operation.name", operation.name);
    attributes.put("messaging.operation.type", operation.kind);
    let late = |key: &str| words(operation.late).any(|late| late == key);
    let early = attributes.0.iter().map(|(key, _)| key.clone()).filter(|key| !late(key)).collect();
    let server = attributes.get("server.address").map(|host| format!("{host}:{}", attributes.text("server.port")));
    let destination = attributes.get("messaging.destination.name").map(Value::to_string).or(server);
    Span {
        scope: scope(broker),
        trace: id(1),
        id: id(1),
        parent: Vec::new(),
        name: destination.map_or_else(|| operation.name.to_owned(), |it| format!("{} {it}", operation.name)),
        kind: match operation.kind {
            "create" | "send" => SpanKind::Producer,
            "process" => SpanKind::Consumer,
            _ => SpanKind::Client,
        },
        status: StatusCode::Unset,
        says: String::new(),
        attributes,
        links: Vec::new(),
        started: 0,
        took: 0.0,
        at_start: Some(AtStart { links: 0, attributes: early }),
    }
}

fn point<'a>(broker: &Broker, measure: &Measure, operation: &str, keys: impl Iterator<Item = &'a str>) -> Point {
    let metric = Convention::get().metric(measure.metric).expect("a registry has it");
    let mut attributes = Attributes(Vec::new());
    keys.for_each(|key| attributes.put(key, value(key)));
    attributes.put("messaging.system", broker.name);
    attributes.put("messaging.operation.name", operation);
    if attributes.has("messaging.operation.type") {
        let kind = broker.operations.iter().find(|it| it.name == operation).expect("it is listed").kind;
        attributes.put("messaging.operation.type", kind);
    }
    Point {
        scope: scope(broker),
        metric: measure.metric.to_owned(),
        unit: metric.unit.clone(),
        histogram: metric.histogram,
        boundaries: metric.boundaries.clone(),
        attributes,
        count: 1,
        sum: 0.0,
    }
}

fn event(broker: &Broker, operation: &Operation) -> Event {
    let name = format!("messaging.{}.exception", operation.kind);
    let severity = Convention::get().event(&name).expect("each type has one").severity;
    let attributes = [("exception.type", FAILED), ("exception.message", SAYS)];
    let attributes = attributes.map(|(key, value)| (key.to_owned(), value.into()));
    Event { scope: scope(broker), name, severity, attributes: Attributes(attributes.into()), trace: id(1), span: id(1) }
}

fn scope(broker: &Broker) -> Scope {
    Scope { name: broker.scope.to_owned(), version: VERSION.to_owned(), schema_url: SCHEMA_URL.to_owned() }
}

fn id(number: u8) -> Vec<u8> {
    vec![number; 8]
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

/// Some value that fits.
fn value(key: &str) -> Value {
    match &Convention::get().attribute(key).expect("a registry has it").value {
        Type::String => "orders".into(),
        Type::Int => Value::Int(1),
        Type::Double => Value::Double(0.25),
        Type::Boolean => Value::Bool(true),
        Type::Lists => Value::Strings(vec!["blue".to_owned()]),
        Type::OneOf(values) => values[0].as_str().into(),
    }
}

impl Attributes {
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.drop(key);
        self.0.push((key.to_owned(), value.into()));
    }

    fn drop(&mut self, key: &str) {
        self.0.retain(|(known, _)| known != key);
    }
}

impl Span {
    fn start(&mut self) -> &mut AtStart {
        self.at_start.as_mut().expect("it was seen")
    }

    /// From the start on.
    fn known(&mut self, key: &str, value: Value) {
        self.attributes.put(key, value);
        self.start().attributes.insert(key.to_owned());
    }

    fn linking(&mut self, number: u8) {
        self.links.push(Link { span: id(number), attributes: Attributes(Vec::new()) });
    }
}

impl Outcome {
    /// With the spans of another.
    fn beside(mut self, other: Self) -> Self {
        self.seen.spans = other.seen.spans;
        self
    }

    fn span(&mut self) -> &mut Span {
        &mut self.seen.spans[0]
    }

    fn link(&mut self) -> &mut Link {
        &mut self.span().links[0]
    }

    fn point(&mut self) -> &mut Point {
        &mut self.seen.points[0]
    }

    fn event(&mut self) -> &mut Event {
        &mut self.seen.events[0]
    }
}

impl All {
    fn spans(&mut self, operation: &str, change: fn(&mut Span)) {
        let spans = self.seen.values_mut().flat_map(|seen| &mut seen.spans);
        spans.filter(|span| span.operation() == operation).for_each(change);
    }

    fn operation(&mut self, name: &str, change: fn(&mut Operation)) {
        let mut operations = self.broker.operations.to_vec();
        operations.iter_mut().filter(|operation| operation.name == name).for_each(change);
        self.broker.operations = operations.leak();
    }

    fn points(&mut self, metric: &str, change: fn(&mut Point)) {
        let points = self.seen.values_mut().flat_map(|seen| &mut seen.points);
        points.filter(|point| point.metric == metric).for_each(change);
    }

    fn leaving_out(&mut self, more: LeftOut) {
        self.broker.left_out = self.broker.left_out.iter().copied().chain([more]).collect::<Vec<_>>().leak();
    }
}

#[test]
fn lines_are_as_the_legend_says() {
    let mut outcome = linked();
    outcome.span().status = StatusCode::Error;
    outcome.span().attributes.put("error.type", "panic");
    outcome.span().attributes.put("otel_messaging.delivery.attempt", Value::Int(2));
    outcome.link().attributes.put("messaging.kafka.offset", Value::Int(17));
    assert_eq!(
        line::spans(&outcome.seen, KAFKA.scope),
        [
            "CONSUMER process orders < send orders ~ send orders {kafka.offset} ! panic [delivery.attempt=2]",
            "2 x PRODUCER send orders"
        ]
    );
}
