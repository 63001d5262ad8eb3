//! Connections to see who answers.

use std::{
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

/// A connection whose reads and writes end.
pub(crate) fn connect(address: &str) -> Option<TcpStream> {
    let patience = Duration::from_secs(2);
    let stream = address.to_socket_addrs().ok()?.find_map(|to| TcpStream::connect_timeout(&to, patience).ok())?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.set_write_timeout(Some(patience)).ok()?;
    Some(stream)
}

/// The first `host:port` of `scheme://user:password@host:port/path`.
pub(crate) fn host_and_port(url: &str, default_port: u16) -> String {
    let url = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = url.split(['/', '?', ',']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    // An IPv6 address has colons of its own, inside brackets.
    if host.rsplit(']').next().unwrap_or_default().contains(':') {
        host.to_owned()
    } else {
        format!("{host}:{default_port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_is_found_in_every_url() {
        for (url, expected) in [
            ("127.0.0.1:9092", "127.0.0.1:9092"),
            ("one:9092,two:9092", "one:9092"),
            ("amqp://guest:guest@host/%2f", "host:5672"),
            ("amqp://user:p%40ss@host:1/vhost?heartbeat=5", "host:1"),
            ("nats://[::1]:4222", "[::1]:4222"),
            ("nats://[::1]", "[::1]:5672"),
        ] {
            assert_eq!(host_and_port(url, 5672), expected, "{url}");
        }
    }
}
