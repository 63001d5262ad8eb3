//! Creates messages that are sent later.

use std::sync::Arc;

use opentelemetry::propagation::Injector;
use otel_messaging::{
    Instrumentation,
    adapter::{Destination, OperationName, Telemetry, opaque_debug},
};

use crate::{subjects::is_temporary, telemetry::core};

const CREATE: OperationName = OperationName::create("create");

/// Makes the spans of messages that are stored now and sent later, as from an outbox.
///
/// The headers that it writes are stored with the message. A publish with these headers leaves them as they are; the publish
/// and the receiver link the create span.
///
/// ```
/// use std::collections::HashMap;
///
/// use otel_async_nats::otel::Creator;
///
/// let creator = Creator::default();
/// // Stored in the same transaction as the order.
/// let mut headers: HashMap<String, String> = HashMap::new();
/// creator.create("orders.new", &mut headers);
/// ```
///
/// Later, in this process or another one:
///
/// ```no_run
/// # use std::collections::HashMap;
/// use otel_async_nats::{Client, HeaderMap};
///
/// # async fn run(client: Client, stored: HashMap<String, String>) -> Result<(), otel_async_nats::Error> {
/// let mut headers = HeaderMap::new();
/// for (name, value) in stored {
///     headers.insert(name, value);
/// }
/// client.publish_with_headers("orders.new", headers, "four apples".into()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Creator(Arc<Telemetry>);

impl Creator {
    /// Reports to this instrumentation.
    #[must_use]
    pub fn new(instrumentation: Instrumentation) -> Self {
        Self(core(Some(instrumentation)))
    }

    /// Makes the span `create {subject}`, child of the current context, and writes its context into `headers`: a
    /// [`HeaderInjector`](crate::otel::HeaderInjector), or any carrier that is stored with the message. Where telemetry is off,
    /// nothing is written.
    ///
    /// Source: "Create" of the messaging spans convention.
    pub fn create(&self, subject: &str, headers: &mut dyn Injector) {
        let Some(start) = self.0.start_operation() else { return };
        let operation = self.0.operation(CREATE, &[subject], || {
            let destination = Destination::named(subject);
            if is_temporary(subject, "") { destination.temporary() } else { destination }
        });
        self.0.create(start, &operation, headers, |_| ());
    }
}

impl Default for Creator {
    /// Reports to OpenTelemetry's globals.
    fn default() -> Self {
        Self(core(None))
    }
}

opaque_debug! { [] Creator, "Creator" }
