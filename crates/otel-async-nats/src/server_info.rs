//! The server of a connection: its address, and the information that it sent when the client connected.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use async_nats::Statistics;

/// The address of a server: host and port.
pub(crate) type Address<'a> = (&'a Arc<str>, u16);

/// The server information of one client's connection.
///
/// Shared by all instrumentations of the client.
pub(crate) struct ConnectedServer {
    // Only read. The client's own subscriptions are `UnwindSafe`, and the client is not.
    client: AssertUnwindSafe<async_nats::Client>,
    only_server: Option<(Arc<str>, u16)>,
    ignores_discovered_servers: bool,
    statistics: Arc<Statistics>,
    /// A [`Cached`] with the number of its connection.
    packed: AtomicU64,
    /// A hash of the connection that `packed` is of.
    connection: AtomicU64,
    /// The client can be connected to other servers than `only_server`.
    other_servers: AtomicBool,
}

impl ConnectedServer {
    pub(crate) fn new(
        client: &async_nats::Client,
        only_server: Option<(Arc<str>, u16)>,
        ignores_discovered_servers: bool,
    ) -> Self {
        Self {
            client: AssertUnwindSafe(client.clone()),
            only_server,
            ignores_discovered_servers,
            statistics: client.statistics(),
            packed: AtomicU64::new(0),
            connection: AtomicU64::new(0),
            other_servers: AtomicBool::new(false),
        }
    }

    /// The address of the server, if the client can connect to no other server.
    #[inline]
    pub(crate) fn only_server(&self) -> Option<Address<'_>> {
        let (host, port) = self.only_server.as_ref()?;
        // May find that there are other servers.
        self.cached();
        (!self.other_servers.load(Ordering::Relaxed)).then_some((host, *port))
    }

    /// The client can be connected to other servers from now on.
    pub(crate) fn servers_changed(&self) {
        self.other_servers.store(true, Ordering::Relaxed);
    }

    /// The largest size of a message, in bytes.
    #[inline]
    pub(crate) fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    /// Whether the server accepts headers. `false` before the first connection.
    #[inline]
    pub(crate) fn accepts_headers(&self) -> bool {
        self.cached().is_some_and(|cached| cached.headers)
    }

    /// `None` before the first connection.
    ///
    /// `try_server_info` makes six allocations; it is called once for a connection.
    #[inline]
    fn cached(&self) -> Option<Cached> {
        let connects = self.statistics.connects.load(Ordering::Relaxed);
        if let Some(cached) = Cached::unpack(self.packed.load(Ordering::Relaxed), connects) {
            return Some(cached);
        }
        let info = self.client.try_server_info()?;
        let cached = Cached { headers: info.headers };
        if !self.ignores_discovered_servers && !info.connect_urls.is_empty() {
            self.servers_changed();
        }
        // The client counts a connection before it publishes the new information: until then `info` is of the previous one.
        let connection = connection_id(&info.server_id, info.client_id);
        if self.connection.swap(connection, Ordering::Relaxed) != connection {
            self.packed.store(cached.pack(connects), Ordering::Relaxed);
        }
        Some(cached)
    }
}

fn connection_id(server: &str, client: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (server, client).hash(&mut hasher);
    hasher.finish()
}

/// The server information that is cached, packed into one word with the number of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cached {
    headers: bool,
}

impl Cached {
    const KNOWN: u64 = 0b01;
    const HEADERS: u64 = 0b10;

    fn pack(self, connects: u64) -> u64 {
        connects << 2 | if self.headers { Self::HEADERS } else { 0 } | Self::KNOWN
    }

    fn unpack(packed: u64, connects: u64) -> Option<Self> {
        let known = packed & Self::KNOWN != 0 && packed >> 2 == connects;
        known.then_some(Self { headers: packed & Self::HEADERS != 0 })
    }
}
