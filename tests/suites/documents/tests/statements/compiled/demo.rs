//! examples/demo

use std::future::Future;

use otel_messaging::{MessageExt, Outcome};

fn any_message<F: Future<Output: Outcome>, T>(
    message: &impl MessageExt,
    handler: impl FnOnce() -> F,
    send: impl FnOnce() -> T,
) {
    let _ = message.process(handler);
    let _ = message.republish(send);
}
