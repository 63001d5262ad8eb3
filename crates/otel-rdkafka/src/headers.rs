//! Carriers for Kafka's headers.

use std::{fmt, mem, str};

use opentelemetry::propagation::{Extractor, Injector};
use otel_messaging::adapter::{
    CONTEXT_HEADERS, ContextHeaders, DeliveryHistory, HeaderBudget, Headers, context_header,
};
use rdkafka::message::{BorrowedHeaders, Headers as _, OwnedHeaders};

use crate::{
    history::read_header,
    native::{self, DeliveryReport},
};

/// Writes a context into a record's headers, for applications that make their own spans.
///
/// It replaces all headers of the name, in any letter case. An empty value only removes them.
///
/// ```
/// use opentelemetry::{
///     Context,
///     propagation::TextMapPropagator,
///     trace::{SpanKind, TraceContextExt, Tracer, TracerProvider},
/// };
/// use otel_rdkafka::{
///     message::OwnedHeaders,
///     otel::{HeaderInjector, raw::producer::FutureRecord},
/// };
/// # use otel_rdkafka::otel::HeaderExtractor;
/// # use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
/// # let (provider, propagator) = (SdkTracerProvider::default(), TraceContextPropagator::new());
/// # let tracer = provider.tracer("shop");
///
/// let span = tracer.span_builder("send orders").with_kind(SpanKind::Producer).start(&tracer);
/// let context = Context::current_with_span(span);
///
/// let mut headers = OwnedHeaders::new();
/// propagator.inject_context(&context, &mut HeaderInjector(&mut headers));
/// let record = FutureRecord::to("orders").key("4711").payload("four apples").headers(headers);
/// // raw_producer.send(record, timeout)
/// # let received = propagator.extract(&HeaderExtractor(record.headers.as_ref().unwrap().as_borrowed()));
/// # assert_eq!(received.span().span_context().span_id(), context.span().span_context().span_id());
/// ```
#[derive(Debug)]
pub struct HeaderInjector<'a>(pub &'a mut OwnedHeaders);

impl Injector for HeaderInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        native::remove(self.0, key);
        if !value.is_empty() {
            native::add(self.0, (key.as_bytes(), Some(value.as_bytes())));
        }
    }
}

/// Reads a context from a message's headers, for applications that make their own spans.
///
/// Names match in any letter case. If a name occurs several times, the last header counts. A value that is null or not UTF-8 is
/// not read. The other headers may have any content.
///
/// ```
/// use opentelemetry::{
///     Context,
///     propagation::TextMapPropagator,
///     trace::{SpanKind, TraceContextExt, Tracer, TracerProvider},
/// };
/// use otel_rdkafka::{
///     message::{BorrowedHeaders, Header, OwnedHeaders},
///     otel::HeaderExtractor,
/// };
/// # use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
/// # let (provider, propagator) = (SdkTracerProvider::default(), TraceContextPropagator::new());
/// # let tracer = provider.tracer("shop");
/// # let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// # let headers = OwnedHeaders::new().insert(Header { key: "Traceparent", value: Some(traceparent) });
/// # let headers = Some(headers.as_borrowed());
///
/// // The result of `raw_message.headers()`.
/// let headers: Option<&BorrowedHeaders> = headers;
/// let sender = headers.map_or_else(Context::current, |headers| propagator.extract(&HeaderExtractor(headers)));
/// let span = tracer.span_builder("process orders").with_kind(SpanKind::Consumer).start_with_context(&tracer, &sender);
/// let handling = sender.with_span(span);
/// # assert_eq!(handling.span().span_context().trace_id().to_string(), &traceparent[3..35]);
/// ```
pub struct HeaderExtractor<'a>(pub &'a BorrowedHeaders);

impl fmt::Debug for HeaderExtractor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderExtractor").field("keys", &self.keys()).finish()
    }
}

impl Extractor for HeaderExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        get(self.0, key)
    }

    fn keys(&self) -> Vec<&str> {
        keys(self.0)
    }

    fn get_all(&self, key: &str) -> Option<Vec<&str>> {
        get_all(self.0, key)
    }
}

/// The values that are read from the headers of a received message.
#[derive(Default)]
pub(crate) struct ReceivedHeaders<'a> {
    pub(crate) history: DeliveryHistory,
    pub(crate) contexts: ContextHeaders<'a>,
}

impl<'a> ReceivedHeaders<'a> {
    /// Reads all headers in one pass.
    #[inline]
    pub(crate) fn read(&mut self, headers: &'a BorrowedHeaders) {
        let mut seen = [false; CONTEXT_HEADERS.len()];
        for (name, value) in native::headers_reversed(headers) {
            read_header(&mut self.history, name, value);
            // The last one counts, also if its value is not valid.
            if let Some(at) = context_header(name)
                && !mem::replace(&mut seen[at], true)
            {
                self.contexts[at] = value;
            }
        }
    }
}

fn get<'a>(headers: &'a BorrowedHeaders, key: &str) -> Option<&'a str> {
    let (_, value) = native::headers_reversed(headers).find(|(name, _)| name.eq_ignore_ascii_case(key.as_bytes()))?;
    str::from_utf8(value?).ok()
}

/// All readable values, in the order of the message.
fn get_all<'a>(headers: &'a BorrowedHeaders, key: &str) -> Option<Vec<&'a str>> {
    let same = native::headers_reversed(headers).filter(|(name, _)| name.eq_ignore_ascii_case(key.as_bytes()));
    let mut values: Vec<_> = same.filter_map(|(_, value)| str::from_utf8(value?).ok()).collect();
    values.reverse();
    (!values.is_empty()).then_some(values)
}

fn keys(headers: &BorrowedHeaders) -> Vec<&str> {
    native::headers_reversed(headers).filter_map(|(name, _)| str::from_utf8(name).ok()).collect()
}

/// The headers of a record that is being sent, and how to restore the user's headers.
#[derive(Debug)]
pub(crate) struct RecordHeaders<'a> {
    headers: &'a mut Option<OwnedHeaders>,
    budget: HeaderBudget,
    injected: InjectedHeaders,
}

/// The change that [`RecordHeaders`] made to a record's headers.
#[derive(Debug)]
pub(crate) enum InjectedHeaders {
    None,
    /// The record had no headers.
    Created,
    /// The record had this number of headers, which still come first.
    Appended(usize),
    /// Some of the record's headers were replaced: these are the original headers.
    Replaced(OwnedHeaders),
}

impl<'a> RecordHeaders<'a> {
    /// `bytes` more bytes of headers still fit into the record.
    pub(crate) fn new(headers: &'a mut Option<OwnedHeaders>, bytes: usize) -> Self {
        Self { headers, budget: HeaderBudget::new(bytes, native::MAX_LENGTH_PREFIXES), injected: InjectedHeaders::None }
    }

    #[inline]
    pub(crate) fn into_injected(self) -> InjectedHeaders {
        self.injected
    }

    #[inline]
    fn has(&self, key: &str) -> bool {
        self.headers.as_ref().is_some_and(|headers| {
            native::headers_reversed(headers.as_borrowed()).any(|(name, _)| name.eq_ignore_ascii_case(key.as_bytes()))
        })
    }
}

impl Injector for RecordHeaders<'_> {
    fn set(&mut self, key: &str, value: String) {
        let replaces = self.has(key);
        if value.is_empty() && !replaces {
            return;
        }
        match self.headers {
            None => {
                self.injected = InjectedHeaders::Created;
                // The number of headers of W3C trace context and baggage.
                *self.headers = Some(OwnedHeaders::new_with_capacity(3));
            }
            Some(headers) if replaces => match self.injected {
                InjectedHeaders::None => self.injected = InjectedHeaders::Replaced(headers.clone()),
                InjectedHeaders::Appended(count) => {
                    let mut before = headers.clone();
                    native::truncate(&mut before, count);
                    self.injected = InjectedHeaders::Replaced(before);
                }
                InjectedHeaders::Created | InjectedHeaders::Replaced(_) => {}
            },
            Some(headers) => {
                if let InjectedHeaders::None = self.injected {
                    self.injected = InjectedHeaders::Appended(headers.count());
                }
            }
        }
        if let Some(headers) = self.headers {
            if replaces {
                native::remove(headers, key);
            }
            if !value.is_empty() {
                native::add(headers, (key.as_bytes(), Some(value.as_bytes())));
            }
        }
    }
}

impl Extractor for RecordHeaders<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.headers.as_ref().and_then(|headers| get(headers.as_borrowed(), key))
    }

    fn keys(&self) -> Vec<&str> {
        self.headers.as_ref().map(|headers| keys(headers.as_borrowed())).unwrap_or_default()
    }

    fn get_all(&self, key: &str) -> Option<Vec<&str>> {
        self.headers.as_ref().and_then(|headers| get_all(headers.as_borrowed(), key))
    }
}

impl Headers for RecordHeaders<'_> {
    fn is_empty(&self) -> bool {
        self.headers.is_none()
    }

    fn header_budget(&self) -> HeaderBudget {
        self.budget
    }
}

impl InjectedHeaders {
    /// Restores the headers of a record that was not accepted.
    pub(crate) fn undo(self, headers: &mut Option<OwnedHeaders>) {
        match self {
            Self::None => {}
            Self::Created => *headers = None,
            Self::Appended(count) => {
                if let Some(headers) = headers {
                    native::truncate(headers, count);
                }
            }
            Self::Replaced(before) => *headers = Some(before),
        }
    }

    /// Restores the headers of the message in a delivery report, before the application gets it.
    pub(crate) fn undo_reported(self, mut report: DeliveryReport<'_>) {
        match self {
            Self::None => {}
            Self::Created => report.replace_headers(None),
            Self::Appended(count) => report.truncate_headers(count),
            Self::Replaced(before) => report.replace_headers(Some(before)),
        }
    }
}

#[cfg(test)]
mod tests {
    use otel_messaging::{
        Instrumentation, Propagation,
        adapter::{Arrival, Destination, OperationName, SourceId, Telemetry, scope},
    };
    use proptest::{collection::vec, option, prelude::*};
    use rdkafka::message::Header;

    use super::*;

    fn text(headers: Option<&OwnedHeaders>) -> Vec<(String, Option<String>)> {
        let all = headers.into_iter().flat_map(|headers| headers.iter());
        all.map(|header| (header.key.to_owned(), header.value.map(|value| String::from_utf8_lossy(value).into_owned())))
            .collect()
    }

    fn own() -> OwnedHeaders {
        OwnedHeaders::new()
            .insert(Header { key: "tenant", value: Some("blue") })
            .insert(Header { key: "TraceParent", value: Some("old") })
            .insert::<[u8]>(Header { key: "nothing", value: None })
            .insert(Header { key: "traceparent", value: Some("older") })
    }

    fn pair(key: &str, value: Option<&str>) -> (String, Option<String>) {
        (key.to_owned(), value.map(str::to_owned))
    }

    #[test]
    fn injecting_replaces_in_any_case_and_keeps_the_others_in_order() {
        let mut headers = own();
        HeaderInjector(&mut headers).set("traceparent", "new".to_owned());
        let expected = [pair("tenant", Some("blue")), pair("nothing", None), pair("traceparent", Some("new"))];
        assert_eq!(text(Some(&headers)), expected);
        HeaderInjector(&mut headers).set("TRACEPARENT", String::new());
        assert_eq!(text(Some(&headers)), expected[..2]);
    }

    #[test]
    fn extracting_takes_the_last_in_any_case() {
        let headers = own();
        let extractor = HeaderExtractor(headers.as_borrowed());
        assert_eq!(extractor.get("TRACEparent"), Some("older"));
        assert_eq!(extractor.get("nothing"), None);
        assert_eq!(extractor.get("absent"), None);
        assert_eq!(extractor.get_all("TRACEparent"), Some(vec!["old", "older"]));
        assert_eq!(extractor.get_all("nothing"), None);
        assert_eq!(extractor.keys(), ["traceparent", "nothing", "TraceParent", "tenant"]);
    }

    #[test]
    fn a_header_of_any_length_is_read() {
        for (at, key) in CONTEXT_HEADERS.into_iter().enumerate() {
            let value = "x".repeat(100_000);
            let headers = OwnedHeaders::new().insert(Header { key, value: Some(&value) });
            assert_eq!(HeaderExtractor(headers.as_borrowed()).get(key), Some(&*value));
            let mut received = ReceivedHeaders::default();
            received.read(headers.as_borrowed());
            assert_eq!(received.contexts[at], Some(value.as_bytes()));
        }
    }

    #[test]
    fn a_traceparent_of_a_later_version_with_bytes_that_are_no_text_is_none() {
        let telemetry = Telemetry::new(scope("test", "0"), "kafka");
        telemetry.instrument(Instrumentation::builder().with_propagation(Propagation::W3c).build());
        for (more, is_one) in [(&b""[..], true), (b"-later", true), (b"-\xff", false), (b"-later\xc3", false)] {
            let value = [b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", more].concat();
            let headers = OwnedHeaders::new().insert(Header { key: "traceparent", value: Some(&value) });
            let (mut received, all) = (ReceivedHeaders::default(), HeaderExtractor(headers.as_borrowed()));
            received.read(headers.as_borrowed());
            assert_eq!(all.get("traceparent").is_some(), is_one, "{more:?}");
            let operation = telemetry.operation(OperationName::process("process"), &["t"], || Destination::named("t"));
            let arrival = Arrival::new(SourceId::new(), Some(&all)).context_headers(&received.contexts);
            let process = telemetry.deliver(telemetry.start_operation().unwrap(), operation, arrival, |_| ());
            assert_eq!(process.creation().is_some(), is_one, "{more:?}");
        }
    }

    /// Writes, returns the headers, and restores them.
    fn written(mut headers: Option<OwnedHeaders>, write: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
        let before = text(headers.as_ref());
        let had_any = headers.is_some();
        let mut carrier = RecordHeaders::new(&mut headers, usize::MAX);
        for (key, value) in write {
            carrier.set(key, (*value).to_owned());
        }
        let written = carrier.into_injected();
        let between = text(headers.as_ref());
        written.undo(&mut headers);
        assert_eq!(text(headers.as_ref()), before);
        assert_eq!(headers.is_some(), had_any);
        between
    }

    #[test]
    fn what_was_written_is_undone() {
        let new = [("traceparent", "new"), ("tracestate", ""), ("baggage", "a=1")];
        let ours = [pair("traceparent", Some("new")), pair("baggage", Some("a=1"))];
        assert_eq!(written(None, &new), ours);
        assert_eq!(written(Some(OwnedHeaders::new()), &new), ours);
        let tenant = || OwnedHeaders::new().insert(Header { key: "tenant", value: Some("blue") });
        assert_eq!(written(Some(tenant()), &new)[1..], ours);
        let over = written(Some(own()), &new);
        assert_eq!(over[..2], [pair("tenant", Some("blue")), pair("nothing", None)]);
        assert_eq!(over[2..], ours);
        // Appended first, then replaced; and the same key twice.
        let late = written(Some(tenant()), &[("traceparent", "new"), ("tenant", "red"), ("traceparent", "newer")]);
        assert_eq!(late, [pair("tenant", Some("red")), pair("traceparent", Some("newer"))]);
        let twice = [("traceparent", "new"), ("traceparent", "newer")];
        assert_eq!(written(None, &twice), [pair("traceparent", Some("newer"))]);
        assert_eq!(written(Some(own()), &twice)[2..], [pair("traceparent", Some("newer"))]);
        assert_eq!(written(Some(tenant()), &[("tracestate", "")]), text(Some(&tenant())));
        assert_eq!(written(None, &[("tracestate", "")]), []);
    }

    /// Any bytes but zero, which ends a name, or the name of a context header in any letter case.
    fn any_name() -> impl Strategy<Value = Vec<u8>> {
        let fields = prop::sample::select(vec!["traceparent", "tracestate", "baggage", "retry_topic-attempts"]);
        let cased = (fields, any::<u64>()).prop_map(|(field, upper)| {
            let turned = field.bytes().enumerate();
            turned.map(|(at, byte)| if upper >> at & 1 == 1 { byte.to_ascii_uppercase() } else { byte }).collect()
        });
        prop_oneof![vec(1..=u8::MAX, 0..20), cased]
    }

    fn any_headers() -> impl Strategy<Value = Vec<(Vec<u8>, Option<Vec<u8>>)>> {
        vec((any_name(), option::of(vec(any::<u8>(), 0..40))), 0..12)
    }

    fn list(all: &[(Vec<u8>, Option<Vec<u8>>)]) -> OwnedHeaders {
        all.iter().fold(OwnedHeaders::new(), |mut list, (name, value)| {
            native::add(&mut list, (name, value.as_deref()));
            list
        })
    }

    fn bytes(headers: &OwnedHeaders) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut all: Vec<_> = native::headers_reversed(headers.as_borrowed())
            .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)))
            .collect();
        all.reverse();
        all
    }

    proptest! {
        #[test]
        fn any_headers_can_be_read(all in any_headers(), key in ".*") {
            let headers = list(&all);
            prop_assert_eq!(bytes(&headers), all);
            let extractor = HeaderExtractor(headers.as_borrowed());
            extractor.keys();
            for key in ["traceparent", "TRACESTATE", "baggage", &key] {
                extractor.get(key);
            }
            // One pass, or one look-up for each name.
            let mut received = ReceivedHeaders::default();
            received.read(headers.as_borrowed());
            let found = received.contexts.map(|value| str::from_utf8(value?).ok());
            prop_assert_eq!(found, CONTEXT_HEADERS.map(|name| extractor.get(name)));
        }

        #[test]
        fn any_headers_stay_beside_ours_and_are_returned(
            all in any_headers(),
            written in vec(("[Tt]race(parent|state)|baggage", ".{0,30}"), 0..5),
        ) {
            let mut headers = Some(list(&all));
            let mut carrier = RecordHeaders::new(&mut headers, usize::MAX);
            for (key, value) in &written {
                carrier.set(key, value.clone());
            }
            let undo = carrier.into_injected();
            let is = |name: &[u8]| written.iter().any(|(key, _)| key.as_bytes().eq_ignore_ascii_case(name));
            let between = bytes(headers.as_ref().unwrap());
            let kept: Vec<_> = between.iter().filter(|(name, _)| !is(name)).cloned().collect();
            let own: Vec<_> = all.iter().filter(|(name, _)| !is(name)).cloned().collect();
            prop_assert_eq!(kept, own);
            for (key, _) in &written {
                let found = between.iter().filter(|(name, _)| name.eq_ignore_ascii_case(key.as_bytes()));
                let last = written.iter().rfind(|(other, _)| other.eq_ignore_ascii_case(key)).unwrap();
                let found: Vec<_> = found.map(|(_, value)| value.as_deref()).collect();
                let expected = Some(Some(last.1.as_bytes())).filter(|_| !last.1.is_empty());
                prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
            }
            undo.undo(&mut headers);
            prop_assert_eq!(bytes(headers.as_ref().unwrap()), all);
        }
    }
}
