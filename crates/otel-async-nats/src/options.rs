//! Options of a connection.

use std::{future::Future, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
#[cfg(feature = "nkeys")]
use std::{io, path::Path};

use async_nats::{Auth, AuthError, ConnectError, Event, ReconnectToServer, Server, ServerInfo, ToServerAddrs, rustls};
use otel_messaging::{Instrumentation, adapter::wrapper};

use crate::{Client, headers::HeaderCase, telemetry::ConnectInfo, wrap::setters};

/// Options of a connection: see [`async_nats::ConnectOptions`] for each.
///
/// The name is on every span as `messaging.client.id`. Where there is one address to connect to, and the server names no others,
/// the address is on every span as `server.address` and `server.port`.
#[derive(Clone, Default)]
pub struct ConnectOptions {
    inner: async_nats::ConnectOptions,
    connect_info: ConnectInfo,
    instrumentation: Option<Instrumentation>,
}

/// Connects with default options.
///
/// # Errors
///
/// The client's.
pub async fn connect<A: ToServerAddrs>(addrs: A) -> Result<Client, ConnectError> {
    connect_with_options(addrs, ConnectOptions::default()).await
}

/// Connects with these options.
///
/// # Errors
///
/// The client's.
pub async fn connect_with_options<A: ToServerAddrs>(addrs: A, options: ConnectOptions) -> Result<Client, ConnectError> {
    let ConnectOptions { inner, connect_info: mut info, instrumentation } = options;
    info.only_server = only_server(&addrs);
    let client = Client::new(async_nats::connect_with_options(addrs, inner).await?, info);
    Ok(match instrumentation {
        Some(instrumentation) => client.with_instrumentation(instrumentation),
        None => client,
    })
}

fn only_server(addrs: &impl ToServerAddrs) -> Option<(Arc<str>, u16)> {
    let mut candidates = addrs.to_server_addrs().ok()?;
    let only = candidates.next()?;
    candidates.next().is_none().then(|| (only.host().into(), only.port()))
}

impl ConnectOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects with these options.
    ///
    /// # Errors
    ///
    /// The client's.
    pub async fn connect<A: ToServerAddrs>(self, addrs: A) -> Result<Client, ConnectError> {
        connect_with_options(addrs, self).await
    }

    /// Reports to this instrumentation.
    #[must_use]
    pub fn with_instrumentation(mut self, instrumentation: Instrumentation) -> Self {
        self.instrumentation = Some(instrumentation);
        self
    }

    /// Writes the names of context headers in this case. Default: [`HeaderCase::Lower`].
    #[must_use]
    pub fn with_header_case(mut self, header_case: HeaderCase) -> Self {
        self.connect_info.header_case = header_case;
        self
    }

    /// Leaves the context out of a message that would exceed this number of bytes with it: see [`Client::with_message_limit`].
    /// Default: no limit but the server's `max_payload`.
    #[must_use]
    pub fn with_message_limit(mut self, bytes: usize) -> Self {
        self.connect_info.message_limit = Some(bytes);
        self
    }

    fn map(self, map: impl FnOnce(async_nats::ConnectOptions) -> async_nats::ConnectOptions) -> Self {
        Self { inner: map(self.inner), ..self }
    }

    /// Sets the name, which is also on every span as `messaging.client.id`.
    pub fn name<T: ToString>(mut self, name: T) -> Self {
        let name = name.to_string();
        self.connect_info.name = Some(name.as_str().into());
        self.map(|options| options.name(name))
    }

    /// See [`async_nats::ConnectOptions::ignore_discovered_servers`].
    pub fn ignore_discovered_servers(mut self) -> Self {
        self.connect_info.ignores_discovered_servers = true;
        self.map(async_nats::ConnectOptions::ignore_discovered_servers)
    }

    /// See [`async_nats::ConnectOptions::with_auth_callback`].
    pub fn with_auth_callback<F, Fut>(callback: F) -> Self
    where
        F: Fn(Vec<u8>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Auth, AuthError>> + 'static + Send + Sync,
    {
        async_nats::ConnectOptions::with_auth_callback(callback).into()
    }

    /// See [`async_nats::ConnectOptions::with_token`].
    pub fn with_token(token: String) -> Self {
        async_nats::ConnectOptions::with_token(token).into()
    }

    /// See [`async_nats::ConnectOptions::with_user_and_password`].
    pub fn with_user_and_password(user: String, pass: String) -> Self {
        async_nats::ConnectOptions::with_user_and_password(user, pass).into()
    }

    /// See [`async_nats::ConnectOptions::with_nkey`].
    #[cfg(feature = "nkeys")]
    pub fn with_nkey(seed: String) -> Self {
        async_nats::ConnectOptions::with_nkey(seed).into()
    }

    /// See [`async_nats::ConnectOptions::with_jwt`].
    #[cfg(feature = "nkeys")]
    pub fn with_jwt<F, Fut>(jwt: String, sign_cb: F) -> Self
    where
        F: Fn(Vec<u8>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<u8>, AuthError>> + 'static + Send + Sync,
    {
        async_nats::ConnectOptions::with_jwt(jwt, sign_cb).into()
    }

    /// See [`async_nats::ConnectOptions::jwt`].
    #[cfg(feature = "nkeys")]
    pub fn jwt<F, Fut>(self, jwt: String, sign_cb: F) -> Self
    where
        F: Fn(Vec<u8>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<u8>, AuthError>> + 'static + Send + Sync,
    {
        self.map(|options| options.jwt(jwt, sign_cb))
    }

    /// See [`async_nats::ConnectOptions::with_credentials_file`].
    ///
    /// # Errors
    ///
    /// The client's.
    #[cfg(feature = "nkeys")]
    pub async fn with_credentials_file(path: impl AsRef<Path>) -> io::Result<Self> {
        async_nats::ConnectOptions::with_credentials_file(path).await.map(Self::from)
    }

    /// See [`async_nats::ConnectOptions::credentials_file`].
    ///
    /// # Errors
    ///
    /// The client's.
    #[cfg(feature = "nkeys")]
    pub async fn credentials_file(self, path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { inner: self.inner.credentials_file(path).await?, ..self })
    }

    /// See [`async_nats::ConnectOptions::with_credentials`].
    ///
    /// # Errors
    ///
    /// The client's.
    #[cfg(feature = "nkeys")]
    pub fn with_credentials(creds: &str) -> io::Result<Self> {
        async_nats::ConnectOptions::with_credentials(creds).map(Self::from)
    }

    /// See [`async_nats::ConnectOptions::credentials`].
    ///
    /// # Errors
    ///
    /// The client's.
    #[cfg(feature = "nkeys")]
    pub fn credentials(self, creds: &str) -> io::Result<Self> {
        Ok(Self { inner: self.inner.credentials(creds)?, ..self })
    }

    /// See [`async_nats::ConnectOptions::event_callback`].
    pub fn event_callback<F, Fut>(self, cb: F) -> Self
    where
        F: Fn(Event) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + 'static + Send + Sync,
    {
        self.map(|options| options.event_callback(cb))
    }

    /// See [`async_nats::ConnectOptions::reconnect_delay_callback`].
    pub fn reconnect_delay_callback<F>(self, cb: F) -> Self
    where
        F: Fn(usize) -> Duration + Send + Sync + 'static,
    {
        self.map(|options| options.reconnect_delay_callback(cb))
    }

    /// See [`async_nats::ConnectOptions::reconnect_to_server_callback`].
    pub fn reconnect_to_server_callback<F, Fut>(self, cb: F) -> Self
    where
        F: Fn(Vec<Server>, ServerInfo) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<ReconnectToServer>> + Send + Sync + 'static,
    {
        self.map(|options| options.reconnect_to_server_callback(cb))
    }

    /// See [`async_nats::ConnectOptions::custom_inbox_prefix`].
    pub fn custom_inbox_prefix<T: ToString>(self, prefix: T) -> Self {
        self.map(|options| options.custom_inbox_prefix(prefix))
    }

    /// See [`async_nats::ConnectOptions::max_reconnects`].
    pub fn max_reconnects<T: Into<Option<usize>>>(self, max_reconnects: T) -> Self {
        self.map(|options| options.max_reconnects(max_reconnects))
    }

    setters! {
        "ConnectOptions";
        token(token: String);
        user_and_password(user: String, pass: String);
        #[cfg(feature = "nkeys")]
        nkey(seed: String);
        add_root_certificates(path: PathBuf);
        add_client_certificate(cert: PathBuf, key: PathBuf);
        require_tls(is_required: bool);
        tls_first();
        ping_interval(ping_interval: Duration);
        no_echo();
        subscription_capacity(capacity: usize);
        connection_timeout(timeout: Duration);
        request_timeout(timeout: Option<Duration>);
        client_capacity(capacity: usize);
        retry_on_initial_connect();
        skip_subject_validation(skip: bool);
        retain_servers_order();
        tls_client_config(config: rustls::ClientConfig);
        read_buffer_capacity(size: u16);
        local_address(address: SocketAddr);
    }
}

wrapper! {
    [] ConnectOptions => async_nats::ConnectOptions, inner:
    /// The options inside.
    get_ref
    /// The options inside.
    into_inner
    into deref deref_mut debug
}

impl From<async_nats::ConnectOptions> for ConnectOptions {
    /// The client's options. A name that was given there is not known.
    fn from(inner: async_nats::ConnectOptions) -> Self {
        Self { inner, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::core;

    #[test]
    fn the_last_instrumentation_is_used() {
        let sizes = Instrumentation::builder().with_captured_sizes(true).build();
        let options = ConnectOptions::new().with_instrumentation(Instrumentation::default());
        let later = options.clone().with_instrumentation(sizes);
        assert!(core(later.instrumentation).captures_sizes() && !core(options.instrumentation).captures_sizes());
    }
}
