//! What became of tests.

use std::collections::BTreeMap;

use conventions::Convention;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    Ignored,
}

/// What became of one test.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Outcome {
    /// Passed when one of the tries did.
    pub(crate) verdict: Verdict,
    pub(crate) tries: u32,
    /// `file:line` of the panic that made a try fail, the last one.
    pub(crate) panicked_at: Option<String>,
}

/// A target and a test in it.
pub(crate) type Name = (String, String);

/// What became of all tests of a side.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    pub(crate) tests: BTreeMap<Name, Outcome>,
    pub(crate) spans: Spans,
}

impl Outcomes {
    pub(crate) fn extend(&mut self, other: Self) {
        self.tests.extend(other.tests);
        self.spans.started += other.spans.started;
        self.spans.ended += other.spans.ended;
        self.spans.problems.extend(other.spans.problems);
    }
}

/// The spans of all processes of a side.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Spans {
    pub(crate) started: u64,
    pub(crate) ended: u64,
    /// What is wrong with them, with the target in whose process it was.
    pub(crate) problems: Vec<String>,
}

impl Spans {
    /// Takes in what a process that had the SDK reported.
    pub(crate) fn add(&mut self, process: &str, report: &str) {
        let lines: Vec<_> = report.lines().collect();
        let parts: Vec<_> = lines.first().map(|line| line.split('\t').collect()).unwrap_or_default();
        let (&[started, ended, open, attributes], 1) = (parts.as_slice(), lines.len()) else {
            self.problems.push(format!("{process} did not report its spans"));
            return;
        };
        let started: u64 = started.parse().unwrap_or_default();
        let ended: u64 = ended.parse().unwrap_or_default();
        self.started += started;
        self.ended += ended;
        if started != ended || !open.is_empty() {
            self.problems.push(format!("{process} started {started} spans and ended {ended}; open: {open}"));
        }
        let attributes = attributes.split("; ").filter(|name| !name.is_empty());
        let unknown = attributes.filter_map(|name| Convention::get().knows(name).err());
        self.problems.extend(unknown.map(|unknown| format!("{process}: {unknown}")));
    }
}

/// What a test program printed: the tests of which it said what became, by name.
pub(crate) fn read(output: &str) -> BTreeMap<String, Verdict> {
    output.lines().filter_map(line).collect()
}

/// `test NAME ... ok`, perhaps behind what was printed without a line's end.
fn line(line: &str) -> Option<(String, Verdict)> {
    let (_, rest) = line.rsplit_once("test ").filter(|(_, rest)| rest.contains(" ... "))?;
    let (name, verdict) = rest.rsplit_once(" ... ")?;
    let verdict = match verdict.trim_end() {
        "ok" => Verdict::Passed,
        "FAILED" => Verdict::Failed,
        verdict if verdict.starts_with("ignored") => Verdict::Ignored,
        _ => return None,
    };
    Some((name.trim_end_matches(" - should panic").to_owned(), verdict))
}

/// `file:line` of the first panic of a test, the file from the folder `tests` on.
pub(crate) fn panicked_at(output: &str, test: &str) -> Option<String> {
    let (_, section) = output.split_once(&format!("\n---- {test} stdout ----\n"))?;
    let section = section.split("\n---- ").next()?;
    let (_, place) = section.split_once("panicked at ")?;
    let place = place.lines().next()?.trim_end_matches(':');
    let (place, _column) = place.rsplit_once(':')?;
    Some(place.rsplit_once("/tests/").map_or_else(|| place.to_owned(), |(_, file)| format!("tests/{file}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 5 tests
test a::passes ... ok
test a::panics - should panic ... ok
Stats received: 5 bytestest a::noisy ... ok
test a::skipped ... ignored, needs a cluster
test a::fails ... FAILED

failures:

---- a::fails stdout ----

thread 'a::fails' (17) panicked at packages/x-raw/tests/a_tests.rs:231:9:
assertion failed
note: run with `RUST_BACKTRACE=1`


failures:
    a::fails

test result: FAILED. 3 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out
";

    #[test]
    fn verdicts() {
        let found = read(OUTPUT);
        let expected = [
            ("a::fails", Verdict::Failed),
            ("a::noisy", Verdict::Passed),
            ("a::panics", Verdict::Passed),
            ("a::passes", Verdict::Passed),
            ("a::skipped", Verdict::Ignored),
        ];
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected.map(|(name, verdict)| (name.to_owned(), verdict)));
    }

    #[test]
    fn places_of_panics() {
        assert_eq!(panicked_at(OUTPUT, "a::fails").as_deref(), Some("tests/a_tests.rs:231"));
        assert_eq!(panicked_at(OUTPUT, "a::passes"), None);
    }

    #[test]
    fn spans_are_added_up() {
        let mut spans = Spans::default();
        spans.add("a", "3\t3\t\tmessaging.system; messaging.nats.stream.name\n");
        spans.add("b", "4\t4\t\t\n");
        assert_eq!(spans, Spans { started: 7, ended: 7, problems: Vec::new() });
    }

    #[test]
    fn an_open_span_a_missing_report_and_an_unknown_attribute_are_problems() {
        let mut spans = Spans::default();
        spans.add("a", "3\t2\tsend orders\t\n");
        spans.add("b", "");
        spans.add("c", "1\t1\t\t\n1\t1\t\t\n");
        spans.add("d", "1\t1\t\tmessaging.system; messaging.colour\n");
        assert_eq!(
            spans.problems,
            [
                "a started 3 spans and ended 2; open: send orders",
                "b did not report its spans",
                "c did not report its spans",
                "d: neither registry knows `messaging.colour`",
            ]
        );
    }
}
