//! What travels with a message from `send` to its delivery report.

use futures_channel::oneshot;
use otel_messaging::{
    adapter::{ClientSpan, OperationStart},
    semconv::attribute,
};
use rdkafka::{
    error::KafkaError,
    message::{BorrowedMessage, Message, OwnedHeaders, ToBytes},
    producer::BaseRecord,
};

use super::future_producer::OwnedDeliveryResult;
use crate::{
    brokers::Address,
    error::error_type,
    headers::{InjectedHeaders, RecordHeaders},
    native::{self, Report},
    telemetry::{ClientTelemetry, of_cluster, partition_id},
};

/// The delivery opaque of a raw producer inside a wrapper: the user's, with the span of the send beside it.
#[derive(Debug)]
pub struct Pending<D> {
    pub(crate) user: D,
    pub(crate) sent: Option<Sent>,
}

/// The delivery opaque of a [`FutureProducerContext`](super::future_producer::FutureProducerContext): where the answer of one
/// message goes.
#[derive(Debug)]
pub struct Reply(pub(crate) oneshot::Sender<OwnedDeliveryResult>);

/// A send whose answer is awaited.
#[derive(Debug)]
pub(crate) struct Sent {
    /// None where nobody is told.
    span: Option<ClientSpan>,
    injected: InjectedHeaders,
    /// How often the application had purged when the send began.
    purges: u32,
    /// The span says the partition already.
    partition_told: bool,
    /// And the cluster.
    cluster_told: bool,
}

/// What librdkafka adds to key, value and headers when it holds a message against `message.max.bytes`, and what a batch has
/// around its only message when the broker holds it against its own limit, which may be the same.
const OVERHEAD: usize = 36 + 61;

impl ClientTelemetry {
    /// Starts the span of a send and writes its context into the record; without a call, nothing is told.
    pub(crate) fn begin<'a, K, P, D>(
        &self,
        start: Option<OperationStart>,
        record: BaseRecord<'a, K, P, D>,
    ) -> BaseRecord<'a, K, P, Pending<D>>
    where
        K: ToBytes + ?Sized,
        P: ToBytes + ?Sized,
        D: rdkafka::IntoOpaque,
    {
        let BaseRecord { topic, partition, payload, key, timestamp, mut headers, delivery_opaque } = record;
        let sent = start.and_then(|start| {
            let content = (key.map(ToBytes::to_bytes), payload.map(ToBytes::to_bytes));
            let partition = partition.filter(|partition| *partition >= 0);
            self.sent(start, topic, partition, content, &mut headers)
        });
        let delivery_opaque = Pending { user: delivery_opaque, sent };
        BaseRecord { topic, partition, payload, key, timestamp, headers, delivery_opaque }
    }

    fn sent(
        &self,
        start: OperationStart,
        topic: &str,
        partition: Option<i32>,
        (key, payload): (Option<&[u8]>, Option<&[u8]>),
        headers: &mut Option<OwnedHeaders>,
    ) -> Option<Sent> {
        let operation = self.send_operation(topic);
        let body = key.map_or(0, <[u8]>::len) + payload.map_or(0, <[u8]>::len);
        let size = OVERHEAD + body + headers.as_ref().map_or(0, |headers| native::size(headers.as_borrowed()));
        let budget = self.max_message_bytes().saturating_sub(size);
        let cluster = self.known_cluster();
        let mut headers = RecordHeaders::new(headers, budget);
        let span = self.core.send(start, &operation, Some(&mut headers), |attributes| {
            if let Some(partition) = partition {
                attributes.set(attribute::MESSAGING_DESTINATION_PARTITION_ID, partition_id(partition));
            }
            of_cluster(attributes, cluster);
            self.of_content(attributes, key, payload);
        });
        let injected = headers.into_injected();
        let span = Some(span).filter(|span| !span.is_noop());
        let is_something = span.is_some() || !matches!(injected, InjectedHeaders::None);
        is_something.then_some(Sent {
            span,
            injected,
            purges: self.purges.so_far(),
            partition_told: partition.is_some(),
            cluster_told: cluster.is_some(),
        })
    }
}

/// Of a message sent through the raw producer: nothing is told of it.
impl<D> From<D> for Pending<D> {
    fn from(user: D) -> Self {
        Self { user, sent: None }
    }
}

impl<D> Pending<D> {
    /// librdkafka took the message and this became of it. The span ends, and the message becomes what the user sent.
    pub(crate) fn delivered(self, telemetry: &ClientTelemetry, report: Report<'_>) -> D {
        if let Some(sent) = self.sent {
            sent.delivered(telemetry, report);
        }
        self.user
    }

    /// librdkafka did not take the message. The span fails, and the headers become what the user sent.
    pub(crate) fn refused(self, error: &KafkaError, headers: &mut Option<OwnedHeaders>) -> D {
        if let Some(Sent { span, injected, .. }) = self.sent {
            if let Some(span) = span {
                span.fail(error_type(error), error);
            }
            injected.undo(headers);
        }
        self.user
    }
}

impl Sent {
    fn delivered(mut self, telemetry: &ClientTelemetry, report: Report<'_>) {
        if let Some(mut span) = self.span.take() {
            self.tell_partition(&mut span, report.message());
            match report.error() {
                None => {
                    self.tell_cluster(&mut span, telemetry, &report);
                    if native::is_acknowledged(report.message()) {
                        tell_answer(&mut span, telemetry, report.message());
                    }
                    span.succeed();
                }
                Some(error) => span.fail(telemetry.purges.error_type(self.purges, error), error),
            }
        }
        self.injected.undo_reported(report);
    }

    /// Negative where none was chosen.
    fn tell_partition(&self, span: &mut ClientSpan, message: &BorrowedMessage<'_>) {
        let partition = message.partition();
        if partition >= 0 && !self.partition_told {
            span.set(attribute::MESSAGING_DESTINATION_PARTITION_ID, partition_id(partition));
        }
    }

    /// Known once a message has gone to a broker, whether it answers or not.
    fn tell_cluster(&self, span: &mut ClientSpan, telemetry: &ClientTelemetry, report: &Report<'_>) {
        if !self.cluster_told
            && let Some(cluster) = telemetry.cluster(|| report.cluster_id())
        {
            span.set(attribute::MESSAGING_KAFKA_CLUSTER_ID, cluster.clone());
        }
    }
}

/// The offset, and where the broker is: known of one that has answered, and only then. librdkafka numbers the messages of a
/// batch whether it has an offset to begin with or not.
fn tell_answer(span: &mut ClientSpan, telemetry: &ClientTelemetry, message: &BorrowedMessage<'_>) {
    let offset = message.offset();
    if offset >= 0 {
        span.set(attribute::MESSAGING_KAFKA_OFFSET, offset);
    }
    let Some(address) = telemetry.broker(message) else { return };
    let is_peer = address.is_peer();
    let Address { host, port, .. } = address;
    if is_peer {
        span.set(attribute::NETWORK_PEER_ADDRESS, host.clone());
        span.set(attribute::NETWORK_PEER_PORT, i64::from(port));
    }
    span.set(attribute::SERVER_ADDRESS, host);
    span.set(attribute::SERVER_PORT, i64::from(port));
}

/// Gives a refused record back as the user gave it.
pub(crate) fn refused<'a, K, P, D>(
    error: &KafkaError,
    record: BaseRecord<'a, K, P, Pending<D>>,
) -> BaseRecord<'a, K, P, D>
where
    K: ToBytes + ?Sized,
    P: ToBytes + ?Sized,
    D: rdkafka::IntoOpaque,
{
    let BaseRecord { topic, partition, payload, key, timestamp, mut headers, delivery_opaque } = record;
    let delivery_opaque = delivery_opaque.refused(error, &mut headers);
    BaseRecord { topic, partition, payload, key, timestamp, headers, delivery_opaque }
}
