//! A context that the application's function reads, on every way of receiving.

use opentelemetry::{propagation::Extractor, trace::SpanContext};
use otel_messaging::{MessageExt, ReceivedMessage, parse_traceparent};
use support::{Sdk, describe};

use crate::{Broker, Received, headers, linked, processed, sent, take, traceparent};

const OF_HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OF_PAYLOAD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const WITH_HEADER: (&[(&str, &str)], &str) = (&[("ce_traceparent", OF_HEADER)], "four apples");

fn read(headers: &dyn Extractor, payload: &[u8]) -> Option<SpanContext> {
    parse_traceparent(headers.get("ce_traceparent").or(str::from_utf8(payload).ok())?)
}

async fn reading<B: Broker>(sdk: &Sdk) -> B {
    B::connect(&sdk.all_signals_builder().with_context_reader(read).build()).await
}

/// Of three messages one has the context in a header, one in its payload and no headers, and one has neither.
pub async fn every_source_reads_it<B: Broker>() {
    for &source in B::SOURCES {
        let sdk = Sdk::new();
        let broker: B = reading(&sdk).await;
        let destination = broker.destination().await;
        let receiver = broker.open(source, &destination, &[WITH_HEADER, (&[], OF_PAYLOAD), (&[], "")]).await;
        let mut messages = B::messages(&receiver);
        for _ in 0..3 {
            let message = take::<B>(&mut messages).await;
            message.process(|| async {}).await;
            message.settle().await;
        }
        let process = processed(&sdk, &destination);
        let described = describe(&process);
        let relations: Vec<_> = described
            .lines()
            .map(str::trim)
            .filter(|line| ["root", "parent ", "link "].iter().any(|word| line.starts_with(word)))
            .collect();
        let of = |span: &str| [format!("parent {span}"), format!("link {span}")];
        let expected = [&of("00f067aa0ba902b7")[..], &of("b7ad6b7169203331"), &["root".to_owned()]].concat();
        assert_eq!(relations, expected, "{source:?}");
        B::assert_processed(source, &destination, &process);
        let everything = sdk.everything() + &sdk.events();
        assert!(!everything.contains("four apples") && !everything.contains(OF_PAYLOAD), "{source:?}: {everything}");
    }
}

pub async fn a_forward_keeps_the_header_and_is_a_new_message<B: Broker>() {
    let sdk = Sdk::new();
    let broker: B = reading(&sdk).await;
    let [from, to] = [broker.destination().await, broker.destination().await];
    let receiver = broker.open(B::USUAL[0], &from, &[WITH_HEADER]).await;
    let next = broker.open(B::USUAL[0], &to, &[]).await;
    let message = take::<B>(&mut B::messages(&receiver)).await;
    let copied = message.headers();
    message.process(|| broker.send(&to, &copied, "1")).await;
    drop(message);
    let received = take::<B>(&mut B::messages(&next)).await;
    let ([forward], [process]) = (&sent::<B>(&sdk, &to)[..], &processed(&sdk, &from)[..]) else {
        panic!("{}", sdk.described())
    };
    assert_eq!(linked(forward), [], "what was read is no context that the message carries when it is sent");
    assert_eq!(forward.parent_span_id, process.span_context.span_id());
    let expected = headers(&[("ce_traceparent", OF_HEADER), ("traceparent", &traceparent(&forward.span_context))]);
    assert_eq!(received.headers(), expected);
    let creation = received.process_span().unwrap().creation().unwrap();
    assert_eq!(creation.span_id(), forward.span_context.span_id());
}
