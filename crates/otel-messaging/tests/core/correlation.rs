//! How process spans relate to their messages: policies, pasts, trust.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use otel_messaging::{AutoCorrelation, adapter::Clock};

use crate::queue::*;

/// Every policy, ambient span or none, context in the message, past of the message; single and batch.
///
/// `some` is a context, sampled or unsampled, `none` is no header or a malformed one. `late` is an hour and more under way,
/// the second attempt, a redelivery, dead-lettered, replayed or sent by a schedule.
const TABLE: &str = "
    shape  | policy             | ambient | context | past  | parent   | links
    single | Link               | no      | none    | any   | root     |
    single | Link               | no      | some    | any   | root     | creation
    single | Link               | yes     | none    | any   | ambient  |
    single | Link               | yes     | some    | any   | ambient  | creation
    single | ParentIfNoAmbient  | no      | none    | any   | root     |
    single | ParentIfNoAmbient  | no      | some    | any   | creation | creation
    single | ParentIfNoAmbient  | yes     | none    | any   | ambient  |
    single | ParentIfNoAmbient  | yes     | some    | any   | ambient  | creation
    single | Parent             | no      | none    | any   | root     |
    single | Parent             | no      | some    | any   | creation | creation
    single | Parent             | yes     | none    | any   | ambient  |
    single | Parent             | yes     | some    | any   | creation | creation ambient
    single | Auto               | no      | none    | any   | root     |
    single | Auto               | no      | some    | usual | creation | creation
    single | Auto               | no      | some    | late  | root     | creation
    single | Auto               | yes     | none    | usual | ambient  |
    single | Auto               | yes     | none    | late  | root     | ambient
    single | Auto               | yes     | some    | usual | ambient  | creation
    single | Auto               | yes     | some    | late  | root     | creation ambient
    single | untrusted Parent   | no      | none    | any   | root     |
    single | untrusted Parent   | no      | some    | any   | root     | creation
    single | untrusted Parent   | yes     | none    | any   | ambient  |
    single | untrusted Parent   | yes     | some    | any   | ambient  | creation
    batch  | any                | no      | none    | any   | root     |
    batch  | any                | no      | some    | any   | root     | creation
    batch  | any                | yes     | none    | any   | ambient  |
    batch  | any                | yes     | some    | any   | ambient  | creation
";

const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

const SHAPES: [&str; 2] = ["single", "batch"];
const POLICIES: [&str; 5] = ["Link", "ParentIfNoAmbient", "Parent", "Auto", "untrusted Parent"];
const AMBIENTS: [&str; 2] = ["no", "yes"];
const CONTEXTS: [(&str, &str, Option<&str>); 4] = [
    ("none", "absent", None),
    ("none", "malformed", Some("00-zz-zz-01")),
    ("some", "sampled", Some(SENT)),
    ("some", "unsampled", Some(UNSAMPLED)),
];
const PASTS: [(&str, &str); 7] = [
    ("usual", "first delivery, just sent"),
    ("late", "old"),
    ("late", "second attempt"),
    ("late", "redelivered"),
    ("late", "dead-lettered"),
    ("late", "replayed"),
    ("late", "scheduled"),
];

fn arrival<'a>(past: &str, arrival: Arrival<'a>) -> Arrival<'a> {
    let now = SystemTime::now();
    match past {
        "old" => arrival.sent(now - Duration::from_secs(3_601), Clock::LogAppendTime),
        "second attempt" => arrival.attempt(2),
        "redelivered" => arrival.redelivered(true),
        "dead-lettered" => arrival.dead_lettered(true),
        "replayed" => arrival.replayed(true),
        "scheduled" => arrival.scheduled(true),
        _ => arrival.sent(now - Duration::from_secs(3_000), Clock::LogAppendTime).attempt(1),
    }
}

fn by_policy(builder: InstrumentationBuilder, policy: &str) -> InstrumentationBuilder {
    match policy {
        "Link" => builder.with_correlation(Correlation::Link),
        "ParentIfNoAmbient" => builder,
        "Parent" => builder.with_correlation(Correlation::Parent),
        "Auto" => builder.with_correlation(Correlation::Auto(AutoCorrelation::default())),
        "untrusted Parent" => builder.with_correlation(Correlation::Parent).with_untrusted_source(true),
        other => panic!("no policy {other}"),
    }
}

/// Parent and links of the process span, as words.
fn relations(shape: &str, policy: &str, ambient: bool, header: Option<&str>, past: &str) -> (String, String) {
    let sdk = Sdk::new();
    let mut queue = Queue::new(by_policy(sdk.instrumentation_builder(), policy).build());
    let headers = HeaderMap(header.map(|header| ("traceparent".to_owned(), header.to_owned())).into_iter().collect());
    queue.messages.push_back((headers, "1".to_owned()));
    let active = sdk.app_span("loop");
    {
        let _attached = ambient.then(|| active.clone().attach());
        let message = queue.pop_as("orders", |a| arrival(past, a)).unwrap();
        match shape {
            "batch" => block_on(process_batch(&[message], || async {})),
            _ => message.in_scope(|| ()),
        }
    }
    let active = active.span().span_context().clone();
    let spans = sdk.spans();
    let [process] = &spans[..] else { panic!("{}", sdk.described()) };

    let word = |id: SpanId| match id.to_string().as_str() {
        "00f067aa0ba902b7" => "creation",
        _ if id == SpanId::INVALID => "root",
        _ if id == active.span_id() => "ambient",
        other => panic!("related to {other}"),
    };
    let parent = word(process.parent_span_id);
    let trace = process.span_context.trace_id();
    assert_eq!(parent == "ambient", trace == active.trace_id());
    assert_eq!(parent == "creation", trace.to_string() == "4bf92f3577b34da6a3ce929d0e0e4736");
    let links: Vec<_> = process.links.iter().map(|link| word(link.span_context.span_id())).collect();
    if let Some(link) = process.links.iter().find(|link| word(link.span_context.span_id()) == "creation") {
        assert_eq!(link.span_context.is_sampled(), header == Some(SENT), "a link says what the sender said");
    }
    (parent.to_owned(), links.join(" "))
}

#[test]
fn a_policy_decides_the_parent_and_the_creation_context_is_linked() {
    let rows: Vec<[&str; 7]> = TABLE
        .lines()
        .filter(|line| line.contains('|') && !line.contains("shape"))
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().try_into().expect("seven columns"))
        .collect();
    let fits = |cell: &str, value: &str| cell == "any" || cell == value;
    let mut used = vec![false; rows.len()];
    for shape in SHAPES {
        for policy in POLICIES {
            for ambient in AMBIENTS {
                for (context, described, header) in CONTEXTS {
                    for (past, recorded) in PASTS {
                        let case = [shape, policy, ambient, context, past];
                        let found: Vec<_> = rows
                            .iter()
                            .enumerate()
                            .filter(|(_, row)| row.iter().zip(case).all(|(cell, value)| fits(cell, value)))
                            .collect();
                        let [(at, [.., parent, links])] = found[..] else { panic!("{case:?}: {found:?}") };
                        used[at] = true;
                        assert_eq!(
                            relations(shape, policy, ambient == "yes", header, recorded),
                            ((*parent).to_owned(), (*links).to_owned()),
                            "{case:?}, {described}, {recorded}"
                        );
                    }
                }
            }
        }
    }
    assert!(used.into_iter().all(|used| used), "a row that stands for nothing");
}

/// Whether this policy gives a message with this past a trace of its own.
fn starts_new_trace(auto: AutoCorrelation, past: impl for<'a> FnOnce(Arrival<'a>) -> Arrival<'a>) -> bool {
    let (sdk, mut queue) = configured(|builder| builder.with_correlation(Correlation::Auto(auto)));
    queue.push("1").unwrap();
    drop(queue.pop_as("orders", past));
    sdk.spans()[1].parent_span_id == SpanId::INVALID
}

#[test]
fn auto_starts_a_new_trace_only_beyond_its_thresholds() {
    let ago = |seconds| SystemTime::now() - Duration::from_secs(seconds);
    let auto = AutoCorrelation::default().max_age(Duration::from_secs(600));
    assert!(!starts_new_trace(auto, |a| a.sent(ago(590), Clock::Broker)));
    assert!(starts_new_trace(auto, |a| a.sent(ago(610), Clock::Broker)));
    // A time that cannot be is no reason.
    assert!(!starts_new_trace(auto, |a| a.sent(SystemTime::UNIX_EPOCH, Clock::CreateTime)));
    assert!(!starts_new_trace(auto, |a| a.sent(ago(0) + Duration::from_secs(1 << 33), Clock::CreateTime)));

    let auto = AutoCorrelation::default().max_attempts(3);
    assert!(!starts_new_trace(auto, |a| a.attempt(3)));
    assert!(starts_new_trace(auto, |a| a.attempt(4)));
    assert!(starts_new_trace(auto, |a| a.attempt(u64::MAX)));
    assert!(!starts_new_trace(auto, |a| a.redelivered(true)), "it counts as the second");
    assert!(!starts_new_trace(AutoCorrelation::default(), |a| a.attempt(0)));

    assert!(starts_new_trace(AutoCorrelation::default(), |a| a.dead_lettered(true)));
    assert!(!starts_new_trace(AutoCorrelation::default().follow_dead_letters(true), |a| a.dead_lettered(true)));
    assert!(starts_new_trace(AutoCorrelation::default(), |a| a.replayed(true)));
    assert!(!starts_new_trace(AutoCorrelation::default().follow_replays(true), |a| a.replayed(true)));
}

fn tenant() -> Option<String> {
    Context::current().baggage().get("tenant.id").map(ToString::to_string)
}

#[test]
fn baggage_arrives_under_every_policy_and_stays_with_its_message() {
    for policy in ["Link", "ParentIfNoAmbient", "Parent", "Auto"] {
        for ambient in [false, true] {
            for (spans, wanted) in [(true, true), (true, false), (false, true)] {
                let sdk = Sdk::new();
                let builder = by_policy(sdk.instrumentation_builder(), policy).with_filter(move |_| wanted);
                let builder = if spans { builder } else { builder.with_spans(false) };
                let mut queue = Queue::new(builder.build());
                let with = HeaderMap::default().with("baggage", "tenant.id=7;secret").with("traceparent", SENT);
                let without = sent();
                for headers in [with.clone(), without, with, HeaderMap::default()] {
                    queue.messages.push_back((headers, "1".to_owned()));
                }
                let active = sdk.app_span("loop");
                let _ambient = ambient.then(|| active.clone().attach());
                for expected in [Some("7"), None, Some("7"), None] {
                    let message = queue.pop_as("orders", |a| a.redelivered(true)).unwrap();
                    message.in_scope(|| assert_eq!(tenant().as_deref(), expected, "{policy} {ambient} {spans}"));
                    assert_eq!(message.otel_context().baggage().len(), usize::from(expected.is_some()));
                    assert_eq!(tenant(), None, "it leaked out of the handler");
                }
            }
        }
    }
}

#[test]
fn baggage_of_the_loop_stays_where_the_message_brings_none() {
    let (_sdk, mut queue) = traced();
    queue.push("1").unwrap();
    let _loop = Context::new().with_baggage([KeyValue::new("tenant.id", "loop")]).attach();
    queue.pop().unwrap().in_scope(|| assert_eq!(tenant().as_deref(), Some("loop")));
}

#[test]
fn an_untrusted_source_is_linked_and_says_nothing_more() {
    for spans in [true, false] {
        let sdk = Sdk::new();
        let builder = sdk.instrumentation_builder().with_correlation(Correlation::Parent).with_untrusted_source(true);
        let mut queue = Queue::new(if spans { builder } else { builder.with_spans(false) }.build());
        let theirs = sent().with("tracestate", "spoofed=1").with("baggage", "tenant.id=admin");
        let message = queue.arrive(theirs.clone());
        assert_eq!(message.headers, theirs, "the user sees what came");
        message.in_scope(|| {
            assert_eq!(tenant(), None);
            queue.push("2").unwrap();
        });
        let expected = if spans { vec!["traceparent"] } else { vec![] };
        assert_eq!(queue.messages.pop_front().unwrap().0.names(), expected);
        drop(message);
        let recorded = [process("1").link(&sender()), push().child_of(0)];
        sdk.assert(recorded.into_iter().filter(|_| spans));
        for link in sdk.spans().iter().flat_map(|span| span.links.iter()) {
            assert_eq!(link.span_context.trace_state().header(), "");
        }
    }
}

#[test]
fn a_handler_without_a_span_stays_in_the_active_one() {
    for filtered in [true, false] {
        let sdk = Sdk::new();
        let builder = sdk.instrumentation_builder();
        let builder = if filtered { builder.with_filter(|_| false) } else { builder.with_spans(false) };
        let mut queue = Queue::new(builder.build());
        let tracer = sdk.tracer();
        let active = sdk.app_span("request");
        let [bare, recorded] = {
            let _attached = active.clone().attach();
            [HeaderMap::default(), sent()].map(|headers| queue.arrive(headers))
        };
        for message in [&bare, &recorded] {
            message.in_scope(|| drop(tracer.start("work")));
        }
        // And where none was active, what the sender left goes on.
        let passed_on = queue.arrive(recorded.headers.clone());
        passed_on.in_scope(|| drop(tracer.start("work")));
        let work = |parent: SpanRef| app("work").child_of(parent);
        sdk.assert([work((&active).into()), work((&active).into()), work((&sender()).into())]);
    }
}

#[test]
fn trace_flags_are_passed_on_unchanged() {
    let sdk = Sdk::with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)));
    let mut queue = Queue::new(sdk.instrumentation());
    queue.messages.push_back((HeaderMap::default().with("traceparent", UNSAMPLED), "1".to_owned()));
    queue.pop().unwrap().in_scope(|| queue.push("2")).unwrap();
    let sent = &queue.messages[0].0.0["traceparent"];
    assert!(sent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && sent.ends_with("-00"), "{sent}");
    assert_eq!(sdk.spans().len(), 0);
    // Only linked, it is another trace: the consumer's own sampler decides.
    let mut queue = Queue::new(sdk.instrumentation_builder().with_correlation(Correlation::Link).build());
    queue.messages.push_back((HeaderMap::default().with("traceparent", UNSAMPLED), "1".to_owned()));
    drop(queue.pop());
    assert_eq!(sdk.spans().len(), 1);
}

#[test]
fn samplers_see_attributes_and_links() {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let noted = notes.clone();
    let sdk =
        Sdk::with_sampler(Samples(move |name: &str, kind: &SpanKind, attributes: &[KeyValue], links: &[Link]| {
            let mut keys: Vec<_> =
                attributes.iter().map(|one| one.key.as_str().rsplit_once("ing.").unwrap().1).collect();
            keys.sort_unstable();
            noted.lock().unwrap().push(format!("{name} {kind:?} {} links, {}", links.len(), keys.join(" ")));
            (SamplingDecision::RecordAndSample, TraceState::NONE)
        }));
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push_with(sent(), "1").unwrap();
    let message = queue.pop_as("orders", |a| a.attempt(2).redelivered(true)).unwrap();
    message.in_scope(|| ());
    message.ack();
    block_on(process_batch(&[message], || async {}));
    let of_message = "delivery.attempt delivery.redelivered destination.name message.id";
    assert_eq!(
        *notes.lock().unwrap(),
        [
            "push orders Client 1 links, destination.name operation.name operation.type system".to_owned(),
            format!("process orders Consumer 1 links, {of_message} operation.name operation.type system"),
            "ack orders Client 0 links, destination.name operation.name operation.type system".to_owned(),
            // The message's own span is open, and has its attributes.
            "process orders Consumer 1 links, batch.message_count destination.name operation.name operation.type system"
                .to_owned(),
        ]
    );
}

#[test]
fn a_message_s_state_does_not_reach_the_next_one() {
    // Delivered where another message's context was attached: a forward is of the one that is worked on.
    let (sdk, mut queue) = traced();
    queue.fill(2);
    let (first, second) = {
        let first = queue.pop().unwrap();
        let _attached = first.otel_context().attach();
        let second = first.republish(|| queue.pop().unwrap());
        (first, second)
    };
    second.in_scope(|| queue.forward(&second));
    assert_ne!(queue.messages[0].0, second.headers, "a forward, which is replaced");
    drop((first, second));
    // Of the message itself alone.
    let processed = |at: usize, of: &str| process(of).child_of(at).link(at);
    sdk.assert([push(), push(), processed(0, "1"), process("2").child_of(2).link(1), push().child_of(3).link(1)]);
}
