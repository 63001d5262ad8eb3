//! examples/demo

use std::future::Future;

use otel_messaging::{MessageExt, Outcome};

fn any_message<O: Outcome, T>(message: &impl MessageExt, handler: impl Future<Output = O>, send: impl FnOnce() -> T) {
    let _ = message.process(|| handler);
    let _ = message.republish(send);
}
