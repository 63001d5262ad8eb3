//! nats-server as the published tests of async-nats expect it: they name a crate `nats_server` that is not published, and use
//! five functions of it.
//!
//! Each server is a child process with a folder of its own, ended and removed with its value, and with this process however
//! that ends. The program is the one that `make brokers` installed (in `BROKERS_HOME`, or else the workspace's
//! `target/brokers`), or else the one on the `PATH`. Configuration files are named relative to the working directory.

mod process;

use std::{net::TcpListener, path::PathBuf};

use crate::process::Process;

/// One running nats-server.
#[derive(Debug)]
pub struct Server {
    process: Process,
}

impl Server {
    /// Where clients connect. By name, because that is what the certificates in the tests' configuration are made out to.
    pub fn client_url(&self) -> String {
        format!("nats://localhost:{}", self.client_port())
    }

    /// The port on which the server listens for clients.
    pub fn client_port(&self) -> u16 {
        self.process.port()
    }

    /// Kills the server and starts it again with the same arguments and data. Only one with a given port keeps its port.
    pub fn restart(&mut self) {
        self.process.restart();
    }
}

/// Three servers that know each other.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Server>,
}

impl Cluster {
    /// Where clients connect: to the first of the servers.
    pub fn client_url(&self) -> String {
        self.servers[0].client_url()
    }
}

/// A server without configuration, on a free port.
pub fn run_basic_server() -> Server {
    run_server("")
}

/// A server with a configuration file, on a free port.
pub fn run_server(config: &str) -> Server {
    run_server_with_port(config, None)
}

/// A server with a configuration file, or with none where its name is empty, on the given port or on a free one.
pub fn run_server_with_port(config: &str, port: Option<&str>) -> Server {
    start(config, port, &[])
}

/// Three servers, each with the same configuration file, on free ports.
pub fn run_cluster(config: &str) -> Cluster {
    // Found together, so that they differ.
    let listeners: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("no free port")).collect();
    let listen: Vec<_> = listeners
        .iter()
        .map(|listener| format!("nats://{}", listener.local_addr().expect("a listener without an address")))
        .collect();
    drop(listeners);
    let routes = listen.join(",");
    let servers = listen
        .iter()
        .enumerate()
        .map(|(number, own)| {
            let name = format!("node{number}");
            start(config, None, &["--name", &name, "--cluster_name", "cluster", "--cluster", own, "--routes", &routes])
        })
        .collect();
    Cluster { servers }
}

/// Asks the server to send its clients away.
pub fn set_lame_duck_mode(server: &Server) {
    server.process.signal("USR2");
}

fn start(config: &str, port: Option<&str>, more: &[&str]) -> Server {
    let mut args = vec!["--port".to_owned(), port.unwrap_or("-1").to_owned()];
    if !config.is_empty() {
        args.extend(["--config".to_owned(), config.to_owned()]);
    }
    args.extend(more.iter().map(|&arg| arg.to_owned()));
    Server { process: Process::start(program(), args) }
}

fn program() -> PathBuf {
    let home = std::env::var_os("BROKERS_HOME").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../../target/brokers")),
        PathBuf::from,
    );
    let installed = home.join("bin/nats-server");
    if installed.is_file() { installed } else { "nats-server".into() }
}
