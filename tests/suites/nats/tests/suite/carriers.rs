//! The public carriers, alone.

use async_nats::HeaderMap;
use opentelemetry::propagation::{Extractor, Injector};
use otel_async_nats::otel::{HeaderCase, HeaderExtractor, HeaderInjector};

use crate::header;

#[test]
fn injecting_replaces_a_header_of_any_case() {
    let mut headers = HeaderMap::new();
    headers.append("Traceparent", "old");
    headers.append("traceparent", "older");
    headers.append("traceparent", "oldest");
    headers.append("Colour", "green");
    headers.append("Colour", "red");
    HeaderInjector::new(&mut headers).set("traceparent", "new".to_owned());
    let mut expected = HeaderMap::new();
    expected.append("Colour", "green");
    expected.append("Colour", "red");
    expected.insert("traceparent", "new");
    assert_eq!(headers, expected);
}

/// A server that renames `traceparent` would make two of them, and which is read is chance.
#[test]
fn whoever_writes_or_removes_traceparent_removes_xraceparent_in_every_spelling() {
    for spelling in ["Xraceparent", "xraceparent", "XRACEPARENT"] {
        for (value, left) in [("new", vec!["Colour", "traceparent"]), ("", vec!["Colour"])] {
            let mut headers = HeaderMap::new();
            headers.append("Colour", "green");
            headers.append(spelling, "old");
            headers.append(spelling, "older");
            HeaderInjector::new(&mut headers).set("tracestate", "a=1".to_owned());
            assert_eq!(
                HeaderExtractor::new(&headers).get("traceparent"),
                Some("older"),
                "another name changes nothing"
            );
            let mut injector = HeaderInjector::new(&mut headers);
            injector.set("tracestate", String::new());
            injector.set("traceparent", value.to_owned());
            let mut names: Vec<_> = headers.iter().map(|(name, _)| name.to_string()).collect();
            names.sort();
            assert_eq!(names, left, "{spelling}");
        }
    }
}

#[test]
fn an_empty_value_removes() {
    let mut headers = HeaderMap::new();
    headers.insert("TraceState", "a=1");
    let mut injector = HeaderInjector::new(&mut headers);
    injector.set("tracestate", String::new());
    injector.set("baggage", String::new());
    assert!(headers.is_empty());
}

#[test]
fn what_nats_cannot_carry_is_left_out() {
    let mut headers = HeaderMap::new();
    for case in [HeaderCase::Lower, HeaderCase::Canonical, HeaderCase::Both] {
        let mut injector = HeaderInjector::new(&mut headers).case(case);
        for key in ["", "a b", "a:b", "\u{e4}pfel", "line\r\nbreak"] {
            injector.set(key, "value".to_owned());
        }
        injector.set("key", "line\r\nbreak".to_owned());
    }
    // An empty name is the only one of these that the client allows.
    assert_eq!(headers.iter().filter(|(name, _)| !name.to_string().is_empty()).count(), 0, "{headers:?}");
}

#[test]
fn names_are_written_in_the_chosen_case() {
    let written = |case| {
        let mut headers = HeaderMap::new();
        let mut injector = HeaderInjector::new(&mut headers).case(case);
        injector.set("traceparent", "1".to_owned());
        injector.set("x-b3-traceid", "2".to_owned());
        let mut names: Vec<_> = headers.iter().map(|(name, _)| name.to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(written(HeaderCase::Lower), ["traceparent", "x-b3-traceid"]);
    assert_eq!(written(HeaderCase::Canonical), ["Traceparent", "X-B3-Traceid"]);
    assert_eq!(written(HeaderCase::Both), ["Traceparent", "X-B3-Traceid", "traceparent", "x-b3-traceid"]);
}

#[test]
fn extracting_takes_the_last_value_of_the_best_matching_name() {
    let mut headers = HeaderMap::new();
    headers.append("Xraceparent", "disabled");
    assert_eq!(HeaderExtractor::new(&headers).get("traceparent"), Some("disabled"));
    assert_eq!(HeaderExtractor::new(&headers).get("tracestate"), None);
    headers.append("TRACEPARENT", "loud");
    assert_eq!(HeaderExtractor::new(&headers).get("traceparent"), Some("loud"));
    headers.append("traceparent", "first");
    headers.append("traceparent", "last");
    assert_eq!(HeaderExtractor::new(&headers).get("traceparent"), Some("last"));
    assert_eq!(HeaderExtractor::new(&headers).get("not a name:"), None);
    let extractor = HeaderExtractor::new(&headers);
    let mut keys = extractor.keys();
    keys.sort_unstable();
    assert_eq!(keys, ["TRACEPARENT", "Xraceparent", "traceparent"]);
    assert_eq!(header(&Some(headers), "traceparent").unwrap(), "last");
}
