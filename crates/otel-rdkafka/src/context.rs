//! The contexts that rdkafka calls back. [`Traced`] holds a client's telemetry.

use std::{fmt, ops::Deref, sync::Arc};

use rdkafka::{
    TopicPartitionList,
    consumer::{self as raw_consumer, Rebalance},
    error::KafkaResult,
    types::RDKafkaRespErr,
    util::Timeout,
};

use crate::{cast, consumer::ConsumerContext, settle, telemetry::ClientTelemetry};

/// The context of every raw client inside a wrapper: the user's context and the client's telemetry.
///
/// [`BaseProducer<C>`](crate::producer::BaseProducer) wraps a `rdkafka::producer::BaseProducer<Traced<C>>`. All state of a
/// wrapper is in its context, because rdkafka's callbacks give references to the raw client.
pub struct Traced<C> {
    user: Arc<C>,
    telemetry: ClientTelemetry,
}

impl<C> Traced<C> {
    /// Adds telemetry to a context.
    pub fn new(context: C) -> Self {
        Self { user: Arc::new(context), telemetry: ClientTelemetry::new() }
    }

    pub(crate) fn user(&self) -> &Arc<C> {
        &self.user
    }

    pub(crate) fn telemetry(&self) -> &ClientTelemetry {
        &self.telemetry
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
        f.debug_struct("Traced").field("telemetry", &self.telemetry).finish_non_exhaustive()
    }
}

/// Implements [`ClientContext`] by calls to a field.
macro_rules! client_context {
    ([$($bounds:tt)*] $context:ty, $field:tt $(, stats_raw: |$this:ident, $raw:ident| $also:expr)?) => {
        impl<C: ::rdkafka::ClientContext $($bounds)*> ::rdkafka::ClientContext for $context {
            const ENABLE_REFRESH_OAUTH_TOKEN: bool = C::ENABLE_REFRESH_OAUTH_TOKEN;

            fn log(&self, level: ::rdkafka::config::RDKafkaLogLevel, fac: &str, log_message: &str) {
                self.$field.log(level, fac, log_message);
            }

            fn stats(&self, statistics: ::rdkafka::Statistics) {
                self.$field.stats(statistics);
            }

            fn stats_raw(&self, statistics: &[u8]) {
                $(
                    let ($this, $raw) = (self, statistics);
                    $also;
                )?
                self.$field.stats_raw(statistics);
            }

            fn error(&self, error: ::rdkafka::error::KafkaError, reason: &str) {
                self.$field.error(error, reason);
            }

            fn generate_oauth_token(
                &self,
                oauthbearer_config: Option<&str>,
            ) -> Result<::rdkafka::client::OAuthToken, Box<dyn ::std::error::Error>> {
                self.$field.generate_oauth_token(oauthbearer_config)
            }
        }
    };
}
pub(crate) use client_context;

client_context! { [] Traced<C>, user, stats_raw: |traced, statistics| traced.telemetry.read_statistics(statistics) }

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
        // librdkafka calls this for automatic commits only.
        settle::record_auto_commit(&self.telemetry, &result, offsets);
        self.user.commit_callback(result, offsets);
    }

    fn main_queue_min_poll_interval(&self) -> Timeout {
        self.user.main_queue_min_poll_interval()
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
