//! crates/otel-messaging

use std::{
    future::{Future, Ready},
    io,
};

use futures::Stream;
use otel_messaging::{MessageExt, MessageStreamExt, Outcome};
use tracing::{Instrument, info_span};

async fn one<O: Outcome>(message: &impl MessageExt, handler: impl Future<Output = O>) {
    let _ = message.process(|| handler).await;
}

async fn each<M: MessageExt, F: Future<Output = ()>>(stream: impl Stream<Item = M>, handler: impl FnMut(M) -> F) {
    let _ = stream.process_each(8, handler).await;
}

fn scope() {
    let _ = env!("CARGO_PKG_NAME");
    let _ = env!("CARGO_PKG_VERSION");
}

/// It compiles: the span is made before the message's is current, and has another parent.
fn wrong_at_run_time(message: &impl MessageExt, handle: fn() -> Ready<io::Result<()>>) {
    let _ = message.process(|| handle().instrument(info_span!("handle")));
}
