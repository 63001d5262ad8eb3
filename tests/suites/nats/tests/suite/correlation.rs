//! Parents, links, contexts that are in a message already, baggage.

use futures::StreamExt;
use opentelemetry::{Context, KeyValue, baggage::BaggageExt, context::FutureExt, trace::TraceContextExt};
use otel_async_nats::{
    Client, Subscriber, jetstream,
    otel::{Correlation, MessageExt, process_batch, sequential},
};
use support::{Sdk, describe};

use crate::{connect, durable, end, next, stream_of, unique, within};

async fn subscribed(client: &Client) -> (String, Subscriber) {
    let subject = unique("orders");
    let subscriber = client.subscribe(subject.clone()).await.unwrap();
    (subject, subscriber)
}

/// The same by hand: the inbox is the caller's own subscription.
#[tokio::test]
async fn a_reply_to_an_inbox_leaves_its_caller_in_its_trace() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    // Who answers begins a trace of its own.
    let linking = sdk.instrumentation_builder().with_correlation(Correlation::Link).build();
    let stock = unique("stock");
    let mut questions = client.subscribe(stock.clone()).await.unwrap().with_instrumentation(linking);
    let order = sdk.app_span("order");
    let asks = async {
        let inbox = client.new_inbox();
        let mut replies = client.subscribe(inbox.clone()).await.unwrap();
        client.publish_with_reply(stock.clone(), inbox, "apples?".into()).await.unwrap();
        let reply = next(&mut replies).await;
        let onward = unique("onward");
        let inside = reply.process(|| async { client.publish(onward.clone(), reply.payload.clone()).await });
        inside.await.unwrap();
        onward
    };
    let answers = async {
        let question = next(&mut questions).await;
        let inbox = question.reply.clone().unwrap();
        question.process(|| async { client.publish(inbox, "four".into()).await }).await.unwrap();
    };
    let (onward, ()) = futures::join!(asks.with_context(order.clone()), answers);
    end(&order);

    let spans = sdk.spans();
    let caller = order.span().span_context().trace_id();
    let of_caller: Vec<_> = spans.iter().filter(|span| span.span_context.trace_id() == caller).cloned().collect();
    let names: Vec<_> = of_caller.iter().map(|span| span.name.to_string()).collect();
    assert_eq!(names, ["order", &format!("publish {stock}"), "process", &format!("publish {onward}")]);
    assert_eq!(spans.len(), 6, "{}", describe(&spans));
    let answered = spans.iter().find(|span| span.name == "publish").unwrap();
    assert_ne!(answered.span_context.trace_id(), caller);
    assert_eq!(of_caller[2].parent_span_id, order.span().span_context().span_id());
    let linked: Vec<_> = of_caller[2].links.iter().map(|link| link.span_context.span_id()).collect();
    assert_eq!(linked, [answered.span_context.span_id()]);
    assert_eq!(of_caller[3].parent_span_id, of_caller[2].span_context.span_id());
}

#[tokio::test]
async fn a_batch_has_one_span_that_links_its_messages() {
    let sdk = Sdk::new();
    let context = jetstream::new(connect(&sdk).await);
    let (stream, name) = stream_of(&context).await;
    let subject = format!("{name}.paid");
    for number in ["1", "2"] {
        context.publish(subject.clone(), number.into()).await.unwrap().await.unwrap();
    }
    let batch = durable(&stream, "analytics").await.fetch().messages().await.unwrap();
    let messages: Vec<_> = batch.map(Result::unwrap).collect().await;
    process_batch(&messages, || async {}).await;
    for message in &messages {
        message.ack().await.unwrap();
    }
    drop(messages);

    let spans = sdk.spans();
    let published: Vec<_> = spans.iter().filter(|span| span.name.starts_with("publish")).collect();
    let [process] = spans.iter().filter(|span| span.name.starts_with("process")).collect::<Vec<_>>()[..] else {
        panic!("{}", describe(&spans))
    };
    let linked: Vec<_> = process.links.iter().map(|link| link.span_context.span_id()).collect();
    assert_eq!(linked, published.iter().map(|span| span.span_context.span_id()).collect::<Vec<_>>());
    assert_eq!(support::attribute(process, "messaging.batch.message_count").unwrap().to_string(), "2");
    let sequences: Vec<_> = process
        .links
        .iter()
        .map(|link| support::link_attribute(link, "messaging.nats.message.stream_sequence").unwrap())
        .collect();
    assert_eq!(sequences, ["1", "2"]);
    let acks: Vec<_> = spans.iter().filter(|span| span.name.starts_with("ack")).collect();
    assert_eq!(acks.len(), 2);
    assert!(acks.iter().all(|ack| ack.parent_span_id == process.span_context.span_id()));
}

#[tokio::test]
async fn clones_and_parts_of_a_message_share_one_span() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let (subject, mut subscriber) = subscribed(&client).await;
    client.publish(subject.clone(), "1".into()).await.unwrap();
    let message = next(&mut subscriber).await;
    let copy = message.clone();
    let raw: async_nats::Message = message.into();
    assert_eq!(sdk.spans().len(), 1, "the copy still has it");
    copy.fail(&"sour");
    drop(copy);
    assert_eq!(raw.payload, "1");
    let spans = sdk.spans();
    assert_eq!(spans.len(), 2);
    assert_eq!(spans[1].status, opentelemetry::trace::Status::error("sour"));
}

#[tokio::test]
async fn baggage_ends_with_its_message() {
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let (subject, mut subscriber) = subscribed(&client).await;
    let tenant = Context::new().with_baggage([KeyValue::new("tenant.id", "7")]);
    within(&tenant, || client.publish(subject.clone(), "1".into())).await.unwrap();
    client.publish(subject.clone(), "2".into()).await.unwrap();
    let mut seen = Vec::new();
    sequential(async {
        for _ in 0..2 {
            let message = next(&mut subscriber).await;
            let here = Context::current();
            seen.push(here.baggage().get("tenant.id").map(ToString::to_string));
            let inside = message.process(|| async { Ok::<_, String>(Context::current().baggage().len()) }).await;
            assert_eq!(inside.unwrap(), here.baggage().len());
        }
    })
    .await;
    assert_eq!(seen, [Some("7".to_owned()), None]);
    assert_eq!(Context::current().baggage().len(), 0);
}
