//! A publisher that writes what no client would.

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::server;

/// A connection that speaks the protocol by hand.
pub(crate) struct Publisher(BufReader<TcpStream>);

impl Publisher {
    pub(crate) async fn connect() -> Self {
        let (_, address) = server().url.rsplit_once('/').unwrap();
        let mut publisher = Self(BufReader::new(TcpStream::connect(address).await.unwrap()));
        publisher.write(b"CONNECT {\"verbose\":false,\"headers\":true}\r\n").await;
        publisher.synchronise().await;
        publisher
    }

    /// Publishes with these header lines, each with its line end, and returns when the server has the message.
    pub(crate) async fn publish(&mut self, subject: &str, lines: &[u8], payload: &[u8]) {
        let headers = [b"NATS/1.0\r\n", lines, b"\r\n"].concat();
        let command = format!("HPUB {subject} {} {}\r\n", headers.len(), headers.len() + payload.len());
        self.write(&[command.as_bytes(), &headers, payload, b"\r\n"].concat()).await;
        self.synchronise().await;
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).await.unwrap();
    }

    async fn synchronise(&mut self) {
        self.write(b"PING\r\n").await;
        let mut line = String::new();
        while line != "PONG\r\n" {
            assert!(!line.starts_with("-ERR"), "{line}");
            line.clear();
            assert_ne!(self.0.read_line(&mut line).await.unwrap(), 0, "the server hung up");
        }
    }
}
