//! Contexts that the application's own function finds where the propagator finds none.

use std::{
    str::FromStr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use otel_messaging::parse_traceparent;

use crate::queue::*;

const OTHER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn of_cloud_event(headers: &dyn Extractor, _: &[u8]) -> Option<SpanContext> {
    parse_traceparent(headers.get("ce_traceparent")?)
}

fn received(builder: InstrumentationBuilder, headers: HeaderMap, payload: &'static [u8]) -> (Queue, Message) {
    let mut queue = Queue::new(builder.build());
    queue.messages.push_back((headers, "1".to_owned()));
    let message = queue.pop_as("orders", |arrival| arrival.payload(payload)).unwrap();
    (queue, message)
}

fn read_of(message: &Message) -> Option<String> {
    message.process_span()?.creation().map(|creation| creation.span_id().to_string())
}

#[test]
fn a_context_that_is_read_is_the_senders() {
    let sdk = Sdk::new();
    let builder = sdk.all_signals_builder().with_context_reader(of_cloud_event);
    let headers = HeaderMap::default().with("ce_traceparent", SENT).with("baggage", "tenant.id=7");
    let (_, message) = received(builder, headers, b"");
    assert!(message.process_span().unwrap().creation().unwrap().is_remote());
    message.in_scope(|| ());
    drop(message);
    sdk.assert([process("1").child_of(&sender()).link(&sender())]);
}

#[test]
fn where_the_propagator_finds_a_context_nobody_else_is_asked() {
    for untrusted in [false, true] {
        let sdk = Sdk::new();
        let builder = sdk.instrumentation_builder().with_untrusted_source(untrusted);
        let builder = builder.with_context_reader(|_, _| panic!("asked"));
        let (_, message) = received(builder, HeaderMap::default().with("traceparent", OTHER), b"");
        assert_eq!(read_of(&message).as_deref(), Some("b7ad6b7169203331"));
    }
}

#[test]
fn the_function_sees_headers_and_payload_and_none_is_recorded() {
    const SECRET: &[u8] = b"card 4000-1234";
    for panics in [false, true] {
        let sdk = Sdk::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sees = seen.clone();
        let builder =
            sdk.all_signals_builder().with_captured_sizes(true).with_context_reader(move |headers, payload| {
                let names = headers.keys().into_iter().map(str::to_owned).collect::<Vec<_>>();
                sees.lock().unwrap().push((names, payload.to_vec()));
                assert!(!panics, "of {}", String::from_utf8_lossy(payload));
                parse_traceparent(SENT)
            });
        let (_, message) = received(builder, HeaderMap::default().with("tenant", "blue"), SECRET);
        assert_eq!(*seen.lock().unwrap(), [(vec!["tenant".to_owned()], SECRET.to_vec())]);
        assert_eq!(read_of(&message).as_deref(), (!panics).then_some("00f067aa0ba902b7"));
        message.in_scope(|| Err::<(), _>("declined")).unwrap_err();
        drop(message);
        assert_eq!(sdk.spans().len(), 1);
        let everything = sdk.everything() + &sdk.events();
        assert!(everything.contains("declined") && !everything.contains("4000-1234"), "{everything}");
    }
}

#[test]
fn a_context_not_found_or_malformed_or_a_panic_is_no_context() {
    type Find = fn(&dyn Extractor, &[u8]) -> Option<SpanContext>;
    let finds: [Find; 3] = [|_, _| None, |_, _| Some(SpanContext::NONE), |_, _| panic!("a bug")];
    for find in finds {
        for untrusted in [false, true] {
            let sdk = Sdk::new();
            let builder = sdk.instrumentation_builder().with_untrusted_source(untrusted).with_context_reader(find);
            let (_, message) = received(builder, HeaderMap::default(), b"");
            assert_eq!(read_of(&message), None);
            drop(message);
            sdk.assert([process("1")]);
        }
    }
}

#[test]
fn of_an_untrusted_source_what_is_read_is_linked_and_no_more() {
    let sdk = Sdk::new();
    let builder = sdk.instrumentation_builder().with_correlation(Correlation::Parent).with_untrusted_source(true);
    let builder = builder.with_context_reader(|headers, payload| {
        let read = of_cloud_event(headers, payload)?;
        let state = TraceState::from_str("spoofed=1").unwrap();
        Some(SpanContext::new(read.trace_id(), read.span_id(), read.trace_flags(), false, state))
    });
    let (_, message) = received(builder, HeaderMap::default().with("ce_traceparent", SENT), b"");
    drop(message);
    sdk.assert([process("1").link(&sender())]);
    assert_eq!(sdk.spans()[0].links[0].span_context.trace_state().header(), "");
}

#[test]
fn a_forward_keeps_the_header_and_has_its_own_context() {
    let sdk = Sdk::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let asks = asked.clone();
    let builder = sdk.instrumentation_builder().with_context_reader(move |headers, payload| {
        asks.fetch_add(1, Ordering::Relaxed);
        of_cloud_event(headers, payload)
    });
    let (mut queue, message) = received(builder, HeaderMap::default().with("ce_traceparent", SENT), b"");
    message.in_scope(|| queue.forward(&message));
    drop(message);
    let (forwarded, _) = &queue.messages[0];
    assert_eq!(forwarded.names(), ["ce_traceparent", "traceparent"]);
    assert_eq!(forwarded.0["ce_traceparent"], SENT);
    let received = queue.pop().unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1, "of the first message alone");
    drop(received);
    // What was read is no context that the message carries when it is sent.
    let first = process("1").child_of(&sender()).link(&sender());
    sdk.assert([first, push().child_of(0), process("1").child_of(1).link(1)]);
}

#[test]
fn a_message_that_is_sent_again_links_what_was_read() {
    let sdk = Sdk::new();
    let builder = sdk.instrumentation_builder().with_context_reader(of_cloud_event);
    let (mut queue, message) = received(builder, HeaderMap::default().with("ce_traceparent", SENT), b"");
    message.republish(|| queue.forward(&message));
    drop(message);
    let first = process("1").child_of(&sender()).link(&sender());
    sdk.assert([first, push().links([&sender()]).link(0)]);
}

#[test]
fn without_spans_a_context_is_read_where_contexts_travel() {
    let asked = |builder: InstrumentationBuilder| {
        let asked = Arc::new(AtomicUsize::new(0));
        let asks = asked.clone();
        let builder = builder.with_context_reader(move |_, _| {
            asks.fetch_add(1, Ordering::Relaxed);
            parse_traceparent(SENT)
        });
        let (_, message) = received(builder, HeaderMap::default(), b"");
        let current = message.in_scope(|| Some(Context::current().span().span_context().span_id().to_string()));
        (asked.load(Ordering::Relaxed), current.as_deref() == Some("00f067aa0ba902b7"))
    };
    let sdk = Sdk::new();
    assert_eq!(asked(sdk.all_signals_builder().with_spans(false)), (1, true));
    assert_eq!(asked(sdk.all_signals_builder().with_spans(false).with_propagation(Propagation::Off)), (0, false));
    // With spans it is for them, whether contexts travel or not.
    assert_eq!(asked(sdk.all_signals_builder().with_propagation(Propagation::Off)), (1, false));
    sdk.assert([process("1").child_of(&sender()).link(&sender())]);
}

#[test]
fn a_traceparent_is_read_as_w3c_has_it() {
    let parts = |text: &str| parse_traceparent(text).map(|read| (read.span_id().to_string(), read.is_sampled()));
    assert_eq!(parts(SENT), Some(("00f067aa0ba902b7".to_owned(), true)));
    assert_eq!(parts(&format!(" {SENT}\n")), parts(SENT));
    assert_eq!(parts(&SENT.replace("-01", "-00")), Some(("00f067aa0ba902b7".to_owned(), false)));
    let none = [format!("\"{SENT}\""), SENT.to_uppercase(), SENT.replace("00f067aa0ba902b7", "0000000000000000")];
    assert_eq!(none.map(|text| parts(&text)), [None, None, None]);
}
