//! What a message that is forwarded must not keep: headers that its propagator reads and does not write, by which the next
//! reader would take the original sender for the one that forwards.

use std::cell::RefCell;

use opentelemetry::{
    Context, SpanId, TraceId,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanContext, TraceContextExt},
};

/// How many headers are noted of one reading: the sender says how many there are.
const LIMIT: usize = 64;

/// A message that carries a context and may be forwarded, as its propagator goes about it. Nothing is remembered longer.
#[derive(Debug, Default)]
pub(crate) struct Forward {
    /// What was found in it and is none of the headers that the propagator names.
    found: Vec<String>,
    /// What was written over it, noted where anything was found.
    written: Vec<String>,
}

impl Forward {
    /// Reads the context that the message carries.
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

    /// Writes another context into it, in place of all that the propagator names.
    pub(crate) fn inject(&mut self, propagator: &dyn TextMapPropagator, context: &Context, headers: &mut dyn Injector) {
        propagator.fields().for_each(|field| headers.set(field, String::new()));
        if self.found.is_empty() {
            propagator.inject_context(context, headers);
        } else {
            propagator.inject_context(context, &mut Noted { headers, written: &mut self.written });
        }
    }

    /// Whether it keeps a header that was found. Only then has it to be read back.
    #[inline]
    pub(crate) fn keeps_any(&self) -> bool {
        self.found.iter().any(|name| !has(&self.written, name))
    }

    /// Which headers have to go for the propagator to read the context that was written: no more than have to, and none
    /// where it does not help.
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
        // What is hidden may have kept others from being asked for.
        let mut suspects = Vec::new();
        while which != written && !more.is_empty() && suspects.len() < LIMIT {
            suspects.append(&mut more);
            (which, more) = read(&suspects);
        }
        // A propagator may have no way to write the sampler's decision: then it reads it as it can.
        let right = which;
        if !right.is_same_span(&written) {
            return Vec::new();
        }
        fewest(suspects, |hidden| read(hidden).0 == right)
    }
}

/// The suspects that have to be hidden, if all of them help: the earlier ones rather than the later. They are not tried one
/// by one, because others say how many headers a message has.
fn fewest(mut suspects: Vec<String>, helps: impl Fn(&[String]) -> bool) -> Vec<String> {
    let all = suspects.clone();
    let mut needed = Vec::new();
    while !helps(&needed) {
        // The last one of the shortest part that helps is needed.
        let (mut too_few, mut enough) = (0, suspects.len());
        while enough - too_few > 1 {
            let middle = too_few.midpoint(enough);
            let hidden = [&suspects[..middle], &needed].concat();
            (too_few, enough) = if helps(&hidden) { (too_few, middle) } else { (middle, enough) };
        }
        suspects.truncate(enough);
        match suspects.pop() {
            Some(suspect) => needed.push(suspect),
            // Where more helps less, no part can be trusted.
            None => return all,
        }
    }
    needed
}

/// What is to be read back of a span.
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

/// Headers of which is known which were asked for and found. Some of them are hidden.
struct Overheard<'a> {
    headers: &'a dyn Extractor,
    hidden: &'a [String],
    /// Those that are not noted.
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

/// Headers of which is known which were written.
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
