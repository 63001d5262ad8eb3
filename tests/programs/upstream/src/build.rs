//! Compiles a generated package.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Stdio,
};

use serde_json::Value;

use crate::{
    Result,
    generated::{Side, Workspace},
    published::{Kind, Published},
};

/// What was compiled.
#[derive(Debug)]
pub(crate) struct Built {
    /// The programs of the test targets.
    pub(crate) tests: BTreeMap<String, PathBuf>,
    pub(crate) examples: BTreeSet<String>,
    /// What was not, in words.
    pub(crate) failures: Vec<String>,
}

/// Compiles tests and examples of one side, or its examples alone.
pub(crate) fn run(workspace: &Workspace<'_>, published: &Published, side: Side, examples_only: bool) -> Result<Built> {
    let client = published.client;
    let package = side.package(client);
    let mut command = workspace.places.cargo();
    command.args(["build", "--package", &package, "--keep-going", "--message-format", "json"]);
    if !client.features.is_empty() {
        command.args(["--features", &client.features.join(",")]);
    }
    // With the SDK it is the same code: the examples have been compiled then.
    let with_examples = side != Side::WithSdk;
    if with_examples {
        command.arg("--examples");
    }
    if !examples_only {
        command.arg("--tests");
    }
    let output = command.stderr(Stdio::inherit()).output()?;

    let log = workspace.places.log(&format!("{package}-build"))?;
    let mut errors = String::new();
    let mut built = Built { tests: BTreeMap::new(), examples: BTreeSet::new(), failures: Vec::new() };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        if message["message"]["level"] == "error" {
            errors.push_str(message["message"]["rendered"].as_str().unwrap_or_default());
        }
        let target = &message["target"];
        let (Some(name), Some(program)) = (target["name"].as_str(), message["executable"].as_str()) else { continue };
        match target["kind"][0].as_str() {
            Some("test") => drop(built.tests.insert(name.to_owned(), program.into())),
            Some("example") => drop(built.examples.insert(name.to_owned())),
            _ => {}
        }
    }
    fs::write(&log, &errors)?;

    for target in &published.targets {
        let (wanted, compiled, kind) = match target.kind {
            Kind::Test => (!examples_only, built.tests.contains_key(&target.name), "test"),
            Kind::Example => (with_examples, built.examples.contains(&target.name), "example"),
        };
        if wanted && !compiled {
            built.failures.push(format!("{kind} {} does not compile; see {}", target.name, log.display()));
        }
    }
    if !output.status.success() && errors.is_empty() {
        return Err(format!("cargo build of {package} failed").into());
    }
    Ok(built)
}
