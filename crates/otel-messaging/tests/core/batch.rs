use std::sync::Arc;

use opentelemetry::{Context, baggage::BaggageExt, trace::TraceContextExt};
use opentelemetry_sdk::trace::SpanData;
use otel_messaging::{
    MessageExt, ReceivedMessage,
    adapter::{Arrival, Destination, ProcessSpan},
    process_batch,
};
use support::{Sdk, attribute as value_of};

use crate::{
    block_on,
    queue::{HeaderMap, PROCESS, Queue},
};

const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_batch_is_one_span_with_a_link_for_each_message() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    for id in ["1", "2"] {
        queue.push(id).unwrap();
    }
    let cycle = sdk.app_span("cycle");
    {
        let _current = cycle.clone().attach();
        let messages = [queue.pop().unwrap(), queue.pop().unwrap()];
        block_on(process_batch(&messages, || async { assert!(Context::current().has_active_span()) }));
        messages[0].ack();
    }
    cycle.span().end();
    let text = sdk.described();
    let batch = text.split("status unset\nprocess orders\n").nth(1).unwrap();
    assert!(
        batch.starts_with(
            "  kind CONSUMER
  scope queue-adapter https://opentelemetry.io/schemas/1.44.0
  parent cycle
  link push orders {messaging.message.id = \"1\"}
  link push orders {messaging.message.id = \"2\"}
  status unset
  messaging.batch.message_count = 2
  messaging.destination.name = \"orders\"
  messaging.operation.name = \"process\"
  messaging.operation.type = \"process\"
  messaging.system = \"queue\"
ack orders
  kind CLIENT
  scope queue-adapter https://opentelemetry.io/schemas/1.44.0
  parent process orders
"
        ),
        "{batch}"
    );
    assert_eq!(sdk.spans().len(), 5, "two sends, the cycle, the batch, the ack: claimed messages have no spans");
}

#[test]
fn a_batch_counts_all_messages_and_links_as_many_as_may_be() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation_builder().with_max_links(3).build());
    for _ in 0..5 {
        queue.push("1").unwrap();
    }
    let messages: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
    let failed: Result<(), &str> = block_on(process_batch(&messages, || async { Err("no disk") }));
    assert_eq!(failed, Err("no disk"));
    drop(messages);
    let spans = sdk.spans();
    let batch = spans.last().unwrap();
    assert_eq!(spans.len(), 6);
    assert_eq!(batch.links.len(), 3);
    assert_eq!(value_of(batch, "messaging.batch.message_count"), Some(&5.into()));
    assert_eq!(value_of(batch, "error.type").unwrap().as_str(), "&str");
    assert_eq!(batch.parent_span_id, opentelemetry::SpanId::INVALID);
}

#[test]
fn a_batch_over_several_destinations_names_them_on_the_links() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push_to("orders", HeaderMap::default(), "1", |_| ()).unwrap();
    queue.push_to("refunds", HeaderMap::default(), "2", |_| ()).unwrap();
    let messages = [queue.pop_from("orders").unwrap(), queue.pop_from("refunds").unwrap()];
    block_on(process_batch(&messages, || async {}));
    let spans = sdk.spans();
    let batch = spans.last().unwrap();
    assert_eq!(batch.name, "process");
    assert_eq!(value_of(batch, "messaging.destination.name"), None);
    let names = batch.links.iter().map(|link| support::link_attribute(link, "messaging.destination.name"));
    assert_eq!(names.collect::<Vec<_>>(), [Some("orders".to_owned()), Some("refunds".to_owned())]);
}

/// No more of a message than its process span.
struct Part(Arc<ProcessSpan>);

impl ReceivedMessage for Part {
    fn process_span(&self) -> Option<&Arc<ProcessSpan>> {
        Some(&self.0)
    }
}

/// Handles one message of each of these places together, and gives the batch's span, and its duration's attributes.
fn together(sdk: &Sdk, places: &[[&str; 2]], describe: impl Fn(Destination) -> Destination) -> (SpanData, String) {
    let queue = Queue::new(sdk.all_signals_builder().build());
    let messages: Vec<_> = places
        .iter()
        .map(|place| {
            let named = || describe(Destination::named(place.concat()).with("messaging.client.id", "us").at("b", 1));
            let operation = queue.telemetry.operation(PROCESS, place, named);
            Part(queue.telemetry.deliver(
                queue.telemetry.start_operation().unwrap(),
                operation,
                Arrival::new(queue.source, None),
                |_| (),
            ))
        })
        .collect();
    block_on(process_batch(&messages, || async {}));
    let measured = sdk.measured();
    let duration = measured.lines().find(|line| line.starts_with("messaging.process.duration")).unwrap();
    let attributes = duration.split_once("{").unwrap().1.split_once("}").unwrap().0.to_owned();
    (sdk.spans().pop().unwrap(), attributes)
}

#[test]
fn a_batch_over_several_destinations_has_what_they_have_in_common() {
    let called: fn(&[&str]) -> String = |parts| parts.concat();
    let both = [["orders.", "paid"], ["orders.", "sent"]];
    let series = "messaging.operation.name = \"process\", messaging.system = \"queue\", server.address = \"b\", \
                  server.port = 1";
    let in_common = format!("messaging.destination.name = \"orders.\", {series}");
    let cases = [
        // One place of two messages, two that have a part in common, two that have none.
        ([both[0]; 2], Some(called), "process orders.paid", Some("orders.paid")),
        (both, Some(called), "process orders.", Some("orders.")),
        ([both[0], ["refunds.", "made"]], Some(called), "process b:1", None),
        // Nobody says what they are called together.
        (both, None, "process b:1", None),
    ];
    for (places, called, name, destination) in cases {
        let sdk = Sdk::new();
        let (batch, measured) = together(&sdk, &places, |one| match called {
            Some(called) => one.common_name(called),
            None => one,
        });
        assert_eq!(batch.name, name);
        let recorded = |key| value_of(&batch, key).map(ToString::to_string);
        assert_eq!(recorded("messaging.destination.name").as_deref(), destination, "{name}");
        assert_eq!(recorded("server.address").as_deref(), Some("b"), "{name}");
        assert_eq!(recorded("messaging.client.id").as_deref(), Some("us"), "{name}");
        match destination {
            Some("orders.") => assert_eq!(measured, in_common),
            Some(own) => assert_eq!(measured, in_common.replace("orders.", own)),
            None => assert_eq!(measured, series),
        }
    }
}

#[test]
fn what_destinations_are_called_together_is_shown_as_a_name_of_theirs_would_be() {
    let both = [["orders.", "paid"], ["orders.", "sent"]];
    for (limit, temporary, shown) in [(1_000, false, true), (2, false, false), (1_000, true, false)] {
        let sdk = Sdk::new();
        let queue = Queue::new(sdk.instrumentation_builder().with_destination_limit(limit).build());
        let messages = both.map(|place| {
            let described = || {
                let named = Destination::named(place.concat()).common_name(|parts| parts.concat());
                if temporary { named.temporary() } else { named }
            };
            let operation = queue.telemetry.operation(PROCESS, &place, described);
            Part(queue.telemetry.deliver(
                queue.telemetry.start_operation().unwrap(),
                operation,
                Arrival::new(queue.source, None),
                |_| (),
            ))
        });
        block_on(process_batch(&messages, || async {}));
        let batch = sdk.spans().pop().unwrap();
        assert_eq!(batch.name, if shown { "process orders." } else { "process" }, "{limit}, {temporary}");
        assert_eq!(value_of(&batch, "messaging.destination.name").unwrap().as_str(), "orders.");
    }
}

#[test]
fn what_has_a_template_together_is_measured_by_it_alone() {
    let sdk = Sdk::new();
    let called = |one: Destination| one.common_name(|parts| parts.concat()).template("orders.any");
    let (batch, measured) = together(&sdk, &[["orders.", "paid"], ["orders.", "sent"]], called);
    assert_eq!(batch.name, "process orders.any");
    assert_eq!(value_of(&batch, "messaging.destination.name").unwrap().as_str(), "orders.");
    assert!(measured.contains("messaging.destination.template = \"orders.any\""), "{measured}");
    assert!(!measured.contains("messaging.destination.name"), "names behind a template are not bounded: {measured}");
}

#[test]
fn a_receive_span_has_nothing_that_is_recorded_for_single_messages() {
    let sdk = Sdk::new();
    let builder =
        sdk.instrumentation_builder().with_captured_headers(["colour"]).with_operation_hook(|operation, all| {
            if operation.name() == "process" {
                all.set("team", "7");
            }
        });
    let mut queue = Queue::new(builder.build());
    for id in ["1", "2"] {
        queue.push_with(HeaderMap::default().with("colour", id), id).unwrap();
    }
    drop(queue.pull());
    let spans = sdk.spans();
    let pull = spans.iter().find(|span| span.name == "pull orders").unwrap();
    let of_links = pull.links.iter().flat_map(|link| &link.attributes);
    let keys: Vec<_> = pull.attributes.iter().chain(of_links).map(|one| one.key.as_str()).collect();
    assert!(keys.contains(&"messaging.message.id"), "{keys:?}");
    assert!(!keys.contains(&"team") && !keys.iter().any(|key| key.contains(".header.")), "{keys:?}");
}

#[test]
fn a_message_whose_span_is_open_keeps_it_and_is_linked_all_the_same() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push("1").unwrap();
    let messages = [queue.pop().unwrap()];
    let own = messages[0].otel_context();
    block_on(process_batch(&messages, || async {}));
    assert_eq!(messages[0].otel_context().span().span_context(), own.span().span_context());
    drop((messages, own));
    let spans = sdk.spans();
    assert_eq!(spans.len(), 3);
    assert_eq!(spans[2].links.len(), 1);
}

#[test]
fn an_empty_batch_has_no_span() {
    let sdk = Sdk::new();
    assert_eq!(block_on(process_batch::<crate::queue::Message, _, _>(&[], || async { Ok::<_, String>(1) })), Ok(1));
    assert_eq!(sdk.spans().len(), 0);
}

#[test]
fn a_receive_span_links_what_it_brought_with_what_each_alone_has() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    for id in ["1", "2"] {
        queue.push(id).unwrap();
    }
    let messages = queue.pull();
    assert_eq!(messages.len(), 2);
    let spans = sdk.spans();
    let pull = spans.last().unwrap();
    assert_eq!(pull.name, "pull orders");
    let linked: Vec<_> = pull.links.iter().map(|link| link.span_context.span_id()).collect();
    assert_eq!(linked, [spans[0].span_context.span_id(), spans[1].span_context.span_id()]);
    let ids = pull.links.iter().map(|link| support::link_attribute(link, "messaging.message.id"));
    assert_eq!(ids.collect::<Vec<_>>(), [Some("1".to_owned()), Some("2".to_owned())]);
}

/// What all have is on the span, whether they are linked or not, and the operation's own words go before.
#[test]
fn a_receive_span_has_only_attributes_that_all_its_messages_share() {
    let pulled = |ids: [&str; 3]| {
        let sdk = Sdk::new();
        let mut queue = Queue::new(sdk.instrumentation_builder().with_max_links(2).build());
        ids.iter().for_each(|id| queue.push(id).unwrap());
        let messages = queue.pull();
        assert_eq!(messages.len(), 3);
        let recorded = sdk.described();
        drop(messages);
        recorded.split_once("pull orders\n").unwrap().1.to_owned()
    };
    let pull = |links: &str, id: &str| {
        format!(
            "  kind CLIENT
  scope queue-adapter https://opentelemetry.io/schemas/1.44.0
  root
  link push orders{links}
  link push orders{links}
  status unset
  messaging.batch.message_count = 3
  messaging.destination.name = \"orders\"
{id}  messaging.operation.name = \"pull\"
  messaging.operation.type = \"receive\"
  messaging.system = \"queue\"
"
        )
    };
    assert_eq!(pulled(["1", "1", "1"]), pull("", "  messaging.message.id = \"1\"\n"));
    assert_eq!(pulled(["1", "1", "2"]), pull(" {messaging.message.id = \"1\"}", ""), "the third is not linked");
}

#[test]
fn a_claimed_message_that_goes_first_does_not_end_the_batch() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    queue.push("1").unwrap();
    let mut messages = vec![queue.pop().unwrap()];
    let batch = process_batch(&messages, || async { Err::<(), _>("no disk") });
    messages.pop().unwrap().end();
    assert_eq!(block_on(batch), Err("no disk"));
    let spans = sdk.spans();
    assert_eq!(spans.len(), 2);
    assert_eq!(spans[1].status, opentelemetry::trace::Status::error("no disk"));
}

#[test]
fn a_message_of_a_batch_keeps_its_baggage() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.instrumentation());
    for (tenant, traceparent) in [("7", true), ("8", false)] {
        let headers = HeaderMap::default().with("baggage", &format!("tenant.id={tenant}"));
        let headers = if traceparent { headers.with("traceparent", SENT) } else { headers };
        queue.messages.push_back((headers, tenant.to_owned()));
    }
    let messages: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
    block_on(process_batch(&messages, || async {
        assert!(Context::current().baggage().is_empty(), "whose would it be");
        for message in &messages {
            message.in_scope(|| queue.push(&message.id)).unwrap();
        }
    }));
    let spans = sdk.spans();
    let batch = spans.iter().find(|span| span.name == "process orders").unwrap();
    for (headers, id) in &queue.messages {
        assert_eq!(headers.0["baggage"], format!("tenant.id={id}"));
    }
    let sent = spans.iter().filter(|span| span.name == "push orders");
    assert_eq!(sent.map(|span| span.parent_span_id).collect::<Vec<_>>(), [batch.span_context.span_id(); 2]);
}
