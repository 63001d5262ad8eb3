//! Servers in this process, as small as the clients allow: a client is measured, and not a broker.
//!
//! The AMQP and the NATS server are driven by what they are sent: a message to [`PUSH`] names a number of messages, which
//! the server then delivers to the last subscription of that connection. All deliveries carry the trace context of one
//! sampled span.

use std::{
    io, iter,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

pub(crate) mod amqp;
pub(crate) mod kafka;
pub(crate) mod nats;

/// The routing key or subject whose messages say, as a decimal number, how many messages to deliver.
pub(crate) const PUSH: &str = "push";

/// What each delivered message carries as `traceparent`.
pub(crate) const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

static MORE: AtomicBool = AtomicBool::new(false);

/// Lets the messages of peers that are started from now on have one more header, and a key where there are keys.
pub(crate) fn carry_more() {
    MORE.store(true, Relaxed);
}

/// What each delivered message has as headers.
pub(crate) fn headers() -> impl Iterator<Item = (&'static str, &'static str)> {
    iter::once(("traceparent", TRACEPARENT)).chain(MORE.load(Relaxed).then_some(("priority", "high")))
}

/// What each delivered message has as its key.
pub(crate) fn key() -> Option<&'static str> {
    MORE.load(Relaxed).then_some("4711")
}

/// What each message contains.
pub(crate) const PAYLOAD: [u8; 128] = [b'x'; 128];

/// Serves every connection to a free loopback port with a thread of its own, as long as the process lives.
fn listen(serve: impl Fn(TcpStream) -> io::Result<()> + Copy + Send + 'static) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away ends its connection, and that is all there is to say.
            thread::spawn(move || stream.set_nodelay(true).and_then(|()| serve(stream)));
        }
    });
    Ok(address)
}

/// The number of messages that a message to [`PUSH`] asks for.
fn count(payload: &[u8]) -> io::Result<usize> {
    let text = str::from_utf8(payload).map_err(io::Error::other)?;
    text.parse().map_err(io::Error::other)
}
