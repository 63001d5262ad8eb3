use std::sync::{Arc, Mutex};

use futures::{FutureExt, StreamExt};
use lapin::{
    BasicProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicGetOptions},
    types::{AMQPValue, FieldTable},
};
use opentelemetry::{
    Context,
    trace::{Status, TraceContextExt},
};
use otel_lapin::{
    ConsumerDelegate,
    message::{Delivery, DeliveryResult},
    otel::MessageExt,
};
use otel_messaging::semconv::{attribute, extension};
use support::{attribute as value_of, eventually};

use crate::harness::{Rabbit, SCOPE, at_peer, long, named, next, table, traceparent, unique};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_stream_carries_its_process_span() {
    let peer = at_peer();
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    let exchange = rabbit.exchange("shop", &queue).await;
    let properties = BasicProperties::default()
        .with_message_id("17".into())
        .with_correlation_id("c-4".into())
        .with_headers(table([("colour", long("green")), ("n", AMQPValue::Boolean(true))]));
    rabbit
        .channel
        .basic_publish(
            exchange.as_str().into(),
            "orders.new".into(),
            Default::default(),
            b"four apples",
            properties.clone(),
        )
        .await
        .unwrap();
    let mut consumer = rabbit.consume(&queue).await;
    let delivery = next(&mut consumer).await;
    assert_eq!(rabbit.sdk.spans().len(), 1, "the process span is open as long as the message lives");
    let sent = traceparent(&rabbit.sdk.spans()[0]);
    let Delivery { delivery_tag, exchange: from, routing_key, redelivered, properties: received, data, acker } =
        delivery;
    assert_eq!((delivery_tag, from.as_str(), routing_key.as_str()), (1, &*exchange, "orders.new"));
    assert!(!redelivered);
    assert_eq!(data, b"four apples");
    let expected = table([("colour", long("green")), ("n", AMQPValue::Boolean(true)), ("traceparent", sent)]);
    assert_eq!(received, properties.with_headers(expected));
    assert_eq!(rabbit.sdk.spans().len(), 1, "an acker that was taken out of the message keeps its span open");
    drop(acker);

    assert_eq!(
        rabbit.described(),
        format!(
            "\
publish {exchange}:orders.new
  kind PRODUCER
  {SCOPE}
  root
  status unset
  messaging.destination.name = \"{exchange}:orders.new\"
  messaging.message.conversation_id = \"c-4\"
  messaging.message.id = \"17\"
  messaging.operation.name = \"publish\"
  messaging.operation.type = \"send\"
  messaging.rabbitmq.destination.routing_key = \"orders.new\"
  messaging.system = \"rabbitmq\"
{peer}  server.address = HOST
  server.port = PORT
process {exchange}:orders.new:{queue}
  kind CONSUMER
  {SCOPE}
  parent publish {exchange}:orders.new
  link publish {exchange}:orders.new
  status unset
  messaging.destination.name = \"{exchange}:orders.new:{queue}\"
  messaging.message.conversation_id = \"c-4\"
  messaging.message.id = \"17\"
  messaging.operation.name = \"process\"
  messaging.operation.type = \"process\"
  messaging.rabbitmq.destination.routing_key = \"orders.new\"
  messaging.rabbitmq.message.delivery_tag = 1
  messaging.system = \"rabbitmq\"
  server.address = HOST
  server.port = PORT
"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_context_arrives_unchanged_and_is_a_root() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    let mut consumer = rabbit.consume(&queue).await;
    let delivery = next(&mut consumer).await;
    let raw = delivery.into_inner();
    assert_eq!((raw.properties, raw.data), (BasicProperties::default(), b"1".to_vec()));
    assert_eq!(
        rabbit.describe(1),
        format!(
            "\
process {queue}
  kind CONSUMER
  {SCOPE}
  root
  status unset
  messaging.destination.name = {queue:?}
  messaging.operation.name = \"process\"
  messaging.operation.type = \"process\"
  messaging.rabbitmq.destination.routing_key = {queue:?}
  messaging.rabbitmq.message.delivery_tag = 1
  messaging.system = \"rabbitmq\"
  server.address = HOST
  server.port = PORT
"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn work_inside_process_is_inside_the_span_and_errors_fail_it() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    rabbit.publish(&queue, b"1", BasicProperties::default()).await;
    let mut consumer = rabbit.consume(&queue).await;
    let delivery = next(&mut consumer).await;
    let failed = delivery
        .process(|| async {
            rabbit.sdk.app_span_in("work", &Context::current()).span().end();
            Err::<(), _>(std::io::Error::other("declined"))
        })
        .await;
    assert!(failed.is_err());
    assert!(delivery.ack(BasicAckOptions::default()).await.unwrap());
    drop(delivery);
    let spans = rabbit.sdk.spans();
    let process = named(&spans, &format!("process {queue}"))[0];
    assert_eq!(process.status, Status::error("declined"));
    assert_eq!(value_of(process, attribute::ERROR_TYPE), Some(&"std::io::error::Error".into()));
    for child in ["work".to_owned(), format!("ack {queue}")] {
        assert_eq!(named(&spans, &child)[0].parent_span_id, process.span_context.span_id(), "{child}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_delivered_before_says_so() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    let again = lapin::options::BasicNackOptions { requeue: true, ..Default::default() };
    let mut consumer = rabbit.consume(&queue).await;
    assert!(next(&mut consumer).await.nack(again).await.unwrap());
    drop(next(&mut consumer).await);
    let spans = rabbit.sdk.wait_for(3);
    let process = named(&spans, &format!("process {queue}"));
    assert_eq!(value_of(process[0], extension::DELIVERY_REDELIVERED), None);
    assert_eq!(value_of(process[1], extension::DELIVERY_REDELIVERED), Some(&true.into()));
}

/// What a delegate is called with, and what is current then.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn note(&self, what: &str) {
        let current = Context::current();
        let inside = if current.span().span_context().is_valid() { "inside" } else { "outside" };
        self.0.lock().unwrap().push(format!("{what} {inside}"));
    }
}

struct Delegate {
    seen: Seen,
    rabbit: Arc<Rabbit>,
    answers: String,
}

impl ConsumerDelegate for Delegate {
    fn on_new_delivery(&self, delivery: DeliveryResult) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        self.seen.note("called");
        let (seen, rabbit, answers) = (self.seen.clone(), self.rabbit.clone(), self.answers.clone());
        Box::pin(async move {
            let Ok(Some(delivery)) = delivery else { return seen.note("cancelled") };
            tokio::task::yield_now().await;
            seen.note("polled");
            rabbit.publish(&answers, b"answer", BasicProperties::default()).await;
            delivery.ack(BasicAckOptions::default()).await.unwrap();
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegate_is_inside_the_process_span_without_a_line_of_code() {
    let peer = at_peer();
    let rabbit = Arc::new(Rabbit::new().await);
    let (queue, answers) = (rabbit.queue("orders").await, rabbit.queue("answers").await);
    let seen = Seen::default();
    let consumer = rabbit.consume(&queue).await;
    consumer.set_delegate(Delegate { seen: seen.clone(), rabbit: rabbit.clone(), answers: answers.clone() });
    rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;

    assert_eq!(
        rabbit.describe(3),
        format!(
            "\
process {queue}
  kind CONSUMER
  {SCOPE}
  root
  status unset
  messaging.destination.name = {queue:?}
  messaging.operation.name = \"process\"
  messaging.operation.type = \"process\"
  messaging.rabbitmq.destination.routing_key = {queue:?}
  messaging.rabbitmq.message.delivery_tag = 1
  messaging.system = \"rabbitmq\"
  otel_messaging.settlement.outcome = \"ack\"
  server.address = HOST
  server.port = PORT
publish {answers}
  kind PRODUCER
  {SCOPE}
  parent process {queue}
  status unset
  messaging.destination.name = {answers:?}
  messaging.operation.name = \"publish\"
  messaging.operation.type = \"send\"
  messaging.rabbitmq.destination.routing_key = {answers:?}
  messaging.system = \"rabbitmq\"
{peer}  server.address = HOST
  server.port = PORT
ack {queue}
  kind CLIENT
  {SCOPE}
  parent process {queue}
  status unset
  messaging.destination.name = {queue:?}
  messaging.operation.name = \"ack\"
  messaging.operation.type = \"settle\"
  messaging.rabbitmq.message.delivery_tag = 1
  messaging.system = \"rabbitmq\"
{peer}  otel_messaging.settlement.outcome = \"ack\"
  server.address = HOST
  server.port = PORT
"
        )
    );
    assert_eq!(*seen.0.lock().unwrap(), ["called inside", "polled inside"]);
    // lapin tells a delegate of a cancellation by the broker only.
    rabbit.raw.queue_delete(queue.as_str().into(), Default::default()).await.unwrap();
    eventually("the delegate is told of the cancellation", || seen.0.lock().unwrap().len() == 4);
    assert_eq!(seen.0.lock().unwrap()[2..], ["called outside", "cancelled outside"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closure_is_a_delegate_and_its_panic_is_the_spans_error() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    let consumer = rabbit.consume(&queue).await;
    consumer.set_delegate(|delivery: DeliveryResult| async move {
        let _delivery = delivery;
        tokio::task::yield_now().await;
        panic!("the handler's own");
    });
    let spans = rabbit.sdk.wait_for(1);
    assert_eq!(spans[0].status, Status::error("panicked"));
    assert_eq!(value_of(&spans[0], attribute::ERROR_TYPE), Some(&"panic".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegate_that_passes_the_message_on_leaves_the_span_to_it() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let consumer = rabbit.consume(&queue).await;
    consumer.set_delegate(move |delivery: DeliveryResult| {
        let sender = sender.clone();
        async move { drop(sender.send(delivery).await) }
    });
    let delivery = receiver.recv().await.unwrap().unwrap().unwrap();
    delivery.process(|| async { rabbit.sdk.app_span_in("work", &Context::current()).span().end() }).await;
    let spans = rabbit.sdk.wait_for(2);
    assert_eq!(
        named(&spans, "work")[0].parent_span_id,
        named(&spans, &format!("process {queue}"))[0].span_context.span_id()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_has_a_span_that_links_the_message_which_has_its_own() {
    let peer = at_peer();
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    rabbit.publish(&queue, b"1", BasicProperties::default().with_message_id("17".into())).await;
    rabbit.round_trip(&queue).await;
    let message = rabbit.channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap().unwrap();
    assert_eq!((message.message_count, &*message.data), (0, &b"1"[..]));
    assert!(message.ack(BasicAckOptions::default()).await.unwrap());
    drop(message);
    let mut described: Vec<_> = rabbit.described().split_inclusive("server.port = PORT\n").map(str::to_owned).collect();
    // The get began before the process span; both and the ack end in any order.
    described.remove(0);
    assert_eq!(
        described.concat(),
        format!(
            "\
get {queue}
  kind CLIENT
  {SCOPE}
  root
  link publish {queue}
  status unset
  messaging.destination.name = {queue:?}
  messaging.message.id = \"17\"
  messaging.operation.name = \"get\"
  messaging.operation.type = \"receive\"
  messaging.rabbitmq.destination.routing_key = {queue:?}
  messaging.rabbitmq.message.delivery_tag = 1
  messaging.system = \"rabbitmq\"
{peer}  server.address = HOST
  server.port = PORT
process {queue}
  kind CONSUMER
  {SCOPE}
  parent publish {queue}
  link publish {queue}
  status unset
  messaging.destination.name = {queue:?}
  messaging.message.id = \"17\"
  messaging.operation.name = \"process\"
  messaging.operation.type = \"process\"
  messaging.rabbitmq.destination.routing_key = {queue:?}
  messaging.rabbitmq.message.delivery_tag = 1
  messaging.system = \"rabbitmq\"
  otel_messaging.settlement.outcome = \"ack\"
  server.address = HOST
  server.port = PORT
ack {queue}
  kind CLIENT
  {SCOPE}
  parent process {queue}
  status unset
  messaging.destination.name = {queue:?}
  messaging.message.id = \"17\"
  messaging.operation.name = \"ack\"
  messaging.operation.type = \"settle\"
  messaging.rabbitmq.message.delivery_tag = 1
  messaging.system = \"rabbitmq\"
{peer}  otel_messaging.settlement.outcome = \"ack\"
  server.address = HOST
  server.port = PORT
"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_queue_has_no_span() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    let none = rabbit.channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap();
    assert_eq!(none, None);
    assert_eq!(rabbit.described(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_failed_has_a_span() {
    let peer = at_peer();
    let rabbit = Rabbit::new().await;
    let nowhere = unique("nowhere");
    let error = rabbit.channel.basic_get(nowhere.as_str().into(), BasicGetOptions::default()).await.unwrap_err();
    let raw = rabbit.raw.basic_get(nowhere.as_str().into(), BasicGetOptions::default()).await.unwrap_err();
    assert_eq!(error, raw);
    assert_eq!(
        rabbit.described(),
        format!(
            "\
get {nowhere}
  kind CLIENT
  {SCOPE}
  root
  status error: {error}
  error.type = \"not-found\"
  messaging.destination.name = {nowhere:?}
  messaging.operation.name = \"get\"
  messaging.operation.type = \"receive\"
  messaging.system = \"rabbitmq\"
{peer}  server.address = HOST
  server.port = PORT
"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_keeps_lapins_ways() {
    let rabbit = Rabbit::new().await;
    let queue = rabbit.queue("orders").await;
    let consumer = rabbit
        .channel
        .basic_consume(queue.as_str().into(), "mine".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await
        .unwrap();
    assert_eq!((consumer.tag().as_str(), consumer.queue().as_str()), ("mine", &*queue));
    assert_eq!(format!("{consumer:?}"), format!("{:?}", consumer.get_ref()));
    // Nothing is started for messages nobody asked for, and a clone keeps the consumer going.
    rabbit.publish_raw(&queue, b"1", BasicProperties::default()).await;
    rabbit.publish_raw(&queue, b"2", BasicProperties::default()).await;
    let mut clone = consumer.clone();
    drop(consumer);
    assert_eq!(next(&mut clone).await.data, b"1");
    assert_eq!(next(&mut clone).await.data, b"2");
    assert!(clone.next().now_or_never().is_none());
    assert_eq!(rabbit.sdk.spans().len(), 2);
    // Cancelled with the last clone: what was not settled is there again.
    drop(clone);
    eventually("the queue has its messages again", || {
        let declared = rabbit.raw.queue_declare(
            queue.as_str().into(),
            lapin::options::QueueDeclareOptions { passive: true, ..Default::default() },
            FieldTable::default(),
        );
        futures::executor::block_on(declared).unwrap().consumer_count() == 0
    });
}
