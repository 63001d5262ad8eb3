//! Redis: redis-server, which keeps its data in memory. Every test that needs it starts its own.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
};

use crate::{
    backing::Source,
    home,
    missing::Missing,
    net,
    process::{Kind, Process, Program},
};

const NAME: &str = "Redis";

/// Never a container.
static REDIS: Kind = Kind { name: NAME, ports: 1, service: "", service_port: 0, answers };

/// A Redis server.
#[derive(Debug)]
pub struct Redis {
    /// For `redis::Client::open`.
    pub url: String,
    process: Process,
}

impl Redis {
    /// Where it would come from. Nothing is started.
    ///
    /// # Errors
    /// What is missing and the command that mends it.
    pub fn find() -> Result<Source, Missing> {
        find().map(|_| Source::Process)
    }

    /// A private child process.
    ///
    /// # Errors
    /// What is missing and the command that mends it.
    pub fn own() -> Result<Self, Missing> {
        let server = find()?;
        let process = Process::start(&REDIS, |folder, ports| Ok(prepare(&server, folder, ports[0])))?;
        Ok(Self { url: format!("redis://{}", process.address()), process })
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Suspends it by SIGSTOP: its connections stay open, and it does not answer.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.process.resume();
    }
}

/// Without a configuration file: the machine's own server is configured by one. `--save ""` writes no snapshots.
fn prepare(server: &Path, folder: &Path, port: u16) -> Program {
    let port = port.to_string();
    let options = ["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no", "--dir"];
    let mut args = vec![server.into()];
    args.extend(options.map(Into::into));
    args.push(folder.into());
    Program { args, envs: Vec::new() }
}

fn find() -> Result<PathBuf, Missing> {
    home::on_path("redis-server").ok_or(Missing::NotInstalled {
        broker: NAME,
        what: "redis-server",
        mend: "run `make brokers` (as root on Debian; elsewhere install redis-server first)",
    })
}

fn answers(address: &str) -> bool {
    let Some(mut stream) = net::connect(address) else { return false };
    let mut answer = [0; 7];
    stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"+PONG\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::tests::starts_elsewhere;

    #[test]
    fn a_lost_port_is_replaced() {
        let server = find().unwrap();
        starts_elsewhere(&REDIS, 0, |folder, ports| Ok(prepare(&server, folder, ports[0])));
    }
}
