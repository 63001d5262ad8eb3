//! High-level, futures-enabled Kafka producer: `rdkafka::producer::future_producer`.

use std::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_channel::oneshot;
use otel_messaging::adapter::opaque_debug;
use rdkafka::{
    ClientConfig, Timestamp,
    client::{ClientContext, DefaultClientContext},
    config::{FromClientConfig, FromClientConfigAndContext},
    error::{KafkaError, KafkaResult},
    message::{Message as _, ToBytes},
    producer::{BaseRecord, NoCustomPartitioner, Partitioner, Producer as _, ThreadedProducer},
    util::{AsyncRuntime, DefaultRuntime, Timeout},
};

use super::{ProducerContext, producer};
use crate::{
    context::{Traced, client_context},
    message::{DeliveryResult, OwnedMessage},
    opaque::DeliverySender,
    send::{QUEUE_FULL, RetryGuard, fail_send, start_send},
};

pub use rdkafka::producer::future_producer::{Delivery, FutureRecord};

/// The result of a send of the [`FutureProducer`]: partition, offset and timestamp, or the error and a copy of the message as it
/// was given.
pub type OwnedDeliveryResult = Result<Delivery, (KafkaError, OwnedMessage)>;

/// The context of the [`FutureProducer`], which completes the future of a message.
#[derive(Clone)]
pub struct FutureProducerContext<C: ClientContext + 'static> {
    wrapped_context: C,
}

opaque_debug! { [C: ClientContext + 'static] FutureProducerContext<C>, "FutureProducerContext" }

client_context! { [+ 'static] FutureProducerContext<C>, wrapped_context }

impl<C: ClientContext + 'static, Part: Partitioner> ProducerContext<Part> for FutureProducerContext<C> {
    type DeliveryOpaque = DeliverySender;

    fn delivery(&self, delivery_result: &DeliveryResult<'_>, DeliverySender(sender): DeliverySender) {
        let result = match delivery_result {
            Ok(message) => Ok(Delivery {
                partition: message.partition(),
                offset: message.offset(),
                timestamp: message.timestamp(),
            }),
            Err((error, message)) => Err((error.clone(), message.detach())),
        };
        // The future may have been dropped.
        let _ = sender.send(result);
    }
}

/// A producer that returns a future for every message; see `rdkafka::producer::FutureProducer`.
///
/// The span of a message ends at its delivery report, also if the future was dropped.
#[must_use = "Producer polling thread will stop immediately if unused"]
pub struct FutureProducer<
    C: ClientContext + 'static = DefaultClientContext,
    R = DefaultRuntime,
    Part: Partitioner = NoCustomPartitioner,
> {
    raw: Arc<ThreadedProducer<Traced<FutureProducerContext<C>>, Part>>,
    runtime: PhantomData<R>,
}

impl<C: ClientContext + 'static, R> Clone for FutureProducer<C, R> {
    fn clone(&self) -> Self {
        Self { raw: self.raw.clone(), runtime: PhantomData }
    }
}

impl<R: AsyncRuntime> FromClientConfig for FutureProducer<DefaultClientContext, R> {
    fn from_config(config: &ClientConfig) -> KafkaResult<Self> {
        Self::from_config_and_context(config, DefaultClientContext)
    }
}

impl<C: ClientContext + 'static, R: AsyncRuntime> FromClientConfigAndContext<C> for FutureProducer<C, R> {
    fn from_config_and_context(config: &ClientConfig, context: C) -> KafkaResult<Self> {
        let context = Traced::new(FutureProducerContext { wrapped_context: context });
        let raw = ThreadedProducer::from_config_and_context(config, context)?;
        raw.context().telemetry().attach_client(raw.client());
        Ok(Self { raw: Arc::new(raw), runtime: PhantomData })
    }
}

/// The delivery result of a message sent by [`FutureProducer::send_result`].
///
/// Resolves to [`oneshot::Canceled`] if the producer is dropped without a delivery report.
#[derive(Debug)]
pub struct DeliveryFuture {
    answer: oneshot::Receiver<OwnedDeliveryResult>,
}

impl Future for DeliveryFuture {
    type Output = Result<OwnedDeliveryResult, oneshot::Canceled>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(task)
    }
}

/// The time after which [`FutureProducer::send`] tries a full queue again; the same as in rdkafka.
const RETRY_AFTER: Duration = Duration::from_millis(100);

impl<C: ClientContext + 'static, R: AsyncRuntime> FutureProducer<C, R> {
    /// Sends a message to Kafka and waits for the result; see `rdkafka::producer::FutureProducer::send`.
    ///
    /// The call sets the span's parent and start. The first poll of the future makes the span and sends the message. One span
    /// covers the wait for space in a full queue and the delivery.
    ///
    /// # Errors
    ///
    /// rdkafka's, with a copy of the message that was given.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its first poll, the message is not sent and there is no span. If it is dropped while it
    /// waits for space in the queue, the message is not sent and the span fails with `_QUEUE_FULL`. If it is dropped later, the
    /// message is delivered and the span ends at its delivery report.
    pub fn send<K: ToBytes + ?Sized, P: ToBytes + ?Sized, T: Into<Timeout>>(
        &self,
        record: FutureRecord<'_, K, P>,
        queue_timeout: T,
    ) -> impl Future<Output = OwnedDeliveryResult> {
        let start = self.telemetry().start_operation();
        async move {
            let started = Instant::now();
            let queue_timeout = queue_timeout.into();
            let may_retry = || match queue_timeout {
                Timeout::Never => true,
                Timeout::After(timeout) => started.elapsed() < timeout,
            };
            let topic = record.topic;
            let (sender, answer) = oneshot::channel();
            let mut next = Some(start_send(self.telemetry(), start, into_base_record(record, sender)));
            while let Some(record) = next.take() {
                let Err((error, record)) = self.raw.send(record) else { break };
                if error != QUEUE_FULL || !may_retry() {
                    let (error, record) = fail_send((error, record));
                    return Err((error, into_owned_message(record)));
                }
                let mut guard = RetryGuard(Some(record));
                R::delay_for(RETRY_AFTER).await;
                next = guard.0.take();
            }
            match answer.await {
                Ok(result) => result,
                // Not expected: the producer is borrowed, and reports every message.
                Err(oneshot::Canceled) => {
                    let nothing = OwnedMessage::new(None, None, topic.to_owned(), Timestamp::NotAvailable, -1, 0, None);
                    Err((KafkaError::Canceled, nothing))
                }
            }
        }
    }

    /// Sends a message to Kafka, and fails at once if the queue is full; see
    /// `rdkafka::producer::FutureProducer::send_result`.
    ///
    /// # Errors
    ///
    /// rdkafka's, with the record that was given.
    #[allow(clippy::result_large_err, reason = "the client's signature")]
    pub fn send_result<'a, K: ToBytes + ?Sized, P: ToBytes + ?Sized>(
        &self,
        record: FutureRecord<'a, K, P>,
    ) -> Result<DeliveryFuture, (KafkaError, FutureRecord<'a, K, P>)> {
        let (sender, answer) = oneshot::channel();
        let telemetry = self.telemetry();
        let record = start_send(telemetry, telemetry.start_operation(), into_base_record(record, sender));
        match self.raw.send(record).map_err(fail_send) {
            Ok(()) => Ok(DeliveryFuture { answer }),
            Err((error, record)) => Err((error, into_future_record(record))),
        }
    }

    /// Serves delivery reports and other events; the producer's thread does it too.
    pub fn poll<T: Into<Timeout>>(&self, timeout: T) {
        self.raw.poll(timeout);
    }
}

impl<C: ClientContext + 'static, R, Part: Partitioner> FutureProducer<C, R, Part> {
    /// The raw producer. Messages sent through it have no spans.
    pub fn get_ref(&self) -> &ThreadedProducer<Traced<FutureProducerContext<C>>, Part> {
        &self.raw
    }
}

producer! {
    [C: ClientContext + 'static, R: AsyncRuntime, Part: Partitioner]
    FutureProducerContext<C>, Part, FutureProducer: FutureProducer<C, R, Part>
}

fn into_base_record<'a, K: ToBytes + ?Sized, P: ToBytes + ?Sized>(
    record: FutureRecord<'a, K, P>,
    sender: oneshot::Sender<OwnedDeliveryResult>,
) -> BaseRecord<'a, K, P, DeliverySender> {
    let FutureRecord { topic, partition, payload, key, timestamp, headers } = record;
    BaseRecord { topic, partition, payload, key, timestamp, headers, delivery_opaque: DeliverySender(sender) }
}

fn into_future_record<'a, K: ToBytes + ?Sized, P: ToBytes + ?Sized>(
    record: BaseRecord<'a, K, P, DeliverySender>,
) -> FutureRecord<'a, K, P> {
    let BaseRecord { topic, partition, payload, key, timestamp, headers, .. } = record;
    FutureRecord { topic, partition, payload, key, timestamp, headers }
}

/// The message of a record that librdkafka did not accept, with the same content as rdkafka's.
fn into_owned_message<K: ToBytes + ?Sized, P: ToBytes + ?Sized>(
    record: BaseRecord<'_, K, P, DeliverySender>,
) -> OwnedMessage {
    OwnedMessage::new(
        record.payload.map(|payload| payload.to_bytes().to_vec()),
        record.key.map(|key| key.to_bytes().to_vec()),
        record.topic.to_owned(),
        record.timestamp.map_or(Timestamp::NotAvailable, Timestamp::CreateTime),
        record.partition.unwrap_or(-1),
        0,
        record.headers,
    )
}
