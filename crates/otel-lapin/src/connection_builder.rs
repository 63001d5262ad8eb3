//! A builder for connections.

use async_rs::{Runtime, traits::RuntimeKit};
use lapin::{ConnectionProperties, Result, runtime::default_runtime, tcp::OwnedTLSConfig, uri::AMQPUri};
use otel_messaging::{Instrumentation, adapter::wrapper};

use crate::{connection::Connection, telemetry::server_address};

/// [`lapin::ConnectionBuilder`]: collects the settings of a connection.
#[derive(Debug)]
pub struct ConnectionBuilder<RK: RuntimeKit + Send + Sync + Clone + 'static> {
    inner: lapin::ConnectionBuilder<RK>,
    address: Option<(String, u16)>,
    instrumentation: Option<Instrumentation>,
}

/// A [`ConnectionBuilder`] on lapin's default runtime.
pub type DefaultConnectionBuilder = ConnectionBuilder<<lapin::DefaultConnectionBuilder as HasRuntimeKit>::Kit>;

/// The runtime kit of a builder of lapin's. lapin does not export the name of its default kit, which depends on the features
/// that any crate enables.
#[doc(hidden)]
pub trait HasRuntimeKit {
    /// The kit.
    type Kit: RuntimeKit + Send + Sync + Clone + 'static;
}

impl<RK: RuntimeKit + Send + Sync + Clone + 'static> HasRuntimeKit for lapin::ConnectionBuilder<RK> {
    type Kit = RK;
}

impl DefaultConnectionBuilder {
    /// On the default runtime.
    ///
    /// # Errors
    ///
    /// As [`lapin::DefaultConnectionBuilder::new`].
    pub fn new() -> Result<Self> {
        Ok(Self::new_with_runtime(default_runtime()?))
    }
}

impl<RK: RuntimeKit + Send + Sync + Clone + 'static> ConnectionBuilder<RK> {
    /// On a given runtime.
    #[must_use]
    pub fn new_with_runtime(runtime: Runtime<RK>) -> Self {
        Self { inner: lapin::ConnectionBuilder::new_with_runtime(runtime), address: None, instrumentation: None }
    }

    /// Sets the server to connect to.
    #[must_use]
    pub fn with_uri(mut self, uri: AMQPUri) -> Self {
        self.address = Some(server_address(&uri));
        self.inner = self.inner.with_uri(uri);
        self
    }

    /// Sets the server to connect to. A URI that does not parse is an error of `connect`.
    #[must_use]
    pub fn with_uri_str(mut self, uri: String) -> Self {
        self.address = uri.parse().ok().as_ref().map(server_address);
        self.inner = self.inner.with_uri_str(uri);
        self
    }

    /// Sets the connection's properties. Default: lapin's.
    #[must_use]
    pub fn with_properties(mut self, properties: ConnectionProperties) -> Self {
        self.inner = self.inner.with_properties(properties);
        self
    }

    /// Sets the TLS configuration. Default: lapin's.
    #[must_use]
    pub fn with_tls_config(mut self, tls_config: OwnedTLSConfig) -> Self {
        self.inner = self.inner.with_tls_config(tls_config);
        self
    }

    /// Sets the instrumentation of the connections. Default: OpenTelemetry's globals.
    #[must_use]
    pub fn with_instrumentation(mut self, instrumentation: Instrumentation) -> Self {
        self.instrumentation = Some(instrumentation);
        self
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// As [`lapin::ConnectionBuilder::connect`].
    pub async fn connect(&self) -> Result<Connection> {
        let connection = Connection::new(self.inner.connect().await?, self.address.clone());
        Ok(match &self.instrumentation {
            Some(instrumentation) => connection.with_instrumentation(instrumentation.clone()),
            None => connection,
        })
    }
}

wrapper! {
    [RK: RuntimeKit + Send + Sync + Clone + 'static] ConnectionBuilder<RK> => lapin::ConnectionBuilder<RK>, inner:
    /// lapin's builder, whose connections are not traced.
    get_ref
    /// lapin's builder, whose connections are not traced.
    into_inner
    into
}

impl<RK: RuntimeKit + Send + Sync + Clone + 'static> From<lapin::ConnectionBuilder<RK>> for ConnectionBuilder<RK> {
    /// The server's address is unknown until the URI is set on this builder.
    fn from(inner: lapin::ConnectionBuilder<RK>) -> Self {
        Self { inner, address: None, instrumentation: None }
    }
}
