//! Creation contexts: messages that are stored now and sent later.

use std::sync::Arc;

use opentelemetry::propagation::Injector;
use otel_messaging::Instrumentation;

use crate::telemetry::{ClientTelemetry, is_reply};

/// Makes the create spans of messages that are stored now and sent later, for example from an outbox.
///
/// The headers that it writes are stored with the message and given to
/// [`basic_publish`](crate::Channel::basic_publish) with its properties, in another process or on another day: the publish
/// leaves them as they are and links the create span. Consumers relate their spans to the create span.
///
/// ```
/// use std::collections::HashMap;
///
/// use otel_lapin::otel::Creator;
///
/// // Store these headers with the message: any carrier of OpenTelemetry, or a `HeaderInjector` on a table.
/// let mut headers = HashMap::new();
/// Creator::default().create("orders", "new", &mut headers);
/// ```
///
/// Source: "Trace structure" and "Context propagation" of the messaging spans convention.
#[derive(Debug)]
pub struct Creator {
    telemetry: Arc<ClientTelemetry>,
}

impl Creator {
    /// Uses this instrumentation. The default one follows OpenTelemetry's globals.
    #[must_use]
    pub fn new(instrumentation: Instrumentation) -> Self {
        Self { telemetry: Arc::new(ClientTelemetry::for_raw_handles().instrumented(instrumentation)) }
    }

    /// Makes the span of a message that will be published to this exchange with this routing key: a child of the current
    /// span. Writes its context into the headers to store, and replaces headers of the same names.
    pub fn create(&self, exchange: &str, routing_key: &str, headers: &mut dyn Injector) {
        if let Some(start) = self.telemetry.core.start_operation() {
            let answers = is_reply(&start, exchange, routing_key);
            let operation = self.telemetry.create_operation(exchange, routing_key, answers);
            self.telemetry.core.create(start, &operation, headers, |_| ());
        }
    }
}

impl Default for Creator {
    fn default() -> Self {
        Self { telemetry: ClientTelemetry::for_raw_handles() }
    }
}
