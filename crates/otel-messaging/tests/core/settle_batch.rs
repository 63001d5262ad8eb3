//! Several messages that are settled at once, and messages whose settlement outlives them.

use std::sync::Arc;

use otel_messaging::adapter::{Attributes, SettledMessage};

use crate::queue::*;

fn deliver(queue: &Queue) -> Arc<ProcessSpan> {
    let start = queue.start();
    let operation = queue.operation(PROCESS);
    queue.telemetry.deliver(start, operation, Arrival::new(queue.source, None).awaits_settlement(true), |_| ())
}

fn settle(queue: &Queue, messages: Vec<(SettledMessage, Attributes)>) {
    let start = queue.start();
    let operation = queue.operation(ACK);
    queue.telemetry.settle_batch(start, &operation, messages.into_iter(), |_| ()).settled(Settlement::Ack);
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
    let described = sdk.described();
    let ack = "\
ack orders
  kind CLIENT
  scope queue-adapter https://opentelemetry.io/schemas/1.44.0
  root
  link one {messaging.message.id = \"1\"}
  link two {messaging.message.id = \"2\"}
  status unset
  messaging.batch.message_count = 4
  messaging.destination.name = \"orders\"
  messaging.message.conversation_id = \"all\"
  messaging.operation.name = \"ack\"
  messaging.operation.type = \"settle\"
  messaging.system = \"queue\"
  otel_messaging.settlement.outcome = \"ack\"
";
    assert!(described.ends_with(ack), "{described}");
}

#[test]
fn what_the_settlement_says_itself_is_not_said_twice_and_stays() {
    let (sdk, queue) = traced();
    let span = sdk.app_span("one");
    // As a number, and all up to it: the one that is known has the same, or another.
    for known in ["17", "16"] {
        let start = queue.start();
        let operation = queue.operation(ACK);
        let messages = vec![(SettledMessage::Context(span.span().span_context().clone()), about(known))];
        let up_to = |attributes: &mut Attributes| attributes.set(attribute::MESSAGING_MESSAGE_ID, "17");
        // How many there are nobody knows.
        queue.telemetry.settle_known(start, &operation, messages.into_iter(), up_to).settled(Settlement::Ack);
    }
    span.span().end();
    let ack = |link: &str| {
        format!(
            "\
ack orders
  kind CLIENT
  scope queue-adapter https://opentelemetry.io/schemas/1.44.0
  root
  link one{link}
  status unset
  messaging.destination.name = \"orders\"
  messaging.message.conversation_id = \"all\"
  messaging.message.id = \"17\"
  messaging.operation.name = \"ack\"
  messaging.operation.type = \"settle\"
  messaging.system = \"queue\"
  otel_messaging.settlement.outcome = \"ack\"
"
        )
    };
    let described = sdk.described();
    let expected = ack("") + &ack(" {messaging.message.id = \"16\"}");
    assert!(described.ends_with(&expected), "{described}");
}

#[test]
fn without_a_tracer_all_of_them_are_counted_and_none_of_nothing() {
    let sdk = Sdk::new();
    let queue = Queue::new(sdk.all_signals_builder().with_spans(false).build());
    settle(&queue, vec![(SettledMessage::Unknown, about("1")), (SettledMessage::Unknown, about("2"))]);
    settle(&queue, Vec::new());
    let deliveries: Vec<_> = sdk
        .measured()
        .lines()
        .filter(|line| line.starts_with("otel_messaging.deliveries"))
        .map(str::to_owned)
        .collect();
    assert_eq!(deliveries.len(), 1, "{deliveries:?}");
    assert!(deliveries[0].ends_with(" 2"), "{deliveries:?}");
}

#[test]
fn a_settlement_that_outlives_its_message_is_dropped_only_when_it_goes_itself() {
    let (sdk, queue) = observed();
    let dropped = || {
        let measured = sdk.measured();
        let count = measured.lines().find_map(|line| Some(line.split_once("\"dropped\"} ")?.1.to_owned()));
        count.unwrap_or_else(|| "none".to_owned())
    };
    let (first, second) = (deliver(&queue), deliver(&queue));
    let (lost, settled) = (first.unsettled().unwrap(), second.unsettled().unwrap());
    assert!(first.unsettled().is_none(), "there is one settlement");
    drop((first, second));
    assert_eq!(dropped(), "none");
    assert!(!sdk.described().contains("settlement"), "the process spans ended before");
    settled.discharge();
    drop(settled);
    assert_eq!(dropped(), "none");
    drop(lost);
    assert_eq!(dropped(), "1");
}
