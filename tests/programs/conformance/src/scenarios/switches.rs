//! Settings of the instrumentation that concern sends.

use crate::{
    client::Client,
    scenario::{Performed, performed},
    stage::Stage,
};

pub(crate) const fn all<C: Client>() -> &'static [Performed] {
    performed! {
        without_logger::<C>, destination_limit::<C>, filtered::<C>
    }
}

async fn without_logger<C: Client>(stage: Stage) {
    C::fail(&stage, stage.without_logger().build()).await;
}

async fn destination_limit<C: Client>(stage: Stage) {
    let client = C::connect(&stage, stage.builder().with_destination_limit(1).build()).await;
    let second = stage.name("shipping");
    client.make(&second).await;
    client.send(client.orders(), C::headers([])).await;
    client.send(&second, C::headers([])).await;
}

async fn filtered<C: Client>(stage: Stage) {
    let quiet = stage.name("quiet");
    let off = quiet.clone();
    let wanted = move |operation: &otel_messaging::Operation| operation.destination() != Some(&*off);
    let client = C::connect(&stage, stage.builder().with_filter(wanted).build()).await;
    client.make(&quiet).await;
    client.send(&quiet, C::headers([])).await;
    client.send(client.orders(), C::headers([])).await;
}
