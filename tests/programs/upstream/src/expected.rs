//! What tests may do beside passing: the checked-in list `expected.txt`, which says how it is read.

use std::fmt;

use crate::{Result, outcome::Name};

const LIST: &str = include_str!("../expected.txt");

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum What {
    /// Passes raw and fails with a propagator installed.
    DiffersWithSdk,
    /// Fails on the raw client where the machine lacks something.
    MayFailRaw,
    /// Fails at times on the raw client too.
    Flaky,
}

/// A line of the list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Expected {
    pub(crate) what: What,
    client: String,
    /// `file:line` or `file`, within the package.
    pub(crate) place: String,
    test: String,
    reason: String,
}

/// What is expected of one client's tests.
pub(crate) fn of(client: &str) -> Result<Vec<Expected>> {
    let mut all = parse(LIST)?;
    all.retain(|expected| expected.client == client);
    Ok(all)
}

/// How often a test is tried where others are tried this often.
pub(crate) fn tries(expected: &[Expected], name: &Name, tries: u32) -> u32 {
    let flaky = expected.iter().any(|expected| expected.what == What::Flaky && expected.is_about(name));
    if flaky { 4 * tries } else { tries }
}

fn parse(list: &str) -> Result<Vec<Expected>> {
    list.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            Expected::parse(line).ok_or_else(|| format!("expected.txt has a line that is no entry: {line}").into())
        })
        .collect()
}

impl Expected {
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut parts = line.splitn(5, ' ');
        let what = match parts.next()? {
            "differs-with-sdk" => What::DiffersWithSdk,
            "may-fail-raw" => What::MayFailRaw,
            "flaky" => What::Flaky,
            _ => return None,
        };
        let mut part = || parts.next().map(str::to_owned);
        Some(Self { what, client: part()?, place: part()?, test: part()?, reason: part()? })
    }

    /// Whether it is about this test. A target is named as its file.
    pub(crate) fn is_about(&self, (target, test): &Name) -> bool {
        let file = self.place.split(':').next().unwrap_or_default();
        self.test == *test && file.strip_prefix("tests/").and_then(|file| file.strip_suffix(".rs")) == Some(target)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.place, self.test, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read() {
        let list = "# a comment\n\ndiffers-with-sdk lapin tests/a.rs:7 a::b compares all headers\n";
        let [expected] = <[_; 1]>::try_from(parse(list).unwrap()).unwrap();
        assert_eq!((expected.what, expected.client.as_str()), (What::DiffersWithSdk, "lapin"));
        assert!(expected.is_about(&("a".to_owned(), "a::b".to_owned())));
        assert!(!expected.is_about(&("b".to_owned(), "a::b".to_owned())));
        assert!(!expected.is_about(&("a".to_owned(), "a::c".to_owned())));
        assert_eq!(expected.to_string(), "tests/a.rs:7 a::b: compares all headers");
    }

    #[test]
    fn flaky_tests_are_tried_more_often() {
        let expected = parse("flaky lapin tests/a.rs a::b races\nmay-fail-raw lapin tests/a.rs a::c why\n").unwrap();
        let tries = ["a::b", "a::c"].map(|test| tries(&expected, &("a".to_owned(), test.to_owned()), 5));
        assert_eq!(tries, [20, 5]);
    }

    #[test]
    fn a_line_that_is_no_entry_is_an_error() {
        assert!(parse("differs-with-sdk lapin tests/a.rs:7 a::b\n").is_err());
        assert!(parse("differs lapin tests/a.rs:7 a::b why not\n").is_err());
    }

    #[test]
    fn the_checked_in_list_is_one() {
        assert!(of("async-nats").is_ok());
    }
}
