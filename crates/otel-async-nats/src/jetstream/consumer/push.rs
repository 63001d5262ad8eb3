//! Push consumers.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use async_nats::jetstream::consumer::{self, StreamError};

use crate::jetstream::{
    Message,
    consumer::{Consumer, messages},
    receive::ConsumerSource,
};

pub use async_nats::jetstream::consumer::push::*;

messages! {
    /// The messages of a push consumer.
    Messages of consumer::push::Messages, MessagesError
}

messages! {
    /// The messages of an ordered push consumer.
    Ordered of consumer::push::Ordered, OrderedError
}

impl Consumer<Config> {
    /// The messages. Each has a process span, `process {subject}`.
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn messages(&self) -> Result<Messages, StreamError> {
        Ok(Messages::new(self.inner.messages().await?, self.source()))
    }
}

impl Consumer<OrderedConfig> {
    /// The messages. Each has a process span, `process {subject}`.
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn messages(self) -> Result<Ordered, StreamError> {
        let source = self.source().clone();
        Ok(Ordered::new(self.inner.messages().await?, &source))
    }
}
