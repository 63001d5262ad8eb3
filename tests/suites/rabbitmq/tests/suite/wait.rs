//! A delegate's message does not wait for its handler.

use std::time::Duration;

use lapin::options::BasicAckOptions;
use otel_lapin::message::DeliveryResult;
use otel_messaging::semconv::extension;
use support::{attribute, eventually};
use tokio::time::sleep;

use crate::{
    harness::{Rabbit, named},
    sources::filled,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_delegates_messages_have_no_wait() {
    const MESSAGES: usize = 3;
    let rabbit = Rabbit::with_all_signals().await;
    let queue = filled(&rabbit, MESSAGES).await;
    let consumer = rabbit.consume(&queue).await;
    consumer.set_delegate(async |message: DeliveryResult| {
        if let Ok(Some(message)) = message {
            sleep(Duration::from_millis(20)).await;
            message.ack(BasicAckOptions::default()).await.unwrap();
        }
    });
    let handled = || named(&rabbit.sdk.spans(), &format!("process {queue}")).len() == MESSAGES;
    eventually("all messages are handled", handled);
    let spans = rabbit.sdk.spans();
    let process = named(&spans, &format!("process {queue}"));
    assert!(process.iter().all(|span| attribute(span, extension::WAIT_TIME).is_none()), "{}", rabbit.described());
    assert_eq!(rabbit.sdk.histogram(extension::WAIT_TIME), (0, 0.0));
}
