//! As much of an AMQP 0-9-1 server as `lapin` needs to connect, publish, confirm and consume.

use std::{
    io::{self, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use super::{PAYLOAD, PUSH, count, headers, listen};

/// The exchange that deliveries come from.
pub(crate) const EXCHANGE: &str = "orders";

/// The routing key of deliveries.
pub(crate) const ROUTING_KEY: &str = "created";

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xCE;

/// The bit of the property flags which says that there is a header table.
const HEADERS_FLAG: u16 = 1 << 13;

/// Starts the server.
pub(crate) fn start() -> io::Result<SocketAddr> {
    listen(serve)
}

/// A connection: one channel is enough for what is measured.
struct Connection {
    output: TcpStream,
    /// The tag of the channel's last consumer.
    consumer: Vec<u8>,
    /// Whether the message that is being received is one to [`PUSH`].
    is_push: bool,
    /// How many messages were confirmed, where the channel confirms.
    confirmed: Option<u64>,
    delivered: u64,
}

struct Frame {
    kind: u8,
    channel: u16,
    payload: Vec<u8>,
}

fn serve(stream: TcpStream) -> io::Result<()> {
    let mut input = BufReader::with_capacity(1 << 16, stream.try_clone()?);
    let mut connection =
        Connection { output: stream, consumer: Vec::new(), is_push: false, confirmed: None, delivered: 0 };

    let mut protocol_header = [0; 8];
    input.read_exact(&mut protocol_header)?;
    // start: version 0-9, no server properties, mechanisms, locales.
    let start = [&[0, 9, 0, 0, 0, 0][..], &long_string(b"PLAIN"), &long_string(b"en_US")].concat();
    connection.method(0, 10, 10, &start)?;
    loop {
        let frame = read_frame(&mut input)?;
        match frame.kind {
            METHOD => connection.answer(&frame)?,
            BODY => connection.received(&frame)?,
            // The size of a message, and heartbeats.
            _ => {}
        }
    }
}

impl Connection {
    fn answer(&mut self, frame: &Frame) -> io::Result<()> {
        let class = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
        let method = u16::from_be_bytes([frame.payload[2], frame.payload[3]]);
        let arguments = &frame.payload[4..];
        match (class, method) {
            // start-ok: tune with no limit on channels, frames of 128 KiB, no heartbeat.
            (10, 11) => self.method(0, 10, 30, &[0, 0, 0, 2, 0, 0, 0, 0]),
            // open, close
            (10, 40) => self.method(0, 10, 41, &[0]),
            (10, 50) => self.method(0, 10, 51, &[]),
            // channel: open, close
            (20, 10) => self.method(frame.channel, 20, 11, &[0, 0, 0, 0]),
            (20, 40) => self.method(frame.channel, 20, 41, &[]),
            // confirm.select
            (85, 10) => {
                self.confirmed = Some(0);
                self.method(frame.channel, 85, 11, &[])
            }
            // basic: qos, consume, cancel, publish
            (60, 10) => self.method(frame.channel, 60, 11, &[]),
            (60, 20) => {
                let (_, after_queue) = short_string(&arguments[2..]);
                let (tag, _) = short_string(after_queue);
                self.consumer = if tag.is_empty() { b"bench".to_vec() } else { tag.to_vec() };
                let tag = [&[self.consumer.len() as u8][..], &self.consumer].concat();
                self.method(frame.channel, 60, 21, &tag)
            }
            (60, 30) => {
                let (tag, _) = short_string(arguments);
                self.method(frame.channel, 60, 31, &[&[tag.len() as u8][..], tag].concat())
            }
            (60, 40) => {
                let (_exchange, after_exchange) = short_string(&arguments[2..]);
                let (routing_key, _) = short_string(after_exchange);
                self.is_push = routing_key == PUSH.as_bytes();
                Ok(())
            }
            // Acknowledgements and the answers to ours need no answer.
            _ => Ok(()),
        }
    }

    /// A published message is complete: all are small enough for one body frame.
    fn received(&mut self, body: &Frame) -> io::Result<()> {
        if let Some(confirmed) = &mut self.confirmed {
            *confirmed += 1;
            let tag = confirmed.to_be_bytes();
            self.method(body.channel, 60, 80, &[&tag[..], &[0]].concat())?;
        }
        if self.is_push {
            let mut messages = Vec::new();
            for _ in 0..count(&body.payload)? {
                self.delivered += 1;
                self.deliver(&mut messages, body.channel);
            }
            self.output.write_all(&messages)?;
        }
        Ok(())
    }

    fn deliver(&self, out: &mut Vec<u8>, channel: u16) {
        let mut deliver = vec![0, 60, 0, 60, self.consumer.len() as u8];
        deliver.extend_from_slice(&self.consumer);
        deliver.extend_from_slice(&self.delivered.to_be_bytes());
        deliver.push(0);
        for name in [EXCHANGE, ROUTING_KEY] {
            deliver.push(name.len() as u8);
            deliver.extend_from_slice(name.as_bytes());
        }
        write_frame(out, METHOD, channel, &deliver);

        let field = |(name, value): (&str, &str)| {
            [&[name.len() as u8][..], name.as_bytes(), b"S", &long_string(value.as_bytes())].concat()
        };
        let table = headers().flat_map(field).collect::<Vec<_>>();
        let mut header = vec![0, 60, 0, 0];
        header.extend_from_slice(&(PAYLOAD.len() as u64).to_be_bytes());
        header.extend_from_slice(&HEADERS_FLAG.to_be_bytes());
        header.extend_from_slice(&long_string(&table));
        write_frame(out, HEADER, channel, &header);
        write_frame(out, BODY, channel, &PAYLOAD);
    }

    fn method(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) -> io::Result<()> {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat();
        let mut frame = Vec::new();
        write_frame(&mut frame, METHOD, channel, &payload);
        self.output.write_all(&frame)
    }
}

fn read_frame(input: &mut impl Read) -> io::Result<Frame> {
    let mut head = [0; 7];
    input.read_exact(&mut head)?;
    let [kind, c0, c1, s0, s1, s2, s3] = head;
    let mut payload = vec![0; u32::from_be_bytes([s0, s1, s2, s3]) as usize + 1];
    input.read_exact(&mut payload)?;
    match payload.pop() {
        Some(FRAME_END) => Ok(Frame { kind, channel: u16::from_be_bytes([c0, c1]), payload }),
        _ => Err(io::Error::other("a frame without its end")),
    }
}

fn write_frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
    out.push(FRAME_END);
}

/// The first short string, and what follows it.
fn short_string(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = bytes.split_first().unwrap_or((&0, &[]));
    rest.split_at_checked(usize::from(*length)).unwrap_or_default()
}

/// Four bytes of length and what they count: a long string, and a table too.
fn long_string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}
