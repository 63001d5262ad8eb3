//! Carriers: AMQP header tables for OpenTelemetry's propagators.

use std::{collections::BTreeMap, mem};

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use opentelemetry::propagation::{Extractor, Injector};
use otel_messaging::adapter::{ContextHeaders, HeaderBudget, Headers, context_header};

use crate::wire_size::header_budget;

type Entries = BTreeMap<ShortString, AMQPValue>;

/// Index of baggage in [`CONTEXT_HEADERS`](otel_messaging::adapter::CONTEXT_HEADERS).
const BAGGAGE: usize = 2;

/// Writes a context into a header table.
///
/// Values are long strings, which every client reads (a short string in a table makes RabbitMQ close the connection). A
/// header replaces all headers of the same name in any letter case; an empty value removes them; a name longer than 255 bytes
/// is omitted. It never panics.
///
/// With lapin itself and a span of your own:
///
/// ```
/// use opentelemetry::{
///     Context,
///     propagation::TextMapPropagator,
///     trace::{SpanKind, TraceContextExt, Tracer, TracerProvider},
/// };
/// use otel_lapin::{BasicProperties, otel::HeaderInjector, types::FieldTable};
/// # use otel_lapin::otel::HeaderExtractor;
/// # use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
/// # let (provider, propagator) = (SdkTracerProvider::default(), TraceContextPropagator::new());
/// # let tracer = provider.tracer("shop");
///
/// let span = tracer.span_builder("publish orders").with_kind(SpanKind::Producer).start(&tracer);
/// let context = Context::current_with_span(span);
///
/// let mut headers = FieldTable::default();
/// propagator.inject_context(&context, &mut HeaderInjector::new(&mut headers));
/// let properties = BasicProperties::default().with_headers(headers);
/// // raw_channel.basic_publish("".into(), "orders".into(), options, b"four apples", properties)
/// # let arrived = propagator.extract(&HeaderExtractor::new(properties.headers().as_ref().unwrap()));
/// # assert_eq!(arrived.span().span_context().span_id(), context.span().span_context().span_id());
/// ```
#[derive(Debug)]
pub struct HeaderInjector<'a>(&'a mut FieldTable);

impl<'a> HeaderInjector<'a> {
    /// Writes into this table.
    pub fn new(headers: &'a mut FieldTable) -> Self {
        Self(headers)
    }
}

impl Injector for HeaderInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        // lapin's field table has no method that removes an entry.
        if value.is_empty() || spellings(self.0.inner(), key).any(|spelling| spelling.as_str() != key) {
            let mut entries = mem::take(self.0).inner().clone();
            replace(&mut entries, key, value);
            *self.0 = entries.into();
        } else if let Ok(name) = ShortString::try_new(key) {
            self.0.insert(name, AMQPValue::LongString(value.into()));
        }
    }
}

/// Reads a context from a header table.
///
/// Names are found in any letter case, the exact one first. Values are read from long strings, byte arrays and short strings
/// that are UTF-8; all other values are ignored. It never panics.
///
/// With lapin itself and a span of your own:
///
/// ```
/// use opentelemetry::{
///     Context,
///     propagation::TextMapPropagator,
///     trace::{SpanKind, TraceContextExt, Tracer, TracerProvider},
/// };
/// use otel_lapin::otel::HeaderExtractor;
/// # use otel_lapin::{BasicProperties, types::{AMQPValue, FieldTable}};
/// # use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
/// # let (provider, propagator) = (SdkTracerProvider::default(), TraceContextPropagator::new());
/// # let tracer = provider.tracer("shop");
/// # let mut headers = FieldTable::default();
/// # let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// # headers.insert("traceparent".into(), AMQPValue::LongString(traceparent.into()));
/// # let properties = BasicProperties::default().with_headers(headers);
///
/// // `properties` is that of a raw delivery.
/// let sender = match properties.headers() {
///     Some(headers) => propagator.extract(&HeaderExtractor::new(headers)),
///     None => Context::current(),
/// };
/// let span = tracer.span_builder("process orders").with_kind(SpanKind::Consumer).start_with_context(&tracer, &sender);
/// let handling = sender.with_span(span);
/// # assert_eq!(handling.span().span_context().trace_id().to_string(), &traceparent[3..35]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct HeaderExtractor<'a>(&'a FieldTable);

impl<'a> HeaderExtractor<'a> {
    /// Reads from this table.
    pub fn new(headers: &'a FieldTable) -> Self {
        Self(headers)
    }
}

impl Extractor for HeaderExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        get(self.0.inner(), key)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.inner().keys().map(ShortString::as_str).collect()
    }
}

/// The offset of a message in a stream queue.
const STREAM_OFFSET: &str = "x-stream-offset";

/// A quorum queue's number of deliveries that were returned to it.
pub(crate) const DELIVERY_COUNT: &str = "x-delivery-count";

/// The dead letters of a message: a table for each queue and reason, with a count.
pub(crate) const DEATH: &str = "x-death";

/// The headers of a received message that this crate reads, found in one pass.
#[derive(Debug, Default)]
pub(crate) struct MessageHeaders<'a> {
    /// The values of the headers that carry contexts.
    pub(crate) contexts: ContextHeaders<'a>,
    pub(crate) stream_offset: Option<u64>,
    pub(crate) delivery_count: Option<u64>,
    pub(crate) deaths: &'a [AMQPValue],
}

#[inline]
pub(crate) fn read_headers(headers: &FieldTable) -> MessageHeaders<'_> {
    // Most values are ASCII, for which this check is fast.
    let is_text = |bytes: &[u8]| bytes.is_ascii() || str::from_utf8(bytes).is_ok();
    let mut found = MessageHeaders::default();
    for (name, value) in headers.inner() {
        // The last spelling wins. That is the exact name, because lower case sorts after upper case.
        if let Some(at) = context_header(name.as_str().as_bytes())
            && let Some(bytes) = bytes(value)
            // Baggage that is not UTF-8 is logged by the core, which reads it.
            && (is_text(bytes) || at == BAGGAGE && found.contexts[at].is_none())
        {
            found.contexts[at] = Some(bytes);
        } else if name.as_str().starts_with("x-") {
            match (name.as_str(), value) {
                (STREAM_OFFSET, offset) => found.stream_offset = integer(offset),
                (DELIVERY_COUNT, count) => found.delivery_count = integer(count),
                (DEATH, AMQPValue::FieldArray(deaths)) => found.deaths = deaths.as_slice(),
                _ => (),
            }
        }
    }
    found
}

fn get<'a>(entries: &'a Entries, key: &str) -> Option<&'a str> {
    entries.get(key).and_then(text).or_else(|| {
        let same = entries.iter().filter(|(name, _)| name.as_str().eq_ignore_ascii_case(key));
        same.filter_map(|(_, value)| text(value)).next_back()
    })
}

fn text(value: &AMQPValue) -> Option<&str> {
    str::from_utf8(bytes(value)?).ok()
}

/// The bytes of a value that may be text.
#[inline]
fn bytes(value: &AMQPValue) -> Option<&[u8]> {
    match value {
        AMQPValue::LongString(text) => Some(text.as_bytes()),
        AMQPValue::ByteArray(bytes) => Some(bytes.as_slice()),
        AMQPValue::ShortString(text) => Some(text.as_str().as_bytes()),
        _ => None,
    }
}

/// Reads any of AMQP's integer types; `None` for a negative value.
pub(crate) fn integer(value: &AMQPValue) -> Option<u64> {
    match *value {
        AMQPValue::ShortShortInt(integer) => integer.try_into().ok(),
        AMQPValue::ShortShortUInt(integer) => Some(integer.into()),
        AMQPValue::ShortInt(integer) => integer.try_into().ok(),
        AMQPValue::ShortUInt(integer) => Some(integer.into()),
        AMQPValue::LongInt(integer) => integer.try_into().ok(),
        AMQPValue::LongUInt(integer) => Some(integer.into()),
        AMQPValue::LongLongInt(integer) => integer.try_into().ok(),
        _ => None,
    }
}

fn spellings<'a>(entries: &'a Entries, key: &str) -> impl Iterator<Item = &'a ShortString> {
    entries.keys().filter(move |name| name.as_str().eq_ignore_ascii_case(key))
}

/// Sets the header, or removes it if the value is empty. Returns the headers that it replaced.
fn replace(entries: &mut Entries, key: &str, value: String) -> Vec<(ShortString, AMQPValue)> {
    let found: Vec<_> = spellings(entries, key).cloned().collect();
    let before = found.iter().filter_map(|name| entries.remove_entry(name)).collect();
    if let (false, Ok(name)) = (value.is_empty(), ShortString::try_new(key)) {
        entries.insert(name, AMQPValue::LongString(value.into()));
    }
    before
}

/// The headers of a message that is about to be published. They are copied at the first write.
#[derive(Debug)]
pub(crate) struct OutgoingHeaders<'a> {
    given: Option<&'a FieldTable>,
    budget: HeaderBudget,
    written: Option<Entries>,
    /// The changes, for messages that may be returned.
    changes: Option<Vec<Change>>,
}

impl<'a> OutgoingHeaders<'a> {
    /// The headers of a message whose content header frame has at most `limit` bytes.
    pub(crate) fn new(properties: &'a BasicProperties, limit: usize, returnable: bool) -> Self {
        let given = properties.headers().as_ref();
        Self { given, budget: header_budget(properties, limit), written: None, changes: returnable.then(Vec::new) }
    }

    /// The table to send, if it differs from the user's, and the changes to undo.
    pub(crate) fn finish(self) -> (Option<FieldTable>, Option<InjectedHeaders>) {
        let had_headers = self.given.is_some();
        (self.written.map(FieldTable::from), self.changes.map(|changes| InjectedHeaders { had_headers, changes }))
    }

    fn entries(&self) -> Option<&Entries> {
        self.written.as_ref().or_else(|| self.given.map(FieldTable::inner))
    }
}

impl Injector for OutgoingHeaders<'_> {
    fn set(&mut self, key: &str, value: String) {
        if value.is_empty() && self.entries().is_none_or(|entries| spellings(entries, key).next().is_none()) {
            return;
        }
        let given = self.given;
        let entries = self.written.get_or_insert_with(|| given.map(|given| given.inner().clone()).unwrap_or_default());
        let before = replace(entries, key, value);
        if let Some(changes) = &mut self.changes {
            let written = entries.get_key_value(key).map(|(name, value)| (name.clone(), value.clone()));
            changes.push(Change { written, before });
        }
    }
}

impl Extractor for OutgoingHeaders<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        get(self.entries()?, key)
    }

    fn keys(&self) -> Vec<&str> {
        self.entries().into_iter().flat_map(BTreeMap::keys).map(ShortString::as_str).collect()
    }
}

impl Headers for OutgoingHeaders<'_> {
    fn is_empty(&self) -> bool {
        self.entries().is_none_or(BTreeMap::is_empty)
    }

    fn header_budget(&self) -> HeaderBudget {
        self.budget
    }
}

/// The headers that were injected into a message: they identify a returned message, and are removed from it.
#[derive(Debug)]
pub(crate) struct InjectedHeaders {
    had_headers: bool,
    changes: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    written: Option<(ShortString, AMQPValue)>,
    before: Vec<(ShortString, AMQPValue)>,
}

impl InjectedHeaders {
    /// Whether a header was written that identifies the message.
    pub(crate) fn is_marked(&self) -> bool {
        self.changes.iter().any(|change| change.written.is_some())
    }

    /// Whether these properties have the injected headers.
    pub(crate) fn are_in(&self, properties: &BasicProperties) -> bool {
        let Some(headers) = properties.headers() else { return false };
        let mut written = self.changes.iter().filter_map(|change| change.written.as_ref());
        self.is_marked() && written.all(|(name, value)| headers.inner().get(name) == Some(value))
    }

    /// The properties as the user gave them.
    pub(crate) fn undo(&self, properties: &BasicProperties) -> BasicProperties {
        let mut entries = properties.headers().as_ref().map(|headers| headers.inner().clone()).unwrap_or_default();
        for change in self.changes.iter().rev() {
            if let Some((name, _)) = &change.written {
                entries.remove(name);
            }
            entries.extend(change.before.iter().cloned());
        }
        let properties = without_headers(properties);
        if entries.is_empty() && !self.had_headers { properties } else { properties.with_headers(entries.into()) }
    }
}

/// A copy of all properties but the headers: lapin has no method that clears a property.
pub(crate) fn without_headers(properties: &BasicProperties) -> BasicProperties {
    let mut copy = BasicProperties::default();
    macro_rules! copy {
        ($($get:ident => $set:ident),* $(,)?) => {
            $(if let Some(value) = properties.$get() { copy = copy.$set(value.clone()); })*
        };
    }
    copy! {
        content_type => with_content_type,
        content_encoding => with_content_encoding,
        delivery_mode => with_delivery_mode,
        priority => with_priority,
        correlation_id => with_correlation_id,
        reply_to => with_reply_to,
        expiration => with_expiration,
        message_id => with_message_id,
        timestamp => with_timestamp,
        kind => with_type,
        user_id => with_user_id,
        app_id => with_app_id,
        cluster_id => with_cluster_id,
    }
    copy
}

/// Header tables of every kind, for tests.
#[cfg(test)]
pub(crate) mod fixed {
    use std::collections::BTreeMap;

    use super::{AMQPValue, FieldTable, ShortString};

    pub(crate) fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
        BTreeMap::from(entries.map(|(name, value)| (ShortString::from(name), value))).into()
    }

    pub(crate) fn long(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }
}

#[cfg(test)]
pub(crate) mod arbitrary {
    use lapin::types::{ByteArray, DecimalValue, FieldArray, LongString};
    use proptest::prelude::*;

    use super::{AMQPValue, Entries, FieldTable, ShortString};

    /// Up to the 255 bytes that a name may have; often a name with a meaning.
    pub(crate) fn name() -> impl Strategy<Value = ShortString> {
        let any = prop_oneof![
            4 => "(?i)(traceparent|tracestate|baggage|x-death|x-delivery-count)",
            4 => ".{0,20}",
            1 => "[a-z\u{e4}]{100,255}",
        ];
        any.prop_filter_map("too long", |name| ShortString::try_new(name).ok())
    }

    pub(crate) fn value() -> impl Strategy<Value = AMQPValue> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(AMQPValue::Boolean),
            any::<i8>().prop_map(AMQPValue::ShortShortInt),
            any::<u8>().prop_map(AMQPValue::ShortShortUInt),
            any::<i16>().prop_map(AMQPValue::ShortInt),
            any::<u16>().prop_map(AMQPValue::ShortUInt),
            any::<i32>().prop_map(AMQPValue::LongInt),
            any::<u32>().prop_map(AMQPValue::LongUInt),
            any::<i64>().prop_map(AMQPValue::LongLongInt),
            any::<f32>().prop_filter("equals itself", |n| !n.is_nan()).prop_map(AMQPValue::Float),
            any::<f64>().prop_filter("equals itself", |n| !n.is_nan()).prop_map(AMQPValue::Double),
            (any::<u8>(), any::<u32>())
                .prop_map(|(scale, value)| AMQPValue::DecimalValue(DecimalValue { scale, value })),
            any::<u64>().prop_map(AMQPValue::Timestamp),
            name().prop_map(AMQPValue::ShortString),
            "(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}|rejected|.{0,60})"
                .prop_map(|text: String| AMQPValue::LongString(text.into())),
            prop::collection::vec(any::<u8>(), 0..600).prop_map(|bytes| AMQPValue::LongString(LongString::from(bytes))),
            prop::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| AMQPValue::ByteArray(ByteArray::from(bytes))),
            Just(AMQPValue::Void),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|all| AMQPValue::FieldArray(FieldArray::from(all))),
                prop::collection::btree_map(name(), inner, 0..4)
                    .prop_map(|entries: Entries| AMQPValue::FieldTable(entries.into())),
            ]
        })
    }

    pub(crate) fn table() -> impl Strategy<Value = FieldTable> {
        prop::collection::btree_map(name(), value(), 0..8).prop_map(FieldTable::from)
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::DecimalValue;
    use otel_messaging::adapter::CONTEXT_HEADERS;
    use proptest::prelude::*;

    use super::{
        fixed::{long, table},
        *,
    };

    proptest! {
        #[test]
        fn injecting_changes_only_the_named_headers(
            given in arbitrary::table(),
            written in prop::collection::vec(("(?i)(traceparent|tracestate|baggage)|.{0,9}|[a-z]{250,260}", ".{0,30}"), 0..6),
        ) {
            let mut headers = given.clone();
            let properties = BasicProperties::default().with_headers(given.clone());
            let mut outgoing = OutgoingHeaders::new(&properties, usize::MAX, true);
            for (key, value) in &written {
                HeaderInjector::new(&mut headers).set(key, value.clone());
                outgoing.set(key, value.clone());
                let expected = ShortString::try_new(key.as_str()).ok().map(|_| value.as_str());
                let expected = expected.filter(|value| !value.is_empty());
                let extractor = HeaderExtractor::new(&headers);
                prop_assert_eq!(extractor.get(key), expected);
                prop_assert_eq!(outgoing.get(key), expected);
            }
            let named = |name: &ShortString| written.iter().any(|(key, _)| name.as_str().eq_ignore_ascii_case(key));
            for (name, value) in given.inner().iter().filter(|(name, _)| !named(name)) {
                prop_assert_eq!(headers.inner().get(name), Some(value));
            }
            prop_assert!(headers.inner().keys().all(|name| named(name) || given.inner().contains_key(name)));
            // The sent table is the same, and undoing the changes gives the user's properties.
            let (sent, injected) = outgoing.finish();
            prop_assert_eq!(sent.as_ref().unwrap_or(&given), &headers);
            let sent = sent.map_or_else(|| properties.clone(), |sent| properties.clone().with_headers(sent));
            prop_assert_eq!(injected.map(|injected| injected.undo(&sent)), Some(properties));
        }

        #[test]
        fn any_header_table_can_be_read(headers in arbitrary::table(), key in ".{0,20}") {
            let extractor = HeaderExtractor::new(&headers);
            prop_assert_eq!(extractor.keys().len(), headers.inner().len());
            for name in extractor.keys() {
                let found = extractor.get(name);
                prop_assert!(found.is_none_or(|found| headers.inner().values().any(|value| text(value) == Some(found))));
            }
            // One pass finds what the extractor finds.
            extractor.get(&key);
            let found = read_headers(&headers).contexts.map(|found| found.filter(|found| str::from_utf8(found).is_ok()));
            prop_assert_eq!(found, CONTEXT_HEADERS.map(|name| extractor.get(name).map(str::as_bytes)));
        }
    }

    #[test]
    fn of_several_spellings_the_exact_one_is_read_if_it_is_text() {
        let no_text = AMQPValue::LongString(vec![0x80].into());
        for (exact, read) in [(long("exact"), "exact"), (no_text, "other"), (AMQPValue::Void, "other")] {
            let headers =
                table([("Traceparent", long("other")), ("traceparent", exact), ("TRACEPARENT", long("first"))]);
            assert_eq!(read_headers(&headers).contexts, [Some(read.as_bytes()), None, None]);
            assert_eq!(HeaderExtractor::new(&headers).get("traceparent"), Some(read));
        }
    }

    #[test]
    fn all_integer_types_are_read_and_no_other_type() {
        let integers = [
            AMQPValue::ShortShortInt(7),
            AMQPValue::ShortShortUInt(7),
            AMQPValue::ShortInt(7),
            AMQPValue::ShortUInt(7),
            AMQPValue::LongInt(7),
            AMQPValue::LongUInt(7),
            AMQPValue::LongLongInt(7),
        ];
        for value in integers {
            assert_eq!(integer(&value), Some(7), "{value:?}");
        }
        let others = [
            AMQPValue::ShortShortInt(-1),
            AMQPValue::ShortInt(-1),
            AMQPValue::LongInt(-1),
            AMQPValue::LongLongInt(i64::MIN),
            AMQPValue::Boolean(true),
            AMQPValue::Float(7.0),
            AMQPValue::Double(7.0),
            AMQPValue::DecimalValue(DecimalValue { scale: 0, value: 7 }),
            AMQPValue::Timestamp(7),
            AMQPValue::LongString("7".into()),
            AMQPValue::Void,
        ];
        for value in others {
            assert_eq!(integer(&value), None, "{value:?}");
        }
    }

    #[test]
    fn baggage_that_is_not_text_is_kept_if_there_is_no_other() {
        assert_eq!(CONTEXT_HEADERS[BAGGAGE], "baggage");
        let no_text = || AMQPValue::LongString(vec![0x80].into());
        for (first, last, read) in [
            (no_text(), AMQPValue::Void, &b"\x80"[..]),
            (no_text(), long("a=1"), b"a=1"),
            (long("a=1"), no_text(), b"a=1"),
        ] {
            let headers = table([("Baggage", first), ("baggage", last)]);
            assert_eq!(read_headers(&headers).contexts, [None, None, Some(read)]);
        }
    }

    #[test]
    fn a_traceparent_of_a_later_version_with_bytes_that_are_no_text_is_none() {
        for (more, is_one) in [(&b""[..], true), (b"-later", true), (b"-\xff", false), (b"-later\xc3", false)] {
            let value = [b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", more].concat();
            let headers = table([("traceparent", AMQPValue::LongString(value.into()))]);
            assert_eq!(read_headers(&headers).contexts[0].is_some(), is_one, "{more:?}");
            assert_eq!(HeaderExtractor::new(&headers).get("traceparent").is_some(), is_one, "{more:?}");
        }
    }

    #[test]
    fn injecting_replaces_removes_and_never_panics() {
        let mut headers = table([("Traceparent", long("old")), ("TRACESTATE", long("old")), ("colour", long("green"))]);
        let mut injector = HeaderInjector::new(&mut headers);
        injector.set("traceparent", "new".to_owned());
        injector.set("tracestate", String::new());
        injector.set("absent", String::new());
        injector.set(&"n".repeat(256), "too long a name".to_owned());
        injector.set("", "an empty name".to_owned());
        let expected = table([("traceparent", long("new")), ("colour", long("green")), ("", long("an empty name"))]);
        assert_eq!(headers, expected);
        let extractor = HeaderExtractor::new(&headers);
        let mut keys = extractor.keys();
        keys.sort_unstable();
        assert_eq!(keys, ["", "colour", "traceparent"]);
    }

    #[test]
    fn headers_are_copied_at_the_first_write() {
        let properties = BasicProperties::default().with_headers(table([("colour", long("green"))]));
        let mut outgoing = OutgoingHeaders::new(&properties, usize::MAX, true);
        outgoing.set("tracestate", String::new());
        assert_eq!(outgoing.get("COLOUR"), Some("green"));
        let (headers, injected) = outgoing.finish();
        assert_eq!(headers, None);
        assert!(!injected.is_some_and(|injected| injected.is_marked()));
    }
}
