//! What is expected: `expected.txt` and `ours.txt`, which say how they are read.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{Report, Result, compare::Finding};

const EXPECTED: &str = include_str!("../expected.txt");
const OURS: &str = include_str!("../ours.txt");

/// Adds what is expected to the report's text, and what is not to its problems.
pub(crate) fn hold(findings: &[Finding], ours: &[String], report: &mut Report) -> Result<()> {
    let mut expected = parse(EXPECTED)?;
    for finding in findings {
        let detail = finding.detail.as_ref().map(|detail| format!("\n          {detail}")).unwrap_or_default();
        match expected.remove(&finding.to_string()) {
            Some(reason) => writeln!(report.text, "expected: {finding}: {reason}")?,
            None => report.problems.push(format!("{finding}{detail}")),
        }
    }
    for entry in expected.into_keys() {
        report.problems.push(format!("expected.txt has what is not so: {entry}"));
    }

    let listed: Vec<_> = lines(OURS).collect();
    for path in ours.iter().filter(|path| !listed.contains(&path.as_str())) {
        report.problems.push(format!("{path} leads to a definition of ours, and is not in ours.txt"));
    }
    for path in listed.iter().filter(|path| !ours.iter().any(|ours| ours == *path)) {
        report.problems.push(format!("{path} is in ours.txt, and leads to the raw client's definition or to none"));
    }
    Ok(())
}

fn lines(list: &str) -> impl Iterator<Item = &str> {
    list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Findings, with reasons.
fn parse(list: &str) -> Result<BTreeMap<String, String>> {
    let mut entries = BTreeMap::new();
    let mut lines = lines(list);
    while let Some(finding) = lines.next() {
        let reason = lines.next().filter(|line| line.starts_with("    "));
        let reason = reason.ok_or_else(|| format!("expected.txt gives no reason for {finding}"))?;
        entries.insert(finding.to_owned(), reason.trim().to_owned());
    }
    Ok(entries)
}
