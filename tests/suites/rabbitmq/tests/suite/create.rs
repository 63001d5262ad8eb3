//! Messages that are stored now and sent later.

use std::collections::HashMap;

use lapin::{BasicProperties, options::BasicPublishOptions};
use opentelemetry::trace::TraceContextExt;
use otel_lapin::otel::Creator;

use crate::harness::{Rabbit, SCOPE, long, next, table};

#[tokio::test(flavor = "multi_thread")]
async fn a_created_message_keeps_its_context_and_its_publish_links_it() {
    let rabbit = Rabbit::confirming().await;
    let queue = rabbit.queue("orders").await;
    let mut stored = HashMap::new();
    {
        let order = rabbit.sdk.app_span("order");
        let _current = order.clone().attach();
        Creator::new(rabbit.sdk.instrumentation()).create("", &queue, &mut stored);
        order.span().end();
    }
    let traceparent = stored.remove("traceparent").unwrap();
    assert!(stored.is_empty(), "{stored:?}");

    let headers = table([("traceparent", long(&traceparent))]);
    let properties = BasicProperties::default().with_headers(headers.clone());
    rabbit
        .channel
        .basic_publish("".into(), queue.as_str().into(), BasicPublishOptions::default(), b"1", properties)
        .await
        .unwrap()
        .await
        .unwrap();
    let delivery = next(&mut rabbit.consume(&queue).await).await;
    assert_eq!(delivery.properties.headers(), &Some(headers));
    drop(delivery);
    let described = rabbit.describe(4);
    let start = format!(
        "\
order
  kind INTERNAL
  scope app
  root
  status unset
create {queue}
  kind PRODUCER
  {SCOPE}
  parent order
  status unset
  messaging.destination.name = {queue:?}
  messaging.operation.name = \"create\"
  messaging.operation.type = \"create\"
  messaging.system = \"rabbitmq\"
publish {queue}
  kind CLIENT
  {SCOPE}
  root
  link create {queue}
  status unset
"
    );
    assert!(described.starts_with(&start), "{described}");
    let process =
        format!("process {queue}\n  kind CONSUMER\n  {SCOPE}\n  parent create {queue}\n  link create {queue}\n");
    assert!(described.contains(&process), "{described}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_destination_is_recorded_as_by_the_publish() {
    let sdk = support::Sdk::new();
    let creator = Creator::new(sdk.instrumentation());
    for (exchange, routing_key) in [("shop", "orders.new"), ("shop", ""), ("", "")] {
        creator.create(exchange, routing_key, &mut HashMap::new());
    }
    let names: Vec<_> = sdk.spans().iter().map(|span| span.name.to_string()).collect();
    assert_eq!(names, ["create shop:orders.new", "create shop", "create amq.default"]);
}
