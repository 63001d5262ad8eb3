//! Low-level consumers: `rdkafka::consumer::base_consumer`.

use std::{fmt, sync::Arc};

use otel_messaging::{Instrumentation, adapter::SourceId};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    config::{FromClientConfig, FromClientConfigAndContext},
    consumer::{Consumer as _, base_consumer as raw},
    error::KafkaResult,
    groups::GroupList,
    metadata::Metadata,
    util::Timeout,
};

use super::{
    CommitMode, ConsumerContext, ConsumerGroupMetadata, DefaultConsumerContext, RebalanceProtocol, forward::consumer,
};
use crate::{
    cast::{self, transparent},
    context::Traced,
    message::BorrowedMessage,
    native,
    receive::poll_once,
    telemetry::ClientTelemetry,
};

transparent! {
    /// A low-level consumer that requires manual polling; see `rdkafka::consumer::BaseConsumer`.
    pub struct BaseConsumer<C: ConsumerContext = DefaultConsumerContext>(raw::BaseConsumer<Traced<C>>);
}

impl<C: ConsumerContext> BaseConsumer<C> {
    /// Uses this instrumentation from now on instead of the default one.
    #[must_use]
    pub fn with_instrumentation(self, instrumentation: Instrumentation) -> Self {
        self.telemetry().core.instrument(instrumentation);
        self
    }

    /// The raw consumer. Messages received through it have no process spans.
    pub fn get_ref(&self) -> &raw::BaseConsumer<Traced<C>> {
        &self.0
    }

    /// The raw consumer.
    pub fn into_inner(self) -> raw::BaseConsumer<Traced<C>> {
        self.0
    }

    pub(crate) fn telemetry(&self) -> &ClientTelemetry {
        self.0.context().telemetry()
    }

    /// Polls the consumer for a message; see `rdkafka::consumer::BaseConsumer::poll`.
    ///
    /// The message is delivered when the poll returns it. A failed poll has a `poll` span. A poll that returns a message has one
    /// with [`with_receive_spans`](crate::otel::InstrumentationBuilder::with_receive_spans). A poll without a message, and the end of a
    /// partition, have none.
    pub fn poll<T: Into<Timeout>>(&self, timeout: T) -> Option<KafkaResult<BorrowedMessage<'_>>> {
        let telemetry = self.telemetry();
        let cluster_id = || native::cluster_id(self.0.client());
        poll_once(telemetry, telemetry.source, cluster_id, || self.0.poll(timeout))
    }

    /// An iterator that waits for messages.
    pub fn iter(&self) -> Iter<'_, C> {
        Iter(self)
    }

    /// Splits messages of a partition into their own queue; see
    /// `rdkafka::consumer::BaseConsumer::split_partition_queue`.
    pub fn split_partition_queue(self: &Arc<Self>, topic: &str, partition: i32) -> Option<PartitionQueue<C>> {
        let context = self.0.context().clone();
        let consumer = cast::shared_raw(self.clone());
        let source = SourceId::new();
        consumer.split_partition_queue(topic, partition).map(|raw| PartitionQueue { raw, context, source })
    }

    /// Closes the queue of the consumer; see `rdkafka::consumer::BaseConsumer::close_queue`.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    pub fn close_queue(&self) -> KafkaResult<()> {
        self.0.close_queue()
    }

    /// Whether the consumer is closed.
    pub fn closed(&self) -> bool {
        self.0.closed()
    }

    /// Sets a callback for when the queue becomes nonempty.
    pub fn set_nonempty_callback<F>(&mut self, f: F)
    where
        F: Fn() + Send + Sync + 'static,
    {
        self.0.set_nonempty_callback(f);
    }
}

consumer! { [C] C, BaseConsumer<C>, [C: ConsumerContext] }

impl FromClientConfig for BaseConsumer {
    fn from_config(config: &ClientConfig) -> KafkaResult<Self> {
        Self::from_config_and_context(config, DefaultConsumerContext)
    }
}

impl<C: ConsumerContext> FromClientConfigAndContext<C> for BaseConsumer<C> {
    fn from_config_and_context(config: &ClientConfig, context: C) -> KafkaResult<Self> {
        raw::BaseConsumer::from_config_and_context(config, Traced::new(context)).map(Self::from)
    }
}

/// A raw consumer over a [`Traced`] context.
impl<C: ConsumerContext> From<raw::BaseConsumer<Traced<C>>> for BaseConsumer<C> {
    fn from(raw: raw::BaseConsumer<Traced<C>>) -> Self {
        raw.context().telemetry().attach_client(raw.client());
        Self(raw)
    }
}

impl<C: ConsumerContext> fmt::Debug for BaseConsumer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BaseConsumer").field("context", self.0.context()).finish_non_exhaustive()
    }
}

/// An iterator over the messages of a [`BaseConsumer`]. Each step polls until there is a message or an error.
#[derive(Debug)]
pub struct Iter<'a, C>(&'a BaseConsumer<C>)
where
    C: ConsumerContext;

impl<'a, C: ConsumerContext> Iterator for Iter<'a, C> {
    type Item = KafkaResult<BorrowedMessage<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.0.poll(None) {
                return Some(item);
            }
        }
    }
}

impl<'a, C: ConsumerContext> IntoIterator for &'a BaseConsumer<C> {
    type Item = KafkaResult<BorrowedMessage<'a>>;
    type IntoIter = Iter<'a, C>;

    fn into_iter(self) -> Iter<'a, C> {
        self.iter()
    }
}

/// A message queue for a single partition; see `rdkafka::consumer::base_consumer::PartitionQueue`.
pub struct PartitionQueue<C: ConsumerContext> {
    raw: raw::PartitionQueue<Traced<C>>,
    context: Arc<Traced<C>>,
    source: SourceId,
}

impl<C: ConsumerContext> PartitionQueue<C> {
    /// The raw queue, whose messages have no spans.
    pub fn get_ref(&self) -> &raw::PartitionQueue<Traced<C>> {
        &self.raw
    }

    /// The raw queue.
    pub fn into_inner(self) -> raw::PartitionQueue<Traced<C>> {
        self.raw
    }

    /// Polls the partition for a message; see [`BaseConsumer::poll`].
    pub fn poll<T: Into<Timeout>>(&self, timeout: T) -> Option<KafkaResult<BorrowedMessage<'_>>> {
        let telemetry = self.context.telemetry();
        // SAFETY: the raw queue keeps the consumer with this context alive.
        #[allow(unsafe_code, reason = "rdkafka's queue does not lend its consumer")]
        let cluster_id = || unsafe { native::cluster_id_of_ptr(telemetry.client_ptr()) };
        poll_once(telemetry, self.source, cluster_id, || self.raw.poll(timeout))
    }

    /// Sets a callback for when the queue becomes nonempty.
    pub fn set_nonempty_callback<F>(&mut self, f: F)
    where
        F: Fn() + Send + Sync + 'static,
    {
        self.raw.set_nonempty_callback(f);
    }
}

impl<C: ConsumerContext> fmt::Debug for PartitionQueue<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionQueue").field("context", &self.context).finish_non_exhaustive()
    }
}
