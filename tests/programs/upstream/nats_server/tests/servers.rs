//! What the tests of async-nats rely on.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nats_server::{Server, run_basic_server, run_cluster, run_server_with_port, set_lame_duck_mode};

const PATIENCE: Duration = Duration::from_secs(20);

/// Set for the test that starts this program again, as the one that holds a server.
const HOLDER: &str = "NATS_SERVER_TEST_HOLDER";

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// What the server says first.
fn info(port: u16) -> String {
    said_first(port).unwrap()
}

fn said_first(port: u16) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(TcpStream::connect(("127.0.0.1", port))?).read_line(&mut line)?;
    Ok(line)
}

/// Which server answers, if any does: after one has ended, its port may be given to another test's.
fn server_id(port: u16) -> Option<String> {
    let line = said_first(port).ok()?;
    let (_, id) = line.split_once("\"server_id\":\"")?;
    Some(id.split_once('"')?.0.to_owned())
}

fn eventually(condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// On a given port, that a first server found free.
fn with_given_port() -> Server {
    let port = run_basic_server().client_port();
    run_server_with_port("", Some(&port.to_string()))
}

#[test]
fn two_servers_are_two() {
    let (first, second) = (run_basic_server(), run_basic_server());
    assert_ne!(first.client_url(), second.client_url());
    assert!(listens(first.client_port()) && listens(second.client_port()));
}

#[test]
fn a_server_with_a_port_comes_back_there() {
    let mut server = with_given_port();
    let (port, before) = (server.client_port(), info(server.client_port()));
    server.restart();
    assert_eq!(server.client_port(), port);
    assert_ne!(info(port), before, "each server process has an id of its own");
}

#[test]
fn a_dropped_server_is_gone() {
    let server = run_basic_server();
    let port = server.client_port();
    let id = server_id(port).unwrap();
    drop(server);
    assert_ne!(server_id(port), Some(id));
}

#[test]
fn lame_ducks_say_so() {
    let server = run_basic_server();
    let mut client = TcpStream::connect(("127.0.0.1", server.client_port())).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // It tells those that have said who they are.
    client.write_all(b"CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n").unwrap();
    let mut said = BufReader::new(client).lines().map(Result::unwrap);
    assert!(said.by_ref().any(|line| line == "PONG"));
    set_lame_duck_mode(&server);
    assert!(said.any(|line| line.contains("\"ldm\":true")));
}

#[test]
fn servers_of_a_cluster_know_each_other() {
    let cluster = run_cluster("");
    let port = cluster.client_url().rsplit(':').next().unwrap().parse().unwrap();
    // Each tells its clients where the others are.
    assert!(eventually(|| {
        let info = info(port);
        info.split_once("\"connect_urls\":[").is_some_and(|(_, urls)| {
            let urls = urls.split("\"]").next().unwrap();
            let mut ports: Vec<_> =
                urls.split(',').filter_map(|url| url.trim_matches('"').rsplit(':').next()).collect();
            ports.sort_unstable();
            ports.dedup();
            ports.len() == 3
        })
    }));
}

#[test]
fn a_server_ends_with_its_holder_killed() {
    if std::env::var_os(HOLDER).is_some() {
        let server = run_basic_server();
        println!("port {}", server.client_port());
        loop {
            thread::park();
        }
    }
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_server_ends_with_its_holder_killed", "--nocapture"])
        .env(HOLDER, "yes")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let port = BufReader::new(holder.stdout.take().unwrap())
        .lines()
        .find_map(|line| line.unwrap().split_once("port ")?.1.parse().ok())
        .unwrap();
    let id = server_id(port).unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(eventually(|| server_id(port).as_ref() != Some(&id)));
}
