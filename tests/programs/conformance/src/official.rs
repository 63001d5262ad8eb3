//! Whether the entry for the official runner (`official/`) fits the scenarios that it names.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;

use crate::broker::{BROKERS, Broker};

#[derive(Deserialize)]
struct Entry {
    scenarios: BTreeMap<String, Set>,
}

/// Scenarios that the runner has performed together.
#[derive(Deserialize)]
struct Set {
    run: String,
    spans: Vec<Expectation>,
}

#[derive(Deserialize)]
struct Expectation {
    r#match: Match,
    expect: Expected,
}

#[derive(Deserialize)]
struct Match {
    kind: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Expected {
    count: usize,
}

/// How many spans there are of each kind and operation. The application's own have no operation.
type Counts = BTreeMap<(String, String), usize>;

fn expected(set: &Set) -> Counts {
    let ours = set.spans.iter().filter(|it| it.r#match.kind != "internal");
    ours.map(|Expectation { r#match: Match { kind, attributes }, expect }| {
        ((kind.clone(), attributes["messaging.operation.name"].clone()), expect.count)
    })
    .collect()
}

/// What the scenarios of the set list.
fn listed(broker: &Broker, set: &Set) -> Counts {
    let command = format!("cargo run -q -p conformance -- {} ", broker.name);
    let names = set.run.strip_prefix(&command).unwrap_or_else(|| panic!("{command}is the beginning of {}", set.run));
    let mut counts = Counts::new();
    for name in names.split(' ') {
        let scenario = broker.scenarios().into_iter().find(|scenario| scenario.name == name);
        let scenario = scenario.unwrap_or_else(|| panic!("{} has no scenario {name}", broker.name));
        for line in scenario.lines().filter(|line| !line.starts_with("metric ")) {
            let (count, span) = match line.split_once(" x ") {
                Some((count, span)) => (count.parse().expect("a number that is known"), span),
                None => (1, line),
            };
            let mut words = span.split(' ').map(str::to_owned);
            let key = words.next().zip(words.next()).map(|(kind, operation)| (kind.to_lowercase(), operation));
            *counts.entry(key.expect("a kind and an operation")).or_default() += count;
        }
    }
    counts
}

#[test]
fn each_set_expects_what_its_scenarios_list() {
    for broker in BROKERS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("official").join(broker.name).join("conformance.yaml");
        let entry: Entry = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let kinds: Vec<_> = entry.scenarios.keys().map(String::as_str).collect();
        assert_eq!(kinds, ["create", "process", "receive", "send", "settle"]);
        for (name, set) in &entry.scenarios {
            assert_eq!(expected(set), listed(broker, set), "{} {name}", broker.name);
        }
    }
}
