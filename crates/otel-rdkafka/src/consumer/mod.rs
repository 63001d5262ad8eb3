//! Kafka consumers: `rdkafka::consumer`, with a process span for every message that is delivered.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    error::{KafkaError, KafkaResult},
    groups::GroupList,
    metadata::Metadata,
    types::RDKafkaRespErr,
    util::Timeout,
};

use crate::{client::Client, message::BorrowedMessage};

pub mod base_consumer;
pub(crate) mod context;
mod forward;
pub mod stream_consumer;

pub use rdkafka::consumer::{CommitMode, ConsumerGroupMetadata, DefaultConsumerContext, Rebalance, RebalanceProtocol};

#[doc(inline)]
pub use self::{
    base_consumer::BaseConsumer,
    stream_consumer::{MessageStream, StreamConsumer},
};

/// Consumer-specific context; see `rdkafka::consumer::ConsumerContext`, which has the same items.
pub trait ConsumerContext: ClientContext + Sized {
    /// The default rebalancing: calls [`pre_rebalance`](Self::pre_rebalance), changes the assignment according to the group's
    /// protocol, and calls [`post_rebalance`](Self::post_rebalance).
    fn rebalance(&self, base_consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, tpl: &mut TopicPartitionList) {
        let rebalance = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(tpl),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => Rebalance::Revoke(tpl),
            _ => Rebalance::Error(KafkaError::Rebalance(err.into())),
        };
        self.pre_rebalance(base_consumer, &rebalance);
        let cooperative = matches!(base_consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        // As in rdkafka, errors are ignored: librdkafka rejoins the group after a failed assignment.
        let _ = match (&rebalance, cooperative) {
            (Rebalance::Assign(_), true) => base_consumer.incremental_assign(tpl),
            (Rebalance::Assign(_), false) => base_consumer.assign(tpl),
            (_, true) => base_consumer.incremental_unassign(tpl),
            (_, false) => base_consumer.unassign(),
        };
        self.post_rebalance(base_consumer, &rebalance);
    }

    /// Called before the assignment changes.
    #[allow(unused_variables, reason = "named for those who implement it")]
    fn pre_rebalance(&self, base_consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {}

    /// Called after the assignment has changed.
    #[allow(unused_variables, reason = "named for those who implement it")]
    fn post_rebalance(&self, base_consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {}

    /// Called after an automatic commit. The commit is counted before, as one delivery for any number of offsets. It has a span
    /// if it failed, or with [`with_kafka_auto_commit_spans`](crate::otel::InstrumentationBuilder::with_kafka_auto_commit_spans).
    #[allow(unused_variables, reason = "named for those who implement it")]
    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {}

    /// The longest time between two polls of the main queue while a poll waits. Default: one second.
    fn main_queue_min_poll_interval(&self) -> Timeout {
        Timeout::After(Duration::from_secs(1))
    }
}

impl ConsumerContext for DefaultConsumerContext {}

/// Common trait for all consumers; see `rdkafka::consumer::Consumer`, which has the same methods and which every consumer
/// here implements too.
///
/// # Errors
///
/// rdkafka's, unchanged, from every method.
pub trait Consumer<C = DefaultConsumerContext>
where
    C: ConsumerContext,
{
    /// The client underlying this consumer.
    fn client(&self) -> &Client<C>;

    /// The context that the consumer was made with.
    fn context(&self) -> &Arc<C> {
        self.client().context()
    }

    /// The group metadata for a transactional producer; `None` without a `group.id`.
    fn group_metadata(&self) -> Option<ConsumerGroupMetadata>;

    /// Subscribes to topics.
    fn subscribe(&self, topics: &[&str]) -> KafkaResult<()>;

    /// Ends the subscription.
    fn unsubscribe(&self);

    /// Assigns partitions manually.
    fn assign(&self, assignment: &TopicPartitionList) -> KafkaResult<()>;

    /// Ends the assignment.
    fn unassign(&self) -> KafkaResult<()>;

    /// Adds partitions to the assignment.
    fn incremental_assign(&self, assignment: &TopicPartitionList) -> KafkaResult<()>;

    /// Removes partitions from the assignment.
    fn incremental_unassign(&self, assignment: &TopicPartitionList) -> KafkaResult<()>;

    /// Continues a partition at an offset.
    fn seek<T: Into<Timeout>>(&self, topic: &str, partition: i32, offset: Offset, timeout: T) -> KafkaResult<()>;

    /// Continues partitions at offsets.
    fn seek_partitions<T: Into<Timeout>>(
        &self,
        topic_partition_list: TopicPartitionList,
        timeout: T,
    ) -> KafkaResult<TopicPartitionList>;

    /// Commits offsets. Offsets do not name messages, so the `commit` span is not a child of a process span, has no links, and
    /// counts as one delivery. A list without an offset commits nothing: it has no span, no measurement and no event.
    fn commit(&self, topic_partition_list: &TopicPartitionList, mode: CommitMode) -> KafkaResult<()>;

    /// Commits the consumer's state. It does not name messages, so the `commit` span is not a child of a process span, has no
    /// links, and counts as one delivery. If no offset is stored, the error is
    /// [`NoOffset`](crate::error::RDKafkaErrorCode::NoOffset), and there is no span, no measurement and no event. With
    /// [`CommitMode::Async`] rdkafka does not report that error, so the commit is recorded.
    fn commit_consumer_state(&self, mode: CommitMode) -> KafkaResult<()>;

    /// Commits the offset of a message. The `commit` span is a child of the message's process span and ends with the result. With
    /// [`CommitMode::Async`] rdkafka reports no result, so the span ends when the commit is queued.
    fn commit_message(&self, message: &BorrowedMessage<'_>, mode: CommitMode) -> KafkaResult<()>;

    /// Stores an offset for the next commit. This is local, so there is no span.
    fn store_offset(&self, topic: &str, partition: i32, offset: i64) -> KafkaResult<()>;

    /// Stores the offset of a message for the next commit. This is local, so there is no span.
    fn store_offset_from_message(&self, message: &BorrowedMessage<'_>) -> KafkaResult<()>;

    /// Stores offsets for the next commit. This is local, so there is no span.
    fn store_offsets(&self, tpl: &TopicPartitionList) -> KafkaResult<()>;

    /// The subscription.
    fn subscription(&self) -> KafkaResult<TopicPartitionList>;

    /// The assignment.
    fn assignment(&self) -> KafkaResult<TopicPartitionList>;

    /// Whether the assignment was lost involuntarily.
    fn assignment_lost(&self) -> bool;

    /// The committed offsets of the assignment.
    fn committed<T: Into<Timeout>>(&self, timeout: T) -> KafkaResult<TopicPartitionList>
    where
        Self: Sized;

    /// The committed offsets of partitions.
    fn committed_offsets<T: Into<Timeout>>(
        &self,
        tpl: TopicPartitionList,
        timeout: T,
    ) -> KafkaResult<TopicPartitionList>;

    /// The offsets of the assignment at a time, in milliseconds since the Unix epoch.
    fn offsets_for_timestamp<T: Into<Timeout>>(&self, timestamp: i64, timeout: T) -> KafkaResult<TopicPartitionList>
    where
        Self: Sized;

    /// The offsets of partitions at times.
    fn offsets_for_times<T: Into<Timeout>>(
        &self,
        timestamps: TopicPartitionList,
        timeout: T,
    ) -> KafkaResult<TopicPartitionList>
    where
        Self: Sized;

    /// The current positions.
    fn position(&self) -> KafkaResult<TopicPartitionList>;

    /// The metadata of a topic, or of all topics.
    fn fetch_metadata<T: Into<Timeout>>(&self, topic: Option<&str>, timeout: T) -> KafkaResult<Metadata>
    where
        Self: Sized;

    /// The lowest and highest offset of a partition.
    fn fetch_watermarks<T: Into<Timeout>>(&self, topic: &str, partition: i32, timeout: T) -> KafkaResult<(i64, i64)>
    where
        Self: Sized;

    /// The members of a group, or of all groups.
    fn fetch_group_list<T: Into<Timeout>>(&self, group: Option<&str>, timeout: T) -> KafkaResult<GroupList>
    where
        Self: Sized;

    /// Pauses partitions.
    fn pause(&self, partitions: &TopicPartitionList) -> KafkaResult<()>;

    /// Resumes partitions.
    fn resume(&self, partitions: &TopicPartitionList) -> KafkaResult<()>;

    /// The rebalance protocol in use.
    fn rebalance_protocol(&self) -> RebalanceProtocol;
}
