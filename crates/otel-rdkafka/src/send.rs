//! A send, from the call to the delivery report.

use otel_messaging::{
    adapter::{ClientSpan, OperationStart},
    semconv::attribute,
};
use rdkafka::{
    IntoOpaque,
    error::{KafkaError, RDKafkaErrorCode},
    message::{self as raw_message, Message, OwnedHeaders, ToBytes},
    producer::{self as raw_producer, BaseRecord, Partitioner},
};

use crate::{
    brokers::BrokerAddress,
    context::Traced,
    error::error_type,
    headers::{InjectedHeaders, RecordHeaders},
    message::BorrowedMessage,
    native::{self, DeliveryReport},
    producer::ProducerContext,
    telemetry::{ClientTelemetry, SEND, partition_id, set_cluster_id},
};

/// The error with which librdkafka refuses a record while its queue is full.
pub(crate) const QUEUE_FULL: KafkaError = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);

/// The bytes that count besides key, value and headers: 36 when librdkafka compares a message with `message.max.bytes`, and 61
/// of the batch when the broker compares a batch of one message with its own limit, which may be the same number.
const OVERHEAD: usize = 36 + 61;

/// The delivery opaque of a raw producer inside a wrapper: the user's opaque and the send's span.
#[derive(Debug)]
pub struct TracedOpaque<D> {
    pub(crate) user: D,
    pub(crate) in_flight: Option<SendInFlight>,
}

/// A message without a span, sent through the raw producer.
impl<D> From<D> for TracedOpaque<D> {
    fn from(user: D) -> Self {
        Self { user, in_flight: None }
    }
}

/// A send that has no delivery report yet.
#[derive(Debug)]
pub(crate) struct SendInFlight {
    /// `None` if nothing is recorded: only the injected headers have to be removed.
    span: Option<ClientSpan>,
    injected: InjectedHeaders,
    /// The number of purges that the application had requested when the send started.
    purges_before: u32,
    /// Whether the span has the partition already.
    has_partition: bool,
    /// Whether the span has the cluster's id already.
    has_cluster: bool,
}

/// Starts the span of a send and writes its context into the record. Without a `start` the send has no span.
pub(crate) fn start_send<'a, K: ToBytes + ?Sized, P: ToBytes + ?Sized, D: IntoOpaque>(
    telemetry: &ClientTelemetry,
    start: Option<OperationStart>,
    record: BaseRecord<'a, K, P, D>,
) -> BaseRecord<'a, K, P, TracedOpaque<D>> {
    let BaseRecord { topic, partition, payload, key, timestamp, mut headers, delivery_opaque } = record;
    let in_flight = start.and_then(|start| {
        let content = (key.map(ToBytes::to_bytes), payload.map(ToBytes::to_bytes));
        let partition = partition.filter(|partition| *partition >= 0);
        SendInFlight::start(telemetry, start, topic, partition, content, &mut headers)
    });
    let delivery_opaque = TracedOpaque { user: delivery_opaque, in_flight };
    BaseRecord { topic, partition, payload, key, timestamp, headers, delivery_opaque }
}

/// Fails the span of a record that librdkafka did not accept, and restores the record that the user gave.
pub(crate) fn fail_send<'a, K: ToBytes + ?Sized, P: ToBytes + ?Sized, D: IntoOpaque>(
    (error, record): (KafkaError, BaseRecord<'a, K, P, TracedOpaque<D>>),
) -> (KafkaError, BaseRecord<'a, K, P, D>) {
    let BaseRecord { topic, partition, payload, key, timestamp, mut headers, delivery_opaque } = record;
    let TracedOpaque { user: delivery_opaque, in_flight } = delivery_opaque;
    if let Some(SendInFlight { span, injected, .. }) = in_flight {
        if let Some(span) = span {
            span.fail(error_type(&error), &error);
        }
        injected.undo(&mut headers);
    }
    (error, BaseRecord { topic, partition, payload, key, timestamp, headers, delivery_opaque })
}

/// A record that waits for space in a full queue. If it is dropped, the send fails with [`QUEUE_FULL`].
pub(crate) struct RetryGuard<'a, K: ToBytes + ?Sized, P: ToBytes + ?Sized, D: IntoOpaque>(
    pub(crate) Option<BaseRecord<'a, K, P, TracedOpaque<D>>>,
);

impl<K: ToBytes + ?Sized, P: ToBytes + ?Sized, D: IntoOpaque> Drop for RetryGuard<'_, K, P, D> {
    fn drop(&mut self) {
        if let Some(record) = self.0.take() {
            fail_send((QUEUE_FULL, record));
        }
    }
}

impl<C: ProducerContext<Part>, Part: Partitioner> raw_producer::ProducerContext<Part> for Traced<C> {
    type DeliveryOpaque = TracedOpaque<C::DeliveryOpaque>;

    fn delivery(&self, delivery_result: &raw_message::DeliveryResult<'_>, opaque: Self::DeliveryOpaque) {
        let TracedOpaque { user: opaque, in_flight } = opaque;
        if let Some(in_flight) = in_flight {
            #[allow(unsafe_code, reason = "only this call knows which code has the message")]
            // SAFETY: rdkafka gives the result to this call. The report is dropped before the user's context gets the message.
            // The client that calls is the one in which this context is, if `attach_client` was called; no other client has
            // this context.
            let report = unsafe { DeliveryReport::new(delivery_result, self.telemetry().client_ptr()) };
            in_flight.finish(self.telemetry(), report);
        }
        let reported = BorrowedMessage::reported(delivery_result);
        match delivery_result {
            Ok(_) => self.user().delivery(&Ok(reported), opaque),
            Err((error, _)) => self.user().delivery(&Err((error.clone(), reported)), opaque),
        }
    }

    fn get_custom_partitioner(&self) -> Option<&Part> {
        self.user().get_custom_partitioner()
    }
}

impl SendInFlight {
    /// `None` if there is neither something to record nor a header to remove.
    fn start(
        telemetry: &ClientTelemetry,
        start: OperationStart,
        topic: &str,
        partition: Option<i32>,
        (key, payload): (Option<&[u8]>, Option<&[u8]>),
        headers: &mut Option<OwnedHeaders>,
    ) -> Option<Self> {
        let operation = telemetry.operation(SEND, Some(topic));
        let body = key.map_or(0, <[u8]>::len) + payload.map_or(0, <[u8]>::len);
        let size = OVERHEAD + body + headers.as_ref().map_or(0, |headers| native::headers_size(headers.as_borrowed()));
        let budget = telemetry.max_message_bytes().saturating_sub(size);
        let cluster = telemetry.known_cluster_id();
        let mut headers = RecordHeaders::new(headers, budget);
        let span = telemetry.core.send(start, &operation, Some(&mut headers), |attributes| {
            attributes.set_opt(attribute::MESSAGING_DESTINATION_PARTITION_ID, partition.map(partition_id));
            set_cluster_id(attributes, cluster);
            telemetry.set_content(attributes, key, payload);
        });
        let injected = headers.into_injected();
        let span = Some(span).filter(|span| !span.is_noop());
        let is_needed = span.is_some() || !matches!(injected, InjectedHeaders::None);
        is_needed.then_some(Self {
            span,
            injected,
            purges_before: telemetry.purges.requests(),
            has_partition: partition.is_some(),
            has_cluster: cluster.is_some(),
        })
    }

    /// Ends the span with the delivery report, and restores the headers that the user gave.
    fn finish(mut self, telemetry: &ClientTelemetry, report: DeliveryReport<'_>) {
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
                Some(error) => span.fail(telemetry.purges.error_type(self.purges_before, error), error),
            }
        }
        self.injected.undo_reported(report);
    }

    /// The partition is negative if none was chosen.
    fn set_partition(&self, span: &mut ClientSpan, message: &raw_message::BorrowedMessage<'_>) {
        let partition = message.partition();
        if partition >= 0 && !self.has_partition {
            span.set(attribute::MESSAGING_DESTINATION_PARTITION_ID, partition_id(partition));
        }
    }

    /// librdkafka knows the cluster once it has sent a message to a broker, also if no broker answers (`acks=0`).
    fn set_cluster(&self, span: &mut ClientSpan, telemetry: &ClientTelemetry, report: &DeliveryReport<'_>) {
        if !self.has_cluster
            && let Some(cluster) = telemetry.cluster_id(|| report.cluster_id())
        {
            span.set(attribute::MESSAGING_KAFKA_CLUSTER_ID, cluster.clone());
        }
    }
}

/// Sets the attributes of an acknowledged message. librdkafka may give other messages an offset too: it numbers the messages of a
/// batch even without the offset of the first one.
fn set_offset_and_broker(
    span: &mut ClientSpan,
    telemetry: &ClientTelemetry,
    message: &raw_message::BorrowedMessage<'_>,
) {
    let offset = message.offset();
    if offset >= 0 {
        span.set(attribute::MESSAGING_KAFKA_OFFSET, offset);
    }
    if let Some(BrokerAddress { host, port, .. }) = telemetry.broker(message) {
        span.set_server(host, port);
    }
}
