//! As much of a NATS server as `async-nats` needs to connect, publish and subscribe.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use super::{PAYLOAD, PUSH, count, headers, listen};

/// Starts the server.
pub(crate) fn start() -> io::Result<SocketAddr> {
    listen(serve)
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut input = BufReader::with_capacity(1 << 16, stream.try_clone()?);
    stream.write_all(b"INFO {\"server_id\":\"bench\",\"version\":\"2.14.0\",\"proto\":1,\"headers\":true,\"max_payload\":1048576}\r\n")?;

    let mut subscription = None;
    let (mut line, mut body) = (String::new(), Vec::new());
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            ["PING"] => stream.write_all(b"PONG\r\n")?,
            ["SUB", subject, id] => subscription = Some((subject.to_owned(), id.to_owned())),
            ["PUB", subject, size] => {
                let payload = read(&mut input, &mut body, "0", size)?;
                push(&mut stream, subject, payload, &subscription)?;
            }
            ["HPUB", subject, headers, size] => {
                let payload = read(&mut input, &mut body, headers, size)?;
                push(&mut stream, subject, payload, &subscription)?;
            }
            // What the client says of itself, and unsubscribing, change nothing here.
            _ => {}
        }
    }
}

/// Reads headers and payload; returns the payload.
fn read<'a>(input: &mut impl Read, body: &'a mut Vec<u8>, headers: &str, size: &str) -> io::Result<&'a [u8]> {
    let parse = |number: &str| number.parse::<usize>().map_err(io::Error::other);
    let (headers, size) = (parse(headers)?, parse(size)?);
    body.resize(size + 2, 0);
    input.read_exact(body)?;
    body.get(headers..size).ok_or_else(|| io::Error::other("headers longer than the message"))
}

fn push(
    stream: &mut TcpStream,
    subject: &str,
    payload: &[u8],
    subscription: &Option<(String, String)>,
) -> io::Result<()> {
    match subscription {
        Some((subscribed, id)) if subject == PUSH => stream.write_all(&message(subscribed, id).repeat(count(payload)?)),
        _ => Ok(()),
    }
}

fn message(subject: &str, id: &str) -> Vec<u8> {
    let lines: String = headers().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let headers = format!("NATS/1.0\r\n{lines}\r\n");
    let size = headers.len() + PAYLOAD.len();
    let mut message = format!("HMSG {subject} {id} {} {size}\r\n{headers}", headers.len()).into_bytes();
    message.extend_from_slice(&PAYLOAD);
    message.extend_from_slice(b"\r\n");
    message
}
