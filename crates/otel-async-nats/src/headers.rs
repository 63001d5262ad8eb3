//! Contexts in and out of NATS headers.

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector};
use otel_messaging::adapter::{CONTEXT_HEADERS, ContextHeaders, HeaderBudget, Headers, context_header, opaque_debug};
use serde::{
    Deserialize,
    de::value::{self, StringDeserializer},
};

const TRACEPARENT: &str = "traceparent";

/// A message's id, as [`NATS_MESSAGE_ID`](async_nats::header::NATS_MESSAGE_ID) has it.
const MESSAGE_ID: &str = "Nats-Msg-Id";

/// On messages that a schedule of the server sent: the subject of the schedule.
///
/// Source: "Message Scheduling", ADR-51 of NATS.
const SCHEDULER: &str = "Nats-Scheduler";

/// On messages of a `headers_only` consumer: the length of the body.
const MESSAGE_SIZE: &str = "Nats-Msg-Size";

/// The name to which servers of 2.11, and of 2.12 up to 2.12.8, rename `traceparent` when they trace a message that must not be
/// traced again.
const DISABLED_TRACEPARENT: &str = "Xraceparent";

/// The letter case of the headers that carry a context.
///
/// NATS headers are case-sensitive, W3C writes its names in lower case, and the Go instrumentation looks for
/// `Traceparent` only. Reading always ignores the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum HeaderCase {
    /// `traceparent`, as W3C and most languages write and read it. The default.
    #[default]
    Lower,
    /// `Traceparent`, as Go's `propagation.HeaderCarrier` writes and reads it. The instrumentations of Java, .NET and Python
    /// look for `traceparent` only, and find no context then.
    Canonical,
    /// Both, for consumers of both kinds on one subject. Twice the bytes.
    Both,
}

/// Writes a context into a [`HeaderMap`].
///
/// A header of the same name, in any case, is replaced; an empty value removes it. Writing `traceparent` removes `Xraceparent`,
/// an older `traceparent` that a server has renamed: if the server renamed the new one too, the two could not be distinguished.
/// A header that NATS cannot carry (a name that is not printable ASCII, a value with a line break) is left out. It never
/// panics.
///
/// With async-nats itself and a span of your own:
///
/// ```
/// use opentelemetry::{
///     Context,
///     propagation::TextMapPropagator,
///     trace::{SpanKind, TraceContextExt, Tracer, TracerProvider},
/// };
/// use otel_async_nats::{HeaderMap, otel::HeaderInjector};
/// # use otel_async_nats::otel::HeaderExtractor;
/// # use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
/// # let (provider, propagator) = (SdkTracerProvider::default(), TraceContextPropagator::new());
/// # let tracer = provider.tracer("shop");
///
/// let span = tracer.span_builder("publish orders").with_kind(SpanKind::Producer).start(&tracer);
/// let context = Context::current_with_span(span);
///
/// let mut headers = HeaderMap::new();
/// propagator.inject_context(&context, &mut HeaderInjector::new(&mut headers));
/// // raw_client.publish_with_headers("orders", headers, "four apples".into())
/// # let arrived = propagator.extract(&HeaderExtractor::new(&headers));
/// # assert_eq!(arrived.span().span_context().span_id(), context.span().span_context().span_id());
/// ```
pub struct HeaderInjector<'a> {
    headers: &'a mut HeaderMap,
    case: HeaderCase,
    budget: HeaderBudget,
}

impl<'a> HeaderInjector<'a> {
    /// Writes names as the propagator gives them, which is lower case for W3C.
    pub fn new(headers: &'a mut HeaderMap) -> Self {
        Self { headers, case: HeaderCase::default(), budget: HeaderBudget::UNLIMITED }
    }

    /// Writes names in this case.
    #[must_use]
    pub fn case(mut self, case: HeaderCase) -> Self {
        self.case = case;
        self
    }

    /// Limits the headers to this number of bytes on the wire.
    #[inline]
    pub(crate) fn budget(mut self, bytes: usize) -> Self {
        let preamble = if self.headers.is_empty() { PREAMBLE } else { 0 };
        let copies = if self.case == HeaderCase::Both { 2 } else { 1 };
        self.budget = HeaderBudget::new(bytes.saturating_sub(preamble) / copies, PER_HEADER);
        self
    }
}

impl Injector for HeaderInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        remove(self.headers, key);
        if value.is_empty() {
            return;
        }
        let Some(value) = header_value(value) else { return };
        if self.case != HeaderCase::Lower
            && let Some(name) = canonical(key)
        {
            self.headers.insert(name, value.clone());
        }
        if self.case != HeaderCase::Canonical
            && let Some(name) = as_given(key)
        {
            self.headers.insert(name, value);
        }
    }
}

impl Extractor for HeaderInjector<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        find(self.headers, key)
    }

    fn keys(&self) -> Vec<&str> {
        names(self.headers)
    }

    fn get_all(&self, key: &str) -> Option<Vec<&str>> {
        all(self.headers, key)
    }
}

impl Headers for HeaderInjector<'_> {
    fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    fn header_budget(&self) -> HeaderBudget {
        self.budget
    }
}

opaque_debug! { [] HeaderInjector<'_>, "HeaderInjector", |injector| case: injector.case }

/// Reads a context from a [`HeaderMap`].
///
/// Names are found in any case; the exact one wins. Of several values the last one counts. Where there is no
/// `traceparent`, the `Xraceparent` is read that servers of 2.11, and of 2.12 up to 2.12.8, make of it.
///
/// With async-nats itself and a span of your own:
///
/// ```
/// use opentelemetry::{
///     Context,
///     propagation::TextMapPropagator,
///     trace::{SpanKind, TraceContextExt, Tracer, TracerProvider},
/// };
/// use otel_async_nats::{HeaderMap, otel::HeaderExtractor};
/// # use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
/// # let (provider, propagator) = (SdkTracerProvider::default(), TraceContextPropagator::new());
/// # let tracer = provider.tracer("shop");
/// # let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// # let mut headers = HeaderMap::new();
/// # headers.insert("Traceparent", traceparent);
/// # let headers = Some(headers);
///
/// // `message.headers` of a raw message.
/// let headers: Option<HeaderMap> = headers;
/// let sender = match &headers {
///     Some(headers) => propagator.extract(&HeaderExtractor::new(headers)),
///     None => Context::current(),
/// };
/// let span = tracer.span_builder("process orders").with_kind(SpanKind::Consumer).start_with_context(&tracer, &sender);
/// let handling = sender.with_span(span);
/// # assert_eq!(handling.span().span_context().trace_id().to_string(), &traceparent[3..35]);
/// ```
pub struct HeaderExtractor<'a>(&'a HeaderMap);

impl<'a> HeaderExtractor<'a> {
    /// Reads these headers.
    pub fn new(headers: &'a HeaderMap) -> Self {
        Self(headers)
    }
}

impl Extractor for HeaderExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        find(self.0, key)
    }

    fn keys(&self) -> Vec<&str> {
        names(self.0)
    }

    fn get_all(&self, key: &str) -> Option<Vec<&str>> {
        all(self.0, key)
    }
}

opaque_debug! { [] HeaderExtractor<'_>, "HeaderExtractor" }

/// The headers of a received message that are read, found in one scan.
#[derive(Default)]
pub(crate) struct ScannedHeaders<'a> {
    pub(crate) id: Option<&'a HeaderValue>,
    /// A schedule of the server sent the message.
    pub(crate) scheduled: bool,
    /// The length of the body, if the server left the body out.
    pub(crate) size: Option<usize>,
    pub(crate) contexts: ContextHeaders<'a>,
}

/// The name of a header as it was written, and its last value.
type NamedValue<'a> = (&'a str, Option<&'a HeaderValue>);

impl<'a> ScannedHeaders<'a> {
    /// Scans all headers once.
    #[inline]
    pub(crate) fn scan(&mut self, headers: &'a HeaderMap) {
        let mut contexts: [Option<NamedValue<'_>>; CONTEXT_HEADERS.len()] = Default::default();
        let mut disabled = None;
        for (name, values) in headers.iter() {
            let (name, value) = (name_of(name), values.last());
            if name == MESSAGE_ID {
                self.id = value;
            } else if name == SCHEDULER {
                self.scheduled = true;
            } else if name == MESSAGE_SIZE {
                self.size = value.and_then(|size| size.as_str().parse().ok());
            } else if let Some(at) = context_header(name.as_bytes()) {
                prefer(&mut contexts[at], (name, value), CONTEXT_HEADERS[at]);
            } else if name.eq_ignore_ascii_case(DISABLED_TRACEPARENT) {
                prefer(&mut disabled, (name, value), DISABLED_TRACEPARENT);
            }
        }
        let text = |named: Option<NamedValue<'a>>| Some(named?.1?.as_str().as_bytes());
        self.contexts = contexts.map(text);
        if self.contexts[0].is_none() {
            self.contexts[0] = text(disabled);
        }
    }
}

/// The map has no order, so the choice among several cases needs a rule: the exact name wins.
#[inline]
fn prefer<'a>(found: &mut Option<NamedValue<'a>>, other: NamedValue<'a>, exact: &str) {
    let rank = |(name, _): &NamedValue<'a>| (*name == exact, *name);
    if found.as_ref().is_none_or(|found| rank(found) < rank(&other)) {
        *found = Some(other);
    }
}

/// The size of these headers on the wire, in bytes.
pub(crate) fn wire_length(headers: &HeaderMap) -> usize {
    if headers.is_empty() {
        return 0;
    }
    let lines = headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(|value| name_of(name).len() + value.as_str().len() + PER_HEADER));
    PREAMBLE + lines.sum::<usize>()
}

/// The first line and the empty last one.
const PREAMBLE: usize = b"NATS/1.0\r\n\r\n".len();

/// The bytes around a name and its value.
const PER_HEADER: usize = b": \r\n".len();

#[inline]
fn name_of(name: &HeaderName) -> &str {
    name.as_ref()
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    headers.iter().map(|(name, _)| name_of(name)).collect()
}

/// Walks over all headers: a look-up would allocate for the key, and panic for a key that NATS does not allow.
pub(crate) fn find<'a>(headers: &'a HeaderMap, key: &str) -> Option<&'a str> {
    let in_any_case = |key: &str| {
        let same = headers.iter().filter(|(name, _)| name_of(name).eq_ignore_ascii_case(key));
        // The map has no order, so the choice among several cases needs a rule.
        same.max_by_key(|(name, _)| (name_of(name) == key, name_of(name)))
            .and_then(|(_, values)| values.last())
            .map(HeaderValue::as_str)
    };
    in_any_case(key)
        .or_else(|| key.eq_ignore_ascii_case(TRACEPARENT).then(|| in_any_case(DISABLED_TRACEPARENT)).flatten())
}

/// All values of a name, in any case.
fn all<'a>(headers: &'a HeaderMap, key: &str) -> Option<Vec<&'a str>> {
    let mut same: Vec<_> = headers.iter().filter(|(name, _)| name_of(name).eq_ignore_ascii_case(key)).collect();
    // The map has no order.
    same.sort_by_key(|(name, _)| name_of(name));
    let values: Vec<_> = same.into_iter().flat_map(|(_, values)| values).map(HeaderValue::as_str).collect();
    (!values.is_empty()).then_some(values)
}

/// `HeaderMap` cannot remove a header: if the map contains the name, a new map without it replaces the old one.
#[inline]
fn remove(headers: &mut HeaderMap, key: &str) {
    let is_traceparent = key.eq_ignore_ascii_case(TRACEPARENT);
    let is_replaced = |name: &HeaderName| {
        let name = name_of(name);
        name.eq_ignore_ascii_case(key) || is_traceparent && name.eq_ignore_ascii_case(DISABLED_TRACEPARENT)
    };
    if !headers.iter().any(|(name, _)| is_replaced(name)) {
        return;
    }
    let mut others = HeaderMap::new();
    for (name, values) in headers.iter().filter(|(name, _)| !is_replaced(name)) {
        for value in values {
            others.append(name.clone(), value.clone());
        }
    }
    *headers = others;
}

/// `None` for a value that NATS cannot carry. A printable value is always accepted, and not copied.
#[inline]
fn header_value(value: String) -> Option<HeaderValue> {
    // Without an early exit, so that the compiler vectorises it.
    let printable = value.bytes().fold(true, |all, byte| all & matches!(byte, b' '..=b'~'));
    if !printable {
        return value.parse().ok();
    }
    // The client's other constructors check each letter again.
    HeaderValue::deserialize(StringDeserializer::<value::Error>::new(value)).ok()
}

#[inline]
fn as_given(key: &str) -> Option<HeaderName> {
    static KNOWN: [HeaderName; 3] = [
        HeaderName::from_static(TRACEPARENT),
        HeaderName::from_static("tracestate"),
        HeaderName::from_static("baggage"),
    ];
    KNOWN.iter().find(|name| name_of(name) == key).cloned().or_else(|| HeaderName::try_from(key).ok())
}

/// The name as Go writes it: a capital at the start of each part.
fn canonical(key: &str) -> Option<HeaderName> {
    let mut at_start = true;
    let name: String = key
        .chars()
        .map(|letter| {
            let written = if at_start { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() };
            at_start = letter == '-';
            written
        })
        .collect();
    HeaderName::try_from(name).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name() -> impl Strategy<Value = String> {
        let contexts = ["traceparent", "tracestate", "baggage", "xraceparent", "nats-msg-id"];
        let cased = (prop::sample::select(contexts.to_vec()), any::<u64>()).prop_map(|(name, upper)| {
            let turned = name.char_indices();
            turned.map(|(at, letter)| if upper >> at & 1 == 1 { letter.to_ascii_uppercase() } else { letter }).collect()
        });
        let written = ["traceparent", "Traceparent", "Xraceparent", "baggage", "Nats-Msg-Id"];
        prop_oneof![4 => cased, 4 => prop::sample::select(written.to_vec()).prop_map(str::to_owned), 1 => "[!-9;-~]{1,12}"]
    }

    proptest! {
        #[test]
        fn a_value_is_what_the_client_makes_of_it(value in prop_oneof!["[ -~]{0,80}", any::<String>(), "[a\r\n]{1,3}"]) {
            prop_assert_eq!(header_value(value.clone()), value.parse().ok());
        }

        #[test]
        fn what_is_looked_through_once_says_what_a_look_at_each_says(
            all in prop::collection::vec((name(), "[ -~]{0,8}"), 0..8),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in &all {
                headers.append(HeaderName::try_from(name.as_str()).unwrap(), value.parse::<HeaderValue>().unwrap());
            }
            let mut scanned = ScannedHeaders::default();
            scanned.scan(&headers);
            let each = HeaderExtractor::new(&headers);
            prop_assert_eq!(scanned.contexts, CONTEXT_HEADERS.map(|name| each.get(name).map(str::as_bytes)));
            prop_assert_eq!(scanned.id, headers.get_last(async_nats::header::NATS_MESSAGE_ID));
        }
    }
}
