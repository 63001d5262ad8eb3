//! Kafka producers: `rdkafka::producer`, with a span for every message, from the call to the delivery report.

use std::sync::Arc;

use rdkafka::{error::KafkaResult, producer as raw, util::Timeout};

use crate::{client::Client, consumer::ConsumerGroupMetadata};

pub mod base_producer;
pub mod future_producer;

pub use rdkafka::producer::{DefaultProducerContext, NoCustomPartitioner, PARTITION_UA, Partitioner, PurgeConfig};

#[doc(inline)]
pub use self::{
    base_producer::{BaseProducer, BaseRecord, DeliveryResult, ThreadedProducer},
    future_producer::{DeliveryFuture, FutureProducer, FutureRecord},
};

/// Producer-specific context; see `rdkafka::producer::ProducerContext`, which has the same items.
///
/// A context that implements the raw trait implements this one too, unless it names its own partitioner type.
pub trait ProducerContext<Part: Partitioner = NoCustomPartitioner>: crate::ClientContext {
    /// A value that is given to `send` and returned in [`delivery`](Self::delivery).
    type DeliveryOpaque: crate::IntoOpaque;

    /// Called when the message was delivered or its delivery failed. The message's span has ended before, and the message is as
    /// it was given to `send`.
    fn delivery(&self, delivery_result: &DeliveryResult<'_>, delivery_opaque: Self::DeliveryOpaque);

    /// The custom partitioner to register, if there is one. Default: none.
    fn get_custom_partitioner(&self) -> Option<&Part> {
        None
    }
}

impl<C: raw::ProducerContext> ProducerContext for C {
    type DeliveryOpaque = <C as raw::ProducerContext>::DeliveryOpaque;

    fn delivery(&self, delivery_result: &DeliveryResult<'_>, delivery_opaque: Self::DeliveryOpaque) {
        let (Ok(message) | Err((_, message))) = delivery_result;
        // `Traced` passes the message of a delivery report.
        if let Some(report) = message.report() {
            raw::ProducerContext::delivery(self, report, delivery_opaque);
        }
    }

    fn get_custom_partitioner(&self) -> Option<&NoCustomPartitioner> {
        raw::ProducerContext::get_custom_partitioner(self)
    }
}

/// Common trait for all producers; see `rdkafka::producer::Producer`, which has the same methods and which every producer
/// here implements too.
pub trait Producer<C = DefaultProducerContext, Part = NoCustomPartitioner>
where
    Part: Partitioner,
    C: ProducerContext<Part>,
{
    /// The client underlying this producer.
    fn client(&self) -> &Client<C>;

    /// The context that the producer was made with.
    fn context(&self) -> &Arc<C> {
        self.client().context()
    }

    /// The number of messages that are waiting to be sent or acknowledged.
    fn in_flight_count(&self) -> i32;

    /// Waits until every message has its delivery report.
    ///
    /// # Errors
    ///
    /// rdkafka's, if the timeout ends first.
    fn flush<T: Into<Timeout>>(&self, timeout: T) -> KafkaResult<()>;

    /// Drops messages that are queued or in flight. Their spans fail at the next poll or flush of the producer, with the
    /// `error.type`
    /// `_PURGE_REQUESTED`. Messages that are purged because the producer is dropped have `_PURGE_QUEUE` or `_PURGE_INFLIGHT`.
    fn purge(&self, flags: PurgeConfig);

    /// Enables transactions with this producer.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    fn init_transactions<T: Into<Timeout>>(&self, timeout: T) -> KafkaResult<()>;

    /// Begins a new transaction. A transaction has no span. The spans of its messages report their delivery, not the commit.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    fn begin_transaction(&self) -> KafkaResult<()>;

    /// Adds consumed offsets to the transaction.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    fn send_offsets_to_transaction<T: Into<Timeout>>(
        &self,
        offsets: &crate::TopicPartitionList,
        cgm: &ConsumerGroupMetadata,
        timeout: T,
    ) -> KafkaResult<()>;

    /// Commits the transaction.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    fn commit_transaction<T: Into<Timeout>>(&self, timeout: T) -> KafkaResult<()>;

    /// Aborts the transaction. Messages that were not sent yet are purged, and their spans fail with the `error.type`
    /// `_PURGE_REQUESTED`. Messages that were delivered keep their successful spans: delivered does not mean committed.
    ///
    /// # Errors
    ///
    /// rdkafka's.
    fn abort_transaction<T: Into<Timeout>>(&self, timeout: T) -> KafkaResult<()>;
}

/// The code that all producers have in common, for a wrapper whose field `raw` is the raw producer.
macro_rules! producer {
    ($(#[$attribute:meta])* [$($generics:tt)*] $context:ty, $part:ty, $name:ident: $producer:ty) => {
        impl<$($generics)*> $producer {
            /// Uses this instrumentation from now on instead of the default one. Clones share one client of librdkafka, and so
            /// its instrumentation.
            $(#[$attribute])*
            pub fn with_instrumentation(self, instrumentation: ::otel_messaging::Instrumentation) -> Self {
                self.telemetry().core.instrument(instrumentation);
                self
            }

            pub(crate) fn telemetry(&self) -> &$crate::telemetry::ClientTelemetry {
                self.raw.context().telemetry()
            }
        }

        ::otel_messaging::adapter::opaque_debug! {
            [$($generics)*] $producer, stringify!($name), |producer| context: producer.raw.context()
        }

        const _: () = {
            use ::rdkafka::{
                TopicPartitionList, consumer::ConsumerGroupMetadata, error::KafkaResult, producer::PurgeConfig,
                util::Timeout,
            };

            impl<$($generics)*> $crate::producer::Producer<$context, $part> for $producer {
                fn client(&self) -> &$crate::client::Client<$context> {
                    $crate::cast::wrapper(self.raw.client())
                }

                $crate::producer::forward!();
            }

            impl<$($generics)*> ::rdkafka::producer::Producer<$crate::context::Traced<$context>, $part> for $producer {
                fn client(&self) -> &::rdkafka::client::Client<$crate::context::Traced<$context>> {
                    self.raw.client()
                }

                $crate::producer::forward!();
            }
        };
    };
}
pub(crate) use producer;

/// The methods of both producer traits that have the same types.
macro_rules! forward {
    () => {
        fn purge(&self, flags: PurgeConfig) {
            self.telemetry().purges.note_request();
            self.raw.purge(flags);
        }

        fn abort_transaction<T: Into<Timeout>>(&self, timeout: T) -> KafkaResult<()> {
            self.telemetry().purges.note_request();
            self.raw.abort_transaction(timeout)
        }

        $crate::producer::forward! {
            in_flight_count() -> i32;
            begin_transaction() -> KafkaResult<()>;
        }

        $crate::producer::forward! { timeout:
            flush() -> KafkaResult<()>;
            init_transactions() -> KafkaResult<()>;
            send_offsets_to_transaction(offsets: &TopicPartitionList, cgm: &ConsumerGroupMetadata) -> KafkaResult<()>;
            commit_transaction() -> KafkaResult<()>;
        }
    };
    ($($method:ident($($name:ident: $type:ty),*) -> $result:ty;)*) => {$(
        fn $method(&self, $($name: $type),*) -> $result {
            self.raw.$method($($name),*)
        }
    )*};
    (timeout: $($method:ident($($name:ident: $type:ty),*) -> $result:ty;)*) => {$(
        fn $method<T: Into<Timeout>>(&self, $($name: $type,)* timeout: T) -> $result {
            self.raw.$method($($name,)* timeout)
        }
    )*};
}
pub(crate) use forward;
