//! Is every item of a client's public API in its adapter, and the same?
//!
//! Client and adapter are documented by rustdoc as JSON, in one build. Then every public path of the client is looked up in
//! the adapter. Where it leads to the same definition, nothing that this definition says may name a type that has one of ours
//! in its place. Where it leads to a definition of ours, that has to have the same methods, fields, variants, trait items and
//! implementations, with the same signatures once ours are called by the client's names. Features are compared in the
//! manifests.
//!
//! What is found is held against `expected.txt`, and which paths lead to ours against `ours.txt`, both in both directions.
//!
//! Not compared: lifetimes, but for `&` and `&mut`; macros' bodies; what a closure or a future captures.

mod compare;
mod document;
mod expected;
mod features;
mod render;
mod rustdoc;
mod surface;

use std::fmt::Write as _;

/// Of anything here; errors are for people.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Pair {
    client: &'static str,
    adapter: &'static str,
    /// That add something to the API, and are off by default. Those that want a library of the system are left out.
    features: &'static [&'static str],
}

const PAIRS: [Pair; 3] = [
    Pair { client: "rdkafka", adapter: "otel-rdkafka", features: &["naive-runtime", "tracing"] },
    Pair { client: "lapin", adapter: "otel-lapin", features: &[] },
    Pair { client: "async-nats", adapter: "otel-async-nats", features: &["experimental"] },
];

/// What the comparison came to.
#[derive(Debug)]
pub struct Report {
    /// For people.
    pub text: String,
    /// Each in a line: what is not as the client's and not expected, and what is expected and not so.
    pub problems: Vec<String>,
}

/// Compares all clients with their adapters.
///
/// # Errors
///
/// When rustdoc, cargo or the toolchain's JSON cannot be used; the text says what to do.
pub fn compare() -> Result<Report> {
    let workspace = document::Workspace::find()?;
    let crates = workspace.document()?;
    let mut report = Report { text: String::new(), problems: Vec::new() };
    let mut findings = Vec::new();
    let mut ours = Vec::new();
    for pair in &PAIRS {
        let client = pair.client.replace('-', "_");
        let comparison = compare::compare(&crates, &client, &pair.adapter.replace('-', "_"))?;
        writeln!(
            report.text,
            "{} {}: {} public paths, {} of them ours, {} items compared",
            pair.client,
            crates.document(&client)?.crate_version.as_deref().unwrap_or_default(),
            comparison.paths,
            comparison.ours.len(),
            comparison.items,
        )?;
        if comparison.paths < 50 || comparison.items < 500 {
            report.problems.push(format!("{}: so few items cannot be all of them", pair.client));
        }
        ours.extend(comparison.ours.iter().map(|path| format!("{client} {path}")));
        findings.extend(comparison.findings);
        findings.extend(features::compare(&workspace, pair.client, pair.adapter)?);
    }
    expected::hold(&findings, &ours, &mut report)?;
    Ok(report)
}
