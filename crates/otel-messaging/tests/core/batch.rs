use std::sync::Arc;

use otel_messaging::adapter::scope;

use crate::queue::*;

#[test]
fn a_batch_is_one_span_with_a_link_for_each_message() {
    let (sdk, mut queue) = traced();
    queue.fill(2);
    let cycle = sdk.app_span("cycle");
    {
        let _current = cycle.clone().attach();
        let messages = queue.pop_all();
        block_on(process_batch(&messages, || async { assert!(Context::current().has_active_span()) }));
        messages[0].ack();
    }
    cycle.span().end();
    // Claimed messages have no spans.
    let batch = process_batch_of(2).child_of("cycle").link_with(0, id("1")).link_with(1, id("2"));
    sdk.assert([push(), push(), app("cycle"), batch, ack("ack").child_of("process orders")]);
}

#[test]
fn a_batch_counts_all_messages_and_links_as_many_as_may_be() {
    let (sdk, mut queue) = configured(|builder| builder.with_max_links(3));
    queue.fill(5);
    let messages = queue.pop_all();
    let failed: Result<(), &str> = block_on(process_batch(&messages, || async { Err("no disk") }));
    assert_eq!(failed, Err("no disk"));
    drop(messages);
    let batch = process_batch_of(5).error("&str", "no disk");
    let batch = batch.link_with(0, id("1")).link_with(1, id("2")).link_with(2, id("3"));
    sdk.assert([push(), push(), push(), push(), push(), batch]);
}

#[test]
fn a_batch_over_several_destinations_names_them_on_the_links() {
    let (sdk, mut queue) = traced();
    let messages = ["orders", "refunds"].map(|destination| {
        queue.push_to(destination, HeaderMap::default(), "1", |_| ()).unwrap();
        queue.pop_from(destination).unwrap()
    });
    block_on(process_batch(&messages, || async {}));
    let of = |destination: &'static str| [KeyValue::new("messaging.destination.name", destination)];
    let batch = process_two("process").message_id("1");
    let batch = batch.link_with("push orders", of("orders")).link_with("push refunds", of("refunds"));
    sdk.assert([push(), push_to("refunds"), batch]);
}

/// No more of a message than its process span.
struct Part(Arc<ProcessSpan>);

impl ReceivedMessage for Part {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        Some(&self.0)
    }
}

/// Handles one message of each of these places together.
fn together(queue: &Queue, places: [[&str; 2]; 2], describe: impl Fn(Destination) -> Destination) {
    let messages = places.map(|place| {
        let operation = queue.telemetry.operation(PROCESS, &place, || describe(Destination::named(place.concat())));
        Part(queue.telemetry.deliver(queue.start(), operation, Arrival::new(queue.source, None), |_| ()))
    });
    block_on(process_batch(&messages, || async {}));
}

/// The span of two messages of no destination that all have.
fn process_two(name: &str) -> ExpectedSpan {
    let expected = span(name).operation("process", OperationType::Process).system("queue").batch_of(2);
    expected.scope(scope("queue-adapter", "1.2.3"))
}

/// What its duration was measured with.
fn measured(sdk: &Sdk) -> Vec<String> {
    let series = sdk.series().into_iter().find(|series| series.name == metric::PROCESS_DURATION).unwrap();
    series.attributes.iter().map(|one| format!("{}={}", one.key, one.value)).collect()
}

#[test]
fn a_batch_over_several_destinations_has_what_they_have_in_common() {
    let called: fn(&[&str]) -> String = |parts| parts.concat();
    let both = [["orders.", "paid"], ["orders.", "sent"]];
    let cases = [
        // One place of two messages, two that have a part in common, two that have none.
        ([both[0]; 2], Some(called), "process orders.paid", Some("orders.paid")),
        (both, Some(called), "process orders.", Some("orders.")),
        ([both[0], ["refunds.", "made"]], Some(called), "process b:1", None),
        // There is no common name.
        (both, None, "process b:1", None),
    ];
    for (places, called, name, destination) in cases {
        let (sdk, queue) = observed();
        together(&queue, places, |one| {
            let one = one.with("messaging.client.id", "us").at("b", 1);
            if let Some(called) = called { one.common_name(called) } else { one }
        });
        let mut series: Vec<_> =
            destination.map(|name| format!("messaging.destination.name={name}")).into_iter().collect();
        let rest = ["messaging.operation.name=process", "messaging.system=queue", "server.address=b", "server.port=1"];
        series.extend(rest.map(str::to_owned));
        assert_eq!(measured(&sdk), series, "{name}");
        let batch = process_two(name).attribute("messaging.client.id", "us").server("b", 1);
        sdk.assert([destination.into_iter().fold(batch, ExpectedSpan::destination)]);
    }
}

#[test]
fn what_destinations_are_called_together_is_shown_as_a_name_of_theirs_would_be() {
    for (limit, temporary, shown) in [(1_000, false, true), (2, false, false), (1_000, true, false)] {
        let (sdk, queue) = configured(|builder| builder.with_destination_limit(limit));
        together(&queue, [["orders.", "paid"], ["orders.", "sent"]], |named| {
            let named = named.common_name(|parts| parts.concat());
            if temporary { named.temporary() } else { named }
        });
        let batch = process_two(if shown { "process orders." } else { "process" }).destination("orders.");
        sdk.assert([if temporary { batch.attribute("messaging.destination.temporary", true) } else { batch }]);
    }
}

#[test]
fn what_has_a_template_together_is_measured_by_it_alone() {
    let (sdk, queue) = observed();
    let called = |one: Destination| one.common_name(|parts| parts.concat()).template("orders.any");
    together(&queue, [["orders.", "paid"], ["orders.", "sent"]], called);
    let batch = process_two("process orders.any").destination("orders.");
    sdk.assert([batch.attribute("messaging.destination.template", "orders.any")]);
    // Names behind a template are not bounded.
    let template = "messaging.destination.template=orders.any";
    assert_eq!(measured(&sdk), [template, "messaging.operation.name=process", "messaging.system=queue"]);
}

#[test]
fn a_receive_span_has_nothing_that_is_recorded_for_single_messages() {
    let (sdk, mut queue) = configured(|builder| {
        builder.with_captured_headers(["colour"]).with_operation_hook(|operation, all| {
            if operation.name() == "process" {
                all.set("team", "7");
            }
        })
    });
    for id in ["1", "2"] {
        queue.push_with(HeaderMap::default().with("colour", id), id).unwrap();
    }
    drop(queue.pull());
    sdk.assert_contains(pull().batch_of(2).link_with(0, id("1")).link_with(1, id("2")));
}

#[test]
fn a_message_whose_span_is_open_keeps_it_and_is_linked_all_the_same() {
    let (sdk, mut queue) = traced();
    let messages = [queue.push_and_pop("1")];
    let own = messages[0].otel_context();
    block_on(process_batch(&messages, || async {}));
    assert_eq!(messages[0].otel_context().span().span_context(), own.span().span_context());
    drop((messages, own));
    sdk.assert([push(), process("1").child_of(0).link(0), process_batch_of(1).link(0)]);
}

#[test]
fn an_empty_batch_has_no_span() {
    let sdk = Sdk::new();
    assert_eq!(block_on(process_batch::<Message, _, _>(&[], || async { Ok::<_, String>(1) })), Ok(1));
    assert_eq!(sdk.spans().len(), 0);
}

#[test]
fn a_receive_span_has_only_attributes_that_all_its_messages_share() {
    let assert_pulled = |ids: [&str; 3], expected: ExpectedSpan| {
        let (sdk, mut queue) = configured(|builder| builder.with_max_links(2));
        ids.iter().for_each(|id| queue.push(id).unwrap());
        let messages = queue.pull();
        assert_eq!(messages.len(), 3);
        sdk.assert_contains(expected);
        drop(messages);
    };
    assert_pulled(["1", "1", "1"], pull().batch_of(3).message_id("1").links([0, 1]));
    // The third is not linked.
    assert_pulled(["1", "1", "2"], pull().batch_of(3).link_with(0, id("1")).link_with(1, id("1")));
}

#[test]
fn a_claimed_message_that_goes_first_does_not_end_the_batch() {
    let (sdk, mut queue) = traced();
    let mut messages = vec![queue.push_and_pop("1")];
    let batch = process_batch(&messages, || async { Err::<(), _>("no disk") });
    messages.pop().unwrap().end();
    assert_eq!(block_on(batch), Err("no disk"));
    sdk.assert([push(), process_batch_of(1).message_id("1").link(0).error("&str", "no disk")]);
}

#[test]
fn a_message_of_a_batch_keeps_its_baggage() {
    let (sdk, mut queue) = traced();
    for (tenant, headers) in [("7", sent()), ("8", HeaderMap::default())] {
        queue.messages.push_back((headers.with("baggage", &format!("tenant.id={tenant}")), tenant.to_owned()));
    }
    let messages = queue.pop_all();
    block_on(process_batch(&messages, || async {
        assert!(Context::current().baggage().is_empty(), "whose would it be");
        for message in &messages {
            message.in_scope(|| queue.push(&message.id)).unwrap();
        }
    }));
    for (headers, id) in &queue.messages {
        assert_eq!(headers.0["baggage"], format!("tenant.id={id}"));
    }
    sdk.assert([process_batch_of(2).link_with(&sender(), id("7")), push().child_of(0), push().child_of(0)]);
}
