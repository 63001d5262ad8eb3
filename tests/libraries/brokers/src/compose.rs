//! A broker as a container: a service of the workspace's `docker-compose.yml`, where a Docker engine answers.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use crate::{
    folder::Folder,
    home,
    missing::Missing,
    ports,
    process::{Kind, READY},
};

/// How long an engine may take to say that it is there.
const ENGINE: Duration = Duration::from_secs(5);

/// A container that this process started. Dropping it removes the container, its volumes and its network.
#[derive(Debug)]
pub(crate) struct Container {
    kind: &'static Kind,
    address: String,
    id: String,
    /// Holds nothing but the keeper, which clears up.
    _folder: Folder,
}

impl Container {
    /// Starts the service on a free port, with `settings` in its environment; `None` where no engine answers, or where it cannot
    /// create the container, as when the image cannot be pulled: that is said on stderr.
    pub(crate) fn start(
        kind: &'static Kind,
        settings: impl FnOnce(u16) -> Vec<(String, String)>,
    ) -> Result<Option<Self>, Missing> {
        if !engine_answers() {
            return Ok(None);
        }
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docker-compose.yml");
        let port = ports::free().map_err(Missing::machine(kind.name, "there is no free port"))?;
        let mut folder = Folder::create().map_err(Missing::machine(kind.name, "there is no place for its data"))?;
        let project = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let down = format!("docker compose -p {project} -f '{}' down -v", file.display());
        let keeper_gone = || Missing::machine(kind.name, "its keeper is gone");
        folder.at_end(&down).map_err(keeper_gone())?;

        // `run` publishes the port we say and none of those in the file, which may be taken.
        let mut run = Command::new("docker");
        run.args(["compose", "-p", &project, "-f"]).arg(&file).args(["run", "-d", "--no-deps"]);
        run.args(["-p", &format!("127.0.0.1:{port}:{}", kind.service_port)]);
        for (name, value) in settings(port) {
            run.args(["-e", &format!("{name}={value}")]);
        }
        let Ok(output) = run.arg(kind.service).stdin(Stdio::null()).output() else { return Ok(None) };
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            eprintln!(
                "{} as a container: docker compose failed, so it is tried without: {}",
                kind.name,
                reason.lines().last().unwrap_or_default()
            );
            return Ok(None);
        }
        let id = String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().trim().to_owned();
        folder.at_end(&format!("docker rm -f -v {id}; {down}")).map_err(keeper_gone())?;
        let container = Self { kind, address: format!("127.0.0.1:{port}"), id, _folder: folder };
        container.wait()?;
        Ok(Some(container))
    }

    /// `host:port` for clients.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn stop(&mut self) {
        self.docker(&["stop", "-t", "20"]);
    }

    pub(crate) fn kill(&mut self) {
        self.docker(&["kill"]);
    }

    pub(crate) fn pause(&self) {
        self.docker(&["pause"]);
    }

    pub(crate) fn resume(&self) {
        self.docker(&["unpause"]);
    }

    pub(crate) fn restart(&mut self) -> Result<(), Missing> {
        self.docker(&["restart", "-t", "20"]);
        self.wait()
    }

    fn wait(&self) -> Result<(), Missing> {
        let deadline = Instant::now() + READY;
        while Instant::now() < deadline {
            if (self.kind.answers)(&self.address) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Err(Missing::NotReady { broker: self.kind.name, log: self.docker(&["logs", "--tail", "15"]) })
    }

    /// What the command says about this container.
    fn docker(&self, args: &[&str]) -> String {
        let output = Command::new("docker").args(args).arg(&self.id).stdin(Stdio::null()).output();
        output.map_or_else(
            |error| error.to_string(),
            |output| format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    }
}

/// Whether a Docker engine answers that has `docker compose`. It is asked once.
pub(crate) fn engine_answers() -> bool {
    static ANSWERS: OnceLock<bool> = OnceLock::new();
    *ANSWERS.get_or_init(|| {
        home::on_path("docker").is_some()
            && says(&["info", "--format", "{{.ServerVersion}}"])
            && says(&["compose", "version"])
    })
}

/// Whether the command succeeds in time and says something.
fn says(args: &[&str]) -> bool {
    let child =
        Command::new("docker").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return false };
    let deadline = Instant::now() + ENGINE;
    while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
        thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let mut answer = String::new();
    child.wait().is_ok_and(|status| status.success())
        && child.stdout.is_some_and(|mut stdout| stdout.read_to_string(&mut answer).is_ok())
        && !answer.trim().is_empty()
}
