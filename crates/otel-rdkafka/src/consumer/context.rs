//! The contexts of consumers: rdkafka calls [`Traced`], which calls the user's.

use std::ops::Deref;

use rdkafka::{
    TopicPartitionList,
    consumer::{self as raw_consumer, Rebalance},
    error::KafkaResult,
    types::RDKafkaRespErr,
    util::Timeout,
};

use super::ConsumerContext;
use crate::{
    cast,
    context::{Traced, client_context},
    settle,
};

impl<C: ConsumerContext> raw_consumer::ConsumerContext for Traced<C> {
    fn rebalance(
        &self,
        base_consumer: &raw_consumer::BaseConsumer<Self>,
        err: RDKafkaRespErr,
        tpl: &mut TopicPartitionList,
    ) {
        self.user().rebalance(cast::wrapper(base_consumer), err, tpl);
    }

    fn pre_rebalance(&self, base_consumer: &raw_consumer::BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        self.user().pre_rebalance(cast::wrapper(base_consumer), rebalance);
    }

    fn post_rebalance(&self, base_consumer: &raw_consumer::BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        self.user().post_rebalance(cast::wrapper(base_consumer), rebalance);
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        // librdkafka calls this for automatic commits only.
        settle::record_auto_commit(self.telemetry(), &result, offsets);
        self.user().commit_callback(result, offsets);
    }

    fn main_queue_min_poll_interval(&self) -> Timeout {
        self.user().main_queue_min_poll_interval()
    }
}

/// Makes a [`ConsumerContext`] of a context that implements rdkafka's own trait, in a crate that cannot be changed.
///
/// The context's rebalance callbacks are not called: they take a raw consumer over that context, which a wrapped consumer does
/// not have. The default rebalancing happens. Logs, statistics, errors, tokens, commit callbacks and the poll interval go to
/// the context.
///
/// ```no_run
/// use otel_rdkafka::{ClientConfig, consumer::StreamConsumer, otel::RawConsumerContext};
/// # struct Theirs;
/// # impl otel_rdkafka::ClientContext for Theirs {}
/// # impl otel_rdkafka::otel::raw::consumer::ConsumerContext for Theirs {}
///
/// let config = ClientConfig::new();
/// let consumer: StreamConsumer<_> = config.create_with_context(RawConsumerContext(Theirs))?;
/// # let _: StreamConsumer<RawConsumerContext<Theirs>> = consumer;
/// # Ok::<_, otel_rdkafka::error::KafkaError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct RawConsumerContext<C>(pub C);

impl<C> Deref for RawConsumerContext<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}

client_context! { [] RawConsumerContext<C>, 0 }

impl<C: raw_consumer::ConsumerContext> ConsumerContext for RawConsumerContext<C> {
    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        self.0.commit_callback(result, offsets);
    }

    fn main_queue_min_poll_interval(&self) -> Timeout {
        self.0.main_queue_min_poll_interval()
    }
}
