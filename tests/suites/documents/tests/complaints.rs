//! Each test that `docs/complaints.md` names exists in the package that it names.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// The folder of each package that the page names.
fn folder(package: &str) -> &'static str {
    match package {
        "otel-messaging" => "crates/otel-messaging/tests",
        "kafka-tests" => "tests/suites/kafka/tests",
        "rabbitmq-tests" => "tests/suites/rabbitmq/tests",
        "nats-tests" => "tests/suites/nats/tests",
        "conventions" => "tests/libraries/conventions",
        _ => panic!("no folder is known for {package}"),
    }
}

fn code_of(folder: &Path) -> String {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .map(|path| match path.extension() {
            Some(extension) if extension == "rs" => fs::read_to_string(&path).expect("a source"),
            _ if path.is_dir() => code_of(&path),
            _ => String::new(),
        })
        .collect()
}

/// The packages and tests of a row: tests follow the packages that have them.
fn named(row: &str) -> Vec<(String, String)> {
    let cell = row.split('|').nth(3).unwrap_or_default();
    let mut named = Vec::new();
    for part in cell.split(';') {
        let names: Vec<_> = part.split('`').skip(1).step_by(2).filter(|name| !name.is_empty()).collect();
        let (packages, tests): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| !name.contains('_') && *name != "stats");
        let pairs =
            packages.iter().flat_map(|package| tests.iter().map(move |test| (package.to_string(), test.to_string())));
        named.extend(pairs);
    }
    named
}

#[test]
fn each_test_that_holds_a_complaint_exists() {
    let page = fs::read_to_string(root().join("docs/complaints.md")).expect("the page");
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert_eq!(rows.len(), 28);
    let without: Vec<_> = rows.iter().filter(|row| named(row).is_empty()).collect();
    assert_eq!(without.len(), 1, "rows without a test: {without:?}");
    for (package, test) in rows.iter().flat_map(|row| named(row)) {
        let mut code = code_of(&root().join(folder(&package)));
        if code.contains("every_broker::tests!") {
            code += &code_of(&root().join("tests/libraries/every-broker/src"));
        }
        let is_there = ["(", "<B: Broker>("].iter().any(|arguments| code.contains(&format!("fn {test}{arguments}")));
        assert!(is_there, "{package} has no test {test}");
    }
}
