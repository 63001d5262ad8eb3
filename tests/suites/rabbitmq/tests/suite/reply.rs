//! A message that is published where the one being processed wants its answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use futures::StreamExt;
use lapin::{
    BasicProperties,
    options::{BasicConsumeOptions, BasicPublishOptions},
    types::FieldTable,
};
use opentelemetry::trace::FutureExt;
use opentelemetry_sdk::trace::SpanData;
use otel_lapin::{
    message::DeliveryResult,
    otel::{Creator, MessageExt, MessageStreamExt, process_batch, sequential},
};
use support::{Sdk, eventually};
use tokio::sync::oneshot;

use crate::{
    harness::{Rabbit, SCOPE, at_peer, named, next},
    sources::{ALL, take},
};

/// A service with requests in its queue, that asks for its answers in another one.
struct Service {
    rabbit: Arc<Rabbit>,
    requests: String,
    replies: String,
}

impl Service {
    async fn new() -> Self {
        Self::with(Rabbit::new().await).await
    }

    async fn with(rabbit: Rabbit) -> Self {
        let (requests, replies) = (rabbit.queue("requests").await, rabbit.queue("replies").await);
        Self { rabbit: Arc::new(rabbit), requests, replies }
    }

    async fn request(&self, reply_to: &str) {
        let properties = BasicProperties::default().with_reply_to(reply_to.into());
        self.rabbit.publish_raw(&self.requests, b"1", properties).await;
    }

    /// Publishes to the queue that answers go to.
    async fn answer(&self) {
        self.rabbit.publish(&self.replies, b"2", BasicProperties::default()).await;
    }

    async fn publish_to_exchange(&self, exchange: &str) {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let channel = &self.rabbit.channel;
        channel.basic_publish(exchange.into(), self.replies.as_str().into(), options, b"2", properties).await.unwrap();
    }

    /// What publishes are called, with the reply queue as `REPLIES`.
    fn published(&self, spans: &[SpanData]) -> Vec<String> {
        let names = spans.iter().map(|span| span.name.replace(&self.replies, "REPLIES"));
        names.filter(|name| name.starts_with("publish")).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_the_message_being_processed_goes_to_a_temporary_destination() {
    let peer = at_peer();
    let service = Service::new().await;
    let Service { rabbit, requests, replies } = &service;
    service.request(replies).await;
    let request = next(&mut rabbit.consume(requests).await).await;
    let exchange = rabbit.exchange("shop", requests).await;
    request
        .process(|| async {
            service.answer().await;
            // Its routing key is no queue's name.
            service.publish_to_exchange(&exchange).await;
        })
        .await;
    drop(request);
    let publish = |name: &str, destination: &str, temporary: &str| {
        format!(
            "\
{name}
  kind PRODUCER
  {SCOPE}
  parent process {requests}
  status unset
  messaging.destination.name = {destination:?}
{temporary}  messaging.operation.name = \"publish\"
  messaging.operation.type = \"send\"
  messaging.rabbitmq.destination.routing_key = {replies:?}
  messaging.system = \"rabbitmq\"
{peer}  server.address = HOST
  server.port = PORT
"
        )
    };
    let answer = publish("publish", replies, "  messaging.destination.temporary = true\n");
    let other = format!("{exchange}:{replies}");
    let other = publish(&format!("publish {other}"), &other, "");
    assert_eq!(
        rabbit.describe(3),
        format!(
            "\
process {requests}
  kind CONSUMER
  {SCOPE}
  root
  status unset
  messaging.destination.name = {requests:?}
  messaging.operation.name = \"process\"
  messaging.operation.type = \"process\"
  messaging.rabbitmq.destination.routing_key = {requests:?}
  messaging.rabbitmq.message.delivery_tag = 1
  messaging.system = \"rabbitmq\"
  server.address = HOST
  server.port = PORT
{answer}{other}"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_known_in_whatever_way_its_request_is_processed() {
    const WAYS: [&str; 8] =
        ["process", "in_scope", "process_each", "process_batch", "sequential", "delegate", "otel_context", "republish"];
    for way in WAYS {
        let service = Arc::new(Service::new().await);
        let Service { rabbit, requests, replies } = &*service;
        service.request(replies).await;
        let mut consumer = rabbit.consume(requests).await;
        match way {
            "process" => next(&mut consumer).await.process(|| service.answer()).await,
            "in_scope" => {
                let request = next(&mut consumer).await;
                let mut answer = None;
                request.in_scope(|| answer = Some(publishing(&service)));
                answer.unwrap().await;
            }
            "process_each" => {
                consumer.take(1).process_each(1, async |_request| service.answer().await).await.unwrap();
            }
            "process_batch" => {
                service.request("elsewhere").await;
                let requests = [next(&mut consumer).await, next(&mut consumer).await];
                process_batch(&requests, || service.answer()).await;
            }
            "sequential" => {
                sequential(async {
                    let _request = next(&mut consumer).await;
                    service.answer().await;
                })
                .await;
            }
            "delegate" => {
                let (done, handled) = oneshot::channel();
                let (done, service) = (Mutex::new(Some(done)), service.clone());
                consumer.set_delegate(move |delivery: DeliveryResult| {
                    let (done, service) = (done.lock().unwrap().take(), service.clone());
                    async move {
                        // The last that it is called for is the connection's end.
                        let (Some(done), Ok(Some(_request))) = (done, delivery) else { return };
                        service.answer().await;
                        done.send(()).unwrap();
                    }
                });
                handled.await.unwrap();
            }
            "otel_context" => {
                let context = next(&mut consumer).await.otel_context();
                let service = service.clone();
                tokio::spawn(async move { service.answer().await }.with_context(context)).await.unwrap();
            }
            "republish" => next(&mut consumer).await.republish(|| publishing(&service)).await,
            _ => unreachable!("{way}"),
        }
        // It ends there.
        service.answer().await;
        let mut spans = Vec::new();
        eventually("both are told of", || {
            spans = rabbit.sdk.spans();
            service.published(&spans).len() == 2
        });
        assert_eq!(service.published(&spans), ["publish", "publish REPLIES"], "{way}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_known_wherever_its_request_came_from() {
    for source in ALL {
        let service = Service::new().await;
        let Service { rabbit, requests, replies } = &service;
        service.request(replies).await;
        let mut messages = source.open(rabbit, requests).await.messages;
        take(&mut messages).await.process(|| service.answer()).await;
        assert_eq!(service.published(&rabbit.sdk.spans()), ["publish"], "{source:?}");
    }
}

/// Publishes an answer in this call; what is left is to wait.
fn publishing(service: &Service) -> impl Future<Output = ()> + use<'_> {
    let Service { rabbit, replies, .. } = service;
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let publish = rabbit.channel.basic_publish("".into(), replies.as_str().into(), options, b"2", properties);
    async { _ = publish.await.unwrap().await.unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_take_no_place_among_the_destinations_that_are_shown() {
    let sdk = Sdk::new();
    let instrumentation = sdk.all_signals_builder().with_destination_limit(2).build();
    let service = Service::with(Rabbit::with(sdk, instrumentation).await).await;
    let Service { rabbit, requests, replies } = &service;
    let mut consumer = rabbit.consume(requests).await;
    for client in 0..5 {
        let reply_to = format!("{replies}.{client}");
        service.request(&reply_to).await;
        let request = next(&mut consumer).await;
        request.process(|| rabbit.publish(&reply_to, b"2", BasicProperties::default())).await;
    }
    // The other one that is shown is that of the requests.
    service.answer().await;
    let names = service.published(&rabbit.sdk.wait_for(11));
    assert_eq!(names, ["publish", "publish", "publish", "publish", "publish", "publish REPLIES"]);
    assert_eq!(
        rabbit.measured("messaging.client.sent.messages"),
        [
            format!("{{messaging.destination.name = {replies:?}, messaging.operation.name = \"publish\"}} 1"),
            "{messaging.operation.name = \"publish\"} 5".to_owned(),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_named_by_the_user_s_template_where_there_is_one() {
    let sdk = Sdk::new();
    let template = |name: &str| name.starts_with("replies").then(|| "replies.{client}".to_owned());
    let instrumentation = sdk.instrumentation_builder().with_destination_template(template).build();
    let service = Service::with(Rabbit::with(sdk, instrumentation).await).await;
    service.request(&service.replies).await;
    let request = next(&mut service.rabbit.consume(&service.requests).await).await;
    request.process(|| service.answer()).await;
    assert_eq!(service.published(&service.rabbit.sdk.spans()), ["publish replies.{client}"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_stored_first_is_made_for_a_temporary_destination() {
    let service = Service::new().await;
    let Service { rabbit, requests, replies } = &service;
    service.request(replies).await;
    let request = next(&mut rabbit.consume(requests).await).await;
    let creator = Creator::new(rabbit.sdk.instrumentation());
    let create = |exchange| creator.create(exchange, replies, &mut HashMap::new());
    request.in_scope(|| ["", "shop"].into_iter().for_each(create));
    create("");
    let spans = rabbit.sdk.spans();
    let names: Vec<_> = spans.iter().map(|span| &*span.name).filter(|name| name.starts_with("create")).collect();
    assert_eq!(names, ["create", &format!("create shop:{replies}"), &format!("create {replies}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_s_own_reply_addresses_are_temporary_whoever_answers() {
    let service = Service::new().await;
    let Service { rabbit, requests, .. } = &service;
    let no_ack = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let direct = "amq.rabbitmq.reply-to";
    let mut replies = rabbit.raw.basic_consume(direct.into(), "".into(), no_ack, FieldTable::default()).await.unwrap();
    service.request(direct).await;
    let request = next(&mut rabbit.consume(requests).await).await;
    let reply_to = request.properties.reply_to().clone().unwrap();
    assert_ne!(reply_to.as_str(), direct);
    request.process(|| rabbit.publish(reply_to.as_str(), b"2", BasicProperties::default())).await;
    assert_eq!(replies.next().await.unwrap().unwrap().data, b"2");
    rabbit.publish(reply_to.as_str(), b"3", BasicProperties::default()).await;
    assert_eq!(replies.next().await.unwrap().unwrap().data, b"3");
    let spans = rabbit.sdk.spans();
    let answers = named(&spans, "publish");
    assert_eq!(answers.len(), 2);
    for answer in answers {
        for (attribute, value) in
            [("name", reply_to.as_str().to_owned().into()), ("temporary", true.into()), ("anonymous", true.into())]
        {
            assert_eq!(support::attribute(answer, &format!("messaging.destination.{attribute}")), Some(&value));
        }
    }
}
