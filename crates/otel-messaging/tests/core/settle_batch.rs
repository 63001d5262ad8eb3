//! Several messages that are settled at once, and messages whose settlement outlives them.

use std::sync::Arc;

use otel_messaging::adapter::{Attributes, SettledMessage};

use crate::queue::*;

fn deliver(queue: &Queue) -> Arc<ProcessSpan> {
    let arrival = Arrival::new(queue.source, None).awaits_settlement(true);
    queue.telemetry.deliver(queue.start(), queue.operation(PROCESS), arrival, |_| ())
}

fn settle(queue: &Queue, messages: Vec<(SettledMessage, Attributes)>) {
    queue
        .telemetry
        .settle_batch(queue.start(), &queue.operation(ACK), messages.into_iter(), |_| ())
        .settled(Settlement::Ack);
}

fn about(id: &'static str) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.set(attribute::MESSAGING_MESSAGE_ID, id);
    attributes.set(attribute::MESSAGING_MESSAGE_CONVERSATION_ID, "all");
    attributes
}

#[test]
fn what_is_common_is_on_the_span_and_the_rest_on_the_links() {
    let (sdk, queue) = configured(|builder| builder.with_max_links(2));
    let spans = [sdk.app_span("one"), sdk.app_span("two"), sdk.app_span("three")];
    let mut messages: Vec<_> = spans
        .iter()
        .zip(["1", "2", "3"])
        .map(|(span, id)| (SettledMessage::Context(span.span().span_context().clone()), about(id)))
        .collect();
    // Of one nothing is known: it is counted.
    messages.insert(0, (SettledMessage::Unknown, about("0")));
    settle(&queue, messages);
    spans.iter().for_each(|span| span.span().end());
    let settled = ack("ack").batch_of(4).attribute(attribute::MESSAGING_MESSAGE_CONVERSATION_ID, "all");
    sdk.assert_contains(settled.link_with("one", id("1")).link_with("two", id("2")));
}

#[test]
fn what_the_settlement_says_itself_is_not_said_twice_and_stays() {
    let (sdk, queue) = traced();
    let span = sdk.app_span("one");
    // As a number, and all up to it: the one that is known has the same, or another.
    for known in ["17", "16"] {
        let messages = vec![(SettledMessage::Context(span.span().span_context().clone()), about(known))];
        let up_to = |attributes: &mut Attributes| attributes.set(attribute::MESSAGING_MESSAGE_ID, "17");
        // How many there are nobody knows.
        queue
            .telemetry
            .settle_known(queue.start(), &queue.operation(ACK), messages.into_iter(), up_to)
            .settled(Settlement::Ack);
    }
    span.span().end();
    // The one that is known has the same number, or another.
    let settled = || ack("ack").message_id("17").attribute(attribute::MESSAGING_MESSAGE_CONVERSATION_ID, "all");
    sdk.assert([app("one"), settled().link("one"), settled().link_with("one", id("16"))]);
}

#[test]
fn without_a_tracer_all_of_them_are_counted_and_none_of_nothing() {
    let sdk = Sdk::new();
    let queue = Queue::new(sdk.all_signals_builder().with_spans(false).build());
    settle(&queue, vec![(SettledMessage::Unknown, about("1")), (SettledMessage::Unknown, about("2"))]);
    settle(&queue, Vec::new());
    let deliveries: Vec<_> = sdk.series().into_iter().filter(|series| series.name == extension::DELIVERIES).collect();
    assert!(matches!(&deliveries[..], [series] if series.count == 2), "{deliveries:?}");
}

#[test]
fn a_settlement_that_outlives_its_message_is_dropped_only_when_it_goes_itself() {
    let (sdk, queue) = observed();
    let dropped = || {
        let of = |series: &Series| series.attribute(extension::SETTLEMENT_OUTCOME) == Some(&"dropped".into());
        sdk.series().into_iter().filter(of).map(|series| series.count).sum::<u64>()
    };
    let (first, second) = (deliver(&queue), deliver(&queue));
    let (lost, settled) = (first.unsettled().unwrap(), second.unsettled().unwrap());
    assert!(first.unsettled().is_none(), "there is one settlement");
    drop((first, second));
    assert_eq!(dropped(), 0);
    assert!(!sdk.described().contains("settlement"), "the process spans ended before");
    settled.discharge();
    drop(settled);
    assert_eq!(dropped(), 0);
    drop(lost);
    assert_eq!(dropped(), 1);
}
