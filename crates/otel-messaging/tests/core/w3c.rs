//! `Propagation::W3c` against the SDK's propagators, on anything; where the SDK is laxer than W3C, W3C decides.

use std::{cmp::Reverse, collections::BTreeSet, str::FromStr};

use opentelemetry::baggage::{Baggage, KeyValueMetadata};
use proptest::prelude::*;
use support::w3c;

use crate::queue::*;

/// Contexts pass through, and nothing else is done.
fn ours() -> Queue {
    Queue::new(
        Instrumentation::builder().with_propagation(Propagation::W3c).with_spans(false).with_metrics(false).build(),
    )
}

fn written(context: Context) -> HeaderMap {
    sent_by(Instrumentation::builder().with_propagation(Propagation::W3c), context)
}

fn sent_by(builder: InstrumentationBuilder, context: Context) -> HeaderMap {
    let _current = context.attach();
    let mut queue = Queue::new(builder.with_spans(false).with_metrics(false).build());
    queue.push("1").unwrap();
    queue.messages.pop_front().unwrap().0
}

fn written_by_the_sdk(context: &Context) -> HeaderMap {
    let mut headers = HeaderMap::default();
    w3c().inject_context(context, &mut headers);
    headers
}

fn read(headers: &HeaderMap) -> Context {
    let mut queue = ours();
    queue.messages.push_back((headers.clone(), "1".to_owned()));
    queue.pop().unwrap().otel_context()
}

/// What a context says.
fn recorded(context: &Context) -> (SpanContext, BTreeSet<(String, String, String)>) {
    let entries = context.baggage().iter();
    let entries = entries.map(|(key, (value, metadata))| (key.to_string(), value.to_string(), metadata.to_string()));
    (context.span().span_context().clone(), entries.collect())
}

fn entries(header: Option<&String>) -> BTreeSet<&str> {
    header.into_iter().flat_map(|header| header.split(',')).collect()
}

fn state() -> impl Strategy<Value = TraceState> {
    let member = ("[a-z][a-z0-9_*/-]{0,8}", "[!-+.-<>-~]{0,8}");
    prop::collection::vec(member, 0..4).prop_map(|members| TraceState::from_key_value(members).unwrap_or_default())
}

fn context(value: &'static str, metadata: &'static str) -> impl Strategy<Value = Context> {
    let span = (any::<u128>(), any::<u64>(), any::<u8>(), state()).prop_map(|(trace, span, flags, state)| {
        SpanContext::new(TraceId::from(trace), SpanId::from(span), TraceFlags::new(flags), true, state)
    });
    let entry = ("[!#$&'*+.^_`|~0-9A-Za-z-]{1,8}", value, metadata);
    let baggage = prop::collection::vec(entry, 0..5).prop_map(|entries| {
        entries.into_iter().map(|(key, value, meta)| KeyValueMetadata::new(key, value, &*meta)).collect::<Baggage>()
    });
    (prop::option::of(span), baggage).prop_map(|(span, baggage)| {
        let context = Context::new().with_baggage(
            baggage
                .iter()
                .map(|(key, (value, metadata))| KeyValueMetadata::new(key.clone(), value.clone(), metadata.clone())),
        );
        span.map_or(context.clone(), |span| context.with_remote_span_context(span))
    })
}

/// Name, value and metadata.
type Entry = (String, String, String);

/// Values are such a text, several times.
fn long_baggage(value: &'static str, metadata: &'static str) -> impl Strategy<Value = Vec<Entry>> {
    let value = (value, 0..20_usize).prop_map(|(part, times)| part.repeat(times));
    prop::collection::vec(("[!#$&'*+.^_`|~0-9A-Za-z-]{1,8}", value, metadata), 0..80)
}

fn context_of(entries: &[Entry]) -> Context {
    let entries = entries.iter().cloned();
    Context::new().with_baggage(entries.map(|(name, value, metadata)| KeyValueMetadata::new(name, value, &*metadata)))
}

/// As many of them as OpenTelemetry takes.
fn baggage_entries(entries: &[Entry]) -> BTreeSet<Entry> {
    recorded(&context_of(entries)).1
}

/// Without the space that says nothing.
fn trimmed((name, value, metadata): Entry) -> Entry {
    let metadata: Vec<_> = metadata.split(';').map(|one| one.trim().to_owned()).collect();
    (name, value.trim().to_owned(), metadata.join(";"))
}

fn is_within_limits(header: Option<&str>) -> bool {
    header.is_none_or(|header| header.len() <= 8_192 && header.split(',').count() <= 64)
}

/// A traceparent of which any part may be off.
fn traceparent() -> impl Strategy<Value = String> {
    let part = |right: &'static str, off: &'static str| prop_oneof![6 => right.prop_map(String::from), 1 => off.prop_map(String::from)];
    let parts = (
        part("00", "[0-9a-fA-F+ ]{0,3}"),
        part("[0-9a-f]{32}", "[0-9a-fA-F+]{0,33}|0{32}"),
        part("[0-9a-f]{16}", "[0-9a-fA-F+]{0,17}|0{16}"),
        part("0[01]", "[0-9a-fA-F+]{0,3}"),
        part("", "-|-.*| "),
    );
    parts.prop_map(|(version, trace, span, flags, rest)| format!("{version}-{trace}-{span}-{flags}{rest}"))
}

/// The rule of W3C Trace Context, "traceparent header field values", written another way.
fn is_valid_by_w3c(text: &str) -> bool {
    let text = text.trim();
    let hex = |range: std::ops::Range<usize>| {
        text.get(range).is_some_and(|part| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
    };
    let dashes = [2, 35, 52].iter().all(|&at| text.as_bytes().get(at) == Some(&b'-'));
    let fields = text.len() >= 55 && hex(0..2) && hex(3..35) && hex(36..52) && hex(53..55) && dashes;
    // A later version may go on, after a dash.
    if !fields {
        return false;
    }
    let end = text.len() == 55 || &text[..2] != "00" && text.as_bytes()[55] == b'-';
    end && &text[..2] != "ff" && text[3..35] != *"0".repeat(32) && text[36..52] != *"0".repeat(16)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_what_the_sdk_writes(context in context("[ !#-+.-:<>-\\[\\]-~é]{0,8}", "([a-z]{1,4}(=[a-z0-9]{1,4})?( ?; ?[a-z]{1,4}){0,2})?")) {
        // The SDK writes `%` as it is, and the reader takes what follows for a code: see below.
        prop_assume!(!context.baggage().iter().any(|(key, (value, _))| key.as_str().contains('%') || value.as_str().contains('%')));
        let (mut ours, mut sdk) = (written(context.clone()), written_by_the_sdk(&context));
        let (own, theirs) = (ours.0.remove("baggage"), sdk.0.remove("baggage"));
        prop_assert_eq!(entries(own.as_ref()), entries(theirs.as_ref()));
        prop_assert_eq!(ours, sdk);
    }

    #[test]
    fn what_is_written_is_what_is_read_by_the_sdk_and_by_us(context in context("\\PC{0,8}", "([a-z,%\"é\\\\]{1,6}(; ?[a-z,%=]{1,4}){0,2})?")) {
        let headers = written(context.clone());
        let trimmed = |(span, entries): (SpanContext, BTreeSet<(String, String, String)>)| {
            let flags = span.trace_flags() & TraceFlags::SAMPLED;
            let span = SpanContext::new(span.trace_id(), span.span_id(), flags, true, span.trace_state().clone());
            let entries: BTreeSet<_> = entries.into_iter().map(|(key, value, metadata)| {
                let metadata: Vec<_> = metadata.split(';').map(|one| one.trim().to_owned()).collect();
                (key, value.trim().to_owned(), metadata.join(";"))
            }).collect();
            (if span.is_valid() { span } else { SpanContext::NONE }, entries)
        };
        let expected = trimmed(recorded(&context));
        if headers.0.get("baggage").is_none_or(|header| header.len() <= 8_192) {
            prop_assert_eq!(&trimmed(recorded(&read(&headers))).1, &expected.1);
            prop_assert_eq!(&trimmed(recorded(&w3c().extract_with_context(&Context::new(), &headers))).1, &expected.1);
        }
        if expected.0.is_valid() {
            prop_assert_eq!(recorded(&read(&headers)).0, expected.0);
        }
    }

    #[test]
    fn a_traceparent_is_read_where_w3c_says_that_it_is_one(header in traceparent(), state in "[a-z]{1,3}=[a-z0-9]{1,3}|\\PC{0,16}") {
        let headers = HeaderMap::default().with("traceparent", &header).with("tracestate", &state);
        let (ours, _) = recorded(&read(&headers));
        prop_assert_eq!(ours.is_valid(), is_valid_by_w3c(&header), "{}", header);
        if ours.is_valid() {
            // The SDK takes everything that W3C does, and says the same of it.
            prop_assert_eq!(ours, recorded(&w3c().extract_with_context(&Context::new(), &headers)).0);
        }
    }

    #[test]
    fn any_baggage_is_read_as_the_sdk_reads_it(
        header in prop_oneof!["([a-z%=;, \"]|%[0-9a-fA-F]{2}|=|,|;){0,40}", "\\PC{0,64}", "(a{1,3}=[a-z],){0,80}", "a=b{8000,9000}", "a=b {8180,8200}"],
    ) {
        // The SDK ends a value at a second `=`, and trims what was encoded to stay.
        let encoded = |entry: &str| {
            let (pair, properties) = entry.split_at(entry.find(';').unwrap_or(entry.len()));
            pair.splitn(2, '=').map(|part| part.replace('=', "%3D")).collect::<Vec<_>>().join("=") + properties
        };
        let as_it_can = header.split(',').map(encoded).collect::<Vec<_>>().join(",");
        let sdk = w3c().extract_with_context(&Context::new(), &HeaderMap::default().with("baggage", &as_it_can));
        let trimmed = |context: &Context| {
            let entries = recorded(context).1.into_iter();
            entries.map(|(name, value, properties)| (name, value.trim().to_owned(), properties)).collect::<BTreeSet<_>>()
        };
        prop_assert_eq!(trimmed(&read(&HeaderMap::default().with("baggage", &header))), trimmed(&sdk));
    }

    #[test]
    fn baggage_is_written_within_the_limits_as_the_sdk_reads_it(baggage in long_baggage("[ -~é]{0,20}", "([a-z,%\"é]{1,20})?")) {
        let header = written(context_of(&baggage)).0.remove("baggage");
        prop_assert!(is_within_limits(header.as_deref()));
        // By the rule as it is said, of what each entry is by itself.
        let alone = |entry: &Entry| written(context_of(std::slice::from_ref(entry))).0.remove("baggage").unwrap();
        let mut kept: Vec<_> = baggage_entries(&baggage).into_iter().map(|entry| (alone(&entry), entry)).collect();
        kept.sort_by_key(|(text, (name, ..))| (Reverse(text.len()), name.clone()));
        while kept.iter().map(|(text, _)| text.len() + 1).sum::<usize>() > 8_192 + 1 {
            kept.remove(0);
        }
        let headers = HeaderMap(header.into_iter().map(|header| ("baggage".to_owned(), header)).collect());
        let expected: BTreeSet<_> = kept.into_iter().map(|(_, entry)| trimmed(entry)).collect();
        let sdk = recorded(&w3c().extract_with_context(&Context::new(), &headers)).1;
        prop_assert_eq!(&sdk.into_iter().map(trimmed).collect::<BTreeSet<_>>(), &expected);
        prop_assert_eq!(&recorded(&read(&headers)).1.into_iter().map(trimmed).collect::<BTreeSet<_>>(), &expected);
    }

    #[test]
    fn baggage_of_the_sdks_propagator_is_cut_to_the_limits(baggage in long_baggage("[!#-$&-+.-:<>-\\[\\]-~é ]{0,20}", "([a-z]{1,20})?")) {
        let context = context_of(&baggage);
        let whole = written_by_the_sdk(&context).0.remove("baggage");
        let header = sent_by(Instrumentation::builder().with_propagation(Propagation::custom(w3c())), context).0.remove("baggage");
        prop_assert!(is_within_limits(header.as_deref()));
        let (whole, kept) = (entries(whole.as_ref()), entries(header.as_ref()));
        prop_assert!(kept.is_subset(&whole));
        if whole.iter().map(|entry| entry.len() + 1).sum::<usize>() <= 8_192 + 1 {
            prop_assert_eq!(&kept, &whole);
        } else {
            let shortest = whole.difference(&kept).map(|entry| entry.len()).min();
            prop_assert!(kept.iter().map(|entry| entry.len()).max() <= shortest);
        }
        let written: BTreeSet<_> = kept.iter().map(|entry| entry.split_once('=').unwrap().0.to_owned()).collect();
        let expected = baggage_entries(&baggage).into_iter().filter(|(name, ..)| written.contains(name)).map(trimmed);
        let headers = HeaderMap(header.into_iter().map(|header| ("baggage".to_owned(), header)).collect());
        let sdk = recorded(&w3c().extract_with_context(&Context::new(), &headers)).1;
        prop_assert_eq!(sdk, expected.collect::<BTreeSet<_>>());
    }

    #[test]
    fn baggage_that_the_sdk_wrote_is_read_as_the_sdk_reads_it(baggage in long_baggage("[a-z,\"é;]{0,20}", "([a-z]{1,20})?")) {
        let headers = written_by_the_sdk(&context_of(&baggage));
        prop_assert_eq!(recorded(&read(&headers)).1, recorded(&w3c().extract_with_context(&Context::new(), &headers)).1);
    }

    #[test]
    fn no_header_whatever_stops_a_message(traceparent in "\\PC{0,80}|.{0,80}", state in ".{0,80}", baggage in ".{0,80}") {
        let headers = HeaderMap::default().with("traceparent", &traceparent).with("tracestate", &state).with("baggage", &baggage);
        let mut queue = ours();
        let message = queue.arrive(headers.clone());
        prop_assert_eq!(&message.headers, &headers);
        message.in_scope(|| queue.push_with(HeaderMap::default(), "2")).unwrap();
        prop_assert_eq!(queue.messages.len(), 1);
    }
}

#[test]
fn what_the_sdk_takes_and_w3c_does_not() {
    let read_by = |header: &str| {
        let headers = HeaderMap::default().with("traceparent", header);
        let sdk = recorded(&w3c().extract_with_context(&Context::new(), &headers)).0.is_valid();
        (recorded(&read(&headers)).0.is_valid(), sdk)
    };
    let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    assert_eq!(read_by(&format!("00-{trace}-{span}-01")), (true, true));
    assert_eq!(read_by(&format!("cc-{trace}-{span}-01-what-the-future-will-be-like")), (true, true));
    // HEXDIGLC has no signs and no capital letters, each field has its length, and version 0 ends after the flags.
    assert_eq!(read_by(&format!("+0-{trace}-{span}-01")), (false, true));
    assert_eq!(read_by(&format!("CC-{trace}-{span}-01")), (false, true));
    assert_eq!(read_by(&format!("00-{trace}-{span}-+1")), (false, true));
    assert_eq!(read_by(&format!("0-{trace}-{span}-1")), (false, true));
    assert_eq!(read_by("00-4bf9-f0-01"), (false, true));
    assert_eq!(read_by(&format!("00-{trace}-{span}-01-")), (false, true));
    // Capital letters elsewhere neither of them takes, nor version 255.
    assert_eq!(read_by(&format!("00-{}-{span}-01", trace.to_uppercase())), (false, false));
    assert_eq!(read_by(&format!("ff-{trace}-{span}-01")), (false, false));
}

#[test]
fn a_traceparent_that_is_no_text_is_none_whatever_its_version() {
    let read_from = |traceparent: &[u8]| {
        let queue = ours();
        let operation = queue.operation(PROCESS);
        let found = [Some(traceparent), None, None];
        let (headers, start) = (HeaderMap::default(), queue.start());
        let arrival = Arrival::new(queue.source, Some(&headers)).context_headers(&found);
        queue.telemetry.deliver(start, operation, arrival, |_| ()).creation()
    };
    let fields = b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (more, is_one) in [
        (&b""[..], true),
        (b"-what-the-future-will-be-like", true),
        ("-\u{fc}".as_bytes(), true),
        (b"-\xff", false),
        (b"-what-the-future\xc3", false),
        (b"\xff", false),
    ] {
        assert_eq!(read_from(&[fields, more].concat()).is_some(), is_one, "{more:?}");
    }
    for at in 0..fields.len() {
        let mut off = *fields;
        off[at] = 0xff;
        assert_eq!(read_from(&off), None, "{at}");
    }
}

#[test]
fn what_the_sdk_writes_and_w3c_does_not() {
    // Baggage, "value": a percent sign is encoded, as are `"`, `\`, commas and what is not ASCII in a property.
    let entry = KeyValueMetadata::new("rate", "100%41\\", "note=a,b=c");
    let context = Context::new().with_baggage([entry]);
    assert_eq!(written(context.clone()).0["baggage"], "rate=100%2541%5C;note=a%2Cb=c");
    let read_back = |headers: &HeaderMap| recorded(&w3c().extract_with_context(&Context::new(), headers)).1;
    assert_eq!(read_back(&written(context.clone())), recorded(&context).1);
    assert_ne!(
        read_back(&written_by_the_sdk(&context)),
        recorded(&context).1,
        "what the SDK writes arrives as another value"
    );
}

#[test]
fn a_value_of_baggage_is_all_that_w3c_says_it_is() {
    // baggage-octet includes `=`, and only the space around a value is optional.
    let headers = HeaderMap::default().with("baggage", "token = YWJj== ;secret,indent=%20x%20");
    let entries: Vec<_> = recorded(&read(&headers)).1.into_iter().collect();
    let entry = |name: &str, value: &str, properties: &str| (name.into(), value.into(), properties.into());
    assert_eq!(entries, [entry("indent", " x ", ""), entry("token", "YWJj==", "secret")]);
}

#[test]
fn a_sender_s_state_is_kept_as_it_came() {
    let headers = HeaderMap::default().with("traceparent", SENT).with("tracestate", "b=2,a=1");
    let (span, _) = recorded(&read(&headers));
    assert_eq!(span.trace_state(), &TraceState::from_str("b=2,a=1").unwrap());
    assert_eq!(written(read(&headers)), headers);
}
