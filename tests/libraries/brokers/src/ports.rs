//! Free ports.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{Ipv4Addr, TcpListener},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Below the ports that the system gives to outgoing connections (Linux: from 32768, others higher): a client that keeps
/// knocking at a stopped broker's port can otherwise be given that port itself, and the broker cannot come back.
const FIRST: u32 = 15_000;
const COUNT: u32 = 17_000;

/// A port of 127.0.0.1 that is free now, and that this process has not given out recently.
pub(crate) fn free() -> io::Result<u16> {
    // Processes start at different places, threads of one process never get the same port.
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(RandomState::new().hash_one(0) as u32));
    for _ in 0..COUNT {
        let port = (FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::from(io::ErrorKind::AddrInUse))
}

/// A port of 127.0.0.1 that has to be this one. An error where somebody has it, who would be taken for the broker.
pub(crate) fn given(port: u16) -> io::Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(|_| port)
}
