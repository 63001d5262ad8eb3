//! What differs between the sides, and the table that says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    Result,
    build::Built,
    client::Known,
    expected::{self, Expected, What},
    generated::Side,
    outcome::{Name, Outcome, Outcomes, Verdict},
    published::{Kind, Published},
};

/// One client's sides.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// The client and its version.
    title: String,
    known: Known,
    examples: usize,
    missing_features: BTreeSet<String>,
    pub(crate) expected: Vec<Expected>,
    built: BTreeMap<Side, Built>,
    run: BTreeMap<Side, Outcomes>,
}

impl Comparison {
    pub(crate) fn new(published: &Published) -> Result<Self> {
        Ok(Self {
            title: published.to_string(),
            known: published.client.known,
            examples: published.count(Kind::Example),
            missing_features: published.missing_features.clone(),
            expected: expected::of(published.client.name)?,
            built: BTreeMap::new(),
            run: BTreeMap::new(),
        })
    }

    pub(crate) fn add(&mut self, side: Side, built: Built, outcomes: Option<Outcomes>) {
        self.built.insert(side, built);
        self.run.extend(outcomes.map(|outcomes| (side, outcomes)));
    }

    /// Where our crate does not do as the client does, or as the list of expected differences says. Empty where all is well.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.built.keys().any(|&side| side != Side::Raw) {
            problems.extend(self.missing_features.iter().map(|feature| format!("ours has no feature {feature}")));
        }
        problems.extend(differ("examples", self.examples, self.known.examples));
        if let Some(raw) = self.run.get(&Side::Raw) {
            problems.extend(differ("tests", raw.tests.len(), self.known.tests));
            let is_there = |expected: &&Expected| self.names().into_iter().any(|name| expected.is_about(name));
            let gone = self.expected.iter().filter(|expected| !is_there(expected));
            problems.extend(gone.map(|expected| format!("listed, and there is no such test: {expected}")));
        }
        for (side, built) in &self.built {
            problems.extend(built.failures.iter().map(|failure| format!("{side}: {failure}")));
        }
        for name in self.names() {
            let allowed = self.expectation(What::MayFailRaw, name).is_some();
            if !allowed && self.verdict(Side::Raw, name) == Some(Verdict::Failed) {
                problems.push(format!("{}: raw it {}", join(name), self.said(Side::Raw, name)));
            }
        }
        for &side in self.run.keys().filter(|&&side| side != Side::Raw) {
            for name in self.differing(side) {
                if side != Side::WithSdk || self.met(name).is_none() {
                    problems.push(format!(
                        "{}: raw it {}, {side} it {}",
                        join(name),
                        self.said(Side::Raw, name),
                        self.said(side, name)
                    ));
                }
            }
        }
        if let Some(with_sdk) = self.run.get(&Side::WithSdk) {
            let met: Vec<_> = self.names().into_iter().filter_map(|name| self.met(name)).collect();
            for expected in self.expected.iter().filter(|expected| expected.what == What::DiffersWithSdk) {
                if !met.contains(&expected) {
                    problems.push(format!("expected to differ with SDK, and does not so: {expected}"));
                }
            }
            problems.extend(with_sdk.spans.problems.iter().cloned());
            if with_sdk.spans.started == 0 {
                problems.push("no span was started with SDK".to_owned());
            }
        }
        problems
    }

    /// The tests of which a side makes something else than the raw client, or that one of both does not have.
    fn differing(&self, side: Side) -> Vec<&Name> {
        self.names().into_iter().filter(|name| self.verdict(Side::Raw, name) != self.verdict(side, name)).collect()
    }

    fn expectation(&self, what: What, name: &Name) -> Option<&Expected> {
        self.expected.iter().find(|expected| expected.what == what && expected.is_about(name))
    }

    /// The expected difference that came: the test passes raw and fails with the SDK, where it is known to compare headers.
    fn met(&self, name: &Name) -> Option<&Expected> {
        let expected = self.expectation(What::DiffersWithSdk, name)?;
        let with_sdk = self.outcome(Side::WithSdk, name)?;
        (self.verdict(Side::Raw, name) == Some(Verdict::Passed)
            && with_sdk.verdict == Verdict::Failed
            && with_sdk.panicked_at.as_ref() == Some(&expected.place))
        .then_some(expected)
    }

    /// What a test does on a side, in words.
    fn said(&self, side: Side, name: &Name) -> String {
        match self.outcome(side, name) {
            None => "does not exist".to_owned(),
            Some(outcome) => match (outcome.verdict, &outcome.panicked_at) {
                (Verdict::Passed, _) => "passes".to_owned(),
                (Verdict::Ignored, _) => "is ignored".to_owned(),
                (Verdict::Failed, None) => "fails".to_owned(),
                (Verdict::Failed, Some(place)) => format!("fails at {place}"),
            },
        }
    }

    fn outcome(&self, side: Side, name: &Name) -> Option<&Outcome> {
        self.run.get(&side)?.tests.get(name)
    }

    fn verdict(&self, side: Side, name: &Name) -> Option<Verdict> {
        self.outcome(side, name).map(|outcome| outcome.verdict)
    }

    fn names(&self) -> BTreeSet<&Name> {
        self.run.values().flat_map(|outcomes| outcomes.tests.keys()).collect()
    }

    fn with_verdict(&self, side: Side, target: Option<&str>, verdict: Verdict) -> usize {
        self.run[&side]
            .tests
            .iter()
            .filter(|((of, _), outcome)| target.is_none_or(|target| of == target) && outcome.verdict == verdict)
            .count()
    }

    fn write_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        let targets: BTreeSet<_> = names.iter().map(|(target, _)| target.as_str()).collect();
        let width = targets.iter().map(|target| target.len()).max().unwrap_or_default().max("tests that pass".len());
        write!(f, "{:<width$}  {:>5}", "tests that pass", "all")?;
        for side in self.run.keys() {
            write!(f, "  {:>17}", side.to_string())?;
        }
        for target in targets.into_iter().map(Some).chain([None]) {
            let all = names.iter().filter(|(of, _)| target.is_none_or(|target| of == target)).count();
            write!(f, "\n{:<width$}  {all:>5}", target.unwrap_or("together"))?;
            for &side in self.run.keys() {
                write!(f, "  {:>17}", self.with_verdict(side, target, Verdict::Passed))?;
            }
        }
        writeln!(f)
    }

    fn write_lists(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (words, verdict) in [("fail", Verdict::Failed), ("are ignored", Verdict::Ignored)] {
            let names: Vec<_> =
                self.names().into_iter().filter(|name| self.verdict(Side::Raw, name) == Some(verdict)).collect();
            if !names.is_empty() {
                writeln!(f, "{} {words} raw:", names.len())?;
                for name in names {
                    match self.expectation(What::MayFailRaw, name) {
                        Some(expected) => writeln!(f, "  {expected}")?,
                        None => writeln!(f, "  {}", join(name))?,
                    }
                }
            }
        }
        let flaky = |outcome: &Outcome| outcome.verdict == Verdict::Passed && outcome.tries > 1;
        for name in self.names() {
            let outcomes: Vec<_> =
                self.run.keys().filter_map(|&side| Some((side, self.outcome(side, name)?))).collect();
            if outcomes.iter().any(|(_, outcome)| flaky(outcome)) {
                let tries: Vec<_> = outcomes
                    .iter()
                    .map(|(side, outcome)| {
                        let passed = u32::from(outcome.verdict == Verdict::Passed);
                        format!("{side} {passed} of {}", outcome.tries)
                    })
                    .collect();
                writeln!(f, "flaky: {} passed {}", join(name), tries.join(", "))?;
            }
        }
        if let Some(with_sdk) = self.run.get(&Side::WithSdk) {
            writeln!(f, "spans with SDK: {} started, {} ended", with_sdk.spans.started, with_sdk.spans.ended)?;
            for expected in self.names().into_iter().filter_map(|name| self.met(name)) {
                writeln!(f, "differs with SDK, as expected: {expected}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        for (side, built) in self.built.iter().filter(|(side, _)| **side != Side::WithSdk) {
            writeln!(f, "examples that compile, {side}: {} of {}", built.examples.len(), self.examples)?;
        }
        if !self.run.is_empty() {
            self.write_table(f)?;
            self.write_lists(f)?;
        }
        let problems = self.problems();
        let count = if problems.is_empty() { "none".to_owned() } else { problems.len().to_string() };
        writeln!(f, "differences: {count}")?;
        problems.iter().try_for_each(|problem| writeln!(f, "  {problem}"))
    }
}

fn differ(what: &str, found: usize, known: usize) -> Option<String> {
    (found != known).then(|| format!("{found} {what}, where {known} are known"))
}

fn join((target, test): &Name) -> String {
    format!("{target} {test}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Spans;

    fn outcome(verdict: Verdict) -> Outcome {
        let panicked_at = (verdict == Verdict::Failed).then(|| "tests/a.rs:7".to_owned());
        Outcome { verdict, tries: 1, panicked_at }
    }

    fn outcomes(tests: &[(&str, Verdict)]) -> Outcomes {
        let tests =
            tests.iter().map(|&(test, verdict)| (("a".to_owned(), test.to_owned()), outcome(verdict))).collect();
        Outcomes { tests, spans: Spans { started: 1, ended: 1, problems: Vec::new() } }
    }

    fn comparison(expected: &[&str], run: [&[(&str, Verdict)]; 3]) -> Comparison {
        let expected = expected.iter().map(|line| Expected::parse(line).unwrap()).collect();
        let known = Known { examples: 0, tests: run[0].len() };
        let run = [Side::Raw, Side::Renamed, Side::WithSdk].into_iter().zip(run.map(outcomes)).collect();
        Comparison {
            title: "c 1".to_owned(),
            known,
            examples: 0,
            missing_features: BTreeSet::new(),
            expected,
            built: BTreeMap::new(),
            run,
        }
    }

    const DIFFERS: &str = "differs-with-sdk c tests/a.rs:7 t why";
    const MAY_FAIL: &str = "may-fail-raw c tests/a.rs t why";
    const PASSED: Verdict = Verdict::Passed;
    const FAILED: Verdict = Verdict::Failed;

    #[test]
    fn alike() {
        let tests: &[_] = &[("t", PASSED), ("i", Verdict::Ignored)];
        assert_eq!(comparison(&[], [tests, tests, tests]).problems(), [""; 0]);
    }

    #[test]
    fn every_difference_is_named() {
        let all: &[_] = &[("t", PASSED), ("u", Verdict::Ignored), ("v", PASSED)];
        let renamed: &[_] = &[("t", FAILED), ("u", PASSED)];
        assert_eq!(
            comparison(&[], [all, renamed, all]).problems(),
            [
                "a t: raw it passes, renamed it fails at tests/a.rs:7",
                "a u: raw it is ignored, renamed it passes",
                "a v: raw it passes, renamed it does not exist",
            ]
        );
    }

    #[test]
    fn the_list_holds_in_both_directions() {
        let pass: &[_] = &[("t", PASSED)];
        let fail: &[_] = &[("t", FAILED)];
        assert_eq!(comparison(&[DIFFERS], [pass, pass, fail]).problems(), [""; 0]);
        assert_eq!(
            comparison(&[], [pass, pass, fail]).problems(),
            ["a t: raw it passes, renamed, with SDK it fails at tests/a.rs:7"]
        );
        assert_eq!(
            comparison(&[DIFFERS], [pass, pass, pass]).problems(),
            ["expected to differ with SDK, and does not so: tests/a.rs:7 t: why"]
        );
        // Without an SDK nothing may differ.
        assert_eq!(
            comparison(&[DIFFERS], [pass, fail, fail]).problems(),
            ["a t: raw it passes, renamed it fails at tests/a.rs:7"]
        );
    }

    #[test]
    fn another_failure_of_an_expected_test_is_a_problem() {
        let elsewhere = DIFFERS.replace(":7", ":8");
        let comparison = comparison(&[&elsewhere], [&[("t", PASSED)], &[("t", PASSED)], &[("t", FAILED)]]);
        assert_eq!(comparison.problems().len(), 2);
    }

    #[test]
    fn what_fails_raw_has_to_be_known() {
        let pass: &[_] = &[("t", PASSED)];
        let fail: &[_] = &[("t", FAILED)];
        assert_eq!(comparison(&[], [fail, fail, fail]).problems(), ["a t: raw it fails at tests/a.rs:7"]);
        assert_eq!(comparison(&[MAY_FAIL], [fail, fail, fail]).problems(), [""; 0]);
        assert_eq!(comparison(&[MAY_FAIL], [pass, pass, pass]).problems(), [""; 0]);
        assert_eq!(
            comparison(&[MAY_FAIL], [pass, fail, pass]).problems(),
            ["a t: raw it passes, renamed it fails at tests/a.rs:7"]
        );
    }

    #[test]
    fn what_is_missing_on_all_sides_is_a_problem() {
        let tests: &[_] = &[("u", PASSED)];
        let mut comparison = comparison(&[MAY_FAIL], [tests, tests, tests]);
        comparison.known = Known { examples: 1, tests: 2 };
        assert_eq!(
            comparison.problems(),
            [
                "0 examples, where 1 are known",
                "1 tests, where 2 are known",
                "listed, and there is no such test: tests/a.rs t: why",
            ]
        );
    }

    #[test]
    fn a_missing_feature_is_a_problem() {
        let mut comparison = comparison(&[], [&[], &[], &[]]);
        comparison.missing_features.insert("ssl".to_owned());
        assert_eq!(comparison.problems(), [""; 0]);
        let built = Built { tests: BTreeMap::new(), examples: BTreeSet::new(), failures: Vec::new() };
        comparison.built.insert(Side::Renamed, built);
        assert_eq!(comparison.problems(), ["ours has no feature ssl"]);
    }

    #[test]
    fn spans_count() {
        let tests: &[_] = &[("t", PASSED)];
        let mut comparison = comparison(&[], [tests, tests, tests]);
        let spans = &mut comparison.run.get_mut(&Side::WithSdk).unwrap().spans;
        spans.problems.push("a started 2 spans and ended 1; open: send".to_owned());
        spans.started = 0;
        assert_eq!(
            comparison.problems(),
            ["a started 2 spans and ended 1; open: send", "no span was started with SDK"]
        );
    }
}
