use std::{fmt, ops::Deref};

use opentelemetry::{SpanId, TraceId};
use opentelemetry_sdk::trace::SpanData;

use crate::{ExpectedSpan, SpanRef, describe, diff::diff, text::Block};

/// Recorded spans, by start time.
#[derive(Debug, Clone, Default)]
pub struct Spans(Vec<SpanData>);

impl Spans {
    /// Sorts them.
    #[must_use]
    pub fn new(mut spans: Vec<SpanData>) -> Self {
        spans.sort_by_key(|span| span.start_time);
        Self(spans)
    }

    /// Holds all spans, in the order of their starts, against the expected ones.
    ///
    /// # Panics
    ///
    /// When they differ, with both as a diff.
    #[track_caller]
    pub fn assert(&self, expected: impl IntoIterator<Item = ExpectedSpan>) {
        let expected: Vec<_> = expected.into_iter().collect();
        let resolve = |to: &SpanRef| self.resolve(to, |at| (at < expected.len()).then_some(at));
        let wanted = expected.iter().enumerate().map(|(at, span)| span.block(self.get(at), &resolve).to_string());
        let found = self.iter().enumerate().map(|(at, span)| self.block(span, expected.get(at)).to_string());
        compare(&wanted.collect::<String>(), &found.collect::<String>());
    }

    /// Holds that one of the spans is the expected one. A position in its relations is that of a recorded span.
    ///
    /// # Panics
    ///
    /// When none is, with a diff to each span of its name, or to all where none has it.
    #[track_caller]
    pub fn assert_contains(&self, expected: ExpectedSpan) {
        let resolve = |to: &SpanRef| self.resolve(to, Some);
        let pair = |span: &SpanData| {
            (expected.block(Some(span), &resolve).to_string(), self.block(span, Some(&expected)).to_string())
        };
        let named: Vec<_> = self.iter().filter(|span| span.name == expected.name).map(pair).collect();
        if named.iter().any(|(wanted, found)| wanted == found) {
            return;
        }
        let diffs = named.iter().map(|(wanted, found)| diff(wanted, found));
        let text = if named.is_empty() { self.to_string() } else { diffs.collect::<Vec<_>>().join("\n") };
        panic!("no recorded span (+) is the expected one (-), {}:\n{text}", expected.name);
    }

    /// The one span of this name.
    ///
    /// # Panics
    ///
    /// When there is none, or more than one.
    #[must_use]
    #[track_caller]
    pub fn only(&self, name: &str) -> &SpanData {
        let mut named = self.named(name);
        match (named.next(), named.next()) {
            (Some(span), None) => span,
            _ => panic!("{} spans are named {name}:\n{self}", self.named(name).count()),
        }
    }

    /// The spans of this name.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &SpanData> {
        self.iter().filter(move |span| span.name == name)
    }

    /// The names of all.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.iter().map(|span| &*span.name).collect()
    }

    fn block(&self, span: &SpanData, expected: Option<&ExpectedSpan>) -> Block {
        let scope = expected.and_then(|expected| expected.scope_of(span));
        Block { scope, ..Block::of(span, &|trace, span| self.name_of(trace, span)) }
    }

    /// A name of its own for each span: the n-th of several has its number, and one that was not recorded its ids.
    fn name_of(&self, trace: TraceId, span: SpanId) -> String {
        let is_it = |other: &SpanData| (other.span_context.trace_id(), other.span_context.span_id()) == (trace, span);
        match self.iter().position(is_it) {
            Some(at) => self.label(at),
            None => format!("{span} of trace {trace}"),
        }
    }

    fn label(&self, at: usize) -> String {
        let name = &*self[at].name;
        match self.named(name).count() {
            1 => name.to_owned(),
            _ => format!("{name} (#{at})"),
        }
    }

    fn resolve(&self, to: &SpanRef, position: impl Fn(usize) -> Option<usize>) -> String {
        match to {
            SpanRef::Ids(trace, span) => self.name_of(*trace, *span),
            SpanRef::Position(at) => match position(*at).filter(|at| *at < self.len()) {
                Some(at) => self.label(at),
                None => format!("no span #{at}"),
            },
            SpanRef::Name(name) => match self.named(name).count() {
                1 => name.clone(),
                count => format!("{name}, a name of {count} spans"),
            },
        }
    }
}

#[track_caller]
fn compare(wanted: &str, found: &str) {
    assert!(wanted == found, "the recorded spans (+) are not the expected ones (-):\n{}", diff(wanted, found));
}

impl Deref for Spans {
    type Target = [SpanData];

    fn deref(&self) -> &[SpanData] {
        &self.0
    }
}

impl IntoIterator for Spans {
    type Item = SpanData;
    type IntoIter = std::vec::IntoIter<SpanData>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Spans {
    type Item = &'a SpanData;
    type IntoIter = std::slice::Iter<'a, SpanData>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// As [`describe`] has them.
impl fmt::Display for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&describe(self))
    }
}
