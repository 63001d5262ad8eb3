//! All scenarios into a receiver of our own, and all rules on what came.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    process,
};

use conventions::{Convention, Level};
use futures::future::join_all;
use otlp_receiver::Receiver;
use tokio::process::Command;

use crate::{
    broker::{BROKERS, Broker},
    line,
    page::{self, DEVIATIONS},
    rules::{Broken, Rules},
    scenario::words,
    seen::{self, Seen},
    stage::STARTS,
};

/// How many places are shown where a rule is broken.
const SHOWN: usize = 12;

/// Whether no rule is broken.
pub(crate) async fn all() -> bool {
    let receiver = Receiver::start().await.expect("a port of this machine");
    let starts = env::temp_dir().join(format!("conformance-{}", process::id()));
    let performed = join_all(BROKERS.map(|broker| perform(broker, &receiver.endpoint, &starts))).await;
    let noted = fs::read_to_string(&starts).unwrap_or_default();
    let _ = fs::remove_file(&starts);
    let seen = seen::sort(&receiver.received().borrow(), &noted);

    let mut broken: Vec<_> = BROKERS.iter().flat_map(|broker| hold(broker, &seen)).collect();
    broken.extend(page::outdated());
    broken.extend(BROKERS.iter().flat_map(|broker| switches(broker)));
    print!("{}", table(&seen, &mut broken));
    broken.sort_by_key(|broken| broken.rule);
    let rules = broken.chunk_by(|one, other| one.rule == other.rule);
    println!();
    for of_rule in rules.clone() {
        println!("BROKEN  {}", of_rule[0].rule);
        for Broken { scenario, what, .. } in of_rule.iter().take(SHOWN) {
            println!("        {scenario}: {what}");
        }
        if of_rule.len() > SHOWN {
            println!("        and {} more", of_rule.len() - SHOWN);
        }
    }
    println!("{} scenarios, {} broken rules", seen.len(), rules.count());
    broken.is_empty() && performed.into_iter().all(|performed| performed)
}

/// The same command that anybody would run.
async fn perform(broker: &Broker, endpoint: &str, starts: &Path) -> bool {
    let own = env::current_exe().expect("this program has a path");
    let ran = Command::new(own)
        .arg(broker.name)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env(STARTS, starts)
        .kill_on_drop(true)
        .status()
        .await;
    ran.is_ok_and(|status| status.success())
}

fn hold(broker: &Broker, seen: &BTreeMap<String, Seen>) -> Vec<Broken> {
    let mut broken = Vec::new();
    let nothing = Seen::default();
    for scenario in broker.scenarios {
        let name = format!("{}/{}", broker.name, scenario.name);
        let seen = seen.get(&name).unwrap_or(&nothing);
        let mut rules = Rules::new(broker, &name);
        let (metrics, spans): (Vec<&str>, Vec<&str>) = scenario.lines().partition(|line| line.starts_with("metric "));
        rules.apply(seen, metrics.is_empty());
        compare(&mut rules, &spans, &line::spans(seen, broker.scope));
        if !metrics.is_empty() {
            compare(&mut rules, &metrics, &line::metrics(seen));
        }
        broken.append(&mut rules.broken);
    }
    let mut rules = Rules::new(broker, broker.name);
    complete(&mut rules, broker, seen);
    broken.append(&mut rules.broken);
    broken
}

/// Parents, links and outcomes are those that the scenario lists.
fn compare(rules: &mut Rules<'_>, listed: &[&str], seen: &[String]) {
    let listed: BTreeSet<_> = listed.iter().map(|&line| line.to_owned()).collect();
    let seen: BTreeSet<_> = seen
        .iter()
        .map(|line| {
            let uncounted = line::uncounted(line);
            if listed.contains(&uncounted) { uncounted } else { line.clone() }
        })
        .collect();
    for line in listed.difference(&seen) {
        rules.breaks("a scenario shows what it lists", format!("missing: {line}"));
    }
    for line in seen.difference(&listed) {
        rules.breaks("a scenario shows nothing but what it lists", format!("seen: {line}"));
    }
}

/// A switch is shown in both positions, or in none, where the broker has nothing to switch.
fn switches(broker: &Broker) -> Vec<Broken> {
    let has = |name: &str| broker.scenarios.iter().any(|scenario| scenario.name == name);
    let half = DEVIATIONS.iter().filter(|deviation| deviation.shown.map(has).iter().any(|has| !has));
    let half = half.filter(|deviation| broker.name == "kafka" || has(deviation.shown[0]) || has(deviation.shown[1]));
    half.map(|deviation| Broken {
        scenario: broker.name.to_owned(),
        rule: "each deviation is shown in both positions of its switch",
        what: deviation.shown.join(", "),
    })
    .collect()
}

/// What is listed for an operation is seen somewhere, and what the convention has beyond it is left out for a reason.
fn complete(rules: &mut Rules<'_>, broker: &Broker, seen: &BTreeMap<String, Seen>) {
    let own = |name: &String| name.split('/').next() == Some(broker.name);
    let spans: Vec<_> = seen.iter().filter(|(name, _)| own(name)).flat_map(|(_, seen)| &seen.spans).collect();
    for operation in broker.operations {
        let of: Vec<_> = spans.iter().filter(|span| span.operation() == operation.name).collect();
        for key in words(operation.sometimes).chain(words(operation.asked)) {
            let found = of.iter().any(|span| span.attributes.0.iter().any(|(it, _)| it.starts_with(key)));
            if !found {
                rules.breaks("what is listed for an operation is seen", format!("{}: {key}", operation.name));
            }
        }
        for key in words(operation.late) {
            let came_late = |at_start: &std::collections::HashSet<String>| !at_start.contains(key);
            let found = of.iter().any(|span| span.attributes.has(key) && span.at_start.as_ref().is_some_and(came_late));
            if !found {
                rules.breaks("what is listed as late comes late", format!("{}: {key}", operation.name));
            }
        }
        for span in operation.spans() {
            for (key, level) in Convention::get().span(broker.name, span) {
                let left_out = broker.left_out.iter().chain(broker.elsewhere).any(|(name, _)| *name == key);
                let wanted = level < Level::OptIn && key != "error.type";
                if wanted && !operation.lists(key) && !left_out {
                    let what = format!("{} ({span}): {key} is {level}", operation.name);
                    rules.breaks("what the convention wants is there, or left out for a reason", what);
                }
            }
        }
    }
}

/// Broker by operation: how many spans, series and events; an empty cell is a broken rule.
fn table(seen: &BTreeMap<String, Seen>, broken: &mut Vec<Broken>) -> String {
    let mut text = format!("{:<10} {:<10} {:>6} {:>8} {:>7}\n", "broker", "operation", "spans", "metrics", "events");
    for broker in BROKERS {
        for operation in broker.operations {
            let own = seen.iter().filter(|(name, _)| name.split('/').next() == Some(broker.name)).map(|(_, seen)| seen);
            let (mut spans, mut events) = (0, 0);
            let mut series = BTreeSet::new();
            for seen in own {
                let of = seen.spans.iter().filter(|span| span.operation() == operation.name);
                for span in of {
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
                    broken.push(Broken { scenario: broker.name.to_owned(), rule: "no cell is empty", what });
                }
                if applies { count.to_string() } else { "-".to_owned() }
            });
            let [spans, metrics, events] = cells;
            text += &format!("{:<10} {:<10} {spans:>6} {metrics:>8} {events:>7}\n", broker.name, operation.name);
        }
    }
    text
}
