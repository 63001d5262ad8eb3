//! The telemetry of one client: operations, names of destinations, configuration, cluster and brokers.

use std::{
    ptr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicPtr, Ordering},
    },
};

use otel_messaging::{
    Instrumentation,
    adapter::{Attributes, Destination, OperationName, OperationStart, PreparedOperation, SourceId, Telemetry, scope},
    semconv::attribute,
};
use rdkafka::{
    client::{Client, ClientContext},
    message::BorrowedMessage,
    types::RDKafka,
};

use crate::{
    brokers::{BrokerAddress, Brokers},
    native,
    purges::Purges,
};

pub(crate) const CREATE: OperationName = OperationName::create("create");
pub(crate) const SEND: OperationName = OperationName::send("send");
pub(crate) const POLL: OperationName = OperationName::receive("poll");
pub(crate) const PROCESS: OperationName = OperationName::process("process").of(POLL);
pub(crate) const COMMIT: OperationName = OperationName::settle("commit");

#[derive(Debug)]
pub(crate) struct ClientTelemetry {
    pub(crate) core: Telemetry,
    /// The client as a source of messages. A queue of one partition is a source of its own.
    pub(crate) source: SourceId,
    configuration: OnceLock<Configuration>,
    client: AtomicPtr<RDKafka>,
    cluster: OnceLock<Option<Arc<str>>>,
    pub(crate) brokers: Brokers,
    pub(crate) purges: Purges,
}

/// librdkafka's view of the client's configuration, with its defaults, as the broker sees it.
#[derive(Debug, Clone)]
struct Configuration {
    client_id: Option<Arc<str>>,
    group: Option<Arc<str>>,
    max_message_bytes: usize,
}

impl ClientTelemetry {
    pub(crate) fn new() -> Self {
        let scope = scope(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        Self {
            core: Telemetry::new(scope, "kafka"),
            source: SourceId::new(),
            configuration: OnceLock::new(),
            client: AtomicPtr::new(ptr::null_mut()),
            cluster: OnceLock::new(),
            brokers: Brokers::default(),
            purges: Purges::default(),
        }
    }

    /// The same client and source, reported to another instrumentation: for telemetry that no client has in its context.
    pub(crate) fn with_instrumentation(&self, instrumentation: Instrumentation) -> Self {
        let new = Self { source: self.source, configuration: self.configuration.clone(), ..Self::new() };
        new.core.instrument(instrumentation);
        new
    }

    /// Called for the client that has this telemetry in its context. No other client has it.
    pub(crate) fn attach_client<C: ClientContext>(&self, client: &Client<C>) {
        self.read_configuration(client);
        self.client.store(client.native_ptr(), Ordering::Release);
    }

    /// The client that has this telemetry in its context, or null. Valid as long as that client lives.
    pub(crate) fn client_ptr(&self) -> *mut RDKafka {
        self.client.load(Ordering::Acquire)
    }

    /// The id of the cluster. `ask` is called once, after the first message was sent or received: before that, librdkafka has
    /// not heard from a broker.
    #[inline]
    pub(crate) fn cluster_id(&self, ask: impl FnOnce() -> Option<String>) -> Option<&Arc<str>> {
        self.cluster.get_or_init(|| ask().map(Arc::from)).as_ref()
    }

    /// The id of the cluster, if it is known already.
    #[inline]
    pub(crate) fn known_cluster_id(&self) -> Option<&Arc<str>> {
        self.cluster.get()?.as_ref()
    }

    /// Reads a report of librdkafka, unless telemetry is off.
    pub(crate) fn read_statistics(&self, report: &[u8]) {
        if self.start_operation().is_some() {
            self.brokers.read_statistics(report);
        }
    }

    /// Reads the client's configuration once, before its first message.
    pub(crate) fn read_configuration<C: ClientContext>(&self, client: &Client<C>) {
        self.configuration.get_or_init(|| {
            let value_of = |name| native::configuration_value(client, name).filter(|value| !value.is_empty());
            Configuration {
                client_id: value_of(c"client.id").map(Arc::from),
                group: value_of(c"group.id").map(Arc::from),
                max_message_bytes: value_of(c"message.max.bytes")
                    .and_then(|value| value.parse().ok())
                    .unwrap_or(usize::MAX),
            }
        });
    }

    /// The largest message that librdkafka accepts, in bytes.
    #[inline]
    pub(crate) fn max_message_bytes(&self) -> usize {
        self.configuration.get().map_or(usize::MAX, |configuration| configuration.max_message_bytes)
    }

    #[inline]
    pub(crate) fn start_operation(&self) -> Option<OperationStart> {
        self.core.start_operation()
    }

    /// The address of the broker that a message was fetched from or sent to, if librdkafka's statistics contain it.
    #[inline]
    pub(crate) fn broker(&self, message: &BorrowedMessage<'_>) -> Option<BrokerAddress> {
        self.brokers.any_known().then(|| self.brokers.find(native::broker_id(message))).flatten()
    }

    #[inline]
    pub(crate) fn operation(&self, name: OperationName, topic: Option<&str>) -> Arc<PreparedOperation> {
        self.operation_at(name, topic, None)
    }

    /// Like [`operation`](Self::operation), with a broker that is certain.
    #[inline]
    pub(crate) fn operation_at(
        &self,
        name: OperationName,
        topic: Option<&str>,
        broker: Option<&BrokerAddress>,
    ) -> Arc<PreparedOperation> {
        let key: &[&str] = match (&topic, broker) {
            (Some(topic), None) => &[topic],
            (Some(topic), Some(broker)) => &[topic, &broker.node],
            (None, _) => &[],
        };
        self.core.operation(name, key, || {
            let mut destination = match topic {
                Some(topic) => Destination::named(topic),
                None => Destination::server(None),
            };
            if let Some(BrokerAddress { host, port, .. }) = broker {
                destination = destination.at(host.clone(), *port);
            }
            if let Some(configuration) = self.configuration.get() {
                if let Some(client_id) = &configuration.client_id {
                    destination = destination.with(attribute::MESSAGING_CLIENT_ID, client_id.clone());
                }
                if let (Some(group), false) = (&configuration.group, name == SEND) {
                    destination = destination.with(attribute::MESSAGING_CONSUMER_GROUP_NAME, group.clone());
                }
            }
            // The first message is delivered after the cluster's id is known, and the id never changes.
            if name == PROCESS
                && let Some(cluster) = self.known_cluster_id()
            {
                destination = destination.with(attribute::MESSAGING_KAFKA_CLUSTER_ID, cluster.clone());
            }
            destination
        })
    }

    /// Sets the attributes of the message's key and payload.
    #[inline]
    pub(crate) fn set_content(&self, attributes: &mut Attributes, key: Option<&[u8]>, payload: Option<&[u8]>) {
        match payload {
            None => attributes.set(attribute::MESSAGING_KAFKA_MESSAGE_TOMBSTONE, true),
            Some(payload) => self.core.set_body_size(attributes, payload.len()),
        }
        attributes.set_opt(attribute::MESSAGING_KAFKA_MESSAGE_KEY, key.and_then(|key| self.core.captured_key(key)));
    }
}

#[inline]
pub(crate) fn set_partition_and_offset(attributes: &mut Attributes, partition: i32, offset: Option<i64>) {
    if partition >= 0 {
        attributes.set(attribute::MESSAGING_DESTINATION_PARTITION_ID, partition_id(partition));
    }
    // librdkafka uses negative numbers where there is no offset.
    attributes.set_opt(attribute::MESSAGING_KAFKA_OFFSET, offset.filter(|&offset| offset >= 0));
}

#[inline]
pub(crate) fn set_cluster_id(attributes: &mut Attributes, cluster: Option<&Arc<str>>) {
    attributes.set_opt(attribute::MESSAGING_KAFKA_CLUSTER_ID, cluster.cloned());
}

/// The partition as a string, as the convention defines it. The partitions that most topics have need no allocation.
#[inline]
pub(crate) fn partition_id(partition: i32) -> opentelemetry::StringValue {
    match usize::try_from(partition).ok().and_then(|partition| SMALL_PARTITIONS.get(partition)) {
        Some(&small) => small.into(),
        None => partition.to_string().into(),
    }
}

#[rustfmt::skip]
static SMALL_PARTITIONS: [&str; 100] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9",
    "10", "11", "12", "13", "14", "15", "16", "17", "18", "19",
    "20", "21", "22", "23", "24", "25", "26", "27", "28", "29",
    "30", "31", "32", "33", "34", "35", "36", "37", "38", "39",
    "40", "41", "42", "43", "44", "45", "46", "47", "48", "49",
    "50", "51", "52", "53", "54", "55", "56", "57", "58", "59",
    "60", "61", "62", "63", "64", "65", "66", "67", "68", "69",
    "70", "71", "72", "73", "74", "75", "76", "77", "78", "79",
    "80", "81", "82", "83", "84", "85", "86", "87", "88", "89",
    "90", "91", "92", "93", "94", "95", "96", "97", "98", "99",
];

#[cfg(test)]
mod tests {
    use otel_messaging::{Instrumentation, adapter::Attributes, semconv::attribute};
    use proptest::prelude::*;
    use rdkafka::ClientConfig;

    use super::{partition_id, set_partition_and_offset};
    use crate::{
        consumer::BaseConsumer,
        otel::Incoming,
        producer::{BaseProducer, DefaultProducerContext, FutureProducer, ThreadedProducer},
    };

    /// The expected attributes.
    fn expected(partition: i32, offset: Option<i64>) -> String {
        let mut expected = Attributes::default();
        if partition > -1 {
            expected.set(attribute::MESSAGING_DESTINATION_PARTITION_ID, partition.to_string());
        }
        if let Some(offset @ 0..) = offset {
            expected.set(attribute::MESSAGING_KAFKA_OFFSET, offset);
        }
        format!("{expected:?}")
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_partition_and_an_offset_that_are_none_are_left_out(
            partition in prop_oneof![any::<i32>(), -2..2_i32],
            offset in prop::option::of(prop_oneof![any::<i64>(), -3..3_i64, Just(-1_001)]),
        ) {
            let mut attributes = Attributes::default();
            set_partition_and_offset(&mut attributes, partition, offset);
            let owned = |text: String| text.replace("Static(", "Owned(");
            prop_assert_eq!(owned(format!("{attributes:?}")), owned(expected(partition, offset)));
        }
    }

    #[test]
    fn the_last_instrumentation_is_used() {
        let (none, sizes) = (Instrumentation::default(), Instrumentation::builder().with_captured_sizes(true).build());
        macro_rules! assert_captures_sizes {
            ($($client:ty),*) => {$({
                let client: $client = ClientConfig::new().create().unwrap();
                let client = client.with_instrumentation(none.clone()).with_instrumentation(sizes.clone());
                assert!(client.telemetry().core.captures_sizes());
            })*};
        }
        assert_captures_sizes!(BaseProducer, ThreadedProducer<DefaultProducerContext>, FutureProducer, BaseConsumer);
        let incoming = Incoming::of_unknown().with_instrumentation(none.clone());
        let later = incoming.clone().with_instrumentation(sizes.clone());
        assert!(later.0.core.captures_sizes() && !incoming.0.core.captures_sizes());
    }

    #[test]
    fn a_partition_is_its_number_as_text() {
        for partition in (0..200).chain([i32::MAX]) {
            assert_eq!(partition_id(partition).as_str(), partition.to_string());
        }
    }
}
