//! Kafka by hand.

use std::{future::Future, str, sync::Arc};

use opentelemetry::{
    Context, KeyValue,
    global::{self, BoxedSpan, BoxedTracer},
    propagation::{Extractor, Injector},
    trace::{Link, Span, SpanKind, Status, TraceContextExt, Tracer},
};
use rdkafka::{
    ClientContext,
    config::{ClientConfig, FromClientConfig, FromClientConfigAndContext},
    error::{KafkaError, KafkaResult},
    message::{BorrowedHeaders, BorrowedMessage, DeliveryResult, Header, Headers, Message, OwnedHeaders},
    producer::{
        BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer, ProducerContext, future_producer::Delivery,
    },
    util::Timeout,
};

/// A `BaseProducer` whose messages are spans, each ended by its delivery report.
pub struct TracedProducer {
    producer: BaseProducer<EndsSpans>,
    spans: SendSpans,
}

/// A `FutureProducer` whose messages are spans, each ended when its future sees the delivery report.
pub struct TracedFutureProducer {
    producer: FutureProducer,
    spans: SendSpans,
}

/// Makes a span around the processing of each consumed message.
pub struct TracedHandler {
    tracer: BoxedTracer,
    client_id: Arc<str>,
    group: Arc<str>,
}

struct SendSpans {
    tracer: BoxedTracer,
    client_id: Arc<str>,
}

struct EndsSpans;

#[derive(Default)]
struct HeaderInjector(Option<OwnedHeaders>);

struct HeaderExtractor<'a>(&'a BorrowedHeaders);

impl TracedProducer {
    /// A producer of this configuration.
    pub fn new(config: &ClientConfig) -> KafkaResult<Self> {
        Ok(Self { producer: BaseProducer::from_config_and_context(config, EndsSpans)?, spans: SendSpans::new(config) })
    }

    /// Enqueues a message.
    pub fn send(&self, topic: &str, payload: &[u8]) -> KafkaResult<()> {
        let (span, headers) = self.spans.start(topic);
        let mut record = BaseRecord::<(), _, _>::with_opaque_to(topic, Box::new(span)).payload(payload);
        record.headers = headers;
        self.producer.send(record).map_err(|(error, mut record)| {
            fail(&mut record.delivery_opaque, &error);
            record.delivery_opaque.end();
            error
        })
    }

    /// Serves delivery reports.
    pub fn poll(&self, timeout: impl Into<Timeout>) {
        self.producer.poll(timeout);
    }

    /// How many messages have no delivery report yet.
    pub fn in_flight_count(&self) -> i32 {
        self.producer.in_flight_count()
    }
}

impl TracedFutureProducer {
    /// A producer of this configuration.
    pub fn new(config: &ClientConfig) -> KafkaResult<Self> {
        Ok(Self { producer: FutureProducer::from_config(config)?, spans: SendSpans::new(config) })
    }

    /// Enqueues a message; the future is its delivery report.
    pub fn send(
        &self,
        topic: &str,
        payload: &[u8],
    ) -> KafkaResult<impl Future<Output = KafkaResult<Delivery>> + Send + use<>> {
        let (mut span, headers) = self.spans.start(topic);
        let mut record = FutureRecord::<(), _>::to(topic).payload(payload);
        record.headers = headers;
        match self.producer.send_result(record) {
            Ok(delivery) => Ok(async move {
                let result = match delivery.await {
                    Ok(Ok(delivery)) => Ok(delivery),
                    Ok(Err((error, _))) => Err(error),
                    Err(_) => Err(KafkaError::Canceled),
                };
                match &result {
                    Ok(delivery) => delivered(&mut span, delivery.partition, delivery.offset),
                    Err(error) => fail(&mut span, error),
                }
                span.end();
                result
            }),
            Err((error, _)) => {
                fail(&mut span, &error);
                span.end();
                Err(error)
            }
        }
    }
}

impl SendSpans {
    fn new(config: &ClientConfig) -> Self {
        Self { tracer: global::tracer("orders"), client_id: config.get("client.id").unwrap_or("rdkafka").into() }
    }

    /// Starts the span of one message, and writes the headers which carry it.
    fn start(&self, topic: &str) -> (BoxedSpan, Option<OwnedHeaders>) {
        let span = self
            .tracer
            .span_builder(format!("send {topic}"))
            .with_kind(SpanKind::Producer)
            .with_attributes(vec![
                KeyValue::new("messaging.system", "kafka"),
                KeyValue::new("messaging.operation.name", "send"),
                KeyValue::new("messaging.operation.type", "send"),
                KeyValue::new("messaging.destination.name", topic.to_owned()),
                KeyValue::new("messaging.client.id", self.client_id.clone()),
            ])
            .start(&self.tracer);
        let context = Context::current().with_remote_span_context(span.span_context().clone());
        let mut injector = HeaderInjector::default();
        global::get_text_map_propagator(|propagator| propagator.inject_context(&context, &mut injector));
        (span, injector.0)
    }
}

impl ClientContext for EndsSpans {}

impl ProducerContext for EndsSpans {
    type DeliveryOpaque = Box<BoxedSpan>;

    fn delivery(&self, result: &DeliveryResult<'_>, mut span: Self::DeliveryOpaque) {
        match result {
            Ok(message) => delivered(&mut span, message.partition(), message.offset()),
            Err((error, _)) => fail(&mut span, error),
        }
        span.end();
    }
}

impl TracedHandler {
    /// For the messages of a consumer with this configuration.
    pub fn new(config: &ClientConfig) -> Self {
        Self {
            tracer: global::tracer("billing"),
            client_id: config.get("client.id").unwrap_or("rdkafka").into(),
            group: config.get("group.id").unwrap_or_default().into(),
        }
    }

    /// Runs the handler of a message inside of the message's span.
    pub fn process<T>(&self, message: &BorrowedMessage<'_>, handler: impl FnOnce() -> T) -> T {
        let parent = match message.headers() {
            Some(headers) => {
                global::get_text_map_propagator(|propagator| propagator.extract(&HeaderExtractor(headers)))
            }
            None => Context::current(),
        };
        let topic = message.topic();
        let span = self
            .tracer
            .span_builder(format!("process {topic}"))
            .with_kind(SpanKind::Consumer)
            .with_attributes(vec![
                KeyValue::new("messaging.system", "kafka"),
                KeyValue::new("messaging.operation.name", "process"),
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.destination.name", topic.to_owned()),
                KeyValue::new("messaging.destination.partition.id", message.partition().to_string()),
                KeyValue::new("messaging.kafka.offset", message.offset()),
                KeyValue::new("messaging.client.id", self.client_id.clone()),
                KeyValue::new("messaging.consumer.group.name", self.group.clone()),
            ])
            .with_links(vec![Link::with_context(parent.span().span_context().clone())])
            .start_with_context(&self.tracer, &parent);
        let context = parent.with_span(span);
        let guard = context.clone().attach();
        let result = handler();
        drop(guard);
        context.span().end();
        result
    }
}

fn delivered(span: &mut BoxedSpan, partition: i32, offset: i64) {
    if span.is_recording() {
        span.set_attribute(KeyValue::new("messaging.destination.partition.id", partition.to_string()));
        span.set_attribute(KeyValue::new("messaging.kafka.offset", offset));
    }
}

fn fail(span: &mut BoxedSpan, error: &KafkaError) {
    if span.is_recording() {
        let code = error.rdkafka_error_code().map_or_else(|| "_OTHER".to_owned(), |code| format!("{code:?}"));
        span.set_attribute(KeyValue::new("error.type", code));
        span.set_status(Status::error(error.to_string()));
    }
}

impl Injector for HeaderInjector {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() {
            let headers = self.0.take().unwrap_or_default();
            self.0 = Some(headers.insert(Header { key, value: Some(&value) }));
        }
    }
}

impl Extractor for HeaderExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let header = self.0.iter().find(|header| header.key == key)?;
        str::from_utf8(header.value?).ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|header| header.key).collect()
    }
}
