//! What is measured, and when.

use otel_messaging::MessageExt;
use support::Sdk;

use crate::queue::Queue;

#[test]
fn each_operation_is_measured_once() {
    let sdk = Sdk::new();
    let mut queue = Queue::new(sdk.all_signals_builder().build());
    queue.push("1").unwrap();
    queue.push("2").unwrap();
    queue.capacity = 2;
    queue.push("3").unwrap_err();
    let first = queue.pop().unwrap();
    first.in_scope(|| ());
    first.ack();
    queue.pop().unwrap().fail(&"no such order");

    let measured = sdk.measured().replace(r#"messaging.destination.name = "orders""#, "orders");
    let measured = measured.replace(r#", messaging.system = "queue""#, "");
    assert_eq!(
        measured,
        r#"
messaging.client.consumed.messages [{message}] {orders, messaging.operation.name = "pull"} 2
messaging.client.operation.duration [s] {error.type = "queue_full", orders, messaging.operation.name = "push", messaging.operation.type = "send"} 1
messaging.client.operation.duration [s] {orders, messaging.operation.name = "ack", messaging.operation.type = "settle"} 1
messaging.client.operation.duration [s] {orders, messaging.operation.name = "push", messaging.operation.type = "send"} 2
messaging.client.sent.messages [{message}] {error.type = "queue_full", orders, messaging.operation.name = "push"} 1
messaging.client.sent.messages [{message}] {orders, messaging.operation.name = "push"} 2
messaging.process.duration [s] {error.type = "&str", orders, messaging.operation.name = "process"} 1
messaging.process.duration [s] {orders, messaging.operation.name = "process"} 1
otel_messaging.deliveries [{message}] {orders, messaging.operation.name = "ack", otel_messaging.settlement.outcome = "ack"} 1
"#
        .trim_start()
    );
}
