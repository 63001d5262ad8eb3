//! Which context a message carries, and the parent and links of its spans.

use std::collections::HashMap;

use opentelemetry::trace::FutureExt;
use otel_messaging::{CarriedContext, Correlation, Instrumentation, InstrumentationBuilder, MessageExt};

use crate::{
    client::Client,
    scenario::{Performed, performed},
    scenarios::next,
    stage::Stage,
};

pub(crate) const fn all<C: Client>() -> &'static [Performed] {
    performed! {
        create::<C>, carried_replaced::<C>, forwarded::<C>, republished::<C>, policy_default::<C>, policy_link::<C>,
        policy_parent::<C>, untrusted::<C>
    }
}

/// A message with a creation context.
pub(crate) fn created<C: Client>(instrumentation: Instrumentation, to: &str) -> C::Headers {
    let mut context = HashMap::new();
    C::create(instrumentation, to, &mut context);
    C::headers(context.iter().map(|(key, value)| (key.as_str(), value.as_str())))
}

/// A message is made in one place, and sent by a client in another.
async fn outbox<C: Client>(stage: Stage, instrumentation: Instrumentation) {
    let client = C::connect(&stage, instrumentation).await;
    let mut messages = client.messages().await;
    let headers = stage.app("request").calls(|| created::<C>(stage.instrumentation(), client.orders()));
    client.send(client.orders(), headers).await;
    client.end(&next(&mut messages).await).await;
}

async fn create<C: Client>(stage: Stage) {
    let instrumentation = stage.instrumentation();
    outbox::<C>(stage, instrumentation).await;
}

async fn carried_replaced<C: Client>(stage: Stage) {
    let instrumentation = stage.builder().with_carried_context(CarriedContext::Replace).build();
    outbox::<C>(stage, instrumentation).await;
}

async fn forwarded<C: Client>(stage: Stage) {
    let client = C::of(&stage).await;
    let onwards = stage.name("shipping");
    client.make(&onwards).await;
    for message in client.receive(1).await {
        message.process(|| client.send(&onwards, C::headers_of(&message))).await;
        client.acknowledge(&message).await;
    }
}

async fn republished<C: Client>(stage: Stage) {
    let client = C::of(&stage).await;
    let dead = stage.name("dead");
    client.make(&dead).await;
    for message in client.receive(1).await {
        message.process(|| async { Err::<(), _>("declined") }).await.expect_err("declined");
        message.republish(|| client.send(&dead, C::headers_of(&message))).await;
        client.acknowledge(&message).await;
    }
}

/// One message is delivered inside a span, and one is not.
async fn policy<C: Client>(stage: Stage, configure: impl FnOnce(InstrumentationBuilder) -> InstrumentationBuilder) {
    let client = C::connect(&stage, configure(stage.builder()).build()).await;
    let mut messages = client.messages().await;
    for _ in 0..2 {
        client.send(client.orders(), C::headers([])).await;
    }
    let outer = stage.app("loop");
    let inside = next(&mut messages).with_context(outer.0.clone()).await;
    inside.process(|| client.acknowledge(&inside)).await;
    let outside = next(&mut messages).await;
    outside.process(|| client.acknowledge(&outside)).await;
}

async fn policy_default<C: Client>(stage: Stage) {
    policy::<C>(stage, |builder| builder).await;
}

async fn policy_link<C: Client>(stage: Stage) {
    policy::<C>(stage, |builder| builder.with_correlation(Correlation::Link)).await;
}

async fn policy_parent<C: Client>(stage: Stage) {
    policy::<C>(stage, |builder| builder.with_correlation(Correlation::Parent)).await;
}

async fn untrusted<C: Client>(stage: Stage) {
    policy::<C>(stage, |builder| builder.with_correlation(Correlation::Parent).with_untrusted_source(true)).await;
}

/// A function reads the context in a header of a connector. For clients whose messages can only be received from a stream.
pub(crate) async fn context_read<C: Client>(stage: Stage) {
    let client = C::connect(&stage, stage.reading()).await;
    let mut messages = client.messages().await;
    let connector = stage.app("connector");
    let send = |context: &str| client.send(client.orders(), C::headers([("ce_traceparent", context)]));
    connector.sends_otherwise(send).await;
    next(&mut messages).await.process(|| async {}).await;
}
