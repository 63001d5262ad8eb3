//! The tests that may differ where a propagator is installed.

use std::fmt;

use crate::Result;

const LIST: &str = include_str!("../expected.txt");

/// The checked-in list, `expected.txt`: a line for each test, with client, `file:line` of the assertion, test and reason.
#[derive(Debug)]
pub(crate) struct Expected(Vec<Difference>);

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Difference {
    pub(crate) client: String,
    /// `file:line` within the package.
    pub(crate) place: String,
    pub(crate) test: String,
    pub(crate) reason: String,
}

impl Expected {
    pub(crate) fn read() -> Result<Self> {
        Self::parse(LIST)
    }

    fn parse(list: &str) -> Result<Self> {
        list.lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| {
                let mut parts = line.splitn(4, ' ');
                let mut part =
                    || parts.next().map(str::to_owned).ok_or_else(|| format!("expected.txt: four parts in {line:?}?"));
                Ok(Difference { client: part()?, place: part()?, test: part()?, reason: part()? })
            })
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Those of one client.
    pub(crate) fn of(&self, client: &str) -> Vec<Difference> {
        self.0.iter().filter(|difference| difference.client == client).cloned().collect()
    }
}

impl Difference {
    /// The test target, which is the file's name.
    pub(crate) fn target(&self) -> &str {
        let file = self.place.split(':').next().unwrap_or_default();
        file.trim_start_matches("tests/").trim_end_matches(".rs")
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.test, self.place, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read() {
        let list = "# client place test reason\n\nlapin tests/a.rs:7 a::b compares all headers\n";
        let [difference] = <[_; 1]>::try_from(Expected::parse(list).unwrap().of("lapin")).unwrap();
        assert_eq!(difference.target(), "a");
        assert_eq!(difference.to_string(), "a::b at tests/a.rs:7: compares all headers");
        assert!(Expected::parse("lapin tests/a.rs:7 a::b\n").is_err());
        assert!(Expected::read().is_ok());
    }
}
