//! High-level consumers with a stream interface: `rdkafka::consumer::stream_consumer`.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use futures_core::Stream;
use futures_util::StreamExt;
use otel_messaging::adapter::{OperationStart, SourceId, opaque_debug, poll_started, wrapper};
use rdkafka::{
    consumer::{Consumer as _, stream_consumer as raw},
    error::{KafkaError, KafkaResult},
    util::{AsyncRuntime, DefaultRuntime},
};

use super::{ConsumerContext, DefaultConsumerContext, forward::consumer};
use crate::{
    cast::{self, transparent},
    context::{Traced, from_config},
    message::BorrowedMessage,
    native,
    receive::deliver_result,
};

/// A stream of messages; see [`StreamConsumer::stream`].
///
/// A message is delivered when the stream yields it. An error has a `poll` span, which starts with the wait for the item. A
/// message has one with [`with_receive_spans`](crate::otel::InstrumentationBuilder::with_receive_spans). The end of a partition has none.
pub struct MessageStream<'a, C: ConsumerContext> {
    raw: raw::MessageStream<'a, Traced<C>>,
    context: &'a Traced<C>,
    source: SourceId,
    /// The start of the wait for the next item.
    since: Option<SystemTime>,
}

impl<'a, C: ConsumerContext> MessageStream<'a, C> {
    fn new(raw: raw::MessageStream<'a, Traced<C>>, context: &'a Traced<C>, source: SourceId) -> Self {
        Self { raw, context, source, since: None }
    }
}

wrapper! {
    ['a, C: ConsumerContext] MessageStream<'a, C> => raw::MessageStream<'a, Traced<C>>, raw:
    /// The raw stream, whose messages have no spans.
    get_ref
    /// The raw stream.
    into_inner
}

opaque_debug! { [C: ConsumerContext] MessageStream<'_, C>, "MessageStream", |stream| context: stream.context }

impl<'a, C: ConsumerContext> Stream for MessageStream<'a, C> {
    type Item = KafkaResult<BorrowedMessage<'a>>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        poll_started(self.source);
        let telemetry = self.context.telemetry();
        // A poll does not block, so the start of the operation is the time of the delivery too.
        let start = telemetry.start_operation();
        let since = self.since.take().or(start.as_ref().map(OperationStart::at));
        let Poll::Ready(item) = self.raw.poll_next_unpin(task) else {
            self.since = since;
            return Poll::Pending;
        };
        // SAFETY: the raw stream borrows the consumer with this context, or a queue that keeps it alive.
        #[allow(unsafe_code, reason = "rdkafka's queue does not lend its consumer")]
        let cluster_id = || unsafe { native::cluster_id_of_ptr(telemetry.client_ptr()) };
        let source = self.source;
        Poll::Ready(item.map(|result| deliver_result(telemetry, source, (start, since), cluster_id, result)))
    }
}

transparent! {
    /// A high-level consumer with a stream interface; see `rdkafka::consumer::StreamConsumer`.
    #[must_use = "Consumer polling thread will stop immediately if unused"]
    pub struct StreamConsumer<C: ConsumerContext = DefaultConsumerContext, R = DefaultRuntime>(
        raw::StreamConsumer<Traced<C>, R>
    );
}

impl<C: ConsumerContext + 'static, R> StreamConsumer<C, R> {
    /// A stream of the messages; see `rdkafka::consumer::StreamConsumer::stream`.
    pub fn stream(&self) -> MessageStream<'_, C> {
        MessageStream::new(self.0.stream(), self.0.client().context(), self.telemetry().source)
    }

    /// Receives the next message; see `rdkafka::consumer::StreamConsumer::recv`.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it completes, no message is lost and there is no span.
    pub async fn recv(&self) -> Result<BorrowedMessage<'_>, KafkaError> {
        // rdkafka's streams do not end.
        self.stream().next().await.unwrap_or(Err(KafkaError::Canceled))
    }

    /// Splits messages of a partition into their own stream; see
    /// `rdkafka::consumer::StreamConsumer::split_partition_queue`.
    pub fn split_partition_queue(self: &Arc<Self>, topic: &str, partition: i32) -> Option<StreamPartitionQueue<C, R>> {
        let context = self.0.client().context().clone();
        let consumer = cast::shared_raw(self.clone());
        let source = SourceId::new();
        consumer.split_partition_queue(topic, partition).map(|raw| StreamPartitionQueue { raw, context, source })
    }
}

consumer! { [C: ConsumerContext, R] C, StreamConsumer: StreamConsumer<C, R> => raw::StreamConsumer<Traced<C>, R> }
from_config! {
    [R: AsyncRuntime] StreamConsumer<DefaultConsumerContext, R>, DefaultConsumerContext;
    [C: ConsumerContext + 'static, R: AsyncRuntime] StreamConsumer<C, R> => raw::StreamConsumer<Traced<C>, R>
}

/// A message queue for a single partition; see `rdkafka::consumer::stream_consumer::StreamPartitionQueue`.
pub struct StreamPartitionQueue<C: ConsumerContext, R = DefaultRuntime> {
    raw: raw::StreamPartitionQueue<Traced<C>, R>,
    context: Arc<Traced<C>>,
    source: SourceId,
}

impl<C: ConsumerContext, R> StreamPartitionQueue<C, R> {
    /// A stream of the partition's messages.
    pub fn stream(&self) -> MessageStream<'_, C> {
        MessageStream::new(self.raw.stream(), &self.context, self.source)
    }

    /// Receives the next message of the partition; see [`StreamConsumer::recv`].
    ///
    /// # Errors
    ///
    /// rdkafka's.
    ///
    /// # Cancel safety
    ///
    /// As [`StreamConsumer::recv`].
    pub async fn recv(&self) -> Result<BorrowedMessage<'_>, KafkaError> {
        // rdkafka's streams do not end.
        self.stream().next().await.unwrap_or(Err(KafkaError::Canceled))
    }
}

wrapper! {
    [C: ConsumerContext, R] StreamPartitionQueue<C, R> => raw::StreamPartitionQueue<Traced<C>, R>, raw:
    /// The raw queue, whose messages have no spans.
    get_ref
    /// The raw queue.
    into_inner
}

opaque_debug! {
    [C: ConsumerContext, R] StreamPartitionQueue<C, R>, "StreamPartitionQueue", |queue| context: queue.context
}
