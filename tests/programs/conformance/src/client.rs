//! The calls of a client that the scenarios of several brokers need.

use std::{collections::HashMap, future::Future};

use futures::{StreamExt, stream::LocalBoxStream};
use otel_messaging::{Instrumentation, MessageExt};

use crate::stage::Stage;

/// A client that is connected, and a destination `orders` of its own.
pub(crate) trait Client: Sized + 'static {
    type Message<'a>: MessageExt;
    type Headers: Clone;

    async fn connect(stage: &Stage, instrumentation: Instrumentation) -> Self;

    /// The same with the defaults.
    async fn of(stage: &Stage) -> Self {
        Self::connect(stage, stage.instrumentation()).await
    }

    /// The name of the destination.
    fn orders(&self) -> &str;

    /// Makes another destination, where a destination has to be made.
    async fn make(&self, _name: &str) {}

    fn headers<'h>(entries: impl IntoIterator<Item = (&'h str, &'h str)>) -> Self::Headers;

    /// The headers that give a message the time of its send, where a broker does not add it.
    fn timestamped() -> Self::Headers {
        Self::headers([])
    }

    /// All headers of a received message.
    fn headers_of(message: &Self::Message<'_>) -> Self::Headers;

    /// Writes a creation context for a message to this destination.
    fn create(instrumentation: Instrumentation, to: &str, context: &mut HashMap<String, String>);

    /// The client's own call; the future waits until the message is sent.
    fn send(&self, to: &str, headers: Self::Headers) -> impl Future<Output = ()>;

    /// The messages of the destination, as far as they are sent from now on.
    async fn messages(&self) -> LocalBoxStream<'_, Self::Message<'_>>;

    /// Sends so many messages with these headers, and receives them.
    async fn receive_with(&self, count: usize, headers: Self::Headers) -> Vec<Self::Message<'_>> {
        let messages = self.messages().await;
        for _ in 0..count {
            self.send(self.orders(), headers.clone()).await;
        }
        messages.take(count).collect().await
    }

    /// Sends so many messages, and receives them.
    async fn receive(&self, count: usize) -> Vec<Self::Message<'_>> {
        self.receive_with(count, Self::headers([])).await
    }

    /// Acknowledges or commits, where the broker has either.
    async fn settle(&self, _message: &Self::Message<'_>) {}

    /// Settles all at once where the client can.
    async fn settle_together(&self, messages: &[Self::Message<'_>]) {
        for message in messages {
            self.settle(message).await;
        }
    }

    /// Settles where the broker would deliver the message again otherwise.
    async fn acknowledge(&self, _message: &Self::Message<'_>) {}

    /// Ends the span of a message in the shortest way.
    async fn end(&self, message: &Self::Message<'_>) {
        message.process(|| self.acknowledge(message)).await;
    }

    /// A send that fails.
    async fn fail(stage: &Stage, instrumentation: Instrumentation);
}
