//! RabbitMQ: rabbitmq-server with an `epmd` of its own.

use std::{
    ffi::OsString,
    fs, io,
    io::{Read, Write},
    path::{Path, PathBuf},
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

const NAME: &str = "RabbitMQ";
const VARIABLE: &str = "BROKERS_AMQP";

static RABBITMQ: Kind = Kind { name: NAME, ports: 3, service: "rabbitmq", service_port: 5672, answers };

/// Debian's own scripts; those on the `PATH` there want root, to become the user `rabbitmq`.
const DEBIAN: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// Erlang's name server stays in the broker's process group, in the foreground, so that it ends with the broker: when a node
/// has to start it, it becomes a daemon. It ends before the broker only where its port is taken, and then all of the group
/// ends. The last line makes the shell the broker.
const START: &str = r#"
    { epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1; echo "epmd: its port is already in use"; kill -s KILL -- "-$$"; } &
    until epmd -port "$ERL_EPMD_PORT" -names >/dev/null 2>&1; do sleep 0.05; done
    exec "$0"
"#;

/// A RabbitMQ node with user `guest` and virtual host `/`.
#[derive(Debug)]
pub struct RabbitMq {
    /// For `lapin::Connection::connect`.
    pub uri: String,
    backing: Backing,
}

impl RabbitMq {
    /// A node to share: from the environment, `docker compose` or a child process, in this order.
    ///
    /// # Errors
    /// What is missing and the command that mends it.
    pub fn start() -> Result<Self, Missing> {
        if let Some(uri) = backing::from_environment(NAME, VARIABLE, answers_at)? {
            return Ok(Self { uri, backing: Backing::Environment });
        }
        if let Some(container) = Container::start(&RABBITMQ, |_| Vec::new())? {
            return Ok(Self { uri: uri(container.address()), backing: Backing::Compose(container) });
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
        let server = find()?;
        let process = Process::start(&RABBITMQ, |folder, ports| prepare(&server, folder, ports))?;
        Ok(Self { uri: uri(process.address()), backing: Backing::Process(process) })
    }

    /// Where it came from.
    pub fn source(&self) -> Source {
        self.backing.source()
    }

    /// Stops it as an operator would and waits until it has stopped. Nothing happens to a node from the environment.
    pub fn stop(&mut self) {
        self.backing.stop();
    }

    /// Kills it with SIGKILL. Nothing happens to a node from the environment.
    pub fn kill(&mut self) {
        self.backing.kill();
    }

    /// Suspends it, by SIGSTOP or `docker pause`: its connections stay open, and it does not answer. Nothing happens to
    /// a node from the environment.
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
    /// [`Missing::NotReady`] when it does not come back, [`Missing::NotOurs`] for a node from the environment.
    pub fn restart(&mut self) -> Result<(), Missing> {
        self.backing.restart(NAME, &self.uri)
    }
}

fn uri(address: &str) -> String {
    format!("amqp://guest:guest@{address}/%2f")
}

fn prepare(server: &Path, folder: &Path, ports: &[u16]) -> io::Result<Program> {
    let &[port, epmd, distribution] = ports else { return Err(io::ErrorKind::InvalidInput.into()) };
    let config = folder.join("rabbitmq.conf");
    fs::write(
        &config,
        format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nlog.console = true\nlog.console.level = warning\ndisk_free_limit.absolute = 50MB\n"
        ),
    )?;
    let plugins = folder.join("enabled_plugins");
    fs::write(&plugins, "[].\n")?;
    let data: OsString = folder.join("data").into();
    Ok(Program {
        args: vec!["/bin/sh".into(), "-c".into(), START.into(), server.into()],
        envs: vec![
            // The cookie by which nodes trust each other is made there.
            ("HOME", folder.into()),
            ("ERL_EPMD_PORT", epmd.to_string().into()),
            ("RABBITMQ_DIST_PORT", distribution.to_string().into()),
            ("RABBITMQ_NODENAME", format!("{}@localhost", node_name(folder)).into()),
            ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".into()),
            ("RABBITMQ_NODE_PORT", port.to_string().into()),
            // What the machine's own node is configured with is not ours.
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".into()),
            ("RABBITMQ_CONFIG_FILE", config.into()),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", folder.join("none.config").into()),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", plugins.into()),
            ("RABBITMQ_MNESIA_BASE", data.clone()),
            ("RABBITMQ_GENERATED_CONFIG_DIR", folder.join("generated").into()),
            ("RABBITMQ_SCHEMA_DIR", folder.join("schema").into()),
            ("RABBITMQ_PID_FILE", folder.join("pid").into()),
            ("RABBITMQ_LOG_BASE", folder.join("logs").into()),
            ("RABBITMQ_LOGS", "-".into()),
            // The scripts otherwise keep a shell between us and the node; nothing is told to systemd.
            ("RUNNING_UNDER_SYSTEMD", "1".into()),
            // Idle schedulers sleep: other brokers run on the same cores.
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}".into(),
            ),
        ],
    })
}

fn find() -> Result<PathBuf, Missing> {
    let debian = PathBuf::from(DEBIAN);
    let server = if debian.is_file() { Some(debian) } else { home::on_path("rabbitmq-server") };
    // Erlang is found by the scripts on the `PATH`.
    server.filter(|_| home::on_path("epmd").is_some()).ok_or(Missing::NotInstalled {
        broker: NAME,
        what: "rabbitmq-server",
        mend: "run `make brokers` (as root on Debian; elsewhere install rabbitmq-server first)",
    })
}

fn answers_at(uri: &str) -> bool {
    let address = net::host_and_port(uri, 5672);
    // What is behind TLS is told apart by the client that connects to it.
    if uri.starts_with("amqps:") { net::connect(&address).is_some() } else { answers(&address) }
}

/// Whether a protocol header is answered by `connection.start`: a method frame of class 10, method 10, on channel 0.
fn answers(address: &str) -> bool {
    let Some(mut stream) = net::connect(address) else { return false };
    let mut frame = [0; 11];
    stream.write_all(b"AMQP\0\0\x09\x01").is_ok()
        && stream.read_exact(&mut frame).is_ok()
        && frame[..3] == [1, 0, 0]
        && frame[7..] == [0, 10, 0, 10]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::tests::starts_elsewhere;

    #[test]
    fn a_lost_port_is_replaced() {
        let server = find().unwrap();
        for taken in 0..RABBITMQ.ports {
            starts_elsewhere(&RABBITMQ, taken, |folder, ports| prepare(&server, folder, ports));
        }
    }
}
