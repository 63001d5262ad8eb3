//! Messages that are made now and sent later.

use std::collections::HashMap;

use async_nats::HeaderMap;
use opentelemetry::{KeyValue, baggage::BaggageExt, trace::SpanKind};
use otel_async_nats::otel::{Creator, HeaderInjector};
use support::{Sdk, describe};

use crate::{connect, end, header, next, traceparent, unique, within};

#[tokio::test]
async fn what_is_created_is_kept_and_linked_when_it_is_sent() {
    let sdk = Sdk::new();
    let creator = Creator::new(sdk.instrumentation());
    let subject = unique("orders");
    let request = sdk.app_span("request");
    let mut stored: HashMap<String, String> = HashMap::new();
    let mut stored_as_headers = HeaderMap::new();
    within(&request.with_baggage([KeyValue::new("tenant.id", "7")]), || {
        creator.create(&subject, &mut stored);
        creator.clone().create(&subject, &mut HeaderInjector::new(&mut stored_as_headers));
    });
    end(&request);
    let spans = sdk.spans();
    assert_eq!(
        describe(&spans[..2]),
        format!(
            "\
request
  kind INTERNAL
  scope app
  root
  status unset
create {subject}
  kind PRODUCER
  scope otel-async-nats https://opentelemetry.io/schemas/1.44.0
  parent request
  status unset
  messaging.destination.name = \"{subject}\"
  messaging.operation.name = \"create\"
  messaging.operation.type = \"create\"
  messaging.system = \"nats\"
"
        )
    );
    let created = &spans[1].span_context;
    assert_eq!(stored["traceparent"], traceparent(created));
    assert_eq!(stored["baggage"], "tenant.id=7");
    assert_eq!(header(&Some(stored_as_headers), "traceparent").unwrap(), traceparent(&spans[2].span_context));

    // Later, in another process.
    let sdk = Sdk::new();
    let client = connect(&sdk).await;
    let mut subscriber = client.subscribe(subject.clone()).await.unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in &stored {
        headers.insert(name.as_str(), value.as_str());
    }
    client.publish_with_headers(subject.clone(), headers.clone(), "1".into()).await.unwrap();
    let message = next(&mut subscriber).await;
    assert_eq!(message.headers, Some(headers), "as they were stored");
    drop(message);
    let spans = sdk.spans();
    let [publish, process] = &spans[..] else { panic!("{}", describe(&spans)) };
    assert_eq!(publish.span_kind, SpanKind::Client, "the message carries the context of the creation");
    assert_eq!(publish.links.iter().map(|link| link.span_context.span_id()).collect::<Vec<_>>(), [created.span_id()]);
    assert_eq!((process.parent_span_id, process.span_context.trace_id()), (created.span_id(), created.trace_id()));
}
