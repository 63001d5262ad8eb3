//! Low-level Kafka producers: `rdkafka::producer::base_producer`.

use std::fmt;

use otel_messaging::Instrumentation;
use rdkafka::{
    ClientConfig, TopicPartitionList,
    config::{FromClientConfig, FromClientConfigAndContext},
    consumer::ConsumerGroupMetadata,
    error::{KafkaError, KafkaResult},
    message::ToBytes,
    producer::{
        DefaultProducerContext, NoCustomPartitioner, Partitioner, Producer as _, PurgeConfig, base_producer as raw,
    },
    util::Timeout,
};

use super::{ProducerContext, producer};
use crate::{
    context::Traced,
    send::{fail_send, start_send},
    telemetry::ClientTelemetry,
};

pub use crate::message::DeliveryResult;
pub use rdkafka::producer::base_producer::BaseRecord;

/// Lowest level Kafka producer; see `rdkafka::producer::BaseProducer`.
///
/// The span of a message ends when `poll`, `flush` or the drop of the producer serves its delivery report.
pub struct BaseProducer<C = DefaultProducerContext, Part = NoCustomPartitioner>
where
    Part: Partitioner,
    C: ProducerContext<Part>,
{
    raw: raw::BaseProducer<Traced<C>, Part>,
}

impl<C, Part> BaseProducer<C, Part>
where
    Part: Partitioner,
    C: ProducerContext<Part>,
{
    /// Uses this instrumentation from now on instead of the default one.
    #[must_use]
    pub fn with_instrumentation(self, instrumentation: Instrumentation) -> Self {
        self.telemetry().core.instrument(instrumentation);
        self
    }

    /// The raw producer. Messages sent through it have no spans.
    pub fn get_ref(&self) -> &raw::BaseProducer<Traced<C>, Part> {
        &self.raw
    }

    /// The raw producer.
    pub fn into_inner(self) -> raw::BaseProducer<Traced<C>, Part> {
        self.raw
    }

    pub(crate) fn telemetry(&self) -> &ClientTelemetry {
        self.raw.context().telemetry()
    }

    /// Serves delivery reports and other events.
    pub fn poll<T: Into<Timeout>>(&self, timeout: T) {
        self.raw.poll(timeout);
    }

    /// Sends a message to Kafka; see `rdkafka::producer::BaseProducer::send`. Never blocks.
    ///
    /// # Errors
    ///
    /// rdkafka's, with the record that was given.
    #[allow(clippy::result_large_err, clippy::type_complexity, reason = "the client's signature")]
    pub fn send<'a, K, P>(
        &self,
        record: BaseRecord<'a, K, P, C::DeliveryOpaque>,
    ) -> Result<(), (KafkaError, BaseRecord<'a, K, P, C::DeliveryOpaque>)>
    where
        K: ToBytes + ?Sized,
        P: ToBytes + ?Sized,
    {
        let telemetry = self.telemetry();
        let record = start_send(telemetry, telemetry.start_operation(), record);
        self.raw.send(record).map_err(fail_send)
    }
}

producer! {
    [C, Part] C, Part, BaseProducer<C, Part>, [C: ProducerContext<Part>, Part: Partitioner]
}

impl FromClientConfig for BaseProducer<DefaultProducerContext> {
    fn from_config(config: &ClientConfig) -> KafkaResult<Self> {
        Self::from_config_and_context(config, DefaultProducerContext)
    }
}

impl<C, Part> FromClientConfigAndContext<C> for BaseProducer<C, Part>
where
    Part: Partitioner,
    C: ProducerContext<Part>,
{
    fn from_config_and_context(config: &ClientConfig, context: C) -> KafkaResult<Self> {
        raw::BaseProducer::from_config_and_context(config, Traced::new(context)).map(Self::from)
    }
}

/// A raw producer over a [`Traced`] context. Other contexts cannot hold a span.
impl<C, Part> From<raw::BaseProducer<Traced<C>, Part>> for BaseProducer<C, Part>
where
    Part: Partitioner,
    C: ProducerContext<Part>,
{
    fn from(raw: raw::BaseProducer<Traced<C>, Part>) -> Self {
        raw.context().telemetry().attach_client(raw.client());
        Self { raw }
    }
}

impl<C, Part> fmt::Debug for BaseProducer<C, Part>
where
    Part: Partitioner,
    C: ProducerContext<Part>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BaseProducer").field("context", self.raw.context()).finish_non_exhaustive()
    }
}

/// A low-level Kafka producer whose own thread serves its delivery reports; see
/// `rdkafka::producer::ThreadedProducer`.
#[must_use = "The threaded producer will stop immediately if unused"]
pub struct ThreadedProducer<C, Part: Partitioner = NoCustomPartitioner>
where
    C: ProducerContext<Part> + 'static,
{
    raw: raw::ThreadedProducer<Traced<C>, Part>,
}

impl<C, Part> ThreadedProducer<C, Part>
where
    Part: Partitioner,
    C: ProducerContext<Part> + 'static,
{
    /// Uses this instrumentation from now on instead of the default one, for all clones: they share one client of librdkafka.
    pub fn with_instrumentation(self, instrumentation: Instrumentation) -> Self {
        self.telemetry().core.instrument(instrumentation);
        self
    }

    /// The raw producer. Messages sent through it have no spans.
    pub fn get_ref(&self) -> &raw::ThreadedProducer<Traced<C>, Part> {
        &self.raw
    }

    /// The raw producer.
    pub fn into_inner(self) -> raw::ThreadedProducer<Traced<C>, Part> {
        self.raw
    }

    pub(crate) fn telemetry(&self) -> &ClientTelemetry {
        self.raw.context().telemetry()
    }

    /// Sends a message to Kafka; see [`BaseProducer::send`].
    ///
    /// # Errors
    ///
    /// rdkafka's, with the record that was given.
    #[allow(clippy::result_large_err, clippy::type_complexity, reason = "the client's signature")]
    pub fn send<'a, K, P>(
        &self,
        record: BaseRecord<'a, K, P, C::DeliveryOpaque>,
    ) -> Result<(), (KafkaError, BaseRecord<'a, K, P, C::DeliveryOpaque>)>
    where
        K: ToBytes + ?Sized,
        P: ToBytes + ?Sized,
    {
        let telemetry = self.telemetry();
        let record = start_send(telemetry, telemetry.start_operation(), record);
        self.raw.send(record).map_err(fail_send)
    }

    /// Serves delivery reports and other events; the producer's thread does it too.
    pub fn poll<T: Into<Timeout>>(&self, timeout: T) {
        self.raw.poll(timeout);
    }
}

producer! {
    [C, Part] C, Part, ThreadedProducer<C, Part>, [C: ProducerContext<Part> + 'static, Part: Partitioner]
}

impl FromClientConfig for ThreadedProducer<DefaultProducerContext, NoCustomPartitioner> {
    fn from_config(config: &ClientConfig) -> KafkaResult<Self> {
        Self::from_config_and_context(config, DefaultProducerContext)
    }
}

impl<C, Part> FromClientConfigAndContext<C> for ThreadedProducer<C, Part>
where
    Part: Partitioner + Send + Sync + 'static,
    C: ProducerContext<Part> + 'static,
{
    fn from_config_and_context(config: &ClientConfig, context: C) -> KafkaResult<Self> {
        raw::ThreadedProducer::from_config_and_context(config, Traced::new(context)).map(Self::from)
    }
}

/// A raw producer over a [`Traced`] context. Other contexts cannot hold a span.
impl<C, Part> From<raw::ThreadedProducer<Traced<C>, Part>> for ThreadedProducer<C, Part>
where
    Part: Partitioner,
    C: ProducerContext<Part> + 'static,
{
    fn from(raw: raw::ThreadedProducer<Traced<C>, Part>) -> Self {
        raw.context().telemetry().attach_client(raw.client());
        Self { raw }
    }
}

impl<C: ProducerContext + 'static> Clone for ThreadedProducer<C> {
    fn clone(&self) -> Self {
        Self { raw: self.raw.clone() }
    }
}

impl<C, Part> fmt::Debug for ThreadedProducer<C, Part>
where
    Part: Partitioner,
    C: ProducerContext<Part> + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadedProducer").field("context", self.raw.context()).finish_non_exhaustive()
    }
}
