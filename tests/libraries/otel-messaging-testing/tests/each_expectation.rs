//! Each expectation fails on a span that differs in that alone.

use std::panic::{AssertUnwindSafe, catch_unwind};

use opentelemetry::{
    Context, InstrumentationScope, KeyValue,
    trace::{Link, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer, TracerProvider},
};
use otel_messaging::OperationType;
use otel_messaging_testing::{ExpectedSpan, Recorder, span};

/// The parts of a span, and the spans that it is related to.
struct Made {
    builder: SpanBuilder,
    scope: InstrumentationScope,
    parent: Context,
    event: Option<&'static str>,
    status: Status,
    sender: Context,
    request: Context,
}

impl Made {
    fn attribute(&mut self, key: &'static str) -> &mut KeyValue {
        let attributes = self.builder.attributes.as_mut().unwrap();
        attributes.iter_mut().find(|one| one.key.as_str() == key).unwrap()
    }

    fn add(&mut self, attribute: KeyValue) {
        self.builder.attributes.as_mut().unwrap().push(attribute);
    }

    fn links(&mut self) -> &mut Vec<Link> {
        self.builder.links.as_mut().unwrap()
    }
}

/// Three spans: a request, a sender, and the one that is compared.
fn record(change: impl FnOnce(&mut Made)) -> Recorder {
    let recorder = Recorder::new();
    let (request, sender) = (recorder.start_span("request"), recorder.start_span("send"));
    let link = Link::new(sender.span().span_context().clone(), vec![KeyValue::new("messaging.message.id", "1")], 0);
    let attributes = [
        KeyValue::new("error.type", "declined"),
        KeyValue::new("messaging.batch.message_count", 2),
        KeyValue::new("messaging.client.id", "worker"),
        KeyValue::new("messaging.consumer.group.name", "shipping"),
        KeyValue::new("messaging.destination.name", "orders"),
        KeyValue::new("messaging.message.id", "1"),
        KeyValue::new("messaging.operation.name", "process"),
        KeyValue::new("messaging.operation.type", "process"),
        KeyValue::new("messaging.system", "queue"),
        KeyValue::new("network.peer.address", "127.0.0.1"),
        KeyValue::new("network.peer.port", 2),
        KeyValue::new("otel_messaging.delivery.attempt", 3),
        KeyValue::new("otel_messaging.settlement.outcome", "ack"),
        KeyValue::new("otel_messaging.wait_time", 0.02),
        KeyValue::new("server.address", "b"),
        KeyValue::new("server.port", 1),
        KeyValue::new("team", "checkout"),
    ];
    let mut made = Made {
        builder: SpanBuilder::from_name("process orders")
            .with_kind(SpanKind::Consumer)
            .with_links(vec![link])
            .with_attributes(attributes),
        scope: InstrumentationScope::builder("queue-adapter").with_version("1.2.3").build(),
        parent: request.clone(),
        event: Some("retried"),
        status: Status::error("the card was declined"),
        sender: sender.clone(),
        request: request.clone(),
    };
    change(&mut made);
    let tracer = recorder.tracer_provider().tracer_with_scope(made.scope);
    let context = made.parent.with_span(tracer.build_with_context(made.builder, &made.parent));
    made.event.into_iter().for_each(|event| context.span().add_event(event, Vec::new()));
    context.span().set_status(made.status);
    for context in [context, sender, request, made.sender, made.request] {
        context.span().end();
    }
    recorder
}

fn expected() -> ExpectedSpan {
    span("process orders")
        .operation("process", OperationType::Process)
        .scope(InstrumentationScope::builder("queue-adapter").with_version("1.2.3").build())
        .system("queue")
        .destination("orders")
        .message_id("1")
        .consumer_group("shipping")
        .client_id("worker")
        .batch_of(2)
        .attempt(3)
        .settled("ack")
        .server("b", 1)
        .peer("127.0.0.1", 2)
        .attribute("team", "checkout")
        .child_of("request")
        .link_of_message("send", "1")
        .event("retried")
        .error("declined", "the card was declined")
}

/// The text of the failure.
fn failure(check: impl FnOnce()) -> Option<String> {
    let caught = catch_unwind(AssertUnwindSafe(check)).err()?;
    Some(*caught.downcast::<String>().expect("a message"))
}

fn assert(recorder: &Recorder, expected: ExpectedSpan) {
    recorder.spans().assert([span("request"), span("send"), expected]);
}

#[test]
fn each_difference_is_found_and_is_the_only_line_of_the_diff() {
    assert(&record(|_| ()), expected());
    type Change = fn(&mut Made);
    let cases: [(&str, Change); 31] = [
        ("process refunds", |made| made.builder.name = "process refunds".into()),
        ("kind PRODUCER", |made| made.builder.span_kind = Some(SpanKind::Producer)),
        ("scope other 1.2.3", |made| made.scope = InstrumentationScope::builder("other").with_version("1.2.3").build()),
        ("scope queue-adapter 1.2.4", |made| {
            made.scope = InstrumentationScope::builder("queue-adapter").with_version("1.2.4").build();
        }),
        ("scope queue-adapter 1.2.3 https://schema", |made| {
            let scope = InstrumentationScope::builder("queue-adapter").with_version("1.2.3");
            made.scope = scope.with_schema_url("https://schema").build();
        }),
        ("root", |made| made.parent = Context::new()),
        ("parent send", |made| made.parent = made.sender.clone()),
        ("", |made| made.links().clear()),
        ("link request {messaging.message.id = \"1\"}", |made| {
            made.links()[0].span_context = made.request.span().span_context().clone();
        }),
        ("link send", |made| made.links()[0].attributes.clear()),
        ("link send {messaging.message.id = \"2\"}", |made| {
            made.links()[0].attributes[0] = KeyValue::new("messaging.message.id", "2");
        }),
        ("link send {messaging.message.id = \"1\"}", |made| {
            let again = made.links()[0].clone();
            made.links().push(again);
        }),
        ("status unset", |made| made.status = Status::Unset),
        ("status error: no disk", |made| made.status = Status::error("no disk")),
        ("", |made| made.event = None),
        ("event sold", |made| made.event = Some("sold")),
        ("error.type = \"other\"", |made| made.attribute("error.type").value = "other".into()),
        ("messaging.batch.message_count = 3", |made| made.attribute("messaging.batch.message_count").value = 3.into()),
        ("messaging.client.id = \"c\"", |made| made.attribute("messaging.client.id").value = "c".into()),
        ("messaging.consumer.group.name = \"g\"", |made| {
            made.attribute("messaging.consumer.group.name").value = "g".into();
        }),
        ("messaging.destination.name = \"o\"", |made| made.attribute("messaging.destination.name").value = "o".into()),
        ("messaging.message.id = \"2\"", |made| made.attribute("messaging.message.id").value = "2".into()),
        ("messaging.operation.name = \"p\"", |made| made.attribute("messaging.operation.name").value = "p".into()),
        ("messaging.operation.type = \"t\"", |made| made.attribute("messaging.operation.type").value = "t".into()),
        ("messaging.system = \"kafka\"", |made| made.attribute("messaging.system").value = "kafka".into()),
        ("network.peer.address = \"::1\"", |made| made.attribute("network.peer.address").value = "::1".into()),
        ("network.peer.port = 4", |made| made.attribute("network.peer.port").value = 4.into()),
        ("otel_messaging.delivery.attempt = 4", |made| {
            made.attribute("otel_messaging.delivery.attempt").value = 4.into()
        }),
        ("otel_messaging.settlement.outcome = \"nack\"", |made| {
            made.attribute("otel_messaging.settlement.outcome").value = "nack".into();
        }),
        ("server.port = \"1\"", |made| made.attribute("server.port").value = "1".into()),
        ("unexpected = true", |made| made.add(KeyValue::new("unexpected", true))),
    ];
    for (line, change) in cases {
        let recorder = record(change);
        let text = failure(|| assert(&recorder, expected())).unwrap_or_else(|| panic!("not found: {line}"));
        let found: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("+ ")).map(str::trim).collect();
        assert_eq!(found, if line.is_empty() { vec![] } else { vec![line] }, "{text}");
        assert!(text.lines().filter(|line| line.starts_with("- ")).count() <= 1, "{text}");
        assert!(failure(|| recorder.spans().assert_contains(expected().child_of("request"))).is_some(), "{line}");
    }
}

#[test]
fn a_missing_and_an_unexpected_span_are_found() {
    let recorder = record(|_| ());
    let text = failure(|| recorder.spans().assert([span("request"), span("send")])).unwrap();
    assert!(text.contains("+ process orders") && text.contains("+   parent request"), "{text}");
    assert!(
        text.starts_with("the recorded spans (+) are not the expected ones (-):\n  request\n  send\n+ process"),
        "{text}"
    );
    let text = failure(|| recorder.spans().assert([span("request"), span("send"), expected(), span("more")])).unwrap();
    assert!(text.contains("- more\n-   kind INTERNAL\n-   root\n-   status unset\n"), "{text}");
}

#[test]
fn parts_that_may_be_anything_are_not_compared_and_the_others_are() {
    let port_and_more = |made: &mut Made| {
        made.attribute("server.port").value = 4711.into();
        made.add(KeyValue::new("messaging.message.conversation_id", "us"));
    };
    let recorder = record(port_and_more);
    let loose = || expected().any_value("server.port").other_attributes();
    assert(&recorder, loose());
    recorder.spans().assert_contains(loose());
    assert!(failure(|| assert(&recorder, expected().other_attributes())).is_some());
    assert!(failure(|| assert(&recorder, expected().any_value("server.port"))).is_some());
    let text = failure(|| assert(&recorder, loose().any_value("messaging.message.body.size"))).unwrap();
    assert!(text.contains("-   messaging.message.body.size = (any value)"), "{text}");
    assert(&record(|_| ()), expected().attribute("unexpected", true).without("unexpected").root().child_of("request"));
}

#[test]
fn a_relation_leads_to_a_name_a_position_or_ids() {
    let recorder = record(|_| ());
    let spans = recorder.spans();
    let base = || ExpectedSpan::root(expected());
    assert(&recorder, base().child_of(0));
    assert(&recorder, base().child_of(&spans[0]));
    assert(&recorder, base().child_of(&spans[0].span_context));
    for (wrong, text) in [
        (base().child_of(1), "-   parent send"),
        (base().child_of(7), "-   parent no span #7"),
        (base().child_of("other"), "-   parent other, a name of 0 spans"),
        (base().child_of(&Context::new()), "-   parent 0000000000000000 of trace 00000000000000000000000000000000"),
    ] {
        let failure = failure(|| assert(&recorder, wrong)).unwrap();
        assert!(failure.contains(text), "{failure}");
    }
}

#[test]
fn spans_of_one_name_are_kept_apart() {
    let recorder = Recorder::new();
    let [first, second] = ["send", "send"].map(|name| recorder.start_span(name));
    let child = recorder.start_span_in("process", &second);
    [first, second, child].iter().for_each(|context| context.span().end());
    recorder.spans().assert([span("send"), span("send"), span("process").child_of(1)]);
    for wrong in [span("process").child_of(0), span("process").child_of("send")] {
        assert!(failure(|| recorder.spans().assert([span("send"), span("send"), wrong])).is_some());
    }
    assert_eq!(recorder.spans().names(), ["send", "send", "process"]);
    assert_eq!(recorder.spans().only("process").name, "process");
    assert!(failure(|| _ = recorder.spans().only("send")).unwrap().starts_with("2 spans are named send"));
    assert!(failure(|| recorder.spans().assert_contains(span("other"))).unwrap().contains("process\n  kind INTERNAL"));
}

#[test]
fn series_are_a_line_each_with_count_and_sum() {
    let recorder = Recorder::new();
    let meter = opentelemetry::metrics::MeterProvider::meter(&recorder.meter_provider(), "queue");
    let destination = [KeyValue::new("messaging.destination.name", "orders")];
    meter.u64_counter("sent").with_unit("{message}").build().add(2, &destination);
    let duration = meter.f64_histogram("duration").with_unit("s").build();
    [0.5, 1.5].into_iter().for_each(|seconds| duration.record(seconds, &[]));
    let series = recorder.series();
    let lines: Vec<_> = series.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["duration [s] {} 2", "sent [{message}] {messaging.destination.name = \"orders\"} 2"]);
    assert_eq!((series[0].sum, series[1].sum), (2.0, 2.0));
    assert_eq!(series[1].attribute("messaging.destination.name"), Some(&"orders".into()));
    assert_eq!(series[0].attribute("messaging.destination.name"), None);
}

#[test]
fn a_wait_ends_when_the_spans_have_ended() {
    let recorder = Recorder::new();
    let elsewhere = recorder.clone();
    let thread = std::thread::spawn(move || drop(elsewhere.start_span("elsewhere")));
    recorder.wait_for(1).assert([span("elsewhere")]);
    thread.join().unwrap();
    recorder.forget_spans();
    assert!(recorder.spans().is_empty() && recorder.logs().is_empty() && recorder.series().is_empty());
}
