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

use crate::producer::OwnedDeliveryResult;
use crate::{
    brokers::BrokerAddress,
    error::error_type,
    headers::{InjectedHeaders, RecordHeaders},
    native::{self, Report},
    telemetry::{ClientTelemetry, partition_id, set_cluster_id},
};

/// The delivery opaque of a raw producer inside a wrapper: the user's, with the span of the send beside it.
#[derive(Debug)]
pub struct TracedOpaque<D> {
    pub(crate) user: D,
    pub(crate) in_flight: Option<SendInFlight>,
}

/// The delivery opaque of a [`FutureProducerContext`](crate::producer::future_producer::FutureProducerContext): where the answer of one
/// message goes.
#[derive(Debug)]
pub struct DeliverySender(pub(crate) oneshot::Sender<OwnedDeliveryResult>);

/// A send whose answer is awaited.
#[derive(Debug)]
pub(crate) struct SendInFlight {
    /// None where nobody is told.
    span: Option<ClientSpan>,
    injected: InjectedHeaders,
    /// How often the application had purged when the send began.
    purges: u32,
    /// The span says the partition already.
    has_partition: bool,
    /// And the cluster.
    has_cluster: bool,
}

/// What librdkafka adds to key, value and headers when it holds a message against `message.max.bytes`, and what a batch has
/// around its only message when the broker holds it against its own limit, which may be the same.
const OVERHEAD: usize = 36 + 61;

impl ClientTelemetry {
    /// Starts the span of a send and writes its context into the record; without a call, nothing is told.
    pub(crate) fn start_send<'a, K, P, D>(
        &self,
        start: Option<OperationStart>,
        record: BaseRecord<'a, K, P, D>,
    ) -> BaseRecord<'a, K, P, TracedOpaque<D>>
    where
        K: ToBytes + ?Sized,
        P: ToBytes + ?Sized,
        D: rdkafka::IntoOpaque,
    {
        let BaseRecord { topic, partition, payload, key, timestamp, mut headers, delivery_opaque } = record;
        let in_flight = start.and_then(|start| {
            let content = (key.map(ToBytes::to_bytes), payload.map(ToBytes::to_bytes));
            let partition = partition.filter(|partition| *partition >= 0);
            self.start_span(start, topic, partition, content, &mut headers)
        });
        let delivery_opaque = TracedOpaque { user: delivery_opaque, in_flight };
        BaseRecord { topic, partition, payload, key, timestamp, headers, delivery_opaque }
    }

    fn start_span(
        &self,
        start: OperationStart,
        topic: &str,
        partition: Option<i32>,
        (key, payload): (Option<&[u8]>, Option<&[u8]>),
        headers: &mut Option<OwnedHeaders>,
    ) -> Option<SendInFlight> {
        let operation = self.send_operation(topic);
        let body = key.map_or(0, <[u8]>::len) + payload.map_or(0, <[u8]>::len);
        let size = OVERHEAD + body + headers.as_ref().map_or(0, |headers| native::size(headers.as_borrowed()));
        let budget = self.max_message_bytes().saturating_sub(size);
        let cluster = self.known_cluster_id();
        let mut headers = RecordHeaders::new(headers, budget);
        let span = self.core.send(start, &operation, Some(&mut headers), |attributes| {
            if let Some(partition) = partition {
                attributes.set(attribute::MESSAGING_DESTINATION_PARTITION_ID, partition_id(partition));
            }
            set_cluster_id(attributes, cluster);
            self.set_content(attributes, key, payload);
        });
        let injected = headers.into_injected();
        let span = Some(span).filter(|span| !span.is_noop());
        let is_something = span.is_some() || !matches!(injected, InjectedHeaders::None);
        is_something.then_some(SendInFlight {
            span,
            injected,
            purges: self.purges.so_far(),
            has_partition: partition.is_some(),
            has_cluster: cluster.is_some(),
        })
    }
}

/// Of a message sent through the raw producer: nothing is told of it.
impl<D> From<D> for TracedOpaque<D> {
    fn from(user: D) -> Self {
        Self { user, in_flight: None }
    }
}

impl<D> TracedOpaque<D> {
    /// librdkafka took the message and this became of it. The span ends, and the message becomes what the user sent.
    pub(crate) fn finish_send(self, telemetry: &ClientTelemetry, report: Report<'_>) -> D {
        if let Some(in_flight) = self.in_flight {
            in_flight.finish(telemetry, report);
        }
        self.user
    }

    /// librdkafka did not take the message. The span fails, and the headers become what the user sent.
    pub(crate) fn fail(self, error: &KafkaError, headers: &mut Option<OwnedHeaders>) -> D {
        if let Some(SendInFlight { span, injected, .. }) = self.in_flight {
            if let Some(span) = span {
                span.fail(error_type(error), error);
            }
            injected.undo(headers);
        }
        self.user
    }
}

impl SendInFlight {
    fn finish(mut self, telemetry: &ClientTelemetry, report: Report<'_>) {
        if let Some(mut span) = self.span.take() {
            self.set_partition(&mut span, report.message());
            match report.error() {
                None => {
                    self.set_cluster(&mut span, telemetry, &report);
                    if native::is_acknowledged(report.message()) {
                        set_offset_and_broker(&mut span, telemetry, report.message());
                    }
                    span.succeed();
                }
                Some(error) => span.fail(telemetry.purges.error_type(self.purges, error), error),
            }
        }
        self.injected.undo_reported(report);
    }

    /// Negative where none was chosen.
    fn set_partition(&self, span: &mut ClientSpan, message: &BorrowedMessage<'_>) {
        let partition = message.partition();
        if partition >= 0 && !self.has_partition {
            span.set(attribute::MESSAGING_DESTINATION_PARTITION_ID, partition_id(partition));
        }
    }

    /// Known once a message has gone to a broker, whether it answers or not.
    fn set_cluster(&self, span: &mut ClientSpan, telemetry: &ClientTelemetry, report: &Report<'_>) {
        if !self.has_cluster
            && let Some(cluster) = telemetry.cluster_id(|| report.cluster_id())
        {
            span.set(attribute::MESSAGING_KAFKA_CLUSTER_ID, cluster.clone());
        }
    }
}

/// The offset, and where the broker is: known of one that has answered, and only then. librdkafka numbers the messages of a
/// batch whether it has an offset to begin with or not.
fn set_offset_and_broker(span: &mut ClientSpan, telemetry: &ClientTelemetry, message: &BorrowedMessage<'_>) {
    let offset = message.offset();
    if offset >= 0 {
        span.set(attribute::MESSAGING_KAFKA_OFFSET, offset);
    }
    let Some(address) = telemetry.broker(message) else { return };
    let is_ip_address = address.is_ip_address();
    let BrokerAddress { host, port, .. } = address;
    if is_ip_address {
        span.set(attribute::NETWORK_PEER_ADDRESS, host.clone());
        span.set(attribute::NETWORK_PEER_PORT, i64::from(port));
    }
    span.set(attribute::SERVER_ADDRESS, host);
    span.set(attribute::SERVER_PORT, i64::from(port));
}

/// Gives a refused record back as the user gave it.
pub(crate) fn fail_send<'a, K, P, D>(
    error: &KafkaError,
    record: BaseRecord<'a, K, P, TracedOpaque<D>>,
) -> BaseRecord<'a, K, P, D>
where
    K: ToBytes + ?Sized,
    P: ToBytes + ?Sized,
    D: rdkafka::IntoOpaque,
{
    let BaseRecord { topic, partition, payload, key, timestamp, mut headers, delivery_opaque } = record;
    let delivery_opaque = delivery_opaque.fail(error, &mut headers);
    BaseRecord { topic, partition, payload, key, timestamp, headers, delivery_opaque }
}
