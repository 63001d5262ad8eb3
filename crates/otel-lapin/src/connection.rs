//! Connections.

use std::sync::Arc;

use async_rs::{
    Runtime,
    traits::{Reactor, RuntimeKit},
};
use async_trait::async_trait;
use lapin::{
    AsyncTcpStream, ConnectionProperties, Result, runtime::default_runtime, tcp::OwnedTLSConfig, uri::AMQPUri,
};
use otel_messaging::{Instrumentation, adapter::wrapper};

use crate::{
    channel::Channel,
    telemetry::{ClientTelemetry, Server, server_address},
};

/// [`lapin::Connection`], whose channels are traced.
///
/// All other methods are lapin's, by `Deref`.
pub struct Connection {
    inner: lapin::Connection,
    telemetry: Arc<ClientTelemetry>,
}

impl Connection {
    pub(crate) fn new(inner: lapin::Connection, address: Option<(String, u16)>) -> Self {
        let telemetry = ClientTelemetry::new(Server::connected(address, &inner));
        Self { inner, telemetry: Arc::new(telemetry) }
    }

    /// Connects to the server that the URI names.
    ///
    /// # Errors
    ///
    /// As [`lapin::Connection::connect`].
    pub async fn connect(uri: &str, options: ConnectionProperties) -> Result<Self> {
        Connect::connect(uri, options).await
    }

    /// Connects on a given runtime.
    ///
    /// # Errors
    ///
    /// As [`lapin::Connection::connect_with_runtime`].
    pub async fn connect_with_runtime<RK: RuntimeKit + Send + Sync + Clone + 'static>(
        uri: &str,
        options: ConnectionProperties,
        runtime: Runtime<RK>,
    ) -> Result<Self> {
        uri.connect_with_config(options, OwnedTLSConfig::default(), runtime).await
    }

    /// Connects on a given runtime, with TLS configured.
    ///
    /// # Errors
    ///
    /// As [`lapin::Connection::connect_with_config`].
    pub async fn connect_with_config<RK: RuntimeKit + Send + Sync + Clone + 'static>(
        uri: &str,
        options: ConnectionProperties,
        config: OwnedTLSConfig,
        runtime: Runtime<RK>,
    ) -> Result<Self> {
        uri.connect_with_config(options, config, runtime).await
    }

    /// Connects to the server of a parsed URI.
    ///
    /// # Errors
    ///
    /// As [`lapin::Connection::connect_uri`].
    pub async fn connect_uri(uri: AMQPUri, options: ConnectionProperties) -> Result<Self> {
        Connect::connect(uri, options).await
    }

    /// Connects to the server of a parsed URI, on a given runtime.
    ///
    /// # Errors
    ///
    /// As [`lapin::Connection::connect_uri_with_runtime`].
    pub async fn connect_uri_with_runtime<RK: RuntimeKit + Send + Sync + Clone + 'static>(
        uri: AMQPUri,
        options: ConnectionProperties,
        runtime: Runtime<RK>,
    ) -> Result<Self> {
        uri.connect_with_config(options, OwnedTLSConfig::default(), runtime).await
    }

    /// Connects to the server of a parsed URI, on a given runtime, with TLS configured.
    ///
    /// # Errors
    ///
    /// As [`lapin::Connection::connect_uri_with_config`].
    pub async fn connect_uri_with_config<RK: RuntimeKit + Send + Sync + Clone + 'static>(
        uri: AMQPUri,
        options: ConnectionProperties,
        config: OwnedTLSConfig,
        runtime: Runtime<RK>,
    ) -> Result<Self> {
        uri.connect_with_config(options, config, runtime).await
    }

    /// Connects over a transport that the caller makes. Spans have no server attributes: the transport may lead to any server.
    ///
    /// # Errors
    ///
    /// As [`lapin::Connection::connector`].
    pub async fn connector<RK: RuntimeKit + Clone + Send + 'static>(
        uri: AMQPUri,
        runtime: Runtime<RK>,
        connect: impl AsyncFn(AMQPUri, Runtime<RK>) -> Result<AsyncTcpStream<<RK as Reactor>::TcpStream>>
        + Send
        + Sync
        + 'static,
        options: ConnectionProperties,
    ) -> Result<Self> {
        let connection = lapin::Connection::connector(uri, runtime, connect, options).await?;
        Ok(Self::new(connection, None))
    }

    /// Uses this instrumentation for the channels that are created from now on.
    #[must_use]
    pub fn with_instrumentation(mut self, instrumentation: Instrumentation) -> Self {
        self.telemetry = Arc::new(self.telemetry.instrumented(instrumentation));
        self
    }

    /// Opens a channel.
    ///
    /// # Errors
    ///
    /// As [`lapin::Connection::create_channel`].
    pub async fn create_channel(&self) -> Result<Channel> {
        Ok(Channel::new(self.inner.create_channel().await?, self.telemetry.clone()))
    }

    /// Blocks the thread until the connection is closed.
    ///
    /// # Errors
    ///
    /// As [`lapin::Connection::run`].
    pub fn run(self) -> Result<()> {
        self.inner.run()
    }
}

wrapper! {
    [] Connection => lapin::Connection, inner:
    /// lapin's connection, whose channels are not traced.
    get_ref
    /// lapin's connection, whose channels are not traced.
    into_inner
    into deref debug
}

impl From<lapin::Connection> for Connection {
    /// For connections that other code opened. The server's address is unknown.
    fn from(inner: lapin::Connection) -> Self {
        Self::new(inner, None)
    }
}

/// [`lapin::Connect`]: addresses to connect to.
#[async_trait]
pub trait Connect {
    /// Connects on the default runtime, with lapin's default TLS configuration.
    ///
    /// # Errors
    ///
    /// As [`lapin::Connect::connect`].
    async fn connect(self, options: ConnectionProperties) -> Result<Connection>
    where
        Self: Sized,
    {
        self.connect_with_config(options, OwnedTLSConfig::default(), default_runtime()?).await
    }

    /// Connects on a given runtime, with TLS configured.
    ///
    /// # Errors
    ///
    /// As [`lapin::Connect::connect_with_config`].
    async fn connect_with_config<RK: RuntimeKit + Send + Sync + Clone + 'static>(
        self,
        options: ConnectionProperties,
        config: OwnedTLSConfig,
        runtime: Runtime<RK>,
    ) -> Result<Connection>
    where
        Self: Sized;
}

#[async_trait]
impl Connect for AMQPUri {
    async fn connect_with_config<RK: RuntimeKit + Send + Sync + Clone + 'static>(
        self,
        options: ConnectionProperties,
        config: OwnedTLSConfig,
        runtime: Runtime<RK>,
    ) -> Result<Connection> {
        let address = server_address(&self);
        let connection = lapin::Connect::connect_with_config(self, options, config, runtime).await?;
        Ok(Connection::new(connection, Some(address)))
    }
}

#[async_trait]
impl Connect for &str {
    async fn connect_with_config<RK: RuntimeKit + Send + Sync + Clone + 'static>(
        self,
        options: ConnectionProperties,
        config: OwnedTLSConfig,
        runtime: Runtime<RK>,
    ) -> Result<Connection> {
        // lapin returns its own error for a URI that does not parse.
        let address = self.parse().ok().as_ref().map(server_address);
        let connection = lapin::Connect::connect_with_config(self, options, config, runtime).await?;
        Ok(Connection::new(connection, address))
    }
}
