//! Messages that are settled, one alone and several together; and all operations with signals turned off.

use otel_messaging::{Instrumentation, MessageExt, process_batch};

use crate::{
    client::Client,
    scenario::{Performed, performed},
    stage::Stage,
};

/// For clients whose messages can be settled.
pub(crate) const fn all<C: Client>() -> &'static [Performed] {
    performed! {
        batch::<C>, batch_beyond_links::<C>, sampled_out::<C>, without_spans::<C>, without_metrics::<C>
    }
}

async fn batch<C: Client>(stage: Stage) {
    batch_of_three::<C>(&stage, stage.instrumentation()).await;
}

async fn batch_beyond_links<C: Client>(stage: Stage) {
    batch_of_three::<C>(&stage, stage.builder().with_max_links(2).build()).await;
}

async fn batch_of_three<C: Client>(stage: &Stage, instrumentation: Instrumentation) {
    let client = C::connect(stage, instrumentation).await;
    let messages = client.receive(3).await;
    process_batch(&messages, || client.settle_together(&messages)).await;
}

pub(crate) async fn settled_after_the_end<C: Client>(stage: Stage) {
    let client = C::of(&stage).await;
    for message in client.receive(1).await {
        message.process(|| async {}).await;
        client.settle(&message).await;
    }
}

/// A message is sent, received and settled, and another send fails.
pub(crate) async fn there_and_back<C: Client>(stage: &Stage, instrumentation: Instrumentation) {
    let client = C::connect(stage, instrumentation.clone()).await;
    for message in client.receive_with(1, C::timestamped()).await {
        message.process(|| client.settle(&message)).await;
    }
    C::fail(stage, instrumentation).await;
}

async fn sampled_out<C: Client>(stage: Stage) {
    there_and_back::<C>(&stage, stage.sampled_out().build()).await;
}

async fn without_spans<C: Client>(stage: Stage) {
    there_and_back::<C>(&stage, stage.builder().with_spans(false).build()).await;
}

async fn without_metrics<C: Client>(stage: Stage) {
    there_and_back::<C>(&stage, stage.builder().with_metrics(false).build()).await;
}
