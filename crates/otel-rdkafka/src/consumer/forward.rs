//! The code that all consumers have in common.

/// The code that consumers have in common, for a wrapper whose field `0` is the raw consumer: the traits and the conversions.
macro_rules! consumer {
    ($(#[$attribute:meta])* [$($generics:tt)*] $context:ty, $name:ident: $consumer:ty => $raw:ty) => {
        impl<$($generics)*> $consumer {
            /// Uses this instrumentation from now on instead of the default one.
            $(#[$attribute])*
            pub fn with_instrumentation(self, instrumentation: ::otel_messaging::Instrumentation) -> Self {
                self.telemetry().core.instrument(instrumentation);
                self
            }

            pub(crate) fn telemetry(&self) -> &$crate::telemetry::ClientTelemetry {
                ::rdkafka::consumer::Consumer::context(&self.0).telemetry()
            }
        }

        ::otel_messaging::adapter::wrapper! {
            [$($generics)*] $consumer => $raw, 0:
            /// The raw consumer. Messages received through it have no process spans.
            get_ref
            /// The raw consumer.
            into_inner
        }

        /// A raw consumer over a [`Traced`](crate::otel::Traced) context.
        impl<$($generics)*> From<$raw> for $consumer {
            fn from(raw: $raw) -> Self {
                let client = ::rdkafka::consumer::Consumer::client(&raw);
                client.context().telemetry().attach_client(client);
                Self(raw)
            }
        }

        ::otel_messaging::adapter::opaque_debug! {
            [$($generics)*] $consumer, stringify!($name),
            |consumer| context: ::rdkafka::consumer::Consumer::context(&consumer.0)
        }

        const _: () = {
            use ::rdkafka::{
                Offset, TopicPartitionList,
                consumer::{CommitMode, Consumer as RawConsumer, ConsumerGroupMetadata, RebalanceProtocol},
                error::KafkaResult,
                groups::GroupList,
                message::BorrowedMessage as RawMessage,
                metadata::Metadata,
                util::Timeout,
            };
            use $crate::message::BorrowedMessage;

            impl<$($generics)*> $crate::consumer::Consumer<$context> for $consumer {
                fn client(&self) -> &$crate::client::Client<$context> {
                    $crate::cast::wrapper(RawConsumer::client(&self.0))
                }

                fn commit_message(&self, message: &BorrowedMessage<'_>, mode: CommitMode) -> KafkaResult<()> {
                    let process = ::otel_messaging::ReceivedMessage::process_span(message);
                    $crate::settle::commit_message(self.telemetry(), message, process, || {
                        RawConsumer::commit_message(&self.0, message, mode)
                    })
                }

                fn store_offset_from_message(&self, message: &BorrowedMessage<'_>) -> KafkaResult<()> {
                    RawConsumer::store_offset_from_message(&self.0, message)
                }

                $crate::consumer::forward::forward!();
            }

            impl<$($generics)*> RawConsumer<$crate::context::Traced<$context>> for $consumer {
                fn client(&self) -> &::rdkafka::client::Client<$crate::context::Traced<$context>> {
                    RawConsumer::client(&self.0)
                }

                fn commit_message(&self, message: &RawMessage<'_>, mode: CommitMode) -> KafkaResult<()> {
                    $crate::settle::commit_message(self.telemetry(), message, None, || {
                        RawConsumer::commit_message(&self.0, message, mode)
                    })
                }

                fn store_offset_from_message(&self, message: &RawMessage<'_>) -> KafkaResult<()> {
                    RawConsumer::store_offset_from_message(&self.0, message)
                }

                $crate::consumer::forward::forward!();
            }
        };
    };
}

/// The methods of both consumer traits that have the same types.
macro_rules! forward {
    () => {
        fn commit(&self, topic_partition_list: &TopicPartitionList, mode: CommitMode) -> KafkaResult<()> {
            $crate::settle::commit_offsets(self.telemetry(), Some(topic_partition_list), || {
                RawConsumer::commit(&self.0, topic_partition_list, mode)
            })
        }

        fn commit_consumer_state(&self, mode: CommitMode) -> KafkaResult<()> {
            $crate::settle::commit_offsets(self.telemetry(), None, || RawConsumer::commit_consumer_state(&self.0, mode))
        }

        $crate::consumer::forward::forward! {
            group_metadata() -> Option<ConsumerGroupMetadata>;
            subscribe(topics: &[&str]) -> KafkaResult<()>;
            unsubscribe() -> ();
            assign(assignment: &TopicPartitionList) -> KafkaResult<()>;
            unassign() -> KafkaResult<()>;
            incremental_assign(assignment: &TopicPartitionList) -> KafkaResult<()>;
            incremental_unassign(assignment: &TopicPartitionList) -> KafkaResult<()>;
            store_offset(topic: &str, partition: i32, offset: i64) -> KafkaResult<()>;
            store_offsets(tpl: &TopicPartitionList) -> KafkaResult<()>;
            subscription() -> KafkaResult<TopicPartitionList>;
            assignment() -> KafkaResult<TopicPartitionList>;
            assignment_lost() -> bool;
            position() -> KafkaResult<TopicPartitionList>;
            pause(partitions: &TopicPartitionList) -> KafkaResult<()>;
            resume(partitions: &TopicPartitionList) -> KafkaResult<()>;
            rebalance_protocol() -> RebalanceProtocol;
        }

        $crate::consumer::forward::forward! { timeout:
            seek(topic: &str, partition: i32, offset: Offset) -> KafkaResult<()>;
            seek_partitions(topic_partition_list: TopicPartitionList) -> KafkaResult<TopicPartitionList>;
            committed() -> KafkaResult<TopicPartitionList>;
            committed_offsets(tpl: TopicPartitionList) -> KafkaResult<TopicPartitionList>;
            offsets_for_timestamp(timestamp: i64) -> KafkaResult<TopicPartitionList>;
            offsets_for_times(timestamps: TopicPartitionList) -> KafkaResult<TopicPartitionList>;
            fetch_metadata(topic: Option<&str>) -> KafkaResult<Metadata>;
            fetch_watermarks(topic: &str, partition: i32) -> KafkaResult<(i64, i64)>;
            fetch_group_list(group: Option<&str>) -> KafkaResult<GroupList>;
        }
    };
    ($($method:ident($($name:ident: $type:ty),*) -> $result:ty;)*) => {$(
        fn $method(&self, $($name: $type),*) -> $result {
            RawConsumer::$method(&self.0, $($name),*)
        }
    )*};
    (timeout: $($method:ident($($name:ident: $type:ty),*) -> $result:ty;)*) => {$(
        fn $method<T: Into<Timeout>>(&self, $($name: $type,)* timeout: T) -> $result {
            RawConsumer::$method(&self.0, $($name,)* timeout)
        }
    )*};
}

pub(super) use {consumer, forward};
