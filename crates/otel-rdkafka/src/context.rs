//! Where a client's telemetry lives: in the context that rdkafka calls back.

use std::{error::Error, fmt, ops::Deref, sync::Arc};

use rdkafka::{
    ClientContext, Statistics, TopicPartitionList,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{self as raw_consumer, Rebalance},
    error::{KafkaError, KafkaResult},
    message as raw_message,
    producer::{self as raw_producer, Partitioner},
    types::RDKafkaRespErr,
    util::Timeout,
};

use crate::{
    cast,
    consumer::ConsumerContext,
    message::BorrowedMessage,
    producer::{Pending, ProducerContext},
    telemetry::Kafka,
};

/// The context of every raw client inside a wrapper: the user's context with the client's telemetry beside it.
///
/// It is what the raw types are generic over: [`BaseProducer<C>`](crate::producer::BaseProducer) wraps a
/// `rdkafka::producer::BaseProducer<Traced<C>>`. Everything a wrapper knows is here, because rdkafka's callbacks give
/// references to the raw client.
pub struct Traced<C> {
    user: Arc<C>,
    kafka: Kafka,
}

impl<C> Traced<C> {
    /// Puts telemetry beside a context.
    pub fn new(context: C) -> Self {
        Self { user: Arc::new(context), kafka: Kafka::new() }
    }

    pub(crate) fn user(&self) -> &Arc<C> {
        &self.user
    }

    pub(crate) fn kafka(&self) -> &Kafka {
        &self.kafka
    }
}

impl<C> Deref for Traced<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.user
    }
}

impl<C> fmt::Debug for Traced<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traced").field("kafka", &self.kafka).finish_non_exhaustive()
    }
}

impl<C: ClientContext> ClientContext for Traced<C> {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = C::ENABLE_REFRESH_OAUTH_TOKEN;

    fn log(&self, level: RDKafkaLogLevel, fac: &str, log_message: &str) {
        self.user.log(level, fac, log_message);
    }

    fn stats(&self, statistics: Statistics) {
        self.user.stats(statistics);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.user.stats_raw(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.user.error(error, reason);
    }

    fn generate_oauth_token(&self, oauthbearer_config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.user.generate_oauth_token(oauthbearer_config)
    }
}

impl<C: ConsumerContext> raw_consumer::ConsumerContext for Traced<C> {
    fn rebalance(
        &self,
        base_consumer: &raw_consumer::BaseConsumer<Self>,
        err: RDKafkaRespErr,
        tpl: &mut TopicPartitionList,
    ) {
        self.user.rebalance(cast::base_consumer(base_consumer), err, tpl);
    }

    fn pre_rebalance(&self, base_consumer: &raw_consumer::BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        self.user.pre_rebalance(cast::base_consumer(base_consumer), rebalance);
    }

    fn post_rebalance(&self, base_consumer: &raw_consumer::BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        self.user.post_rebalance(cast::base_consumer(base_consumer), rebalance);
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        // Explicit commits never come here.
        if let Err(error) = &result {
            self.kafka.auto_commit_failed(offsets, error);
        }
        self.user.commit_callback(result, offsets);
    }

    fn main_queue_min_poll_interval(&self) -> Timeout {
        self.user.main_queue_min_poll_interval()
    }
}

impl<C, Part> raw_producer::ProducerContext<Part> for Traced<C>
where
    C: ProducerContext<Part>,
    Part: Partitioner,
{
    type DeliveryOpaque = Pending<C::DeliveryOpaque>;

    fn delivery(&self, delivery_result: &raw_message::DeliveryResult<'_>, pending: Self::DeliveryOpaque) {
        let opaque = pending.delivered(delivery_result);
        let reported = BorrowedMessage::reported(delivery_result);
        match delivery_result {
            Ok(_) => self.user.delivery(&Ok(reported), opaque),
            Err((error, _)) => self.user.delivery(&Err((error.clone(), reported)), opaque),
        }
    }

    fn get_custom_partitioner(&self) -> Option<&Part> {
        self.user.get_custom_partitioner()
    }
}
