//! What has to hold of a broker over all its scenarios: its lists have exactly the attributes that are seen.

use std::collections::{BTreeMap, BTreeSet};

use conventions::{Convention, Level};

use crate::{
    broker::Broker,
    line,
    page::DEVIATIONS,
    rule::{Broken, Rule},
    rules::Rules,
    scenario::{Measure, Operation, words},
    seen::{Point, Seen, Span, WAIT_TIME},
};

type All = BTreeMap<String, Seen>;

pub(crate) fn broken(broker: &Broker, seen: &All) -> Vec<Broken> {
    let mut rules = Rules::new(broker, broker.name);
    for operation in broker.operations {
        let spans: Vec<_> = spans(broker, seen).filter(|span| span.operation() == operation.name).collect();
        is_seen(&mut rules, operation, &spans);
        comes_late(&mut rules, operation, &spans);
        for span in operation.spans() {
            wanted(&mut rules, broker, operation.name, &Convention::get().span(broker.name, span), &|key| {
                operation.lists(key)
            });
            sampling_relevant(&mut rules, operation, &Convention::get().at_start(broker.name, span));
        }
        conditions(&mut rules, broker, operation);
    }
    for measure in broker.measures {
        let points: Vec<_> = of(broker, seen).flat_map(|seen| &seen.points).collect();
        is_measured(&mut rules, measure, &points);
        let metric = Convention::get().metric(measure.metric).expect("the lists are of metrics that there are");
        let levels = metric.attributes.iter().map(|(key, level)| (key.as_str(), *level)).collect();
        wanted(&mut rules, broker, measure.metric, &levels, &|key| measure.lists(key));
    }
    left_out(&mut rules, broker);
    lacking(&mut rules, broker, seen);
    switches(&mut rules, broker);
    rules.broken
}

fn of<'a>(broker: &Broker, seen: &'a All) -> impl Iterator<Item = &'a Seen> {
    let name = broker.name;
    seen.iter().filter(move |(scenario, _)| scenario.split('/').next() == Some(name)).map(|(_, seen)| seen)
}

fn spans<'a>(broker: &Broker, seen: &'a All) -> impl Iterator<Item = &'a Span> {
    of(broker, seen).flat_map(|seen| &seen.spans)
}

fn is_seen(rules: &mut Rules<'_>, operation: &Operation, spans: &[&Span]) {
    for key in words(operation.sometimes).chain(words(operation.asked)) {
        let found = spans.iter().any(|span| span.attributes.0.iter().any(|(it, _)| it.starts_with(key)));
        rules.holds(found, Rule::Seen, || format!("{}: {key}", operation.name));
    }
}

fn comes_late(rules: &mut Rules<'_>, operation: &Operation, spans: &[&Span]) {
    for key in words(operation.late) {
        let found = spans.iter().any(|span| {
            span.at_start.as_ref().is_some_and(|at_start| match key {
                "links" => span.links.len() > at_start.links,
                _ => span.attributes.has(key) && !at_start.attributes.contains(key),
            })
        });
        rules.holds(found, Rule::SeenLate, || format!("{}: {key}", operation.name));
    }
}

/// `sampling_relevant` is what samplers can rely on.
fn sampling_relevant(rules: &mut Rules<'_>, operation: &Operation, at_start: &BTreeMap<&str, bool>) {
    for (key, at_start) in at_start.iter().filter(|(key, _)| operation.lists(key)) {
        let late = words(operation.late).any(|it| it == *key);
        rules.holds(*at_start != late, Rule::SamplingRelevant, || format!("{}: {key}", operation.name));
    }
}

fn is_measured(rules: &mut Rules<'_>, measure: &Measure, points: &[&Point]) {
    let points: Vec<_> = points.iter().filter(|point| point.metric == measure.metric).collect();
    for key in measure.keys() {
        let found = points.iter().any(|point| point.attributes.has(key));
        rules.holds(found, Rule::MetricSeen, || format!("{}: {key}", measure.metric));
    }
    for operation in words(measure.operations) {
        let found = points.iter().any(|point| point.attributes.text("messaging.operation.name") == operation);
        rules.holds(found, Rule::MetricSeen, || format!("{} of {operation}", measure.metric));
    }
}

/// Nothing that a registry has is silently missing.
fn wanted(
    rules: &mut Rules<'_>,
    broker: &Broker,
    of: &str,
    levels: &BTreeMap<&str, Level>,
    lists: &dyn Fn(&str) -> bool,
) {
    for (key, level) in levels {
        let excused = broker.left_out.iter().chain(broker.elsewhere).any(|it| it.excuses(key, of));
        // Spans have it when they fail, which is a rule of its own.
        let of_failures = *key == "error.type" && !of.contains('.');
        rules.holds(lists(key) || excused || of_failures, Rule::Wanted, || format!("{of}: {key} is {level}"));
    }
}

/// A condition that no check knows is no excuse: an attribute that is there at times is on the line of its span, or by what else is
/// there, or has a rule of its own.
fn conditions(rules: &mut Rules<'_>, broker: &Broker, operation: &Operation) {
    for span in operation.spans() {
        let levels = Convention::get().span(broker.name, span);
        for key in words(operation.sometimes).filter(|key| levels.get(key) == Some(&Level::ConditionallyRequired)) {
            let checked = line::shows(broker.name, key)
                || key == WAIT_TIME
                || operation.together.iter().any(|group| words(group).any(|it| it == key));
            rules.holds(checked, Rule::Conditions, || format!("{}: {key}", operation.name));
        }
    }
}

/// No reason outlives what it is the reason for.
fn left_out(rules: &mut Rules<'_>, broker: &Broker) {
    let operations = broker.operations.iter().map(|operation| {
        let rows = operation.spans().iter().flat_map(|span| Convention::get().span(broker.name, span));
        let rows: BTreeSet<_> = rows.map(|(key, _)| key).collect();
        (operation.name, rows, operation.keys().collect::<BTreeSet<_>>())
    });
    let measures = broker.measures.iter().map(|measure| {
        let rows = Convention::get().metric(measure.metric).into_iter().flat_map(|metric| metric.attributes.keys());
        (measure.metric, rows.map(String::as_str).collect(), measure.keys().collect())
    });
    let all: Vec<_> = operations.chain(measures).collect();
    for it in broker.left_out.iter().chain(broker.elsewhere) {
        let excused: Vec<_> = all.iter().filter(|(of, ..)| it.excuses(it.attribute, of)).collect();
        let known = excused.iter().any(|(_, rows, _)| rows.contains(it.attribute))
            && (it.of == "*" || excused.iter().all(|(_, rows, _)| rows.contains(it.attribute)))
            && (it.of == "*" || excused.len() == words(it.of).count());
        let listed = excused.iter().any(|(_, _, lists)| lists.contains(it.attribute));
        rules.holds(known && !listed, Rule::LeftOut, || format!("{} on {}", it.attribute, it.of));
    }
}

fn lacking(rules: &mut Rules<'_>, broker: &Broker, seen: &All) {
    for it in broker.lacking {
        let scenario = seen.get(&format!("{}/{}", broker.name, it.scenario));
        let spans: Vec<_> = scenario.into_iter().flat_map(|seen| &seen.spans).collect();
        for operation in words(it.operations) {
            let lacks = spans.iter().any(|span| span.operation() == operation && !span.attributes.has(it.attribute));
            rules.holds(lacks, Rule::Lacking, || format!("{} of {operation}: {}", it.scenario, it.attribute));
        }
    }
}

/// A switch is shown in both positions, or in none, where the broker has nothing to switch.
fn switches(rules: &mut Rules<'_>, broker: &Broker) {
    let has = |name: &str| broker.scenarios().iter().any(|scenario| scenario.name == name);
    for deviation in &DEVIATIONS {
        let shown = deviation.shown.map(has);
        let whole = shown == [true; 2] || shown == [false; 2] && broker.name != "kafka";
        rules.holds(whole, Rule::Switches, || deviation.shown.join(", "));
    }
}

/// Broker by operation: how many spans, series and events; an empty cell is a broken rule.
pub(crate) fn table(brokers: &[&Broker], seen: &All) -> (String, Vec<Broken>) {
    let mut text = format!("{:<10} {:<10} {:>6} {:>8} {:>7}\n", "broker", "operation", "spans", "metrics", "events");
    let mut broken = Vec::new();
    for broker in brokers {
        for operation in broker.operations {
            let (mut spans, mut events) = (0, 0);
            let mut series = BTreeSet::new();
            for seen in of(broker, seen) {
                for span in seen.spans.iter().filter(|span| span.operation() == operation.name) {
                    spans += 1;
                    events += seen.events.iter().filter(|event| event.span == span.id).count();
                }
                let of =
                    seen.points.iter().filter(|it| it.attributes.text("messaging.operation.name") == operation.name);
                series.extend(of.map(|point| point.metric.as_str()));
            }
            // A message that is only made asks nothing of a broker: nothing to measure, nothing that fails.
            let cells = [("spans", spans), ("metrics", series.len()), ("events", events)];
            let cells = cells.map(|(name, count)| {
                let applies = name == "spans" || operation.kind != "create";
                if applies && count == 0 {
                    let what = format!("{}: no {name}", operation.name);
                    broken.push(Broken { scenario: broker.name.to_owned(), rule: Rule::NoEmptyCell, what });
                }
                if applies { count.to_string() } else { "-".to_owned() }
            });
            let [spans, metrics, events] = cells;
            text += &format!("{:<10} {:<10} {spans:>6} {metrics:>8} {events:>7}\n", broker.name, operation.name);
        }
    }
    (text, broken)
}
