//! NATS: nats-server with JetStream.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    backing::{self, Backing, Source},
    compose::Container,
    folder::node_name,
    home,
    missing::Missing,
    net,
    process::{Kind, Process, Program},
};

const NAME: &str = "NATS";
const VARIABLE: &str = "BROKERS_NATS";

static WITH_JETSTREAM: Kind = Kind {
    name: NAME,
    ports: 1,
    service: "nats",
    service_port: 4222,
    answers: |address| info(address).is_some_and(|info| info.contains("\"jetstream\":true")),
};
/// JetStream may be off in it.
static AS_CONFIGURED: Kind = Kind { answers: |address| info(address).is_some(), ..WITH_JETSTREAM };

/// A NATS server with JetStream.
#[derive(Debug)]
pub struct Nats {
    /// For `async_nats::connect`.
    pub url: String,
    backing: Backing,
}

impl Nats {
    /// A server to share: from the environment, `docker compose` or a child process, in this order.
    ///
    /// # Errors
    /// What is missing and the command that mends it.
    pub fn start() -> Result<Self, Missing> {
        let listens = |url: &str| (AS_CONFIGURED.answers)(&net::host_and_port(url, 4222));
        if let Some(url) = backing::from_environment(NAME, VARIABLE, listens)? {
            return Ok(Self { url, backing: Backing::Environment });
        }
        if let Some(container) = Container::start(&WITH_JETSTREAM, |_| Vec::new())? {
            return Ok(Self { url: url(container.address()), backing: Backing::Compose(container) });
        }
        Self::own()
    }

    /// Where it would come from. Nothing is started.
    ///
    /// # Errors
    /// What is missing and the command that mends it.
    pub fn find() -> Result<Source, Missing> {
        backing::find(VARIABLE, find)
    }

    /// A private child process.
    ///
    /// # Errors
    /// What is missing and the command that mends it.
    pub fn own() -> Result<Self, Missing> {
        Self::process(&WITH_JETSTREAM, "", "")
    }

    /// A private child process whose JetStream is of this domain and says so in every delivery.
    ///
    /// # Errors
    /// What is missing and the command that mends it; [`Missing::NotReady`] for a server older than 2.14, which cannot
    /// say it.
    pub fn own_of_domain(domain: &str) -> Result<Self, Missing> {
        // Servers from 2.16 on do so by default.
        let says = "feature_flags { js_ack_fc_v2: true }";
        Self::process(&WITH_JETSTREAM, &format!(", domain: \"{domain}\""), says)
    }

    /// A private child process with `config` at the end of its configuration file, in the server's own syntax, such as
    /// `max_payload: 1024` or `jetstream: disabled`.
    ///
    /// # Errors
    /// What is missing and the command that mends it; [`Missing::NotReady`] also when the server refuses `config`.
    pub fn own_with(config: &str) -> Result<Self, Missing> {
        Self::process(&AS_CONFIGURED, "", config)
    }

    /// `jetstream` stands at the end of JetStream's own options, `config` at the end of the file.
    fn process(kind: &'static Kind, jetstream: &str, config: &str) -> Result<Self, Missing> {
        let server = find()?;
        let process = Process::start(kind, |folder, ports| prepare(&server, jetstream, config, folder, ports[0]))?;
        Ok(Self { url: url(process.address()), backing: Backing::Process(process) })
    }

    /// Where it came from.
    pub fn source(&self) -> Source {
        self.backing.source()
    }

    /// Stops it as an operator would and waits until it has stopped. Nothing happens to a server from the environment.
    pub fn stop(&mut self) {
        self.backing.stop();
    }

    /// Kills it with SIGKILL. Nothing happens to a server from the environment.
    pub fn kill(&mut self) {
        self.backing.kill();
    }

    /// Suspends it, by SIGSTOP or `docker pause`: its connections stay open, and it does not answer. Nothing happens to
    /// a server from the environment.
    pub fn pause(&self) {
        self.backing.pause();
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.backing.resume();
    }

    /// Starts it again at the same address with the same data, after stopping it when it still runs.
    ///
    /// # Errors
    /// [`Missing::NotReady`] when it does not come back, [`Missing::NotOurs`] for a server from the environment.
    pub fn restart(&mut self) -> Result<(), Missing> {
        self.backing.restart(NAME, &self.url)
    }
}

fn url(address: &str) -> String {
    format!("nats://{address}")
}

fn prepare(server: &Path, jetstream: &str, config: &str, folder: &Path, port: u16) -> std::io::Result<Program> {
    let file = folder.join("nats.conf");
    let store = folder.join("jetstream");
    let store = store.display();
    let text = format!("listen: \"127.0.0.1:{port}\"\njetstream: {{ store_dir: \"{store}\"{jetstream} }}\n{config}\n");
    fs::write(&file, text)?;
    let args = vec![server.into(), "-c".into(), file.into(), "--name".into(), node_name(folder).into()];
    Ok(Program { args, envs: Vec::new() })
}

/// The server that `make brokers` installed, or one on the `PATH` that has what the tests use.
fn find() -> Result<PathBuf, Missing> {
    let installed = home::home().join("bin/nats-server");
    if installed.is_file() {
        return Ok(installed);
    }
    home::on_path("nats-server").filter(|server| is_recent(server)).ok_or(Missing::NotInstalled {
        broker: NAME,
        what: "nats-server 2.11 or newer",
        mend: "run `make brokers` (needs Go 1.26 or newer)",
    })
}

/// `nats-server: v2.15.2`: 2.11 or newer.
fn is_recent(server: &Path) -> bool {
    let Ok(output) = Command::new(server).arg("--version").output() else { return false };
    let output = String::from_utf8_lossy(&output.stdout);
    let mut numbers =
        output.trim().rsplit('v').next().unwrap_or_default().split('.').map_while(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(2), Some(11))
}

/// What a server says first to every client.
fn info(address: &str) -> Option<String> {
    let stream = net::connect(address)?;
    let mut line = String::new();
    BufReader::new(stream.take(64 * 1024)).read_line(&mut line).ok()?;
    line.starts_with("INFO ").then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::tests::starts_elsewhere;

    #[test]
    fn a_lost_port_is_replaced() {
        let server = find().unwrap();
        starts_elsewhere(&WITH_JETSTREAM, 0, |folder, ports| prepare(&server, "", "", folder, ports[0]));
    }
}
