//! Between client and broker: passes bytes on, late where that is asked for, and cuts all connections.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

/// A port of its own, before it is known where to pass on to.
pub(crate) struct Port(TcpListener);

impl Port {
    pub(crate) async fn open() -> io::Result<Self> {
        Ok(Self(TcpListener::bind("127.0.0.1:0").await?))
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Passes on to this `host:port` from now on.
    pub(crate) fn pass_on_to(self, broker: String) -> Proxy {
        let (cuts, delay) = (watch::Sender::new(()), Arc::new(AtomicU64::new(0)));
        let passes = pass_on(self.0, broker, cuts.clone(), delay.clone());
        Proxy { cuts, delay, running: tokio::spawn(passes).abort_handle() }
    }
}

/// Passes on for as long as it lives.
pub(crate) struct Proxy {
    cuts: watch::Sender<()>,
    delay: Arc<AtomicU64>,
    running: AbortHandle,
}

impl Proxy {
    /// Ends all connections with a reset, and says how many. What was on its way is lost.
    pub(crate) fn cut(&self) -> usize {
        let connections = self.cuts.receiver_count();
        self.cuts.send_replace(());
        connections
    }

    /// From now on bytes arrive so much later, in both directions.
    pub(crate) fn delay(&self, delay: Duration) {
        self.delay.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn pass_on(port: TcpListener, broker: String, cuts: watch::Sender<()>, delay: Arc<AtomicU64>) {
    // Dropped with this future, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = port.accept().await else { continue };
        connections.spawn(connection(client, broker.clone(), cuts.subscribe(), delay.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(mut client: TcpStream, broker: String, mut cut: watch::Receiver<()>, delay: Arc<AtomicU64>) {
    // A client whose broker is not there is reset, too.
    if client.set_zero_linger().is_ok()
        && let Ok(mut broker) = TcpStream::connect(broker).await
        && broker.set_zero_linger().is_ok()
        && client.set_nodelay(true).and(broker.set_nodelay(true)).is_ok()
    {
        let ((from_client, to_client), (from_broker, to_broker)) = (client.split(), broker.split());
        tokio::select! {
            () = copy(from_client, to_broker, &delay) => {}
            () = copy(from_broker, to_client, &delay) => {}
            _ = cut.changed() => {}
        }
    }
}

/// Until one of the two ends.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, delay: &AtomicU64) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        sleep(Duration::from_millis(delay.load(Relaxed))).await;
        if to.write_all(&bytes[..read]).await.is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::{net::TcpSocket, time::timeout};

    use super::*;

    /// A client and a broker that are connected, and the proxy between them.
    async fn connected() -> (TcpStream, TcpStream, Proxy) {
        let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = Port::open().await.unwrap();
        let address = port.address().unwrap();
        let proxy = port.pass_on_to(broker.local_addr().unwrap().to_string());
        let client = TcpStream::connect(address).await.unwrap();
        (client, broker.accept().await.unwrap().0, proxy)
    }

    async fn says(from: &mut TcpStream, to: &mut TcpStream) -> Duration {
        let start = Instant::now();
        from.write_all(b"order").await.unwrap();
        let mut heard = [0; 5];
        to.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"order");
        start.elapsed()
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_late_when_asked_to() {
        let (mut client, mut broker, proxy) = connected().await;
        says(&mut client, &mut broker).await;
        let delay = Duration::from_millis(150);
        proxy.delay(delay);
        assert!(says(&mut client, &mut broker).await >= delay);
        assert!(says(&mut broker, &mut client).await >= delay);
        proxy.delay(Duration::ZERO);
        says(&mut client, &mut broker).await;
    }

    #[tokio::test]
    async fn a_cut_ends_what_is_connected_and_nothing_that_comes_later() {
        let (mut client, mut broker, proxy) = connected().await;
        says(&mut client, &mut broker).await;
        assert_eq!(proxy.cut(), 1);
        for mut end in [client, broker] {
            let ended = timeout(Duration::from_secs(10), end.read(&mut [0])).await.expect("an end");
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
        let (mut client, mut broker, _proxy) = connected().await;
        says(&mut client, &mut broker).await;
    }

    #[tokio::test]
    async fn a_broker_that_is_not_there_is_a_reset() {
        // Bound, so that no other has it, and not listening.
        let absent = TcpSocket::new_v4().unwrap();
        absent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = Port::open().await.unwrap();
        let address = port.address().unwrap();
        let _proxy = port.pass_on_to(absent.local_addr().unwrap().to_string());
        let mut client = TcpStream::connect(address).await.unwrap();
        let ended = timeout(Duration::from_secs(10), client.read(&mut [0])).await.expect("an end");
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
