//! Several messages that one operation sends, reads or settles.

use opentelemetry::trace::{TraceContextExt, Tracer};
use otel_messaging::{
    ReceivedMessage,
    adapter::{Attributes, DeliverIter, Destination, SettledMessage, Settlement},
    process_batch, sequential_blocking,
};
use support::Sdk;

use crate::{
    block_on,
    queue::{ACK, CREATE, HeaderMap, Message, PULL, PUSH, Queue},
};

fn filled(sdk: &Sdk, messages: usize) -> Queue {
    let mut queue = Queue::new(sdk.all_signals_builder().build());
    (0..messages).for_each(|id| queue.push(&id.to_string()).unwrap());
    queue
}

fn settle(queue: &Queue, messages: &[Message], outcome: Settlement) {
    let start = queue.telemetry.start_operation().unwrap();
    let operation = queue.telemetry.operation(ACK, &["orders"], || Destination::named("orders"));
    let process_spans = messages.iter().filter_map(ReceivedMessage::process_span);
    let settled: Vec<_> =
        process_spans.map(|span| (SettledMessage::Message(span.clone()), Attributes::default())).collect();
    queue.telemetry.settle_batch(start, &operation, settled.into_iter(), |_| ()).settled(outcome);
}

/// The described spans of this name.
fn spans(sdk: &Sdk, name: &str) -> Vec<String> {
    let mut spans = Vec::new();
    for line in sdk.described().lines() {
        match spans.last_mut() {
            Some(span) if line.starts_with(' ') => *span = format!("{span}\n{line}"),
            _ => spans.push(line.to_owned()),
        }
    }
    spans.retain(|span| span.lines().next() == Some(name));
    spans
}

fn deliveries(sdk: &Sdk) -> Vec<(String, String)> {
    let measured = sdk.measured();
    let lines = measured.lines().filter(|line| line.starts_with("otel_messaging.deliveries"));
    let outcome = |line: &str| line.split("outcome = \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    lines.map(|line| (outcome(line), line.rsplit(' ').next().unwrap().to_owned())).collect()
}

#[test]
fn settling_a_batch_records_the_outcome_of_each_message_once() {
    let sdk = Sdk::new();
    let mut queue = filled(&sdk, 3);
    let messages = queue.pull();
    settle(&queue, &messages, Settlement::Ack);
    drop(messages);
    let process = spans(&sdk, "process orders");
    assert_eq!(process.len(), 3);
    assert!(process.iter().all(|span| span.contains("outcome = \"ack\"")), "{process:?}");
    let ack = spans(&sdk, "ack orders");
    assert_eq!(ack[0].matches("link process orders").count(), 3, "{ack:?}");
    assert_eq!(deliveries(&sdk), [("ack".to_owned(), "3".to_owned())]);
}

#[test]
fn a_batch_has_the_outcome_on_which_its_messages_agree_and_its_settlement_does_not_link_it() {
    for (outcomes, expected) in [([Settlement::Ack; 2], true), ([Settlement::Ack, Settlement::Nack], false)] {
        let sdk = Sdk::new();
        let mut queue = filled(&sdk, 4);
        let messages = queue.pull();
        let (first, second) = messages.split_at(2);
        block_on(process_batch(&messages, || async {
            settle(&queue, first, outcomes[0]);
            settle(&queue, second, outcomes[1]);
        }));
        let process = spans(&sdk, "process orders");
        assert_eq!(process.len(), 1);
        assert_eq!(process[0].contains("outcome = \"ack\""), expected, "{process:?}");
        let ack = spans(&sdk, "ack orders");
        assert!(ack.iter().all(|span| span.contains("parent process orders") && !span.contains("link")), "{ack:?}");
    }
}

#[test]
fn a_settlement_of_a_batch_without_an_answer_leaves_its_messages_to_the_broker() {
    let sdk = Sdk::new();
    let mut queue = filled(&sdk, 2);
    let messages = queue.pull();
    let start = queue.telemetry.start_operation().unwrap();
    let operation = queue.telemetry.operation(ACK, &["orders"], || Destination::named("orders"));
    let settled: Vec<_> = messages
        .iter()
        .map(|message| (SettledMessage::Message(message.process_span().unwrap().clone()), Attributes::default()))
        .collect();
    queue.telemetry.settle_batch(start, &operation, settled.into_iter(), |_| ()).outcome_unknown();
    drop(messages);
    assert_eq!(deliveries(&sdk), []);
}

#[test]
fn a_batch_read_in_a_loop_makes_no_message_the_child_of_another() {
    let sdk = Sdk::new();
    let mut queue = filled(&sdk, 3);
    let outer = sdk.app_span("outer");
    let outside = outer.clone().attach();
    // As an adapter that does not say when it asks for the next message.
    let messages: Vec<_> = sequential_blocking(|| (0..3).filter_map(|_| queue.pop_of_partition("3")).collect());
    drop(messages);
    drop(outside);
    outer.span().end();
    let process = spans(&sdk, "process orders");
    assert_eq!(process.len(), 3);
    assert!(process.iter().all(|span| span.contains("parent outer")), "{process:?}");
}

#[test]
fn one_send_span_links_the_create_spans_of_its_messages_and_counts_them() {
    let sdk = Sdk::new();
    let queue = Queue::new(sdk.all_signals_builder().build());
    let created: Vec<_> = (0..3)
        .map(|_| {
            let start = queue.telemetry.start_operation().unwrap();
            let operation = queue.telemetry.operation(CREATE, &["orders"], || Destination::named("orders"));
            (queue.telemetry.create(start, &operation, &mut HeaderMap::default(), |_| ()), Attributes::default())
        })
        .collect();
    let start = queue.telemetry.start_operation().unwrap();
    let operation = queue.telemetry.operation(PUSH, &["orders"], || Destination::named("orders"));
    queue.telemetry.send_batch(start, &operation, created.into_iter(), |_| ()).succeed();
    let push = spans(&sdk, "push orders");
    assert_eq!(push[0].matches("link create orders").count(), 3, "{push:?}");
    assert!(push[0].contains("kind CLIENT"), "{push:?}");
    assert!(sdk.described().contains("messaging.batch.message_count = 3"));
    let sent = sdk.measured();
    let sent = sent.lines().find(|line| line.starts_with("messaging.client.sent.messages")).unwrap();
    assert!(sent.ends_with(" 3"), "{sent}");
}

#[test]
fn an_iterator_over_a_read_has_one_message_in_hand_and_ends_the_receive_span() {
    let sdk = Sdk::new();
    let mut queue = filled(&sdk, 3);
    let start = queue.telemetry.start_operation();
    let operation = queue.telemetry.operation(PULL, &["orders"], || Destination::named("orders"));
    let (telemetry, source, tracer) = (queue.telemetry.clone(), queue.source.named("orders"), sdk.tracer());
    let items: Vec<_> = queue.messages.drain(..).collect();
    let mut one = Queue::bare();
    one.telemetry = telemetry.clone();
    one.source = queue.source;
    sequential_blocking(|| {
        let deliver = |item| {
            one.messages.push_back(item);
            one.pop().unwrap()
        };
        let read =
            DeliverIter::new(&telemetry, start.map(|start| (start, operation)), source, items.into_iter(), deliver);
        for message in read.take(2) {
            work_on(&tracer, &message);
        }
    });
    let pull = spans(&sdk, "pull orders");
    assert_eq!(pull[0].matches("link push orders").count(), 2, "{pull:?}");
    let work = spans(&sdk, "work");
    assert_eq!(work.len(), 2);
    assert!(work.iter().all(|span| span.contains("parent process orders")), "{work:?}");
}

fn work_on(tracer: &impl Tracer, _message: &Message) {
    drop(tracer.start("work"));
}
