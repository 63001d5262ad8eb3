//! What differs between the sides, and the table that says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    build::Built,
    expected::{Difference, Expected},
    generated::Side,
    outcome::{Name, Outcome, Outcomes, Verdict},
    published::{Kind, Published},
};

/// One client's sides.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// The client and its version.
    title: String,
    examples: usize,
    missing_features: BTreeSet<String>,
    expected: Vec<Difference>,
    built: BTreeMap<Side, Built>,
    run: BTreeMap<Side, Outcomes>,
}

impl Comparison {
    pub(crate) fn new(published: &Published, expected: &Expected) -> Self {
        Self {
            title: published.to_string(),
            examples: published.count(Kind::Example),
            missing_features: published.missing_features.clone(),
            expected: expected.of(published.client.name),
            built: BTreeMap::new(),
            run: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, side: Side, built: Built, outcomes: Option<Outcomes>) {
        self.built.insert(side, built);
        self.run.extend(outcomes.map(|outcomes| (side, outcomes)));
    }

    /// Where our crate does not do as the client does, or as the list of expected differences says. Empty where all is well.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems: Vec<_> =
            self.missing_features.iter().map(|feature| format!("ours has no feature {feature}")).collect();
        for (side, built) in &self.built {
            problems.extend(built.failures.iter().map(|failure| format!("{side}: {failure}")));
        }
        let mut met = BTreeSet::new();
        for &side in self.run.keys().filter(|&&side| side != Side::Raw) {
            for name in self.differing(side) {
                match self
                    .expected
                    .iter()
                    .position(|expected| side == Side::WithSdk && self.is_expected(name, expected))
                {
                    Some(position) => drop(met.insert(position)),
                    None => problems.push(self.difference(side, name)),
                }
            }
        }
        if let Some(with_sdk) = self.run.get(&Side::WithSdk) {
            for (position, expected) in self.expected.iter().enumerate() {
                if !met.contains(&position) {
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

    /// Whether a difference is this one: the test passes raw and fails with the SDK, at the place where it is known to compare
    /// headers.
    fn is_expected(&self, (target, test): &Name, expected: &Difference) -> bool {
        let name = (target.clone(), test.clone());
        expected.target() == target
            && expected.test == *test
            && self.verdict(Side::Raw, &name) == Some(Verdict::Passed)
            && self.outcome(Side::WithSdk, &name).is_some_and(|outcome| {
                outcome.verdict == Verdict::Failed && outcome.panicked_at.as_ref() == Some(&expected.place)
            })
    }

    fn difference(&self, side: Side, name: &Name) -> String {
        let said = |side| match self.outcome(side, name) {
            None => "does not exist".to_owned(),
            Some(outcome) => match (outcome.verdict, &outcome.panicked_at) {
                (Verdict::Passed, _) => "passes".to_owned(),
                (Verdict::Ignored, _) => "is ignored".to_owned(),
                (Verdict::Failed, None) => "fails".to_owned(),
                (Verdict::Failed, Some(place)) => format!("fails at {place}"),
            },
        };
        format!("{}: raw it {}, {side} it {}", join(name), said(Side::Raw), said(side))
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
                names.into_iter().try_for_each(|name| writeln!(f, "  {}", join(name)))?;
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
            for name in self.differing(Side::WithSdk) {
                for expected in self.expected.iter().filter(|expected| self.is_expected(name, expected)) {
                    writeln!(f, "differs with SDK, as expected: {expected}")?;
                }
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
        if self.built.len() > 1 {
            let problems = self.problems();
            writeln!(
                f,
                "differences: {}",
                if problems.is_empty() { "none".to_owned() } else { problems.len().to_string() }
            )?;
            problems.iter().try_for_each(|problem| writeln!(f, "  {problem}"))?;
        }
        Ok(())
    }
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
        let expected = expected
            .iter()
            .map(|&test| Difference {
                client: "c".to_owned(),
                place: "tests/a.rs:7".to_owned(),
                test: test.to_owned(),
                reason: "why".to_owned(),
            })
            .collect();
        let run = [Side::Raw, Side::Renamed, Side::WithSdk].into_iter().zip(run.map(outcomes)).collect();
        Comparison {
            title: "c 1".to_owned(),
            examples: 0,
            missing_features: BTreeSet::new(),
            expected,
            built: BTreeMap::new(),
            run,
        }
    }

    const PASSED: Verdict = Verdict::Passed;
    const FAILED: Verdict = Verdict::Failed;

    #[test]
    fn alike() {
        let tests: &[_] = &[("t", PASSED), ("fails everywhere", FAILED), ("i", Verdict::Ignored)];
        assert_eq!(comparison(&[], [tests, tests, tests]).problems(), [""; 0]);
    }

    #[test]
    fn every_difference_is_named() {
        let all: &[_] = &[("t", PASSED), ("u", FAILED), ("v", PASSED)];
        let renamed: &[_] = &[("t", FAILED), ("u", PASSED)];
        assert_eq!(
            comparison(&[], [all, renamed, all]).problems(),
            [
                "a t: raw it passes, renamed it fails at tests/a.rs:7",
                "a u: raw it fails at tests/a.rs:7, renamed it passes",
                "a v: raw it passes, renamed it does not exist",
            ]
        );
    }

    #[test]
    fn the_list_holds_in_both_directions() {
        let pass: &[_] = &[("t", PASSED)];
        let fail: &[_] = &[("t", FAILED)];
        assert_eq!(comparison(&["t"], [pass, pass, fail]).problems(), [""; 0]);
        assert_eq!(
            comparison(&[], [pass, pass, fail]).problems(),
            ["a t: raw it passes, renamed, with SDK it fails at tests/a.rs:7"]
        );
        assert_eq!(
            comparison(&["t"], [pass, pass, pass]).problems(),
            ["expected to differ with SDK, and does not so: t at tests/a.rs:7: why"]
        );
        // Without an SDK nothing may differ.
        assert_eq!(
            comparison(&["t"], [pass, fail, fail]).problems(),
            ["a t: raw it passes, renamed it fails at tests/a.rs:7"]
        );
    }

    #[test]
    fn another_failure_of_an_expected_test_is_a_problem() {
        let mut comparison = comparison(&["t"], [&[("t", PASSED)], &[("t", PASSED)], &[("t", FAILED)]]);
        comparison.expected[0].place = "tests/a.rs:8".to_owned();
        assert_eq!(comparison.problems().len(), 2);
    }

    #[test]
    fn a_missing_feature_is_a_problem() {
        let mut comparison = comparison(&[], [&[], &[], &[]]);
        comparison.missing_features.insert("ssl".to_owned());
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
