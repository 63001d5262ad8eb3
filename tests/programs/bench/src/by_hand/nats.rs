//! NATS by hand.

use std::sync::Arc;

use async_nats::{Client, HeaderMap, HeaderName, HeaderValue, Message, PublishError, Subject};
use bytes::Bytes;
use opentelemetry::{
    Context, KeyValue,
    global::{self, BoxedTracer},
    propagation::{Extractor, Injector},
    trace::{Link, Span, SpanKind, Status, TraceContextExt, Tracer},
};

/// A client whose publishes are spans, each ended when the client has queued the message.
pub struct TracedPublisher {
    client: Client,
    tracer: BoxedTracer,
    host: Arc<str>,
    port: u16,
}

/// Makes a span around the processing of each message.
pub struct TracedHandler {
    tracer: BoxedTracer,
    host: Arc<str>,
    port: u16,
}

struct HeaderInjector<'a>(&'a mut HeaderMap);

struct HeaderExtractor<'a>(&'a HeaderMap);

impl TracedPublisher {
    /// Publishes through this client of that server.
    pub fn new(client: Client, host: &str, port: u16) -> Self {
        Self { client, tracer: global::tracer("orders"), host: host.into(), port }
    }

    /// Publishes a message.
    pub async fn publish(&self, subject: Subject, payload: Bytes) -> Result<(), PublishError> {
        let mut span = self
            .tracer
            .span_builder(format!("publish {subject}"))
            .with_kind(SpanKind::Producer)
            .with_attributes(vec![
                KeyValue::new("messaging.system", "nats"),
                KeyValue::new("messaging.operation.name", "publish"),
                KeyValue::new("messaging.operation.type", "send"),
                KeyValue::new("messaging.destination.name", subject.to_string()),
                KeyValue::new("server.address", self.host.clone()),
                KeyValue::new("server.port", i64::from(self.port)),
            ])
            .start(&self.tracer);
        let context = Context::current().with_remote_span_context(span.span_context().clone());
        let mut headers = HeaderMap::new();
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&context, &mut HeaderInjector(&mut headers));
        });
        let published = if headers.is_empty() {
            self.client.publish(subject, payload).await
        } else {
            self.client.publish_with_headers(subject, headers, payload).await
        };
        if let (Err(error), true) = (&published, span.is_recording()) {
            span.set_attribute(KeyValue::new("error.type", format!("{:?}", error.kind())));
            span.set_status(Status::error(error.to_string()));
        }
        span.end();
        published
    }
}

impl TracedHandler {
    /// For the messages of that server.
    pub fn new(host: &str, port: u16) -> Self {
        Self { tracer: global::tracer("billing"), host: host.into(), port }
    }

    /// Runs the handler of a message inside of the message's span.
    pub fn process<T>(&self, message: &Message, handler: impl FnOnce() -> T) -> T {
        let parent = match &message.headers {
            Some(headers) => {
                global::get_text_map_propagator(|propagator| propagator.extract(&HeaderExtractor(headers)))
            }
            None => Context::current(),
        };
        let subject = &message.subject;
        let span = self
            .tracer
            .span_builder(format!("process {subject}"))
            .with_kind(SpanKind::Consumer)
            .with_attributes(vec![
                KeyValue::new("messaging.system", "nats"),
                KeyValue::new("messaging.operation.name", "process"),
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.destination.name", subject.to_string()),
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

impl Injector for HeaderInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        if value.is_empty() {
            return;
        }
        if let (Ok(key), Ok(value)) = (key.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            self.0.insert(key, value);
        }
    }
}

impl Extractor for HeaderExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        // `HeaderMap::get` panics on a name that is none.
        self.0.get(key.parse::<HeaderName>().ok()?).map(HeaderValue::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(key, _)| key.as_ref()).collect()
    }
}
