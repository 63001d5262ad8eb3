//! Kafka: one Apache Kafka node in KRaft mode.

use std::{
    cell::Cell,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    config::RDKafkaLogLevel,
    producer::{BaseProducer, Producer},
};

use crate::{
    backing::{self, Backing, Source},
    compose::Container,
    folder::node_name,
    home,
    missing::Missing,
    mock::Mock,
    net,
    process::{Kind, Process, Program},
};

const NAME: &str = "Apache Kafka";
const VARIABLE: &str = "BROKERS_KAFKA";

static KAFKA: Kind = Kind { name: NAME, ports: 2, service: "kafka", service_port: 9092, answers };
static BEHIND: Kind = Kind { ports: 3, ..KAFKA };

/// What one node needs, without ports and folders. `make brokers` formats a node's folder with it.
const SETTINGS: &str = include_str!("../kafka/server.properties");

/// The Java machine starts faster with the first compiler alone and the simplest collector.
const JAVA: [&str; 7] = [
    "-Xmx512m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xshare:auto",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
];

/// A Kafka cluster of one node, which makes topics of three partitions when they are first used.
#[derive(Debug)]
pub struct Kafka {
    /// For the client's `bootstrap.servers`.
    pub bootstrap_servers: String,
    backing: Backing,
}

impl Kafka {
    /// A cluster to share: from the environment, `docker compose`, a child process or the mock, in this order.
    ///
    /// # Errors
    /// What is missing and the command that mends it.
    pub fn start() -> Result<Self, Missing> {
        match Self::start_real() {
            Err(missing @ Missing::NotInstalled { .. }) => {
                eprintln!("{missing}; until then it is {}", Source::Mock);
                Self::mock()
            }
            result => result,
        }
    }

    /// As [`start`](Self::start), without the mock.
    ///
    /// # Errors
    /// What is missing and the command that mends it.
    pub fn start_real() -> Result<Self, Missing> {
        if let Some(bootstrap_servers) = backing::from_environment(NAME, VARIABLE, answers)? {
            return Ok(Self { bootstrap_servers, backing: Backing::Environment });
        }
        if let Some(container) = Container::start(&KAFKA, container_settings)? {
            return Ok(Self {
                bootstrap_servers: container.address().to_owned(),
                backing: Backing::Compose(container),
            });
        }
        Self::own()
    }

    /// Where a real one would come from. Nothing is started.
    ///
    /// # Errors
    /// What is missing and the command that mends it.
    pub fn find() -> Result<Source, Missing> {
        backing::find(VARIABLE, Installed::find)
    }

    /// A private child process.
    ///
    /// # Errors
    /// What is missing and the command that mends it.
    pub fn own() -> Result<Self, Missing> {
        let installed = Installed::find()?;
        let process = Process::start(&KAFKA, |folder, ports| installed.prepare(folder, ports, None))?;
        Ok(Self { bootstrap_servers: process.address().to_owned(), backing: Backing::Process(process) })
    }

    /// A private child process with a second listener, at the address returned, which advertises this port of 127.0.0.1: a proxy
    /// on that port has to forward to that address.
    ///
    /// # Errors
    /// What is missing and the command that mends it.
    pub fn own_behind(port: u16) -> Result<(Self, String), Missing> {
        let installed = Installed::find()?;
        let second = Cell::new(0);
        let process = Process::start(&BEHIND, |folder, ports| {
            second.set(ports[2]);
            installed.prepare(folder, ports, Some(port))
        })?;
        let kafka = Self { bootstrap_servers: process.address().to_owned(), backing: Backing::Process(process) };
        Ok((kafka, format!("127.0.0.1:{}", second.get())))
    }

    /// A private child process on this port, for clients that know no other.
    ///
    /// # Errors
    /// What is missing and the command that mends it; also where the port is taken.
    pub fn own_at(port: u16) -> Result<Self, Missing> {
        let installed = Installed::find()?;
        let process = Process::start_at(&KAFKA, Some(port), |folder, ports| installed.prepare(folder, ports, None))?;
        Ok(Self { bootstrap_servers: process.address().to_owned(), backing: Backing::Process(process) })
    }

    /// librdkafka's mock cluster inside this process. It does not honour `read_committed` and keeps 5 MiB a partition.
    ///
    /// # Errors
    /// What librdkafka says.
    pub fn mock() -> Result<Self, Missing> {
        let mock = Mock::start()?;
        Ok(Self { bootstrap_servers: mock.bootstrap_servers(), backing: Backing::Mock(mock) })
    }

    /// Where it came from.
    pub fn source(&self) -> Source {
        self.backing.source()
    }

    /// Stops it as an operator would and waits until it has stopped. Nothing happens to a cluster from the environment.
    pub fn stop(&mut self) {
        self.backing.stop();
    }

    /// Kills it with SIGKILL. Nothing happens to a cluster from the environment; the mock closes its port.
    pub fn kill(&mut self) {
        self.backing.kill();
    }

    /// Suspends it, by SIGSTOP or `docker pause`: its connections stay open, and it does not answer. Nothing happens to
    /// a cluster from the environment or to the mock.
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
    /// [`Missing::NotReady`] when it does not come back, [`Missing::NotOurs`] for a cluster from the environment.
    pub fn restart(&mut self) -> Result<(), Missing> {
        self.backing.restart(NAME, &self.bootstrap_servers)
    }
}

/// The same settings as the image of Apache Kafka takes them, `num.partitions` as `KAFKA_NUM_PARTITIONS`, with all that
/// belongs to listeners: those of the file are for clients inside its network.
fn container_settings(port: u16) -> Vec<(String, String)> {
    let advertised = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}");
    let listeners = [
        "listeners=PLAINTEXT://:9092,CONTROLLER://:9093",
        &advertised,
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name=PLAINTEXT",
        "controller.quorum.voters=0@localhost:9093",
    ];
    let settings = SETTINGS.lines().filter(|line| !line.starts_with('#')).chain(listeners);
    settings
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (format!("KAFKA_{}", key.replace('.', "_").to_uppercase()), value.to_owned()))
        .collect()
}

/// What `make brokers` put there.
struct Installed {
    java: PathBuf,
    jars: PathBuf,
    formatted: PathBuf,
}

impl Installed {
    fn find() -> Result<Self, Missing> {
        let home = home::home().join("kafka");
        let (jars, formatted) = (home.join("lib"), home.join("formatted"));
        let java = home::on_path("java").filter(|java| is_recent(java)).ok_or(Missing::NotInstalled {
            broker: NAME,
            what: "Java 17 or newer",
            mend: "run `make brokers` (as root on Debian; elsewhere install a Java runtime first)",
        })?;
        if !jars.is_dir() || !formatted.is_dir() {
            return Err(Missing::NotInstalled {
                broker: NAME,
                what: "its program",
                mend: "run `make brokers` (needs Maven, and Java 17 or newer)",
            });
        }
        Ok(Self { java, jars, formatted })
    }

    /// With a second address on the third port, the node sends its clients there to `advertised`.
    fn prepare(&self, folder: &Path, ports: &[u16], advertised: Option<u16>) -> io::Result<Program> {
        let &[port, controller, ref second @ ..] = ports else { return Err(io::ErrorKind::InvalidInput.into()) };
        let listener = |port: Option<u16>| port.map(|port| format!(",SECOND://127.0.0.1:{port}")).unwrap_or_default();
        let (second, advertised) = (listener(second.first().copied()), listener(advertised));
        let data = folder.join("data");
        fs::create_dir(&data)?;
        for file in ["meta.properties", "bootstrap.checkpoint"] {
            fs::copy(self.formatted.join(file), data.join(file))?;
        }
        let settings = folder.join("server.properties");
        // Its rack is all that a node tells its clients and that can be a name.
        fs::write(
            &settings,
            format!(
                "{SETTINGS}\nlisteners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{second}\n\
                 advertised.listeners=PLAINTEXT://127.0.0.1:{port}{advertised}\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECOND:PLAINTEXT\n\
                 controller.quorum.voters=0@127.0.0.1:{controller}\nlog.dirs={}\n\
                 broker.rack={}\n",
                data.display(),
                node_name(folder)
            ),
        )?;
        // Native parts of the compressors are unpacked there.
        let mut scratch = OsString::from("-Djava.io.tmpdir=");
        scratch.push(folder);
        let mut args = vec![self.java.clone().into(), scratch];
        args.extend(JAVA.map(OsString::from));
        args.extend(["-cp".into(), self.jars.join("*").into(), "kafka.Kafka".into(), settings.into()]);
        Ok(Program { args, envs: Vec::new() })
    }
}

/// `openjdk version "17.0.15" 2025-04-15`, on stderr: 17 or newer.
fn is_recent(java: &Path) -> bool {
    let Ok(output) = Command::new(java).arg("-version").output() else { return false };
    let output = String::from_utf8_lossy(&output.stderr);
    let version = output.split_once("version \"").map_or("", |(_, rest)| rest);
    version.split(['.', '"', '-']).next().and_then(|major| major.parse::<u32>().ok()) >= Some(17)
}

/// Whether the cluster says who its brokers are.
fn answers(bootstrap_servers: &str) -> bool {
    // A closed port is seen at once; librdkafka would keep trying.
    if !bootstrap_servers.split(',').any(|server| net::connect(&net::host_and_port(server, 9092)).is_some()) {
        return false;
    }
    let producer: Result<BaseProducer, _> =
        ClientConfig::new().set("bootstrap.servers", bootstrap_servers).set_log_level(RDKafkaLogLevel::Emerg).create();
    producer
        .and_then(|producer| producer.client().fetch_metadata(None, Duration::from_secs(5)))
        .is_ok_and(|metadata| !metadata.brokers().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::tests::starts_elsewhere;

    #[test]
    fn a_lost_port_is_replaced() {
        let installed = Installed::find().unwrap();
        for taken in 0..KAFKA.ports {
            starts_elsewhere(&KAFKA, taken, |folder, ports| installed.prepare(folder, ports, None));
        }
    }
}
