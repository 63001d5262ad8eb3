//! crates/otel-messaging

use std::future::Future;

use futures::Stream;
use otel_messaging::{MessageExt, MessageStreamExt, Outcome};

async fn one<F: Future<Output: Outcome>>(message: &impl MessageExt, handler: impl FnOnce() -> F) {
    use otel_messaging::prelude::*;
    use otel_rdkafka::otel::prelude::*;
    let _ = message.process(handler).await;
}

async fn each<M: MessageExt, F: Future<Output = ()>>(stream: impl Stream<Item = M>, handler: impl FnMut(M) -> F) {
    let _ = stream.process_each(8, handler).await;
}

fn scope() {
    let _ = env!("CARGO_PKG_NAME");
    let _ = env!("CARGO_PKG_VERSION");
}
