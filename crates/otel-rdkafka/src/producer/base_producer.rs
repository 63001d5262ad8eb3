//! Low-level Kafka producers: `rdkafka::producer::base_producer`.

use otel_messaging::adapter::wrapper;
use rdkafka::{
    error::KafkaError,
    message::ToBytes,
    producer::{DefaultProducerContext, NoCustomPartitioner, Partitioner, Producer as _, base_producer as raw},
    util::Timeout,
};

use super::{ProducerContext, producer};
use crate::{
    context::{Traced, from_config},
    send::{fail_send, start_send},
};

pub use crate::message::DeliveryResult;
pub use rdkafka::producer::base_producer::BaseRecord;

/// Lowest level Kafka producer; see `rdkafka::producer::BaseProducer`.
///
/// The span of a message ends when `poll`, `flush` or the drop of the producer serves its delivery report.
pub struct BaseProducer<C: ProducerContext<Part> = DefaultProducerContext, Part: Partitioner = NoCustomPartitioner> {
    raw: raw::BaseProducer<Traced<C>, Part>,
}

/// A low-level Kafka producer whose own thread serves its delivery reports; see
/// `rdkafka::producer::ThreadedProducer`.
#[must_use = "The threaded producer will stop immediately if unused"]
pub struct ThreadedProducer<C: ProducerContext<Part> + 'static, Part: Partitioner = NoCustomPartitioner> {
    raw: raw::ThreadedProducer<Traced<C>, Part>,
}

impl<C: ProducerContext + 'static> Clone for ThreadedProducer<C> {
    fn clone(&self) -> Self {
        Self { raw: self.raw.clone() }
    }
}

/// The code that both producers have in common, with the bounds of each.
macro_rules! low_level {
    ($(#[$attribute:meta])* $name:ident[C: $($context:tt)*][$($partitioner:tt)*] $by_default:ty) => {
        impl<C: $($context)*, Part: Partitioner> $name<C, Part> {
            /// Sends a message to Kafka; see `rdkafka::producer::BaseProducer::send`. Never blocks.
            ///
            /// # Errors
            ///
            /// rdkafka's, with the record that was given.
            #[allow(clippy::result_large_err, clippy::type_complexity, reason = "the client's signature")]
            pub fn send<'a, K: ToBytes + ?Sized, P: ToBytes + ?Sized>(
                &self,
                record: BaseRecord<'a, K, P, C::DeliveryOpaque>,
            ) -> Result<(), (KafkaError, BaseRecord<'a, K, P, C::DeliveryOpaque>)> {
                let telemetry = self.telemetry();
                let record = start_send(telemetry, telemetry.start_operation(), record);
                self.raw.send(record).map_err(fail_send)
            }

            /// Serves delivery reports and other events. The thread of a `ThreadedProducer` serves them too.
            pub fn poll<T: Into<Timeout>>(&self, timeout: T) {
                self.raw.poll(timeout);
            }
        }

        producer! { $(#[$attribute])* [C: $($context)*, Part: Partitioner] C, Part, $name: $name<C, Part> }

        wrapper! {
            [C: $($context)*, Part: Partitioner] $name<C, Part> => raw::$name<Traced<C>, Part>, raw:
            /// The raw producer. Messages sent through it have no spans.
            get_ref
            /// The raw producer.
            into_inner
        }

        from_config! {
            [] $by_default, DefaultProducerContext;
            [C: $($context)*, Part: $($partitioner)*] $name<C, Part> => raw::$name<Traced<C>, Part>
        }

        /// A raw producer over a [`Traced`] context. Other contexts cannot hold a span.
        impl<C: $($context)*, Part: Partitioner> From<raw::$name<Traced<C>, Part>> for $name<C, Part> {
            fn from(raw: raw::$name<Traced<C>, Part>) -> Self {
                raw.context().telemetry().attach_client(raw.client());
                Self { raw }
            }
        }
    };
}

low_level! { #[must_use] BaseProducer[C: ProducerContext<Part>][Partitioner] BaseProducer<DefaultProducerContext> }
low_level! {
    ThreadedProducer[C: ProducerContext<Part> + 'static][Partitioner + Send + Sync + 'static]
    ThreadedProducer<DefaultProducerContext, NoCustomPartitioner>
}
