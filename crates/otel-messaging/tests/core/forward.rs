//! What a message keeps of its old context when it is forwarded, with propagators that read more headers than they name.
#![allow(deprecated, reason = "zipkin's exporter is, of which this is the propagator")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use opentelemetry::propagation::TextMapCompositePropagator;
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use opentelemetry_zipkin::{B3Encoding, Propagator as Zipkin};
use proptest::prelude::*;

use crate::queue::*;

type Boxed = Box<dyn TextMapPropagator + Send + Sync>;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn remote(trace: &str, span: &str, flags: TraceFlags, state: TraceState) -> Option<SpanContext> {
    Some(SpanContext::new(TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?, flags, true, state))
}

fn with(context: &Context, span: Option<SpanContext>) -> Context {
    span.map_or_else(|| context.clone(), |span| context.with_remote_span_context(span))
}

/// Jaeger's, as its documentation has it: `uber-trace-id: {trace}:{span}:0:{flags}`, and `uberctx-*` for what goes along, of
/// which it names and writes none. The published crate is for another version of OpenTelemetry.
fn jaeger() -> Functions {
    let inject = |context: &Context, headers: &mut dyn Injector| {
        let span = context.span().span_context().clone();
        if span.is_valid() {
            let flags = u8::from(span.is_sampled());
            headers.set("uber-trace-id", format!("{}:{}:0:{flags}", span.trace_id(), span.span_id()));
        }
    };
    let read = |headers: &dyn Extractor| {
        let [trace, span, _, flags] = headers.get("uber-trace-id")?.split(':').collect::<Vec<_>>()[..] else {
            return None;
        };
        let prefixed = headers.keys().into_iter().filter(|name| name.starts_with("uberctx-"));
        let along = prefixed.filter_map(|name| Some((name.to_owned(), headers.get(name)?.to_owned())));
        let state = TraceState::from_key_value(along).ok()?;
        remote(trace, span, TraceFlags::new(flags.parse().ok()?) & TraceFlags::SAMPLED, state)
    };
    Functions::named(&["uber-trace-id"]).inject(inject).extract(move |context, headers| with(context, read(headers)))
}

/// A user's: reads the application's `tenant-id`, which it neither names nor writes.
fn tenant() -> Functions {
    Functions::named(&[]).extract(|context, headers| match headers.get("tenant-id") {
        Some(tenant) => context.with_baggage([KeyValue::new("tenant", tenant.to_owned())]),
        None => context.clone(),
    })
}

/// A user's of an older format, which is read still, whichever of two headers has it, and no longer written.
fn older() -> Functions {
    Functions::named(&[]).extract(|context, headers| {
        let read = |name| old_context(headers.get(name)?);
        with(context, read("X-Old-Context").or_else(|| read("older-context")))
    })
}

fn old_context(value: &str) -> Option<SpanContext> {
    let (trace, span) = value.split_once('/')?;
    remote(trace, span, TraceFlags::SAMPLED, TraceState::NONE)
}

/// Counts how often it is asked to extract.
fn counting(propagator: impl TextMapPropagator + Send + Sync + 'static, asked: &'static AtomicUsize) -> Functions {
    let propagator = Arc::new(propagator);
    let (writes, fields) = (propagator.clone(), propagator.fields().collect::<Vec<_>>());
    let named = Functions::named(&fields).inject(move |context, headers| writes.inject_context(context, headers));
    let reads = propagator.clone();
    named.extract(move |context, headers| {
        asked.fetch_add(1, Ordering::Relaxed);
        reads.extract_with_context(context, headers)
    })
}

/// What becomes of a message with these headers, of which all that is a context is replaced; and the span of the forward.
fn forwarded(
    propagator: impl TextMapPropagator + Send + Sync + 'static,
    headers: &HeaderMap,
) -> (HeaderMap, SpanContext) {
    let sdk = Sdk::new();
    let builder = sdk
        .instrumentation_builder()
        .with_propagation(Propagation::custom(propagator))
        .with_carried_context(CarriedContext::Replace);
    let mut queue = Queue::new(builder.build());
    queue.push_with(headers.clone(), "1").unwrap();
    (queue.messages.pop_front().unwrap().0, sdk.spans()[0].span_context.clone())
}

/// Which span a propagator finds.
fn read(propagator: &dyn TextMapPropagator, headers: &HeaderMap) -> Which {
    which(propagator.extract_with_context(&Context::new(), headers).span().span_context())
}

type Which = (TraceId, SpanId, bool);

fn which(span: &SpanContext) -> Which {
    (span.trace_id(), span.span_id(), span.is_sampled())
}

fn composite(propagators: impl IntoIterator<Item = Boxed>) -> TextMapCompositePropagator {
    TextMapCompositePropagator::new(propagators.into_iter().collect())
}

fn b3() -> HeaderMap {
    HeaderMap::default().with("b3", &format!("{TRACE}-{SPAN}-1"))
}

#[test]
fn the_parent_of_the_next_hop_is_the_forward_and_not_the_original_sender() {
    let (sdk, mut queue) = configured(|builder| builder.with_propagation(Propagation::custom(Zipkin::new())));
    let message = queue.arrive(b3().with("tenant-id", "7"));
    message.in_scope(|| queue.forward(&message));
    assert_eq!(queue.messages[0].0.names(), ["tenant-id", "x-b3-sampled", "x-b3-spanid", "x-b3-traceid"]);
    queue.pop().unwrap().in_scope(|| ());
    let first = process("1").child_of(&sender()).link(&sender());
    sdk.assert([first, push().child_of(0).link(&sender()), process("1").child_of(1).link(1)]);
}

#[test]
fn a_header_that_does_not_stand_in_the_way_stays() {
    let propagator = || composite([Box::new(tenant()), Box::new(Zipkin::new()) as Boxed]);
    let (headers, forward) = forwarded(propagator(), &b3().with("tenant-id", "7"));
    assert_eq!(headers.0["tenant-id"], "7");
    assert!(!headers.0.contains_key("b3"));
    assert_eq!(read(&propagator(), &headers), which(&forward));

    // Nor does `b3` where another header is read in its place.
    let propagator = || composite([Box::new(Zipkin::new()), Box::new(TraceContextPropagator::new()) as Boxed]);
    let (headers, forward) = forwarded(propagator(), &b3());
    assert_eq!(headers.0["b3"], b3().0["b3"]);
    assert_eq!(read(&propagator(), &headers), which(&forward));

    // What goes along with Jaeger's.
    let headers = HeaderMap::default().with("uber-trace-id", &format!("{TRACE}:{SPAN}:0:1")).with("uberctx-a", "1");
    let (headers, forward) = forwarded(jaeger(), &headers);
    assert_eq!((&*headers.0["uberctx-a"], read(&jaeger(), &headers)), ("1", which(&forward)));
}

#[test]
fn what_is_read_only_once_another_header_is_gone_goes_too() {
    let propagator = || composite([Box::new(TraceContextPropagator::new()), Box::new(older()) as Boxed]);
    let old = format!("{TRACE}/{SPAN}");
    let headers = HeaderMap::default().with("X-Old-Context", &old).with("older-context", &old).with("tenant-id", "7");
    let (headers, forward) = forwarded(propagator(), &headers);
    assert_eq!(headers.names(), ["tenant-id", "traceparent"]);
    assert_eq!(read(&propagator(), &headers), which(&forward));
}

#[test]
fn an_unwritable_sampling_decision_does_not_keep_the_old_context() {
    // Deferred, by B3: the sampler's decision is not written then.
    let (sdk, mut queue) = configured(|builder| builder.with_propagation(Propagation::custom(Zipkin::new())));
    let message = queue.arrive(HeaderMap::default().with("b3", &format!("{TRACE}-{SPAN}")));
    message.in_scope(|| queue.forward(&message));
    let forward = &sdk.spans()[1].span_context;
    assert_eq!(queue.messages[0].0.names(), ["x-b3-spanid", "x-b3-traceid"]);
    assert_eq!(read(&Zipkin::new(), &queue.messages[0].0).1, forward.span_id());
}

#[test]
fn where_nothing_helps_nothing_is_removed() {
    // Reads what it does not write.
    let deaf = Functions::named(&[])
        .inject(|_, headers| headers.set("x-deaf", "1".to_owned()))
        .extract(|context, headers| Zipkin::new().extract_with_context(context, headers));
    let (headers, _) = forwarded(deaf, &b3().with("tenant-id", "7"));
    assert_eq!(headers, b3().with("tenant-id", "7").with("x-deaf", "1"));
}

#[test]
fn what_is_not_replaced_stays_whole() {
    let sdk = Sdk::new();
    let builder = sdk
        .instrumentation_builder()
        .with_propagation(Propagation::custom(Zipkin::new()))
        .with_carried_context(CarriedContext::Replace);
    let mut queue = Queue::new(builder.with_spans(false).build());
    queue.push_with(b3(), "1").unwrap();
    assert_eq!(queue.messages[0].0, b3(), "there is no other context");
}

#[test]
fn a_panic_when_it_is_read_back_leaves_the_message_as_it_was_written() {
    // Only the first time goes well.
    let read = AtomicUsize::new(0);
    let once = Functions::named(&[]).inject(|context, headers| Zipkin::new().inject_context(context, headers)).extract(
        move |context, headers| {
            assert_eq!(read.fetch_add(1, Ordering::Relaxed), 0, "a propagator's bug");
            Zipkin::new().extract_with_context(context, headers)
        },
    );
    let (headers, _) = forwarded(once, &b3());
    assert_eq!(headers.names(), ["b3", "x-b3-sampled", "x-b3-spanid", "x-b3-traceid"]);
}

#[test]
fn only_a_forward_that_keeps_what_was_read_pays_for_it() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let asked = |propagator: Boxed, headers: HeaderMap| {
        ASKED.store(0, Ordering::Relaxed);
        forwarded(counting(composite([propagator]), &ASKED), &headers);
        ASKED.load(Ordering::Relaxed)
    };
    let w3c = HeaderMap::default().with("traceparent", &format!("00-{TRACE}-{SPAN}-01")).with("tracestate", "a=1");
    let multi = HeaderMap::default().with("x-b3-traceid", TRACE).with("x-b3-spanid", SPAN).with("x-b3-sampled", "1");
    assert_eq!(asked(Box::new(TraceContextPropagator::new()), w3c), 1);
    assert_eq!(asked(Box::new(Zipkin::new()), multi.clone()), 1);
    assert_eq!(asked(Box::new(Zipkin::with_encoding(B3Encoding::SingleAndMultiHeader)), b3()), 1);
    assert_eq!(asked(Box::new(Zipkin::new()), multi.with("x-b3-parentspanid", SPAN)), 2, "it reads what was written");
}

#[test]
fn a_message_of_very_many_headers_is_read_back_a_few_times() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let many = (0..1_000).fold(b3(), |headers, number| headers.with(&format!("uberctx-{number}"), "1"));
    let many = many.with("uber-trace-id", &format!("{TRACE}:{SPAN}:0:1"));
    let both = || composite([Box::new(jaeger()), Box::new(Zipkin::new()) as Boxed]);
    let (headers, forward) = forwarded(counting(both(), &ASKED), &many);
    assert_eq!(read(&both(), &headers), which(&forward));
    assert_eq!(many.0.keys().filter(|name| !headers.0.contains_key(*name)).collect::<Vec<_>>(), ["b3"]);
    let asked = ASKED.load(Ordering::Relaxed);
    assert!(asked <= 16, "asked {asked} times");
}

#[test]
fn whatever_a_propagator_asks_for_it_is_asked_a_bounded_number_of_times() {
    // Reads the first of its headers that is there, and before that, if it is to, all that there are.
    let first = |greedy: bool| {
        let extract = move |context: &Context, headers: &dyn Extractor| {
            if greedy {
                headers.keys().into_iter().for_each(|name| _ = headers.get(name));
            }
            match (0..1_000).find_map(|number| headers.get(&format!("old-{number:03}"))) {
                Some(value) => with(context, old_context(value)),
                None => TraceContextPropagator::new().extract_with_context(context, headers),
            }
        };
        let inject = |context: &Context, headers: &mut dyn Injector| {
            TraceContextPropagator::new().inject_context(context, headers)
        };
        Functions::named(&[]).inject(inject).extract(extract)
    };
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let old = |count: usize| {
        (0..count).fold(HeaderMap::default(), |headers, number| {
            headers.with(&format!("old-{number:03}"), &format!("{TRACE}/{SPAN}"))
        })
    };
    for (greedy, count, helps) in
        [(false, 64, true), (false, 65, false), (false, 1_000, false), (true, 64, true), (true, 1_000, false)]
    {
        ASKED.store(0, Ordering::Relaxed);
        let (headers, _) = forwarded(counting(first(greedy), &ASKED), &old(count));
        let gone = count + 1 - headers.0.len();
        assert_eq!(gone, if helps { count } else { 0 }, "{greedy} {count}");
        let asked = ASKED.load(Ordering::Relaxed);
        assert!(asked <= 64 * 10, "{greedy} {count}: asked {asked} times");
    }
}

/// The propagators that there are, by number.
fn propagator(number: usize) -> Boxed {
    match number {
        0 => Box::new(TraceContextPropagator::new()),
        1 => Box::new(BaggagePropagator::new()),
        2 => Box::new(Zipkin::new()),
        3 => Box::new(Zipkin::with_encoding(B3Encoding::SingleHeader)),
        4 => Box::new(Zipkin::with_encoding(B3Encoding::SingleAndMultiHeader)),
        5 => Box::new(jaeger()),
        6 => Box::new(older()),
        _ => Box::new(tenant()),
    }
}

/// Headers of a context by any of the formats, or nearly so, and the application's.
fn headers() -> impl Strategy<Value = HeaderMap> {
    let id = |right: &'static str, off: &'static str| prop_oneof![8 => right, 1 => off, 1 => "x?"];
    let flag = prop::sample::select(vec!["-1", "-0", "-d", "", "-1-00f067aa0ba902b8"]);
    let values = (
        id("[0-9a-f]{32}", "[0-9A-F]{32}"),
        id("[0-9a-f]{16}", "[0-9A-F]{17}"),
        flag,
        prop::sample::select(vec!["1", "0", "true"]),
    );
    let of = |name: &'static str, value: fn(&str, &str, &str, &str) -> String| {
        values.clone().prop_map(move |(trace, span, flag, sampled)| (name, value(&trace, &span, flag, sampled)))
    };
    let one = prop_oneof![
        of("traceparent", |trace, span, _, _| format!("00-{trace}-{span}-01")),
        of("b3", |trace, span, flag, _| format!("{trace}-{span}{flag}")),
        of("x-b3-traceid", |trace, _, _, _| trace.to_owned()),
        of("x-b3-spanid", |_, span, _, _| span.to_owned()),
        of("x-b3-parentspanid", |_, span, _, _| span.to_owned()),
        of("x-b3-sampled", |_, _, _, sampled| sampled.to_owned()),
        of("x-b3-flags", |_, _, _, sampled| sampled.to_owned()),
        of("uber-trace-id", |trace, span, _, _| format!("{trace}:{span}:0:1")),
        of("uberctx-a", |trace, _, _, _| trace.to_owned()),
        of("X-Old-Context", |trace, span, _, _| format!("{trace}/{span}")),
        of("older-context", |trace, span, _, _| format!("{trace}/{span}")),
        of("baggage", |trace, _, _, _| format!("a={trace}")),
        of("tenant-id", |_, span, _, _| span.to_owned()),
        of("colour", |_, span, _, _| span.to_owned()),
    ];
    prop::collection::vec(one, 0..10)
        .prop_map(|all| HeaderMap(all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_new_context_is_readable_and_no_header_is_removed_needlessly(
        numbers in prop::collection::vec(0..8_usize, 1..5), given in headers(),
    ) {
        let all = || composite(numbers.iter().map(|&number| propagator(number)));
        let (sent, forward) = forwarded(all(), &given);
        let written = {
            let mut written = HeaderMap::default();
            all().inject_context(&Context::new().with_remote_span_context(forward.clone()), &mut written);
            written
        };
        // What it wrote is there, and what is there has not changed.
        for (name, value) in &sent.0 {
            prop_assert_eq!(Some(value), written.0.get(name).or(given.0.get(name)));
        }
        prop_assert!(written.0.keys().all(|name| sent.0.contains_key(name)));
        let fields: BTreeSet<_> = all().fields().map(str::to_owned).collect();
        let gone: Vec<_> = given.0.keys().filter(|name| !sent.0.contains_key(*name) && !fields.contains(*name)).collect();
        prop_assert!(!sent.0.contains_key("colour") || !gone.contains(&&"colour".to_owned()));
        for always in ["tenant-id", "colour"] {
            prop_assert_eq!(given.0.get(always), sent.0.get(always));
        }
        let carried = read(&all(), &given).0 != TraceId::INVALID;
        if !carried {
            // No forward: a message with headers of its own.
            prop_assert_eq!(gone.len(), 0);
            return Ok(());
        }
        let got = read(&all(), &sent);
        if read(&all(), &written) == which(&forward) {
            prop_assert_eq!(got, which(&forward));
        }
        for name in gone {
            let with_it = sent.clone().with(name, &given.0[name]);
            prop_assert_ne!(read(&all(), &with_it), got, "{} need not have gone", name);
        }
    }
}
