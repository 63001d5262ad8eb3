//! Admin client: `rdkafka::admin`, with an [`AdminClient`] whose [`inner`](AdminClient::inner) client is of this crate.

use std::future::Future;

use otel_messaging::adapter::wrapper;
use rdkafka::{ClientContext, TopicPartitionList, admin as raw, client::DefaultClientContext, error::KafkaResult};

use crate::{
    cast,
    client::Client,
    context::{Traced, from_config},
};

pub use rdkafka::admin::{
    AdminOptions, AlterConfig, AlterConfigsResult, ConfigEntry, ConfigResource, ConfigResourceResult, ConfigSource,
    GroupResult, NewPartitions, NewTopic, OwnedResourceSpecifier, PartitionAssignment, ResourceSpecifier,
    TopicReplication, TopicResult,
};

/// A client for the administration of a cluster; see `rdkafka::admin::AdminClient`. It sends and receives no messages, so
/// it makes no spans.
///
/// # Errors
///
/// rdkafka's, unchanged, from every method.
pub struct AdminClient<C: ClientContext>(raw::AdminClient<Traced<C>>);

impl<C: ClientContext> AdminClient<C> {
    /// Creates topics.
    pub fn create_topics<'a, I>(
        &self,
        topics: I,
        opts: &AdminOptions,
    ) -> impl Future<Output = KafkaResult<Vec<TopicResult>>> + use<C, I>
    where
        I: IntoIterator<Item = &'a NewTopic<'a>>,
    {
        self.0.create_topics(topics, opts)
    }

    /// Deletes topics.
    pub fn delete_topics(
        &self,
        topic_names: &[&str],
        opts: &AdminOptions,
    ) -> impl Future<Output = KafkaResult<Vec<TopicResult>>> + use<C> {
        self.0.delete_topics(topic_names, opts)
    }

    /// Deletes groups.
    pub fn delete_groups(
        &self,
        group_names: &[&str],
        opts: &AdminOptions,
    ) -> impl Future<Output = KafkaResult<Vec<GroupResult>>> + use<C> {
        self.0.delete_groups(group_names, opts)
    }

    /// Adds partitions to topics.
    pub fn create_partitions<'a, I>(
        &self,
        partitions: I,
        opts: &AdminOptions,
    ) -> impl Future<Output = KafkaResult<Vec<TopicResult>>> + use<C, I>
    where
        I: IntoIterator<Item = &'a NewPartitions<'a>>,
    {
        self.0.create_partitions(partitions, opts)
    }

    /// Deletes records before the given offsets.
    pub fn delete_records(
        &self,
        offsets: &TopicPartitionList,
        opts: &AdminOptions,
    ) -> impl Future<Output = KafkaResult<TopicPartitionList>> + use<C> {
        self.0.delete_records(offsets, opts)
    }

    /// Reads the configuration of resources.
    pub fn describe_configs<'a, I>(
        &self,
        configs: I,
        opts: &AdminOptions,
    ) -> impl Future<Output = KafkaResult<Vec<ConfigResourceResult>>> + use<C, I>
    where
        I: IntoIterator<Item = &'a ResourceSpecifier<'a>>,
    {
        self.0.describe_configs(configs, opts)
    }

    /// Changes the configuration of resources.
    pub fn alter_configs<'a, I>(
        &self,
        configs: I,
        opts: &AdminOptions,
    ) -> impl Future<Output = KafkaResult<Vec<AlterConfigsResult>>> + use<C, I>
    where
        I: IntoIterator<Item = &'a AlterConfig<'a>>,
    {
        self.0.alter_configs(configs, opts)
    }

    /// The client underlying this admin client.
    pub fn inner(&self) -> &Client<C> {
        cast::wrapper(self.0.inner())
    }
}

wrapper! {
    [C: ClientContext] AdminClient<C> => raw::AdminClient<Traced<C>>, 0:
    /// The raw admin client.
    get_ref
    /// The raw admin client.
    into_inner
    debug
}

from_config! {
    [] AdminClient<DefaultClientContext>, DefaultClientContext;
    [C: ClientContext] AdminClient<C> => raw::AdminClient<Traced<C>>
}

/// A raw client over a [`Traced`] context.
impl<C: ClientContext> From<raw::AdminClient<Traced<C>>> for AdminClient<C> {
    fn from(raw: raw::AdminClient<Traced<C>>) -> Self {
        Self(raw)
    }
}
