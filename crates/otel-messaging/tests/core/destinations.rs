use std::sync::Arc;

use otel_messaging::adapter::Settles;

use crate::queue::*;

/// The span of a push to a destination, by this name.
fn push_as(name: &str, destination: &str) -> ExpectedSpan {
    push_to(destination).named(name)
}

#[test]
fn a_span_is_named_after_what_has_few_values() {
    let (sdk, queue) = traced();
    let unnamed = |name: &str| push_as(name, "").without(attribute::MESSAGING_DESTINATION_NAME);
    let uuid = "0190a5b2-7c1d-7e33-8d55-0123456789ab";
    let cases = [
        (Destination::named("orders"), push_as("push orders", "orders")),
        (
            Destination::named("orders.1").template("orders.*"),
            push_as("push orders.*", "orders.1").attribute("messaging.destination.template", "orders.*"),
        ),
        (
            Destination::named("_INBOX.1").temporary(),
            push_as("push", "_INBOX.1").attribute("messaging.destination.temporary", true),
        ),
        (
            Destination::named("amq.gen-1").anonymous(),
            push_as("push", "amq.gen-1").attribute("messaging.destination.anonymous", true),
        ),
        (Destination::named(uuid), push_as("push", uuid).attribute("messaging.destination.anonymous", true)),
        (Destination::server(Some(("localhost", 4222))), unnamed("push localhost:4222").server("localhost", 4222)),
        (Destination::server(None), unnamed("push")),
    ];
    let expected = cases.map(|(destination, expected)| {
        let operation = queue.telemetry.operation(PUSH, &[&format!("{destination:?}")], || destination);
        queue.telemetry.send(queue.start(), &operation, None, |_| ()).succeed();
        expected.kind(SpanKind::Client)
    });
    sdk.assert(expected);
}

#[test]
fn names_beyond_the_bound_stay_out_of_span_names_and_on_their_spans() {
    let (sdk, mut queue) = configured(|builder| builder.with_destination_limit(2));
    for destination in ["a", "b", "c", "a", "c"] {
        queue.push_to(destination, HeaderMap::default(), "1", |_| ()).unwrap();
    }
    let unnamed = push_as("push", "c");
    sdk.assert([push_to("a"), push_to("b"), unnamed.clone(), push_to("a"), unnamed]);
}

#[test]
fn clients_that_share_an_instrumentation_share_its_bound() {
    let sdk = Sdk::new();
    let instrumentation = sdk.instrumentation_builder().with_destination_limit(1).build();
    let mut queues = [Queue::new(instrumentation.clone()), Queue::new(instrumentation)];
    queues[0].push_to("a", HeaderMap::default(), "1", |_| ()).unwrap();
    queues[1].push_to("b", HeaderMap::default(), "1", |_| ()).unwrap();
    queues[1].push_to("a", HeaderMap::default(), "1", |_| ()).unwrap();
    sdk.assert([push_to("a"), push_as("push", "b"), push_to("a")]);
}

#[test]
fn a_server_named_by_its_address_is_the_peer() {
    let (sdk, queue) = traced();
    for (host, is_peer) in [("127.0.0.1", true), ("::1", true), ("broker-1.example.com", false), ("localhost", false)] {
        for name in [PUSH, PULL, ACK, CREATE, PROCESS] {
            let operation = queue.telemetry.operation(name, &[host], || Destination::named("orders").at(host, 5672));
            let start = queue.start();
            match operation.kind() {
                OperationType::Send => queue.telemetry.send(start, &operation, None, |_| ()).succeed(),
                OperationType::Receive => {
                    queue.telemetry.receive(start, &operation, std::iter::empty(), |_| ()).succeed()
                }
                OperationType::Settle => queue.telemetry.settle(start, &operation, Settles::Unknown, |_| ()).succeed(),
                OperationType::Create => {
                    let _ = queue.telemetry.create(start, &operation, &mut HeaderMap::default(), |_| ());
                }
                _ => drop(queue.telemetry.deliver(start, operation, Arrival::new(queue.source, None), |_| ())),
            }
            let spans = sdk.spans();
            let span = spans.last().unwrap();
            let recorded = |host_key: &str, port_key: &str| {
                let port = value_of(span, port_key).map(ToString::to_string);
                value_of(span, host_key).map(ToString::to_string).zip(port)
            };
            let server = Some((host.to_owned(), "5672".to_owned()));
            assert_eq!(recorded("server.address", "server.port"), server, "{}", span.name);
            // The convention has no peer for what asks the server for nothing.
            let peer = server.filter(|_| is_peer && name != CREATE && name != PROCESS);
            assert_eq!(recorded("network.peer.address", "network.peer.port"), peer, "{} at {host}", span.name);
        }
    }
}

#[test]
fn what_one_client_keeps_is_bounded_whatever_tells_its_operations_apart() {
    let queue = Queue::new(Sdk::new().instrumentation());
    let of = |group: usize| {
        let destination = || Destination::named("orders");
        queue.telemetry.operation(PROCESS, &["orders", &group.to_string()], destination)
    };
    let first: Vec<_> = (0..10_001).map(of).collect();
    let is_kept = |group: usize| Arc::ptr_eq(&of(group), &first[group]);
    assert!((0..10_000).all(is_kept));
    assert!(!is_kept(10_000));
    assert_eq!(of(10_000).destination(), Some("orders"));
}
