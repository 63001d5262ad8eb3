use futures::StreamExt;
use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicConsumeOptions},
};
use opentelemetry::{Context, SpanId, trace::TraceContextExt};
use opentelemetry_sdk::trace::{Sampler, SpanData};
use otel_lapin::otel::{MessageExt, process_batch, sequential};
use otel_messaging::semconv::attribute;
use support::{Sdk, attribute as value_of};

use crate::harness::{Rabbit, named, next};

fn linked(span: &SpanData) -> Vec<SpanId> {
    span.links.iter().map(|link| link.span_context.span_id()).collect()
}

fn find<'a>(spans: &'a [SpanData], prefix: &str) -> &'a SpanData {
    spans.iter().find(|span| span.name.starts_with(prefix)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_one_span_that_links_messages_and_parents_settlements() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    for number in 0..3 {
        rabbit.publish(&queue, &[number], BasicProperties::default()).await;
    }
    let mut consumer = rabbit.consume(&queue).await;
    let deliveries: Vec<_> = consumer.by_ref().take(3).map(Result::unwrap).collect().await;
    let last = deliveries[2].delivery_tag;
    process_batch(&deliveries, || async {
        assert!(deliveries[0].ack(BasicAckOptions::default()).await.unwrap());
        rabbit.channel.basic_ack(last, BasicAckOptions { multiple: true }).await.unwrap();
    })
    .await;
    drop(deliveries);
    let spans = rabbit.sdk.wait_for(6);
    assert_eq!(spans.len(), 6, "{}", rabbit.described());
    let batch = find(&spans, "process");
    assert_eq!(value_of(batch, attribute::MESSAGING_BATCH_MESSAGE_COUNT), Some(&3.into()));
    assert_eq!(batch.links.len(), 3);
    let tags: Vec<_> = batch
        .links
        .iter()
        .map(|link| support::link_attribute(link, attribute::MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG).unwrap())
        .collect();
    assert_eq!(tags, ["1", "2", "3"]);
    for ack in named(&spans, &format!("ack {queue}")) {
        assert_eq!(ack.parent_span_id, batch.span_context.span_id());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_sequential_loop_what_is_sent_belongs_to_the_message_in_hand() {
    let rabbit = Rabbit::new().await;
    let (orders, payments) = (rabbit.queue("orders").await, rabbit.queue("payments").await);
    for number in 0..3 {
        rabbit.publish_raw(&orders, &[number], BasicProperties::default()).await;
    }
    let mut consumer = rabbit.consume(&orders).await;
    sequential(async {
        for _ in 0..3 {
            let delivery = next(&mut consumer).await;
            rabbit.publish(&payments, &delivery.data, BasicProperties::default()).await;
            delivery.ack(BasicAckOptions::default()).await.unwrap();
        }
    })
    .await;
    let spans = rabbit.sdk.wait_for(9);
    let process: Vec<_> =
        named(&spans, &format!("process {orders}")).iter().map(|span| span.span_context.span_id()).collect();
    let parents: Vec<_> =
        named(&spans, &format!("publish {payments}")).iter().map(|span| span.parent_span_id).collect();
    assert_eq!(parents, process);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sampled_out_trace_is_carried_on_and_stays_out() {
    let sdk = Sdk::with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)));
    let instrumentation = sdk.instrumentation();
    let rabbit = Rabbit::with(sdk, instrumentation).await;
    let queue = rabbit.queue("orders").await;
    rabbit.publish(&queue, b"1", BasicProperties::default()).await;
    let delivery = next(&mut rabbit.consume(&queue).await).await;
    let headers = delivery.properties.headers().as_ref().unwrap().inner().clone();
    let lapin::types::AMQPValue::LongString(traceparent) = &headers["traceparent"] else { panic!("{headers:?}") };
    assert!(traceparent.to_string().ends_with("-00"), "{traceparent}");
    let context = delivery.otel_context();
    assert!(traceparent.to_string().contains(&context.span().span_context().trace_id().to_string()));
    assert!(!context.span().span_context().is_sampled());
    delivery.ack(BasicAckOptions::default()).await.unwrap();
    drop(delivery);
    assert_eq!(rabbit.described(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_never_moves_the_caller_to_another_trace() {
    use opentelemetry::trace::FutureExt;

    let rabbit = Rabbit::new().await;
    let requests = rabbit.queue("requests").await;
    // Direct reply-to: the consumer of the replies and the publish of the request share a channel.
    let no_ack = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let replies = rabbit.channel.basic_consume("amq.rabbitmq.reply-to".into(), "".into(), no_ack, Default::default());
    let mut replies = replies.await.unwrap();
    let caller = rabbit.sdk.app_span("caller");
    let ask = async {
        let asking = BasicProperties::default()
            .with_reply_to("amq.rabbitmq.reply-to".into())
            .with_correlation_id("question-7".into());
        rabbit.publish(&requests, b"how many?", asking).await;
        // Another service answers, in a trace of its own.
        let request = next(&mut rabbit.consume(&requests).await).with_context(Context::new()).await;
        let answer =
            BasicProperties::default().with_correlation_id(request.properties.correlation_id().clone().unwrap());
        let reply_to = request.properties.reply_to().clone().unwrap();
        let service = rabbit.sdk.app_span("service");
        rabbit.publish(reply_to.as_str(), b"4", answer).with_context(service.clone()).await;
        service.span().end();

        let reply = next(&mut replies).await;
        assert_eq!(reply.properties.correlation_id().as_ref().unwrap().as_str(), "question-7");
        reply.process(|| async {}).await;
        rabbit.publish(&requests, b"thanks", BasicProperties::default()).await;
    };
    ask.with_context(caller.clone()).await;
    caller.span().end();
    let spans = rabbit.sdk.wait_for(7);
    let [asked, answer, thanks] = spans.iter().filter(|span| span.name.starts_with("publish")).collect::<Vec<_>>()[..]
    else {
        panic!("{}", rabbit.described())
    };
    let id = caller.span().span_context().clone();
    let reply = spans.iter().find(|span| span.name == "process").unwrap();
    assert_ne!(answer.span_context.trace_id(), id.trace_id());
    for span in [asked, reply, thanks] {
        assert_eq!(span.parent_span_id, id.span_id(), "{}", span.name);
        assert_eq!(span.span_context.trace_id(), id.trace_id(), "{}", span.name);
    }
    assert_eq!(linked(reply), [answer.span_context.span_id()]);
    for span in [asked, answer, reply] {
        assert_eq!(value_of(span, attribute::MESSAGING_MESSAGE_CONVERSATION_ID), Some(&"question-7".into()));
    }
}
