//! Headers that a forwarded message must lose: headers that its propagator reads but does not write. With such a header, the next
//! reader would continue the original sender's span and not the forwarder's.

use std::cell::RefCell;

use opentelemetry::{
    Context, SpanId, TraceId,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanContext, TraceContextExt},
};

/// The maximum number of header names that are recorded in one extraction. The sender decides how many headers a message has.
const LIMIT: usize = 64;

/// The headers that a propagator reads and writes in a message that carries a context and may be forwarded. The lists are kept
/// for one send only.
#[derive(Debug, Default)]
pub(crate) struct Forward {
    /// The headers that the propagator found and does not list in `fields`.
    found: Vec<String>,
    /// The headers that the propagator wrote; recorded only if `found` has any.
    written: Vec<String>,
}

impl Forward {
    /// Extracts the context that the message carries.
    pub(crate) fn extract(
        &mut self,
        propagator: &dyn TextMapPropagator,
        context: &Context,
        headers: &dyn Extractor,
    ) -> Context {
        let passed_over = |name: &str| propagator.fields().any(|field| field.eq_ignore_ascii_case(name));
        let overheard = Overheard { headers, hidden: &[], passed_over: &passed_over, found: RefCell::default() };
        let extracted = propagator.extract_with_context(context, &overheard);
        self.found = overheard.found.into_inner();
        extracted
    }

    /// Injects another context, and removes all headers that the propagator lists in `fields`.
    pub(crate) fn inject(&mut self, propagator: &dyn TextMapPropagator, context: &Context, headers: &mut dyn Injector) {
        propagator.fields().for_each(|field| headers.set(field, String::new()));
        if self.found.is_empty() {
            propagator.inject_context(context, headers);
        } else {
            propagator.inject_context(context, &mut Noted { headers, written: &mut self.written });
        }
    }

    /// Whether a found header was not overwritten. Only then must the message be read back.
    #[inline]
    pub(crate) fn keeps_any(&self) -> bool {
        self.found.iter().any(|name| !has(&self.written, name))
    }

    /// Returns the headers to remove, so that the propagator reads the written context: no more headers than necessary, and none
    /// if removal does not help.
    pub(crate) fn stale(
        &self,
        propagator: &dyn TextMapPropagator,
        written: &SpanContext,
        headers: &dyn Extractor,
    ) -> Vec<String> {
        let read = |hidden: &[String]| {
            let passed_over = |name: &str| has(&self.written, name);
            let overheard = Overheard { headers, hidden, passed_over: &passed_over, found: RefCell::default() };
            let context = propagator.extract_with_context(&Context::new(), &overheard);
            (Which::of(context.span().span_context()), overheard.found.into_inner())
        };
        let written = Which::of(written);
        let (mut which, mut more) = read(&[]);
        if which == written {
            return Vec::new();
        }
        // A hidden header may have kept the propagator from reading other headers.
        let mut suspects = Vec::new();
        while which != written && !more.is_empty() && suspects.len() < LIMIT {
            suspects.append(&mut more);
            (which, more) = read(&suspects);
        }
        // A propagator may be unable to write the sampling decision, so the decision that it reads is accepted.
        let right = which;
        if !right.is_same_span(&written) {
            return Vec::new();
        }
        fewest(suspects, |hidden| read(hidden).0 == right)
    }
}

/// Returns the suspects that must be hidden, if hiding all of them helps; earlier suspects are preferred. A binary search finds
/// them, because the sender decides how many headers a message has.
fn fewest(mut suspects: Vec<String>, helps: impl Fn(&[String]) -> bool) -> Vec<String> {
    let all = suspects.clone();
    let mut needed = Vec::new();
    while !helps(&needed) {
        // The last suspect of the shortest prefix that helps is needed.
        let (mut too_few, mut enough) = (0, suspects.len());
        while enough - too_few > 1 {
            let middle = too_few.midpoint(enough);
            let hidden = [&suspects[..middle], &needed].concat();
            (too_few, enough) = if helps(&hidden) { (too_few, middle) } else { (middle, enough) };
        }
        suspects.truncate(enough);
        match suspects.pop() {
            Some(suspect) => needed.push(suspect),
            // If hiding more headers helps less, no subset is reliable.
            None => return all,
        }
    }
    needed
}

/// The parts of a span context that must be equal after reading it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Which {
    trace: TraceId,
    span: SpanId,
    sampled: bool,
}

impl Which {
    fn of(span: &SpanContext) -> Self {
        Self { trace: span.trace_id(), span: span.span_id(), sampled: span.is_sampled() }
    }

    fn is_same_span(&self, other: &Self) -> bool {
        self.trace == other.trace && self.span == other.span
    }
}

fn has(names: &[String], name: &str) -> bool {
    names.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// Headers that record which names were read and found. Hidden headers are not found.
struct Overheard<'a> {
    headers: &'a dyn Extractor,
    hidden: &'a [String],
    /// Names that are not recorded.
    passed_over: &'a dyn Fn(&str) -> bool,
    found: RefCell<Vec<String>>,
}

impl Overheard<'_> {
    fn note(&self, name: &str) {
        let mut found = self.found.borrow_mut();
        if found.len() < LIMIT && !(self.passed_over)(name) && !has(&found, name) {
            found.push(name.to_owned());
        }
    }
}

impl Extractor for Overheard<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let value = self.headers.get(name).filter(|_| !has(self.hidden, name))?;
        self.note(name);
        Some(value)
    }

    fn keys(&self) -> Vec<&str> {
        let mut names = self.headers.keys();
        names.retain(|name| !has(self.hidden, name));
        names
    }

    fn get_all(&self, name: &str) -> Option<Vec<&str>> {
        let values = self.headers.get_all(name).filter(|_| !has(self.hidden, name))?;
        self.note(name);
        Some(values)
    }
}

/// Headers that record which names were written.
struct Noted<'a> {
    headers: &'a mut dyn Injector,
    written: &'a mut Vec<String>,
}

impl Injector for Noted<'_> {
    fn set(&mut self, name: &str, value: String) {
        self.written.push(name.to_owned());
        self.headers.set(name, value);
    }

    fn reserve(&mut self, additional: usize) {
        self.headers.reserve(additional);
    }
}
