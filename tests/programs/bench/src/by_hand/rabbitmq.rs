//! RabbitMQ by hand.

use std::{borrow::Cow, str, sync::Arc};

use lapin::{
    BasicProperties, Channel, Confirmation,
    message::Delivery,
    options::BasicPublishOptions,
    types::{AMQPValue, FieldTable},
};
use opentelemetry::{
    Context, KeyValue,
    global::{self, BoxedSpan, BoxedTracer},
    propagation::{Extractor, Injector},
    trace::{Link, Span, SpanKind, Status, TraceContextExt, Tracer},
};

/// A channel whose publishes are spans, each ended by its confirm, or at the hand-over where there are none.
pub struct TracedPublisher {
    channel: Channel,
    tracer: BoxedTracer,
    host: Arc<str>,
    port: u16,
}

/// Makes a span around the processing of each delivery.
pub struct TracedHandler {
    tracer: BoxedTracer,
    queue: Arc<str>,
    host: Arc<str>,
    port: u16,
}

struct HeaderInjector<'a>(&'a mut FieldTable);

struct HeaderExtractor<'a>(&'a FieldTable);

impl TracedPublisher {
    /// Publishes through this channel of a connection to that server.
    pub fn new(channel: Channel, host: &str, port: u16) -> Self {
        Self { channel, tracer: global::tracer("orders"), host: host.into(), port }
    }

    /// Publishes a message.
    pub async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        payload: &[u8],
        properties: BasicProperties,
    ) -> lapin::Result<Confirmation> {
        let destination = format!("{exchange}:{routing_key}");
        let mut span = self
            .tracer
            .span_builder(format!("publish {destination}"))
            .with_kind(SpanKind::Producer)
            .with_attributes(vec![
                KeyValue::new("messaging.system", "rabbitmq"),
                KeyValue::new("messaging.operation.name", "publish"),
                KeyValue::new("messaging.operation.type", "send"),
                KeyValue::new("messaging.destination.name", destination),
                KeyValue::new("messaging.rabbitmq.destination.routing_key", routing_key.to_owned()),
                KeyValue::new("server.address", self.host.clone()),
                KeyValue::new("server.port", i64::from(self.port)),
            ])
            .start(&self.tracer);
        let context = Context::current().with_remote_span_context(span.span_context().clone());
        let mut headers = properties.headers().clone().unwrap_or_default();
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&context, &mut HeaderInjector(&mut headers));
        });
        let properties = if headers.inner().is_empty() { properties } else { properties.with_headers(headers) };
        let options = BasicPublishOptions::default();
        let published =
            match self.channel.basic_publish(exchange.into(), routing_key.into(), options, payload, properties).await {
                Ok(confirm) => confirm.await,
                Err(error) => Err(error),
            };
        match &published {
            Ok(Confirmation::Nack(_)) => fail(&mut span, "nack", "the broker refused the message"),
            Ok(Confirmation::Ack(Some(_))) => fail(&mut span, "no-route", "the message was returned"),
            Ok(_) => {}
            Err(error) => fail(&mut span, "publish", error.to_string()),
        }
        span.end();
        published
    }
}

impl TracedHandler {
    /// For the deliveries of this queue of that server.
    pub fn new(queue: &str, host: &str, port: u16) -> Self {
        Self { tracer: global::tracer("billing"), queue: queue.into(), host: host.into(), port }
    }

    /// Runs the handler of a delivery inside of the delivery's span.
    pub fn process<T>(&self, delivery: &Delivery, handler: impl FnOnce() -> T) -> T {
        let parent = match delivery.properties.headers() {
            Some(headers) => {
                global::get_text_map_propagator(|propagator| propagator.extract(&HeaderExtractor(headers)))
            }
            None => Context::current(),
        };
        let (exchange, routing_key) = (&delivery.exchange, &delivery.routing_key);
        let destination = format!("{exchange}:{routing_key}:{}", self.queue);
        let span = self
            .tracer
            .span_builder(format!("process {destination}"))
            .with_kind(SpanKind::Consumer)
            .with_attributes(vec![
                KeyValue::new("messaging.system", "rabbitmq"),
                KeyValue::new("messaging.operation.name", "process"),
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.destination.name", destination),
                KeyValue::new("messaging.rabbitmq.destination.routing_key", routing_key.to_string()),
                KeyValue::new(
                    "messaging.rabbitmq.message.delivery_tag",
                    i64::try_from(delivery.delivery_tag).unwrap_or(i64::MAX),
                ),
                KeyValue::new("server.address", self.host.clone()),
                KeyValue::new("server.port", i64::from(self.port)),
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

fn fail(span: &mut BoxedSpan, error_type: &'static str, description: impl Into<Cow<'static, str>>) {
    if span.is_recording() {
        span.set_attribute(KeyValue::new("error.type", error_type));
        span.set_status(Status::error(description));
    }
}

impl Injector for HeaderInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() {
            self.0.insert(key.into(), AMQPValue::LongString(value.into()));
        }
    }
}

impl Extractor for HeaderExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match self.0.inner().get(key)? {
            AMQPValue::LongString(value) => str::from_utf8(value.as_bytes()).ok(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        self.0.inner().keys().map(|key| key.as_str()).collect()
    }
}
