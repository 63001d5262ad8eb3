use std::sync::Arc;

use otel_messaging::adapter::{OperationName, Settles};

use crate::queue::*;

fn name_of(queue: &Queue, sdk: &Sdk, name: OperationName, destination: Destination) -> String {
    let operation = queue.telemetry.operation(name, &[&format!("{destination:?}")], || destination);
    queue.telemetry.send(queue.start(), &operation, None, |_| ()).succeed();
    sdk.names().pop().unwrap()
}

#[test]
fn a_span_is_named_after_what_has_few_values() {
    let (sdk, queue) = traced();
    let name = |destination| name_of(&queue, &sdk, PUSH, destination);
    assert_eq!(name(Destination::named("orders")), "push orders");
    assert_eq!(name(Destination::named("orders.1").template("orders.*")), "push orders.*");
    assert_eq!(name(Destination::named("_INBOX.1").temporary()), "push");
    assert_eq!(name(Destination::named("amq.gen-1").anonymous()), "push");
    assert_eq!(name(Destination::named("0190a5b2-7c1d-7e33-8d55-0123456789ab")), "push");
    assert_eq!(name(Destination::server(Some(("localhost", 4222)))), "push localhost:4222");
    assert_eq!(name(Destination::server(None)), "push");

    let spans = sdk.spans();
    let of = |at: usize, key| value_of(&spans[at], key).map(ToString::to_string);
    assert_eq!(of(1, "messaging.destination.template").as_deref(), Some("orders.*"));
    assert_eq!(of(2, "messaging.destination.temporary").as_deref(), Some("true"));
    assert_eq!(of(3, "messaging.destination.anonymous").as_deref(), Some("true"));
    assert_eq!(of(4, "messaging.destination.anonymous").as_deref(), Some("true"));
    assert_eq!(of(4, "messaging.destination.name").as_deref(), Some("0190a5b2-7c1d-7e33-8d55-0123456789ab"));
    assert_eq!(of(5, "messaging.destination.name"), None);
}

#[test]
fn names_beyond_the_bound_stay_out_of_span_names_and_on_their_spans() {
    let (sdk, mut queue) = configured(|builder| builder.with_destination_limit(2));
    for destination in ["a", "b", "c", "a", "c"] {
        queue.push_to(destination, HeaderMap::default(), "1", |_| ()).unwrap();
    }
    let spans = sdk.spans();
    let names = sdk.names();
    assert_eq!(names, ["push a", "push b", "push", "push a", "push"]);
    assert_eq!(value_of(&spans[4], "messaging.destination.name").unwrap().as_str(), "c");
}

#[test]
fn clients_that_share_an_instrumentation_share_its_bound() {
    let sdk = Sdk::new();
    let instrumentation = sdk.instrumentation_builder().with_destination_limit(1).build();
    let mut queues = [Queue::new(instrumentation.clone()), Queue::new(instrumentation)];
    queues[0].push_to("a", HeaderMap::default(), "1", |_| ()).unwrap();
    queues[1].push_to("b", HeaderMap::default(), "1", |_| ()).unwrap();
    queues[1].push_to("a", HeaderMap::default(), "1", |_| ()).unwrap();
    assert_eq!(sdk.names(), ["push a", "push", "push a"]);
}

#[test]
fn a_user_s_function_gives_names_their_templates() {
    let sdk = Sdk::new();
    let template = |name: &str| name.starts_with("orders.").then(|| "orders.{id}".to_owned());
    let mut queue = Queue::new(sdk.instrumentation_builder().with_destination_template(template).build());
    for destination in ["orders.1", "orders.2", "refunds"] {
        queue.push_to(destination, HeaderMap::default(), "1", |_| ()).unwrap();
    }
    let spans = sdk.spans();
    let names = sdk.names();
    assert_eq!(names, ["push orders.{id}", "push orders.{id}", "push refunds"]);
    assert_eq!(value_of(&spans[1], "messaging.destination.name").unwrap().as_str(), "orders.2");
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
