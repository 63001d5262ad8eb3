//! The carriers, with arbitrary headers.

use std::{collections::BTreeMap, str::FromStr};

use opentelemetry::propagation::{Extractor, Injector};
use otel_async_nats::{
    HeaderMap, HeaderName, HeaderValue,
    otel::{HeaderCase, HeaderExtractor, HeaderInjector},
};
use proptest::{collection::vec, prelude::*, sample::select};

/// Names that NATS allows, of any length, and among them those that carry contexts, in any case, and those that the client
/// knows.
fn name() -> impl Strategy<Value = String> {
    let context = select(vec![
        "traceparent",
        "Traceparent",
        "TRACEPARENT",
        "Xraceparent",
        "xRACEPARENT",
        "tracestate",
        "baggage",
    ]);
    let known = select(vec!["Nats-Msg-Id", "nats-msg-id", "Nats-Expected-Stream"]);
    let of_any_length = prop_oneof![12 => "[!-9;-~]{1,20}", 6 => "[!-9;-~]{21,300}", 1 => "[!-9;-~]{4000,4100}"];
    prop_oneof![4 => of_any_length, 2 => context.prop_map(str::to_owned), 1 => known.prop_map(str::to_owned)]
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    vec((name(), "[^\r\n]{0,40}"), 0..12).prop_map(|entries| {
        let mut headers = HeaderMap::new();
        for (name, value) in entries {
            headers.append(name.as_str(), value.as_str());
        }
        headers
    })
}

/// Keys that a propagator could write, and arbitrary ones.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![name(), ".*"]
}

/// Whether a header is the one of this key: by its name, or renamed by a server.
fn is_same(name: &HeaderName, key: &str) -> bool {
    let name = name.to_string();
    name.eq_ignore_ascii_case(key)
        || key.eq_ignore_ascii_case("traceparent") && name.eq_ignore_ascii_case("xraceparent")
}

/// All headers but those of this key.
fn others(headers: &HeaderMap, key: &str) -> BTreeMap<String, Vec<String>> {
    let others = headers.iter().filter(|(name, _)| !is_same(name, key));
    others.map(|(name, values)| (name.to_string(), values.iter().map(ToString::to_string).collect())).collect()
}

proptest! {
    #[test]
    fn injecting_touches_no_header_of_the_users(
        before in headers(),
        key in key(),
        value in ".*",
        case in select(vec![HeaderCase::Lower, HeaderCase::Canonical, HeaderCase::Both]),
    ) {
        let mut after = before.clone();
        HeaderInjector::new(&mut after).case(case).set(&key, value.clone());
        prop_assert_eq!(others(&after, &key), others(&before, &key));

        // The key's own: replaced, or removed, or left out, and never there twice.
        let own: Vec<_> = after.iter().filter(|(name, _)| is_same(name, &key)).collect();
        let writable = HeaderName::from_str(&key).is_ok() && HeaderValue::from_str(&value).is_ok() && !value.is_empty();
        prop_assert!(own.iter().all(|(_, values)| values.len() == 1));
        let most = if case == HeaderCase::Both { 2 } else { 1 };
        prop_assert!(own.len() <= most);
        prop_assert_eq!(own.is_empty(), !writable);
        if writable {
            let extractor = HeaderExtractor::new(&after);
            prop_assert_eq!(extractor.get(&key), Some(value.as_str()));
        }
    }

    #[test]
    fn extracting_finds_what_is_there_and_nothing_else(headers in headers(), key in key()) {
        let extractor = HeaderExtractor::new(&headers);
        prop_assert_eq!(extractor.keys().len(), headers.len());
        let same = headers.iter().filter(|(name, _)| is_same(name, &key));
        let candidates: Vec<_> = same.filter_map(|(_, values)| values.last()).collect();
        match extractor.get(&key) {
            Some(found) => prop_assert!(candidates.iter().any(|value| value.as_str() == found)),
            None => prop_assert!(candidates.is_empty()),
        }
    }
}
