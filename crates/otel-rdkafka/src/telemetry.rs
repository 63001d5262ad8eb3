//! Which operations there are, what their destination is called, and what is known of a client.

use std::sync::{Arc, OnceLock};

use otel_messaging::{
    Instrumentation,
    adapter::{
        Arrival, Attributes, Call, ClientSpan, Destination, Operation, OperationName, ProcessSpan, Settlement, Settles,
        Telemetry, scope,
    },
    semconv::attribute,
};
use rdkafka::{
    TopicPartitionList,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{BorrowedHeaders, BorrowedMessage, Message, OwnedHeaders, OwnedMessage},
    types::RDKafka,
};

use crate::{error::error_type, headers::HeaderExtractor, native};

const SEND: OperationName = OperationName::send("send");
const POLL: OperationName = OperationName::receive("poll");
const PROCESS: OperationName = OperationName::process("process").of(POLL);
const COMMIT: OperationName = OperationName::settle("commit");

/// Everything that one Kafka client tells about itself and its messages.
#[derive(Debug)]
pub(crate) struct Kafka {
    pub(crate) telemetry: Telemetry,
    configured: OnceLock<Configured>,
}

/// What librdkafka made of the client's configuration, defaults included: it is what the broker sees.
#[derive(Debug)]
struct Configured {
    client_id: Option<Arc<str>>,
    group: Option<Arc<str>>,
    max_message_bytes: usize,
}

impl Kafka {
    pub(crate) fn new() -> Self {
        let scope = scope(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        Self { telemetry: Telemetry::new(scope, "kafka"), configured: OnceLock::new() }
    }

    /// Reads the configuration that the client was made with. Once, before its first message.
    pub(crate) fn learn(&self, client: *mut RDKafka) {
        self.configured.get_or_init(|| {
            let known = |name| native::configured(client, name).filter(|value| !value.is_empty());
            Configured {
                client_id: known(c"client.id").map(Arc::from),
                group: known(c"group.id").map(Arc::from),
                max_message_bytes: known(c"message.max.bytes")
                    .and_then(|value| value.parse().ok())
                    .unwrap_or(usize::MAX),
            }
        });
    }

    pub(crate) fn instrument(&self, instrumentation: Instrumentation) {
        // The first one given stays.
        let _ = self.telemetry.instrument(instrumentation);
    }

    /// The largest message that librdkafka accepts, in bytes.
    pub(crate) fn max_message_bytes(&self) -> usize {
        self.configured.get().map_or(usize::MAX, |configured| configured.max_message_bytes)
    }

    #[inline]
    pub(crate) fn call(&self) -> Option<Call> {
        self.telemetry.call()
    }

    fn operation(&self, name: OperationName, topic: Option<&str>) -> Arc<Operation> {
        let key: &[&str] = match &topic {
            Some(topic) => &[topic],
            None => &[],
        };
        self.telemetry.operation(name, key, || {
            let mut destination = match topic {
                Some(topic) => Destination::named(topic),
                None => Destination::server(None),
            };
            if let Some(configured) = self.configured.get() {
                if let Some(client_id) = &configured.client_id {
                    destination = destination.with(attribute::MESSAGING_CLIENT_ID, client_id.clone());
                }
                if let (Some(group), false) = (&configured.group, name == SEND) {
                    destination = destination.with(attribute::MESSAGING_CONSUMER_GROUP_NAME, group.clone());
                }
            }
            destination
        })
    }

    pub(crate) fn send_operation(&self, topic: &str) -> Arc<Operation> {
        self.operation(SEND, Some(topic))
    }

    /// Notes that a message is handed to the application.
    pub(crate) fn hand_out(&self, call: Call, message: &BorrowedMessage<'_>) -> Arc<ProcessSpan> {
        self.hand_out_any(call, message, message.headers())
    }

    /// Notes that a message which owns its data is handed to the application.
    pub(crate) fn hand_out_owned(&self, call: Call, message: &OwnedMessage) -> Arc<ProcessSpan> {
        self.hand_out_any(call, message, message.headers().map(OwnedHeaders::as_borrowed))
    }

    fn hand_out_any(&self, call: Call, message: &impl Message, headers: Option<&BorrowedHeaders>) -> Arc<ProcessSpan> {
        let operation = self.operation(PROCESS, Some(message.topic()));
        let headers = headers.map(HeaderExtractor);
        let arrival = Arrival::new(headers.as_ref().map(|headers| headers as _));
        self.telemetry.hand_out(call, operation, arrival, |attributes| {
            about(attributes, message.partition(), Some(message.offset()));
            if message.payload().is_none() {
                attributes.set(attribute::MESSAGING_KAFKA_MESSAGE_TOMBSTONE, true);
            }
        })
    }

    /// Tells of a poll that failed. The end of a partition is no failure.
    pub(crate) fn poll_failed(&self, call: Option<Call>, error: &KafkaError) {
        if let (Some(call), false) = (call, matches!(error, KafkaError::PartitionEOF(_))) {
            let operation = self.operation(POLL, None);
            self.telemetry.receive(call, &operation, std::iter::empty(), |_| ()).fail(error_type(error), error);
        }
    }

    /// Commits the offset of one message.
    pub(crate) fn commit_message(
        &self,
        message: &BorrowedMessage<'_>,
        process: Option<&Arc<ProcessSpan>>,
        commit: impl FnOnce() -> KafkaResult<()>,
    ) -> KafkaResult<()> {
        let span = self.call().map(|call| {
            let operation = self.operation(COMMIT, Some(message.topic()));
            let settles = process.map_or(Settles::Unknown, Settles::Message);
            self.telemetry.settle(call, &operation, settles, std::iter::empty(), |attributes| {
                about(attributes, message.partition(), Some(message.offset()));
            })
        });
        committed(span, commit())
    }

    /// Commits offsets that name no message; `None` are those of the whole assignment.
    pub(crate) fn commit_offsets(
        &self,
        offsets: Option<&TopicPartitionList>,
        commit: impl FnOnce() -> KafkaResult<()>,
    ) -> KafkaResult<()> {
        let span = self.call().map(|call| self.offsets_span(call, offsets));
        committed(span, commit())
    }

    /// Tells of an automatic commit that failed. librdkafka says nothing of when it began, nor of those with nothing to
    /// commit that they are none.
    pub(crate) fn auto_commit_failed(&self, offsets: &TopicPartitionList, error: &KafkaError) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::NoOffset) {
            return;
        }
        if let Some(call) = self.call() {
            self.offsets_span(call, Some(offsets)).fail(error_type(error), error);
        }
    }

    fn offsets_span(&self, call: Call, offsets: Option<&TopicPartitionList>) -> ClientSpan {
        let elements = offsets.map(TopicPartitionList::elements).unwrap_or_default();
        let topic = elements.first().map(|element| element.topic());
        let topic = topic.filter(|topic| elements.iter().all(|element| element.topic() == *topic));
        let operation = self.operation(COMMIT, topic);
        self.telemetry.settle(call, &operation, Settles::Unknown, std::iter::empty(), |attributes| {
            if let [element] = &elements[..] {
                about(attributes, element.partition(), None);
            }
        })
    }
}

fn committed(span: Option<ClientSpan>, result: KafkaResult<()>) -> KafkaResult<()> {
    if let Some(span) = span {
        match &result {
            Ok(()) => span.settled(Settlement::Commit),
            Err(error) => span.fail(error_type(error), error),
        }
    }
    result
}

fn about(attributes: &mut Attributes, partition: i32, offset: Option<i64>) {
    if partition >= 0 {
        attributes.set(attribute::MESSAGING_DESTINATION_PARTITION_ID, partition_id(partition));
    }
    if let Some(offset) = offset {
        attributes.set(attribute::MESSAGING_KAFKA_OFFSET, offset);
    }
}

/// A partition as the string the convention wants; without an allocation for the numbers that most topics have.
pub(crate) fn partition_id(partition: i32) -> opentelemetry::StringValue {
    match usize::try_from(partition).ok().and_then(|partition| SMALL.get(partition)) {
        Some(&small) => small.into(),
        None => partition.to_string().into(),
    }
}

#[rustfmt::skip]
static SMALL: [&str; 100] = [
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
    use super::partition_id;

    #[test]
    fn a_partition_is_its_number_as_text() {
        for partition in (0..200).chain([i32::MAX]) {
            assert_eq!(partition_id(partition).as_str(), partition.to_string());
        }
    }
}
