//! Several messages that one operation sends, reads or settles.

use otel_messaging::adapter::{Attributes, DeliverIter, SettledMessage};

use crate::queue::*;

fn filled(messages: usize) -> (Sdk, Queue) {
    let (sdk, mut queue) = observed();
    queue.fill(messages);
    (sdk, queue)
}

fn settle(queue: &Queue, messages: &[Message], outcome: Settlement) {
    let process_spans = messages.iter().filter_map(ReceivedMessage::process_span);
    let settled: Vec<_> =
        process_spans.map(|span| (SettledMessage::Message(span.clone()), Attributes::default())).collect();
    queue.telemetry.settle_batch(queue.start(), &queue.operation(ACK), settled.into_iter(), |_| ()).settled(outcome);
}

/// How many messages were counted with which outcome.
fn deliveries(sdk: &Sdk) -> Vec<(String, u64)> {
    let series = sdk.series().into_iter().filter(|series| series.name == extension::DELIVERIES);
    series.map(|one| (one.attribute(extension::SETTLEMENT_OUTCOME).unwrap().to_string(), one.count)).collect()
}

/// The pushes of `filled`, and what comes after.
fn after_pushes(pushes: usize, expected: impl IntoIterator<Item = ExpectedSpan>) -> Vec<ExpectedSpan> {
    vec![push(); pushes].into_iter().chain(expected).collect()
}

/// The pushes by their positions, each with the id of its message.
fn linked(expected: ExpectedSpan, messages: usize) -> ExpectedSpan {
    (0..messages).zip(["1", "2", "3", "4"]).fold(expected, |expected, (at, of)| expected.link_with(at, id(of)))
}

#[test]
fn settling_a_batch_records_the_outcome_of_each_message_once() {
    let (sdk, mut queue) = filled(3);
    let messages = queue.pull();
    settle(&queue, &messages, Settlement::Ack);
    drop(messages);
    sdk.assert_contains(linked(pull(), 3).batch_of(3));
    for (at, message) in ["1", "2", "3"].into_iter().enumerate() {
        sdk.assert_contains(process(message).child_of(at).link(at).settled("ack"));
    }
    sdk.assert_contains(ack("ack").batch_of(3).links(&sdk.named("process orders")));
    assert_eq!((sdk.spans().len(), deliveries(&sdk)), (8, vec![("ack".to_owned(), 3)]));
}

#[test]
fn a_batch_has_its_messages_common_outcome_and_its_settlement_does_not_link_it() {
    for (second, agreed) in [(Settlement::Ack, true), (Settlement::Nack, false)] {
        let (sdk, mut queue) = filled(4);
        let messages = queue.pop_all();
        block_on(process_batch(&messages, || async {
            settle(&queue, &messages[..2], Settlement::Ack);
            settle(&queue, &messages[2..], second);
        }));
        let batch = linked(process_batch_of(4), 4);
        let batch = if agreed { batch.settled("ack") } else { batch };
        let settled = ["ack", if agreed { "ack" } else { "nack" }].map(|outcome| ack(outcome).batch_of(2).child_of(4));
        sdk.assert(after_pushes(4, [batch].into_iter().chain(settled)));
    }
}

#[test]
fn a_settlement_of_a_batch_without_an_answer_leaves_its_messages_to_the_broker() {
    let (sdk, mut queue) = filled(2);
    let messages = queue.pull();
    let settled: Vec<_> = messages
        .iter()
        .map(|message| (SettledMessage::Message(message.process_span().unwrap().clone()), Attributes::default()))
        .collect();
    queue.telemetry.settle_batch(queue.start(), &queue.operation(ACK), settled.into_iter(), |_| ()).outcome_unknown();
    drop(messages);
    assert_eq!(deliveries(&sdk), []);
}

#[test]
fn a_batch_read_in_a_loop_makes_no_message_the_child_of_another() {
    let (sdk, mut queue) = filled(3);
    let outer = sdk.app_span("outer");
    let outside = outer.clone().attach();
    // As an adapter that does not say when it asks for the next message.
    let messages: Vec<_> = sequential_blocking(|| (0..3).filter_map(|_| queue.pop_of_partition("3")).collect());
    drop(messages);
    drop(outside);
    outer.span().end();
    let of = |at| process("").without("messaging.message.id").child_of("outer").link(at);
    let of = |at| of(at).attribute("messaging.destination.partition.id", "3");
    sdk.assert(after_pushes(3, [app("outer"), of(0), of(1), of(2)]));
}

#[test]
fn one_send_span_links_the_create_spans_of_its_messages_and_counts_them() {
    let (sdk, queue) = observed();
    let create_one =
        || queue.telemetry.create(queue.start(), &queue.operation(CREATE), &mut HeaderMap::default(), |_| ());
    let created: Vec<_> = (0..3).map(|_| (create_one(), Attributes::default())).collect();
    queue.telemetry.send_batch(queue.start(), &queue.operation(PUSH), created.into_iter(), |_| ()).succeed();
    let push = push().kind(SpanKind::Client).links([0, 1, 2]).batch_of(3);
    sdk.assert([create(), create(), create(), push]);
    let sent = sdk.series().into_iter().find(|series| series.name == "messaging.client.sent.messages").unwrap();
    assert_eq!(sent.count, 3);
}

#[test]
fn an_iterator_over_a_read_delivers_one_by_one_and_ends_the_receive_span() {
    let (sdk, mut queue) = filled(3);
    let start = queue.telemetry.start_operation();
    let operation = queue.operation(PULL);
    let (telemetry, source, tracer) = (queue.telemetry.clone(), queue.source.named("orders"), sdk.tracer());
    let items: Vec<_> = queue.messages.drain(..).collect();
    sequential_blocking(|| {
        let deliver = |item| {
            queue.messages.push_back(item);
            queue.pop().unwrap()
        };
        let read =
            DeliverIter::new(&telemetry, start.map(|start| (start, operation)), source, items.into_iter(), deliver);
        for message in read.take(2) {
            work_on(&tracer, &message);
        }
    });
    let process = |at, of| process(of).child_of(at).link(at);
    let (first, second) = (process(0, "1"), process(1, "2"));
    let pull = linked(pull(), 2).batch_of(2);
    sdk.assert(after_pushes(3, [pull, first, app("work").child_of(4), second, app("work").child_of(6)]));
}

#[test]
fn a_read_without_messages_has_no_receive_span() {
    let (sdk, mut queue) = filled(0);
    let receive = queue.telemetry.start_operation().map(|start| (start, queue.operation(PULL)));
    let items: Vec<Message> = Vec::new();
    let telemetry = queue.telemetry.clone();
    assert_eq!(DeliverIter::new(&telemetry, receive, queue.source, items.into_iter(), |item| item).count(), 0);
    assert!(queue.pop().is_none());
    sdk.assert([]);
}

fn work_on(tracer: &impl Tracer, _message: &Message) {
    drop(tracer.start("work"));
}
