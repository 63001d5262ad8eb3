//! `demo ask` says what it waits for.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{Command, Stdio},
    thread,
};

/// A Jaeger without a trace.
fn empty() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 4_096]);
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\nconnection: close\r\n\r\n{\"data\": []}";
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

#[test]
fn each_kind_of_missing_order_is_printed_while_it_is_awaited() {
    let mut ask = Command::new(env!("CARGO_BIN_EXE_demo"))
        .args(["ask", &empty()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the demo starts");
    let lines = BufReader::new(ask.stdout.take().expect("piped")).lines().map(|line| line.expect("text"));
    let said: Vec<_> = lines.take(4).collect();
    ask.kill().expect("it waits still");
    ask.wait().expect("it has ended");
    let lacking = ["paid", "slow", "declined"].map(|card| format!("{card}: no such order"));
    assert_eq!(said, [&["waiting for what is lacking:".to_owned()][..], &lacking].concat());
}
