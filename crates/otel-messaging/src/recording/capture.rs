//! The capture of headers and keys as attributes. Nothing is captured by default.

use std::sync::Arc;

use opentelemetry::{Array, KeyValue, StringValue, Value, propagation::Extractor};

use crate::{
    catch_panic::catch_panic,
    description::{
        attributes::Attributes,
        semconv::{attribute, extension},
    },
    propagation::propagator::Propagation,
};

pub(crate) type Redact = dyn Fn(&str, &str) -> Option<String> + Send + Sync;

/// The default limit on a captured value, in bytes.
const VALUE_LIMIT: usize = 256;

/// The maximum number of captured headers of one message, and of captured values of one header.
const COUNT_LIMIT: usize = 32;

/// The maximum number of matching headers that are read in one message. The redaction can hide any of them.
const LOOK_LIMIT: usize = 8 * COUNT_LIMIT;

/// The longest name of a captured header, in bytes.
const NAME_LIMIT: usize = 256;

/// The headers that become attributes, and the form of their values.
#[derive(Clone, Default)]
pub(crate) struct Capture {
    /// Patterns of header names. Empty by default.
    pub(crate) headers: Vec<Box<str>>,
    pub(crate) value_limit: Option<usize>,
    pub(crate) redact: Option<Arc<Redact>>,
}

impl Capture {
    /// Adds the captured headers. Headers that carry contexts are never captured.
    #[inline]
    pub(crate) fn capture(&self, headers: &dyn Extractor, propagator: &Propagation, attributes: &mut Attributes) {
        if self.headers.is_empty() {
            return;
        }
        let (mut looked_at, mut captured) = (Vec::<&str>::new(), 0);
        for name in headers.keys() {
            if looked_at.len() == LOOK_LIMIT || captured == COUNT_LIMIT {
                break;
            }
            let wanted = name.len() <= NAME_LIMIT
                && self.headers.iter().any(|pattern| matches(pattern.as_bytes(), name.as_bytes()));
            // A repeated name was captured with all its values at its first occurrence.
            let again = || looked_at.iter().any(|earlier| earlier.eq_ignore_ascii_case(name));
            if !wanted || again() || propagator.owns(name) {
                continue;
            }
            looked_at.push(name);
            let values = headers.get_all(name).unwrap_or_default();
            let values = values.into_iter().take(COUNT_LIMIT);
            let values: Vec<StringValue> = values.filter_map(|value| self.shown(name, value)).collect();
            if !values.is_empty() {
                let key = format!("{}.{}", extension::HEADER, name.to_ascii_lowercase());
                attributes.0.push(KeyValue::new(key, Value::Array(Array::String(values))));
                captured += 1;
            }
        }
    }

    /// Returns a message's key in the form that may be recorded, or `None` if the key must not be recorded.
    pub(crate) fn key(&self, key: &[u8]) -> Option<StringValue> {
        self.shown(attribute::MESSAGING_KAFKA_MESSAGE_KEY, str::from_utf8(key).ok()?)
    }

    /// Returns a value in the form that may be recorded, or `None` if the redaction hides the value or panics.
    fn shown(&self, name: &str, value: &str) -> Option<StringValue> {
        let redacted = match &self.redact {
            Some(redact) => Some(catch_panic(|| redact(name, value)).flatten()?),
            None => None,
        };
        let value = redacted.as_deref().unwrap_or(value);
        let limit = self.value_limit.unwrap_or(VALUE_LIMIT).min(value.len());
        let end = (0..=limit).rev().find(|&end| value.is_char_boundary(end)).unwrap_or(0);
        Some(value[..end].to_owned().into())
    }
}

/// Whether a name matches a pattern, in which `*` stands for any text. Case is ignored.
///
/// The number of steps is at most the product of both lengths.
fn matches(mut pattern: &[u8], mut name: &[u8]) -> bool {
    // Where to continue if the text after the last `*` does not match: the `*` then takes one more byte.
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern, name) {
            ([b'*', rest @ ..], _) => {
                again = Some((rest, name));
                pattern = rest;
            }
            ([], []) => return true,
            ([wanted, pattern_rest @ ..], [found, name_rest @ ..]) if wanted.eq_ignore_ascii_case(found) => {
                (pattern, name) = (pattern_rest, name_rest);
            }
            _ => match again {
                Some((rest, [_, after @ ..])) => {
                    again = Some((rest, after));
                    (pattern, name) = (rest, after);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use opentelemetry::{Value, propagation::Extractor};

    use super::{COUNT_LIMIT, Capture, LOOK_LIMIT, matches};
    use crate::{description::attributes::Attributes, propagation::propagator::Propagation};

    /// One header, this number of times.
    struct Repeated(usize);

    impl Extractor for Repeated {
        fn get(&self, _: &str) -> Option<&str> {
            Some("1")
        }

        fn keys(&self) -> Vec<&str> {
            vec!["x-many"; self.0]
        }

        fn get_all(&self, _: &str) -> Option<Vec<&str>> {
            Some(vec!["1"; self.0])
        }
    }

    #[test]
    fn a_header_that_comes_often_is_one_attribute_with_a_bounded_number_of_values() {
        for (times, shown) in [(1, 1), (3, 3), (1_000, COUNT_LIMIT)] {
            let capture = Capture { headers: vec!["x-*".into()], ..Capture::default() };
            let mut attributes = Attributes::default();
            capture.capture(&Repeated(times), &Propagation::Off, &mut attributes);
            assert_eq!(attributes.0.len(), 1);
            let Value::Array(opentelemetry::Array::String(values)) = &attributes.0[0].value else { panic!("no array") };
            assert_eq!(values.len(), shown);
        }
    }

    #[test]
    fn headers_that_are_not_shown_are_not_asked_for_without_end() {
        /// Many headers with few names, whose values the redaction hides.
        struct Hidden(Cell<usize>);

        impl Extractor for Hidden {
            fn get(&self, _: &str) -> Option<&str> {
                None
            }

            fn keys(&self) -> Vec<&str> {
                ["x-one", "X-One", "x-two"].repeat(1_000)
            }

            fn get_all(&self, _: &str) -> Option<Vec<&str>> {
                self.0.update(|asked| asked + 1);
                None
            }
        }

        struct After(usize);

        impl Extractor for After {
            fn get(&self, _: &str) -> Option<&str> {
                None
            }

            fn keys(&self) -> Vec<&str> {
                let names: Vec<_> = (0..self.0).map(|number| format!("x-{number}")).collect();
                names.into_iter().map(|name| &*name.leak()).chain(["x-text"]).collect()
            }

            fn get_all(&self, name: &str) -> Option<Vec<&str>> {
                (name == "x-text").then(|| vec!["1"])
            }
        }

        let capture = Capture { headers: vec!["x-*".into()], ..Capture::default() };
        for (before, shown) in [(COUNT_LIMIT, 1), (LOOK_LIMIT, 0)] {
            let mut attributes = Attributes::default();
            capture.capture(&After(before), &Propagation::Off, &mut attributes);
            assert_eq!(attributes.0.len(), shown, "what is shown comes after {before}");
        }
        let (hidden, mut attributes) = (Hidden(Cell::new(0)), Attributes::default());
        capture.capture(&hidden, &Propagation::Off, &mut attributes);
        assert_eq!(attributes.0, []);
        assert_eq!(hidden.0.get(), 2, "once for each name");
    }

    #[test]
    fn a_star_stands_for_any_text() {
        let fits = |pattern: &str, name: &str| matches(pattern.as_bytes(), name.as_bytes());
        assert!(fits("x-tenant", "X-Tenant"));
        assert!(fits("x-*", "x-"));
        assert!(fits("x-*-id", "x-a-id-b-id"));
        assert!(fits("*", ""));
        assert!(fits("*a*b", "aab"));
        assert!(!fits("x-*-id", "x-id"));
        assert!(!fits("", "x"));
        assert!(!fits("x", ""));
        assert!(!fits("a*b", "ab-"));
    }
}
