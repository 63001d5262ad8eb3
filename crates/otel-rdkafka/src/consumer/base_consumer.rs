//! Low-level consumers: `rdkafka::consumer::base_consumer`.

use std::sync::Arc;

use otel_messaging::adapter::{SourceId, opaque_debug, wrapper};
use rdkafka::{
    consumer::{Consumer as _, base_consumer as raw},
    error::KafkaResult,
    util::Timeout,
};

use super::{ConsumerContext, DefaultConsumerContext, forward::consumer};
use crate::{
    cast::{self, transparent},
    context::{Traced, from_config},
    message::BorrowedMessage,
    native,
    receive::poll_once,
};

transparent! {
    /// A low-level consumer that requires manual polling; see `rdkafka::consumer::BaseConsumer`.
    pub struct BaseConsumer<C: ConsumerContext = DefaultConsumerContext>(raw::BaseConsumer<Traced<C>>);
}

impl<C: ConsumerContext> BaseConsumer<C> {
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

consumer! { #[must_use] [C: ConsumerContext] C, BaseConsumer: BaseConsumer<C> => raw::BaseConsumer<Traced<C>> }
from_config! {
    [] BaseConsumer, DefaultConsumerContext;
    [C: ConsumerContext] BaseConsumer<C> => raw::BaseConsumer<Traced<C>>
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

wrapper! {
    [C: ConsumerContext] PartitionQueue<C> => raw::PartitionQueue<Traced<C>>, raw:
    /// The raw queue, whose messages have no spans.
    get_ref
    /// The raw queue.
    into_inner
}

opaque_debug! { [C: ConsumerContext] PartitionQueue<C>, "PartitionQueue", |queue| context: queue.context }
