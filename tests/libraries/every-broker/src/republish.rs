//! Messages that are sent again.

use opentelemetry::{SpanId, trace::Status};
use otel_messaging::MessageExt;
use support::Sdk;

use crate::{Broker, Received, connected, headers, linked, processed, sent, take, traceparent};

const ROUNDS: usize = 100;

pub async fn a_hundred_retries_add_no_header_and_link_the_failure<B: Broker>() {
    for &source in B::USUAL {
        retry::<B>(source).await;
    }
}

async fn retry<B: Broker>(source: B::Source) {
    let sdk = Sdk::new();
    let (broker, destination) = connected::<B>(&sdk).await;
    let receiver = broker.open(source, &destination, &[]).await;
    let mut messages = B::messages(&receiver);
    broker.send(&destination, &headers(&[("tenant", "blue")]), "1").await;
    let mut seen = Vec::new();
    for _ in 0..ROUNDS {
        let message = take::<B>(&mut messages).await;
        seen.push(message.headers());
        message.process(|| async { Err::<(), _>("declined") }).await.unwrap_err();
        let copied = message.headers();
        message.republish(|| broker.send(&destination, &copied, "1")).await;
        message.settle().await;
    }
    seen.push(take::<B>(&mut messages).await.headers());
    let (publishes, processes) = (sent::<B>(&sdk, &destination), processed(&sdk, &destination));
    assert_eq!((publishes.len(), processes.len()), (ROUNDS + 1, ROUNDS + 1));
    for (round, (published, arrived)) in publishes.iter().zip(seen).enumerate() {
        let expected = headers(&[("tenant", "blue"), ("traceparent", &traceparent(&published.span_context))]);
        assert_eq!(arrived, expected, "round {round}");
        assert_eq!(published.parent_span_id, SpanId::INVALID, "no trace grows with the retries");
        assert_eq!(processes[round].parent_span_id, published.span_context.span_id(), "round {round}");
        if round < ROUNDS {
            assert_eq!(processes[round].status, Status::error("declined"));
            let expected = [published.span_context.span_id(), processes[round].span_context.span_id()];
            assert_eq!(linked(&publishes[round + 1]), expected, "round {round}");
        }
    }
}
