//! Creation contexts: messages that are stored now and sent later.

use std::sync::Arc;

use opentelemetry::propagation::Injector;
use otel_messaging::{Instrumentation, adapter::opaque_debug};

use crate::telemetry::{CREATE, ClientTelemetry};

/// Makes the spans of messages that are stored now and sent later, as from an outbox.
///
/// Store the headers that it writes with the message. A later send with these headers keeps them and links the creation; a
/// receiver links the creation too.
///
/// ```
/// use std::collections::HashMap;
///
/// use otel_rdkafka::otel::Creator;
///
/// let creator = Creator::default();
/// // Stored in the same transaction as the order.
/// let mut headers: HashMap<String, String> = HashMap::new();
/// creator.create("orders", &mut headers);
/// ```
///
/// Later, in this process or another one:
///
/// ```no_run
/// # use std::{collections::HashMap, time::Duration};
/// use otel_rdkafka::{
///     message::{Header, OwnedHeaders},
///     producer::{FutureProducer, FutureRecord},
/// };
///
/// # async fn relay(producer: FutureProducer, stored: HashMap<String, String>) -> Result<(), otel_rdkafka::error::KafkaError> {
/// let mut headers = OwnedHeaders::new();
/// for (key, value) in &stored {
///     headers = headers.insert(Header { key, value: Some(value) });
/// }
/// let record = FutureRecord::to("orders").key("4711").payload("four apples").headers(headers);
/// producer.send(record, Duration::from_secs(5)).await.map_err(|(error, _)| error)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Creator(Arc<ClientTelemetry>);

impl Creator {
    /// Uses this instrumentation instead of the default one.
    #[must_use]
    pub fn new(instrumentation: Instrumentation) -> Self {
        let creator = Self::default();
        creator.0.core.instrument(instrumentation);
        creator
    }

    /// Makes the span `create {topic}`, a child of the current context, and writes its context into `headers`: a
    /// [`HeaderInjector`](crate::otel::HeaderInjector), or another carrier that is stored with the message. If telemetry is
    /// off, it writes nothing.
    ///
    /// Source: "Create" of the messaging spans convention.
    pub fn create(&self, topic: &str, headers: &mut dyn Injector) {
        if let Some(start) = self.0.start_operation() {
            self.0.core.create(start, &self.0.operation(CREATE, Some(topic)), headers, |_| ());
        }
    }
}

impl Default for Creator {
    /// Uses the default instrumentation: OpenTelemetry's globals.
    fn default() -> Self {
        Self(Arc::new(ClientTelemetry::new()))
    }
}

opaque_debug! { [] Creator, "Creator" }
