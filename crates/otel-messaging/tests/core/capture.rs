//! What of a message's own content becomes attributes: nothing, unless it is asked for.

use proptest::prelude::*;

use crate::queue::*;

/// What the send span and the process span of this message show of its headers.
fn captured(
    headers: HeaderMap,
    configure: impl FnOnce(InstrumentationBuilder) -> InstrumentationBuilder,
) -> Vec<(String, String)> {
    let sdk = Sdk::new();
    let mut queue = Queue::new(configure(sdk.instrumentation_builder()).build());
    queue.push_with(headers, "1").unwrap();
    drop(queue.pop());
    let [push, process] = &sdk.spans()[..] else { panic!("{}", sdk.described()) };
    let shown = |span: &SpanData| {
        let header = |one: &KeyValue| {
            Some((one.key.as_str().strip_prefix("otel_messaging.header.")?.to_owned(), one.value.to_string()))
        };
        span.attributes.iter().filter_map(header).collect::<Vec<_>>()
    };
    assert_eq!(shown(push), shown(process), "both show the same");
    shown(push)
}

fn private() -> HeaderMap {
    HeaderMap::default()
        .with("Authorization", "Bearer secret")
        .with("X-Tenant", "7")
        .with("traceparent", SENT)
        .with("tracestate", "vendor=1")
        .with("baggage", "user=me")
}

#[test]
fn nothing_of_a_message_is_shown_by_default() {
    assert_eq!(captured(private(), |builder| builder), []);
    let (sdk, mut queue) = observed();
    assert!(queue.telemetry.captured_key(b"4711").is_none() && !queue.telemetry.captures_sizes());
    queue.push_with(private(), "1").unwrap();
    queue.pop().unwrap().fail(&"declined");
    for text in [sdk.described(), sdk.measured(), sdk.events()] {
        assert!(!text.contains("secret") && !text.contains("Bearer") && !text.contains("user=me"), "{text}");
    }
    let asked =
        Queue::new(sdk.instrumentation_builder().with_kafka_captured_key(true).with_captured_sizes(true).build());
    assert!(asked.telemetry.captured_key(b"4711").is_some() && asked.telemetry.captures_sizes());
}

#[test]
fn a_key_is_redacted_and_cut_as_a_header_is() {
    let shown = |key: &[u8], configure: &dyn Fn(InstrumentationBuilder) -> InstrumentationBuilder| {
        let queue = Queue::new(configure(Sdk::new().instrumentation_builder().with_kafka_captured_key(true)).build());
        queue.telemetry.captured_key(key).map(|shown| shown.as_str().to_owned())
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(shown(b"4711", &|b| b), some("4711"));
    assert_eq!(shown(b"\xff", &|b| b), None, "no text");
    assert_eq!(shown(&[b'x'; 1_000], &|b| b), some(&"x".repeat(256)));
    assert_eq!(shown("grün".as_bytes(), &|b| b.with_capture_limit(3)), some("gr"), "cut at a character");
    let masked = |name: &str, key: &str| Some(format!("{name} of {}", key.len()));
    assert_eq!(shown(b"4711", &|b| b.with_redaction(masked)), some("messaging.kafka.message.key of 4"));
    assert_eq!(
        shown(b"4711", &|b| b.with_redaction(masked).with_capture_limit(9)),
        some("messaging"),
        "redacted before it is cut"
    );
    assert_eq!(shown(b"4711", &|b| b.with_redaction(|_, _| None)), None);
    assert_eq!(shown(b"4711", &|b| b.with_redaction(|_, _| panic!("a redactor's bug"))), None);
}

#[test]
fn headers_are_shown_by_pattern_and_never_a_propagators() {
    let tenant = [("x-tenant".to_owned(), "[\"7\"]".to_owned())];
    assert_eq!(captured(private(), |b| b.with_captured_headers(["x-tenant"])), tenant);
    assert_eq!(captured(private(), |b| b.with_captured_headers(["X-*", "x-t*"])), tenant);
    assert_eq!(captured(private(), |b| b.with_captured_headers(["t*", "BAGGAGE", "x-tenantt", "-tenant"])), []);
    let names = |shown: Vec<(String, String)>| shown.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    for propagation in [Propagation::Global, Propagation::W3c, Propagation::Off] {
        let all = captured(private().with("TraceParent", SENT), |b| {
            b.with_propagation(propagation.clone()).with_captured_headers(["*"])
        });
        assert_eq!(names(all), ["authorization", "x-tenant"], "{propagation:?}");
    }

    let vendor = Propagation::custom(Functions::named(&["x-tenant"]));
    let shown = captured(private(), |b| b.with_propagation(vendor).with_captured_headers(["*"]));
    assert_eq!(names(shown), ["authorization"]);
}

#[test]
fn values_are_redacted_first_and_cut_at_a_character() {
    let headers = || HeaderMap::default().with("note", "grün").with("token", "secret");
    let shown = |limit, redact: fn(&str, &str) -> Option<String>| {
        captured(headers(), |b| b.with_captured_headers(["*"]).with_capture_limit(limit).with_redaction(redact))
    };
    let show = |value: &str, token: &str| {
        [("note".to_owned(), format!("[{value:?}]")), ("token".to_owned(), format!("[{token:?}]"))]
    };
    // `ü` is two bytes, the third and the fourth.
    assert_eq!(shown(3, |_, value| Some(value.to_owned())), show("gr", "sec"));
    assert_eq!(shown(4, |_, value| Some(value.to_owned())), show("grü", "secr"));
    assert_eq!(shown(0, |_, value| Some(value.to_owned())), show("", ""));
    let hide = |name: &str, value: &str| (name != "token").then(|| value.to_owned());
    assert_eq!(shown(256, hide), show("grün", "")[..1]);
    let masked = |_: &str, value: &str| Some("*".repeat(value.len()));
    assert_eq!(shown(256, masked), show("*****", "******"));
    assert_eq!(shown(256, |name, _| if name == "token" { panic!("a redactor's bug") } else { None }), []);
    // By default a value has 256 bytes.
    let long = captured(HeaderMap::default().with("note", &"x".repeat(1_000)), |b| b.with_captured_headers(["note"]));
    assert_eq!(long[0].1.len(), 256 + "[\"\"]".len());
}

#[test]
fn the_number_of_captured_headers_is_bounded() {
    let headers = (0..1_000).fold(HeaderMap::default(), |headers, at| headers.with(&format!("x-{at:03}"), "1"));
    assert_eq!(captured(headers.with(&"x".repeat(257), "1"), |b| b.with_captured_headers(["*"])).len(), 32);
    assert_eq!(captured(HeaderMap::default().with(&"x".repeat(257), "1"), |b| b.with_captured_headers(["*"])), []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_pattern_and_any_header_are_taken_as_they_are(
        patterns in prop::collection::vec("[*a-cA-C.\\PC]{0,24}", 0..4),
        names in prop::collection::btree_map("[a-cA-C.\\PC]{0,24}", "\\PC{0,24}", 0..8),
        limit in 0usize..32,
    ) {
        let headers = HeaderMap(names.clone());
        let shown = captured(headers, |b| b.with_captured_headers(patterns.clone()).with_capture_limit(limit));
        for (name, value) in &shown {
            prop_assert!(names.keys().any(|known| known.to_ascii_lowercase() == *name));
            prop_assert!(value.len() <= 2 * limit + 16, "{value:?}");
        }
        let everything = patterns.iter().any(|pattern| !pattern.is_empty() && pattern.bytes().all(|byte| byte == b'*'));
        let distinct: std::collections::BTreeSet<_> = names.keys().map(|name| name.to_ascii_lowercase()).collect();
        if everything {
            prop_assert_eq!(shown.len(), distinct.len());
        }
    }

    #[test]
    fn names_of_any_length_cost_a_bounded_amount(
        pattern in "(\\*a){1,4096}",
        name in "a{0,65536}",
        destination in "\\PC{0,1200}|a{1024,65536}",
    ) {
        let sdk = Sdk::new();
        let builder = sdk.instrumentation_builder().with_captured_headers([pattern]);
        let builder = builder.with_destination_template(|name| Some(name.to_owned()));
        let mut queue = Queue::new(builder.build());
        queue.push_to(&destination, HeaderMap::default().with(&name, "1"), "1", |_| ()).unwrap();
        drop(queue.pop_from(&destination));
        for span in sdk.spans() {
            let named = span.name.split_once(' ').map_or("", |(_, destination)| destination);
            let expected = if destination.len() <= 1_024 { &*destination } else { "" };
            prop_assert_eq!(named, expected);
        }
    }
}
