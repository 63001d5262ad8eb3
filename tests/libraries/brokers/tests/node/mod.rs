//! Whether a broker still answers. That its port does tells nothing: another test's broker may have been given it since, and
//! the system takes connections for a process that was killed until the last of its memory is gone.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// How long a broker may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first request of a client of Kafka: `Metadata`, version 1, without topics. Its answer has each broker's rack.
const METADATA: &[u8] = b"\0\0\0\x0e\0\x03\0\x01\0\0\0\0\xff\xff\0\0\0\0";

/// A broker that was started here, known by the name that it tells its clients: that of its folder.
#[derive(Debug)]
pub(crate) struct Node {
    /// `host:port` for clients.
    pub(crate) address: String,
    pub(crate) name: String,
    /// What a client says first.
    hello: &'static [u8],
}

// Each test program uses some of it.
#[allow(dead_code)]
impl Node {
    /// The node of Kafka that now answers there.
    pub(crate) fn kafka(bootstrap_servers: &str) -> Self {
        Self::at(bootstrap_servers, METADATA)
    }

    /// The node of RabbitMQ that now answers there.
    pub(crate) fn rabbitmq(uri: &str) -> Self {
        Self::at(uri.trim_start_matches("amqp://guest:guest@").trim_end_matches("/%2f"), b"AMQP\0\0\x09\x01")
    }

    /// The nats-server that now answers there. It speaks first.
    pub(crate) fn nats(url: &str) -> Self {
        Self::at(url.trim_start_matches("nats://"), b"")
    }

    /// Whether it accepts a connection and says nothing for this long: it is suspended, and not gone.
    pub(crate) fn is_noop(&self, time: Duration) -> bool {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(time)).unwrap();
        stream.write_all(self.hello).unwrap();
        let heard = stream.read(&mut [0]);
        heard.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    fn at(address: &str, hello: &'static [u8]) -> Self {
        let name = name_at(address, hello).unwrap_or_else(|| panic!("nobody says who it is at {address}"));
        Self { address: address.to_owned(), name, hello }
    }

    /// Whether it is this one that answers at its address.
    pub(crate) fn answers(&self) -> bool {
        name_at(&self.address, self.hello).is_some_and(|name| name == self.name)
    }
}

/// The name that somebody says of itself, in whatever place of an answer.
fn name_at(address: &str, hello: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(hello).ok()?;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut part).ok().filter(|read| *read > 0)?;
        answer.extend_from_slice(&part[..read]);
        if let Some(name) = name_in(&String::from_utf8_lossy(&answer)) {
            return Some(name);
        }
    }
}

/// `brokers-` and sixteen hexadecimal digits.
fn name_in(answer: &str) -> Option<String> {
    answer.match_indices("brokers-").find_map(|(start, prefix)| {
        let end = start + prefix.len() + 16;
        let name = answer.get(start..end)?;
        name[prefix.len()..].bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| name.to_owned())
    })
}
