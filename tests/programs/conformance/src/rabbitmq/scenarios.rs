//! Scenarios that only RabbitMQ has.

use std::collections::HashMap;

use futures::{Stream, StreamExt};
use otel_lapin::{
    BasicProperties, Channel, ExchangeKind,
    message::{Delivery, DeliveryResult},
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
        BasicRejectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    otel::{MessageExt, MessageStreamExt, process_batch},
    types::{AMQPValue, FieldTable},
};
use otel_messaging::{AutoCorrelation, Correlation};
use tokio::sync::mpsc::unbounded_channel;

use super::client::{ACK, Rabbit, long_string, table};
use crate::{
    client::Client,
    scenario::{Performed, performed},
    scenarios::{correlation::created, next, send_and_process, settling::settled_after_the_end},
    stage::Stage,
};

pub(super) const ALL: &[Performed] = performed! {
    settled_after_the_end::<Rabbit>, publish_and_process, publish_returned, publish_without_confirms,
    publish_to_exchange, publish_with_ids, publish_refused, publish_fails, confirm_not_awaited, templated,
    exclusive_queue, exclusive_queue_got, answered, delegate, consumer_fails, refused_by_the_handler,
    acknowledged_then_worked_on, get, get_fails, settled, settled_twice, settled_by_tag, settled_together,
    settle_fails, redelivered, quorum, stream, dropped, got_and_dropped, batch_of_routing_keys, context_read,
    captured, policy_auto
};

async fn publish_and_process(stage: Stage) {
    send_and_process::<Rabbit>(stage).await;
}

async fn publish_returned(stage: Stage) {
    Rabbit::fail(&stage, stage.instrumentation()).await;
}

/// Refuses one delivery with a nack, and one with a reject.
async fn refuse_two(deliveries: &mut (impl Stream<Item = Delivery> + Unpin)) {
    next(deliveries).await.nack(BasicNackOptions::default()).await.expect("refused");
    next(deliveries).await.reject(BasicRejectOptions::default()).await.expect("refused");
}

async fn publish_without_confirms(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let channel = rabbit.connection.create_channel().await.expect("a channel");
    let options = BasicPublishOptions::default();
    let to = rabbit.queue.as_str().into();
    let publish = channel.basic_publish("".into(), to, options, b"", BasicProperties::default());
    publish.await.expect("published").await.expect("nothing to wait for");
    next(&mut rabbit.messages().await).await.ack(ACK).await.expect("acknowledged");
}

/// A topic exchange that routes everything to the queue.
async fn exchange(stage: &Stage, rabbit: &Rabbit) -> String {
    let (exchange, queue) = (stage.name("shop"), rabbit.queue.as_str());
    let options = ExchangeDeclareOptions { auto_delete: true, ..ExchangeDeclareOptions::default() };
    let declared =
        rabbit.channel.exchange_declare(exchange.as_str().into(), ExchangeKind::Topic, options, FieldTable::default());
    declared.await.expect("declared");
    let bound = rabbit.channel.queue_bind(
        queue.into(),
        exchange.as_str().into(),
        "#".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.expect("bound");
    exchange
}

async fn publish_by(rabbit: &Rabbit, exchange: &str, routing_key: &str) {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let publish = rabbit.channel.basic_publish(exchange.into(), routing_key.into(), options, b"", properties);
    publish.await.expect("published").await.expect("confirmed");
}

async fn publish_to_exchange(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let exchange = exchange(&stage, &rabbit).await;
    publish_by(&rabbit, &exchange, "order.paid").await;
    next(&mut rabbit.messages().await).await.ack(ACK).await.expect("acknowledged");
}

async fn publish_with_ids(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let ids = || BasicProperties::default().with_message_id("17".into()).with_correlation_id("c-17".into());
    for _ in 0..3 {
        rabbit.publish_with(ids()).await;
    }
    rabbit.get().await.ack(ACK).await.expect("acknowledged");
    refuse_two(&mut rabbit.messages().await).await;
}

async fn publish_refused(stage: Stage) {
    let limits = [("x-max-length", AMQPValue::LongInt(1)), ("x-overflow", long_string("reject-publish"))];
    let rabbit = Rabbit::with_queue(&stage, stage.instrumentation(), limits).await;
    rabbit.publish().await;
    rabbit.publish().await;
}

async fn publish_fails(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let exchange = stage.name("nowhere").as_str().into();
    let options = BasicPublishOptions::default();
    let publish = rabbit.channel.basic_publish(exchange, "".into(), options, b"", BasicProperties::default());
    publish.await.expect("published").await.expect_err("no such exchange");
}

async fn confirm_not_awaited(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let options = BasicPublishOptions::default();
    let to = rabbit.queue.as_str().into();
    let publish = rabbit.channel.basic_publish("".into(), to, options, b"", BasicProperties::default());
    drop(publish.await.expect("published"));
    rabbit.channel.wait_for_confirms().await.expect("confirmed");
}

async fn templated(stage: Stage) {
    let instrumentation = stage.builder().with_destination_template(|_| Some("orders.{id}".to_owned())).build();
    let rabbit = Rabbit::connect(&stage, instrumentation.clone()).await;
    Rabbit::create(instrumentation, &rabbit.queue, &mut HashMap::new());
    for _ in 0..3 {
        rabbit.publish_with(Rabbit::timestamped()).await;
    }
    let got = rabbit.get().await;
    got.process(|| got.ack(ACK)).await.expect("acknowledged");
    let mut consumer = rabbit.consume().await;
    refuse_two(&mut (&mut consumer).map(|delivery| delivery.expect("a delivery"))).await;
    close_channel(&stage, &rabbit).await;
    consumer.next().await.expect("one more").expect_err("the channel is closed");
}

/// Has the broker close the channel.
async fn close_channel(stage: &Stage, rabbit: &Rabbit) {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let nowhere = stage.name("nowhere").as_str().into();
    rabbit.channel.queue_declare(nowhere, options, FieldTable::default()).await.expect_err("no such queue");
}

/// The queue is one that the server names and that goes away with the connection.
async fn with_exclusive_queue(stage: &Stage) -> Rabbit {
    let mut rabbit = Rabbit::of(stage).await;
    rabbit.queue = rabbit.declare_exclusive().await;
    rabbit
}

async fn exclusive_queue(stage: Stage) {
    for delivery in with_exclusive_queue(&stage).await.receive(1).await {
        delivery.ack(ACK).await.expect("acknowledged");
    }
}

async fn exclusive_queue_got(stage: Stage) {
    let rabbit = with_exclusive_queue(&stage).await;
    Rabbit::create(stage.instrumentation(), "amq.rabbitmq.reply-to.g1h2AA", &mut HashMap::new());
    rabbit.publish_with(created::<Rabbit>(stage.instrumentation(), &rabbit.queue)).await;
    rabbit.get().await.ack(ACK).await.expect("acknowledged");
}

async fn answered(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let replies = stage.name("replies");
    rabbit.make(&replies).await;
    let asking = BasicProperties::default().with_reply_to(replies.as_str().into());
    rabbit.publish_with(asking).await;
    let delivery = next(&mut rabbit.messages().await).await;
    let answer = async {
        rabbit.send(&replies, BasicProperties::default()).await;
        Rabbit::create(stage.instrumentation(), &replies, &mut HashMap::new());
        delivery.ack(ACK).await.expect("acknowledged");
    };
    delivery.process(|| answer).await;
}

async fn delegate(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    rabbit.publish().await;
    let (done, mut handled) = unbounded_channel();
    rabbit.consume().await.set_delegate(move |delivery: DeliveryResult| {
        let done = done.clone();
        async move {
            // The last that it is called for is the connection's end.
            let Ok(Some(delivery)) = delivery else { return };
            delivery.ack(ACK).await.expect("acknowledged");
            drop(delivery);
            let _ = done.send(());
        }
    });
    handled.recv().await.expect("handled");
}

async fn consumer_fails(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    rabbit.publish().await;
    let orders = rabbit.consume().await;
    let mut replies = rabbit.consume_from(&rabbit.declare_exclusive().await).await;
    let (stage, rabbit) = (&stage, &rabbit);
    let handled = orders.process_each(1, |delivery| async move {
        delivery.ack(ACK).await.expect("settled");
        close_channel(stage, rabbit).await;
    });
    handled.await.expect_err("the channel is closed");
    replies.next().await.expect("one more").expect_err("the channel is closed");
}

async fn refused_by_the_handler(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let deliveries = rabbit.receive(2).await;
    let (nacked, rejected) = (&deliveries[0], &deliveries[1]);
    let nack = async {
        assert!(nacked.nack(BasicNackOptions::default()).await.expect("refused"));
        Err::<(), _>("declined")
    };
    nacked.process(|| nack).await.expect_err("declined");
    let reject = async {
        assert!(rejected.reject(BasicRejectOptions::default()).await.expect("refused"));
        Err::<(), _>("declined")
    };
    rejected.process(|| reject).await.expect_err("declined");
}

async fn acknowledged_then_worked_on(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let onwards = stage.name("shipping");
    rabbit.make(&onwards).await;
    for delivery in rabbit.receive(1).await {
        let work = async {
            delivery.ack(ACK).await.expect("acknowledged");
            rabbit.send(&onwards, BasicProperties::default()).await;
        };
        delivery.process(|| work).await;
    }
}

async fn get(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    rabbit.publish().await;
    rabbit.get().await.ack(ACK).await.expect("acknowledged");
    let got = rabbit.channel.basic_get(rabbit.queue.as_str().into(), BasicGetOptions::default()).await;
    assert!(got.expect("an answer").is_none());
}

async fn get_fails(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let got = rabbit.channel.basic_get(stage.name("nowhere").as_str().into(), BasicGetOptions::default()).await;
    got.expect_err("no such queue");
}

async fn settled(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let mut deliveries = Vec::new();
    for _ in 0..5 {
        rabbit.publish().await;
        deliveries.push(rabbit.get().await);
    }
    let nack = |requeue| BasicNackOptions { requeue, ..BasicNackOptions::default() };
    deliveries[0].ack(ACK).await.expect("settled");
    deliveries[1].nack(nack(false)).await.expect("settled");
    deliveries[2].nack(nack(true)).await.expect("settled");
    deliveries[3].reject(BasicRejectOptions { requeue: false }).await.expect("settled");
    deliveries[4].reject(BasicRejectOptions { requeue: true }).await.expect("settled");
}

async fn settled_twice(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    for delivery in rabbit.receive(1).await {
        assert!(delivery.ack(ACK).await.expect("settled"));
        assert!(!delivery.ack(ACK).await.expect("nothing to do"));
    }
}

async fn settled_by_tag(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let tags: Vec<_> = rabbit.receive(1).await.iter().map(|delivery| delivery.delivery_tag).collect();
    rabbit.channel.basic_ack(tags[0], ACK).await.expect("settled");
}

async fn settled_together(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let deliveries = rabbit.receive(4).await;
    deliveries[1].ack(BasicAckOptions { multiple: true }).await.expect("settled");
    deliveries[3].nack(BasicNackOptions { multiple: true, requeue: false }).await.expect("settled");
}

async fn settle_fails(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let deliveries = rabbit.receive(3).await;
    rabbit.channel.close(200, "done".into()).await.expect("closed");
    // An acker gives `Ok(false)` then; by tag it is an error.
    assert!(!deliveries[0].ack(ACK).await.expect("no error"));
    let [first, second, third] = [0, 1, 2].map(|number: usize| deliveries[number].delivery_tag);
    rabbit.channel.basic_ack(first, ACK).await.expect_err("closed");
    rabbit.channel.basic_nack(second, BasicNackOptions::default()).await.expect_err("closed");
    rabbit.channel.basic_reject(third, BasicRejectOptions::default()).await.expect_err("closed");
}

async fn redelivered(stage: Stage) {
    Rabbit::of(&stage).await.deliver_twice().await;
}

async fn quorum(stage: Stage) {
    let counts = [("x-queue-type", long_string("quorum"))];
    Rabbit::with_queue(&stage, stage.instrumentation(), counts).await.deliver_twice().await;
}

/// A stream does not go away by itself.
async fn stream(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let stream = stage.name("events");
    let arguments = table([("x-queue-type", long_string("stream"))]);
    let declared = rabbit.channel.queue_declare(stream.as_str().into(), QueueDeclareOptions::durable(), arguments);
    declared.await.expect("declared");
    for _ in 0..3 {
        rabbit.send(&stream, BasicProperties::default()).await;
    }
    let first = async |channel: &Channel| {
        channel.basic_qos(3, BasicQosOptions::default()).await.expect("a bound");
        let (options, arguments) = (BasicConsumeOptions::default(), table([("x-stream-offset", long_string("first"))]));
        let consumer = channel.basic_consume(stream.as_str().into(), "".into(), options, arguments);
        consumer.await.expect("a consumer").map(|delivery| delivery.expect("a delivery"))
    };
    let mut consumer = first(&rabbit.channel).await;
    next(&mut consumer).await.ack(ACK).await.expect("acknowledged");
    let _together = next(&mut consumer).await;
    next(&mut consumer).await.ack(BasicAckOptions { multiple: true }).await.expect("acknowledged");
    // The broker closes the connection of a consumer that refuses a message of a stream.
    let nacking = Rabbit::of(&stage).await;
    next(&mut first(&nacking.channel).await).await.nack(BasicNackOptions::default()).await.expect("refused");
    let rejecting = Rabbit::of(&stage).await;
    next(&mut first(&rejecting.channel).await).await.reject(BasicRejectOptions::default()).await.expect("refused");
    let deleted = rabbit.channel.queue_delete(stream.as_str().into(), QueueDeleteOptions::default()).await;
    deleted.expect("deleted");
}

async fn dropped(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    drop(rabbit.receive(1).await);
}

async fn got_and_dropped(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    rabbit.publish_with(Rabbit::timestamped()).await;
    drop(rabbit.get().await);
}

async fn batch_of_routing_keys(stage: Stage) {
    let rabbit = Rabbit::of(&stage).await;
    let exchange = exchange(&stage, &rabbit).await;
    for routing_key in ["order.paid", "order.sent"] {
        publish_by(&rabbit, &exchange, routing_key).await;
    }
    let deliveries: Vec<_> = rabbit.messages().await.take(2).collect().await;
    process_batch(&deliveries, || rabbit.settle_together(&deliveries)).await;
}

async fn context_read(stage: Stage) {
    let rabbit = Rabbit::connect(&stage, stage.reading()).await;
    let connector = stage.app("connector");
    let publish = |context: &str| rabbit.send(&rabbit.queue, Rabbit::headers([("ce_traceparent", context)]));
    connector.sends_otherwise(publish).await;
    rabbit.get().await.ack(ACK).await.expect("settled");
}

async fn captured(stage: Stage) {
    let builder = stage.builder().with_captured_headers(["x-*"]).with_captured_sizes(true);
    let rabbit = Rabbit::connect(&stage, builder.build()).await;
    for _ in 0..2 {
        rabbit.publish_with(Rabbit::headers([("x-tenant", "blue")])).await;
    }
    rabbit.get().await.ack(ACK).await.expect("settled");
    next(&mut rabbit.messages().await).await.ack(ACK).await.expect("settled");
}

async fn policy_auto(stage: Stage) {
    let auto = Correlation::Auto(AutoCorrelation::default());
    Rabbit::connect(&stage, stage.builder().with_correlation(auto).build()).await.deliver_twice().await;
}
