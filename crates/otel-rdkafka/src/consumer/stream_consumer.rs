//! High-level consumers with a stream interface: `rdkafka::consumer::stream_consumer`.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use futures_core::Stream;
use futures_util::StreamExt;
use otel_messaging::{
    Instrumentation,
    adapter::{OperationStart, SourceId, poll_started},
};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    config::{FromClientConfig, FromClientConfigAndContext},
    consumer::{Consumer as _, stream_consumer as raw},
    error::{KafkaError, KafkaResult},
    groups::GroupList,
    metadata::Metadata,
    util::{AsyncRuntime, DefaultRuntime, Timeout},
};

use super::{
    CommitMode, ConsumerContext, ConsumerGroupMetadata, DefaultConsumerContext, RebalanceProtocol, forward::consumer,
};
use crate::{
    cast::{self, transparent},
    context::Traced,
    message::BorrowedMessage,
    native,
    receive::deliver_result,
    telemetry::ClientTelemetry,
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

    /// The raw stream, whose messages have no spans.
    pub fn get_ref(&self) -> &raw::MessageStream<'a, Traced<C>> {
        &self.raw
    }

    /// The raw stream.
    pub fn into_inner(self) -> raw::MessageStream<'a, Traced<C>> {
        self.raw
    }
}

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

impl<C: ConsumerContext> fmt::Debug for MessageStream<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageStream").field("context", &self.context).finish_non_exhaustive()
    }
}

transparent! {
    /// A high-level consumer with a stream interface; see `rdkafka::consumer::StreamConsumer`.
    #[must_use = "Consumer polling thread will stop immediately if unused"]
    pub struct StreamConsumer<C: ConsumerContext = DefaultConsumerContext, R = DefaultRuntime>(raw::StreamConsumer<Traced<C>, R>);
}

impl<C: ConsumerContext, R> StreamConsumer<C, R> {
    /// Uses this instrumentation from now on instead of the default one.
    pub fn with_instrumentation(self, instrumentation: Instrumentation) -> Self {
        self.telemetry().core.instrument(instrumentation);
        self
    }

    /// The raw consumer. Messages received through it have no process spans.
    pub fn get_ref(&self) -> &raw::StreamConsumer<Traced<C>, R> {
        &self.0
    }

    /// The raw consumer.
    pub fn into_inner(self) -> raw::StreamConsumer<Traced<C>, R> {
        self.0
    }

    pub(crate) fn telemetry(&self) -> &ClientTelemetry {
        self.0.client().context().telemetry()
    }
}

impl<C, R> StreamConsumer<C, R>
where
    C: ConsumerContext + 'static,
{
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

consumer! { [C, R] C, StreamConsumer<C, R>, [C: ConsumerContext] }

impl<R: AsyncRuntime> FromClientConfig for StreamConsumer<DefaultConsumerContext, R> {
    fn from_config(config: &ClientConfig) -> KafkaResult<Self> {
        Self::from_config_and_context(config, DefaultConsumerContext)
    }
}

impl<C, R> FromClientConfigAndContext<C> for StreamConsumer<C, R>
where
    C: ConsumerContext + 'static,
    R: AsyncRuntime,
{
    fn from_config_and_context(config: &ClientConfig, context: C) -> KafkaResult<Self> {
        raw::StreamConsumer::from_config_and_context(config, Traced::new(context)).map(Self::from)
    }
}

/// A raw consumer over a [`Traced`] context.
impl<C: ConsumerContext, R> From<raw::StreamConsumer<Traced<C>, R>> for StreamConsumer<C, R> {
    fn from(raw: raw::StreamConsumer<Traced<C>, R>) -> Self {
        raw.client().context().telemetry().attach_client(raw.client());
        Self(raw)
    }
}

impl<C: ConsumerContext, R> fmt::Debug for StreamConsumer<C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamConsumer").field("context", self.0.client().context()).finish_non_exhaustive()
    }
}

/// A message queue for a single partition; see `rdkafka::consumer::stream_consumer::StreamPartitionQueue`.
pub struct StreamPartitionQueue<C: ConsumerContext, R = DefaultRuntime> {
    raw: raw::StreamPartitionQueue<Traced<C>, R>,
    context: Arc<Traced<C>>,
    source: SourceId,
}

impl<C: ConsumerContext, R> StreamPartitionQueue<C, R> {
    /// The raw queue, whose messages have no spans.
    pub fn get_ref(&self) -> &raw::StreamPartitionQueue<Traced<C>, R> {
        &self.raw
    }

    /// The raw queue.
    pub fn into_inner(self) -> raw::StreamPartitionQueue<Traced<C>, R> {
        self.raw
    }

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

impl<C: ConsumerContext, R> fmt::Debug for StreamPartitionQueue<C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamPartitionQueue").field("context", &self.context).finish_non_exhaustive()
    }
}
