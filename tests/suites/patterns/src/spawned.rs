//! Kafka: each message in a task of its own.

use std::future::Future;

use rdkafka::{
    consumer::{ConsumerContext, StreamConsumer},
    error::KafkaResult,
    message::OwnedMessage,
};
use tokio::task::JoinHandle;

/// Gives so many messages to tasks that outlive the consumer's borrow, and does not wait for them.
///
/// # Errors
///
/// Those of the consumer.
pub async fn spawn_each<C, F>(
    consumer: &StreamConsumer<C>,
    messages: usize,
    handler: impl Fn(OwnedMessage) -> F,
) -> KafkaResult<Vec<JoinHandle<F::Output>>>
where
    C: ConsumerContext + 'static,
    F: Future<Output: Send> + Send + 'static,
{
    let mut tasks = Vec::new();
    for _ in 0..messages {
        let message = consumer.recv().await?;
        tasks.push(tokio::spawn(handler(message.detach())));
    }
    Ok(tasks)
}
