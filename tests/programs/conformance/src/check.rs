//! All scenarios into a receiver of our own, and all rules on what came.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    process,
};

use futures::future::join_all;
use otlp_receiver::Receiver;
use tokio::process::Command;

use crate::{
    broker::{BROKERS, Broker},
    complete, export, line, page,
    rule::{Broken, Rule},
    rules::Rules,
    seen::{self, Seen},
    stage::{GRPC, HTTP, PROTOCOL, STARTS},
};

/// How many places are shown where a rule is broken.
const SHOWN: usize = 12;

/// Whether no rule is broken.
pub(crate) async fn all() -> bool {
    let (seen, performed) = perform_all().await;
    let mut broken: Vec<_> = BROKERS.iter().flat_map(|broker| hold(broker, &seen)).collect();
    broken.extend(page::outdated(&page::current()));
    broken.extend(BROKERS.iter().flat_map(|broker| export::changed(broker, &seen)));
    let (table, empty) = complete::table(&BROKERS, &seen);
    print!("{table}");
    broken.extend(empty);
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
    broken.is_empty() && performed
}

/// What all scenarios of all brokers export, by scenario, and whether all could be performed.
pub(crate) async fn perform_all() -> (BTreeMap<String, Seen>, bool) {
    let receiver = Receiver::start().await.expect("a port of this machine");
    let starts = env::temp_dir().join(format!("conformance-{}", process::id()));
    let performed = join_all(BROKERS.map(|broker| {
        // Of three brokers, so that each protocol is spoken.
        let protocol = if broker.name == "kafka" { HTTP } else { GRPC };
        perform(broker, &receiver.endpoint, protocol, Some(&starts))
    }))
    .await;
    let noted = fs::read_to_string(&starts).unwrap_or_default();
    let _ = fs::remove_file(&starts);
    let seen = seen::sort(&receiver.received().borrow(), &noted);
    (seen, performed.into_iter().all(|performed| performed))
}

/// Runs the public command. `starts` is the file for the attributes and links that spans have at their start.
pub(crate) async fn perform(broker: &Broker, endpoint: &str, protocol: &str, starts: Option<&Path>) -> bool {
    let own = env::current_exe().expect("this program has a path");
    let mut command = Command::new(own);
    command.arg(broker.name).env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env(PROTOCOL, protocol);
    if let Some(starts) = starts {
        command.env(STARTS, starts);
    }
    command.kill_on_drop(true).status().await.is_ok_and(|status| status.success())
}

fn hold(broker: &Broker, seen: &BTreeMap<String, Seen>) -> Vec<Broken> {
    let mut broken = Vec::new();
    let nothing = Seen::default();
    for scenario in broker.scenarios() {
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
    broken.extend(complete::broken(broker, seen));
    broken
}

/// Parents, links and outcomes are those that the scenario lists.
pub(crate) fn compare(rules: &mut Rules<'_>, listed: &[&str], seen: &[String]) {
    let listed: BTreeSet<_> = listed.iter().map(|&line| line.to_owned()).collect();
    let seen: BTreeSet<_> = seen
        .iter()
        .map(|line| {
            let uncounted = line::uncounted(line);
            if listed.contains(&uncounted) { uncounted } else { line.clone() }
        })
        .collect();
    for line in listed.difference(&seen) {
        rules.breaks(Rule::Shows, format!("missing: {line}"));
    }
    for line in seen.difference(&listed) {
        rules.breaks(Rule::ShowsOnly, format!("seen: {line}"));
    }
}
