//! The scenarios of several brokers.

pub(crate) mod correlation;
pub(crate) mod handling;
pub(crate) mod settling;
pub(crate) mod switches;

use futures::{Stream, StreamExt};
use otel_messaging::MessageExt;

use crate::{client::Client, stage::Stage};

/// A message is sent inside a span, and handled.
pub(crate) async fn send_and_process<C: Client>(stage: Stage) {
    let client = C::of(&stage).await;
    let mut messages = client.messages().await;
    stage.app("request").calls(|| client.send(client.orders(), C::headers([]))).await;
    let message = next(&mut messages).await;
    message.process(|| client.settle(&message)).await;
}

pub(crate) async fn next<S: Stream + Unpin>(stream: &mut S) -> S::Item {
    stream.next().await.expect("one more")
}
