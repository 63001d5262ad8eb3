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

/// Methods that call rdkafka's.
macro_rules! forward {
    ($($(#[$docs:meta])* $name:ident[$($generics:tt)*]($argument:ident: $type:ty) -> $output:ty, [$($use:tt)*];)*) => {
        impl<C: ClientContext> AdminClient<C> {$(
            $(#[$docs])*
            pub fn $name<$($generics)*>(
                &self,
                $argument: $type,
                opts: &AdminOptions,
            ) -> impl Future<Output = KafkaResult<$output>> + use<$($use)*> {
                self.0.$name($argument, opts)
            }
        )*}
    };
}

forward! {
    /// Creates topics.
    create_topics['a, I: IntoIterator<Item = &'a NewTopic<'a>>](topics: I) -> Vec<TopicResult>, [C, I];

    /// Deletes topics.
    delete_topics[](topic_names: &[&str]) -> Vec<TopicResult>, [C];

    /// Deletes groups.
    delete_groups[](group_names: &[&str]) -> Vec<GroupResult>, [C];

    /// Adds partitions to topics.
    create_partitions['a, I: IntoIterator<Item = &'a NewPartitions<'a>>](partitions: I) -> Vec<TopicResult>, [C, I];

    /// Deletes records before the given offsets.
    delete_records[](offsets: &TopicPartitionList) -> TopicPartitionList, [C];

    /// Reads the configuration of resources.
    describe_configs['a, I: IntoIterator<Item = &'a ResourceSpecifier<'a>>](configs: I)
        -> Vec<ConfigResourceResult>, [C, I];

    /// Changes the configuration of resources.
    alter_configs['a, I: IntoIterator<Item = &'a AlterConfig<'a>>](configs: I) -> Vec<AlterConfigsResult>, [C, I];
}

impl<C: ClientContext> AdminClient<C> {
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
