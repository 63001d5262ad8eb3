//! A broker as a child process.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::retry_on_intr,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid},
};

use crate::{folder::Folder, missing::Missing, ports};

/// How long a broker may take until it answers. RabbitMQ took more than a minute where fifteen brokers started at once, on two
/// processors that others kept busy.
pub(crate) const READY: Duration = Duration::from_secs(180);
/// How long a broker may take to stop when asked; then it is killed.
const STOPPED: Duration = Duration::from_secs(20);
/// How often another run may take a port between finding it free and using it.
const ATTEMPTS: usize = 5;

/// Waits for the word that the keeper knows this process, so that there is no moment in which the broker runs unwatched. When
/// there is never a word, because our process ended, there is never a broker.
const GATE: &str = r#"read -r word && exec "$@" </dev/null"#;

/// How one kind of broker is started, and how it is known to be ready.
#[derive(Debug)]
pub(crate) struct Kind {
    /// Its name, for people.
    pub(crate) name: &'static str,
    /// How many ports it needs; the first is the one for clients.
    pub(crate) ports: usize,
    /// Its service in `docker-compose.yml`, and the port it listens on there.
    pub(crate) service: &'static str,
    pub(crate) service_port: u16,
    /// Whether a broker answers at this `host:port`.
    pub(crate) answers: fn(&str) -> bool,
}

/// What is run.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) args: Vec<OsString>,
    pub(crate) envs: Vec<(&'static str, OsString)>,
}

/// A broker that this process started. Dropping it kills the broker and removes its data.
#[derive(Debug)]
pub(crate) struct Process {
    kind: &'static Kind,
    program: Program,
    address: String,
    child: Option<Child>,
    // After the child: its keeper is let go when the broker is gone.
    folder: Folder,
}

impl Process {
    /// Starts a broker in a new folder and on free ports; `prepare` writes its files and says what to run.
    pub(crate) fn start(
        kind: &'static Kind,
        prepare: impl Fn(&Path, &[u16]) -> io::Result<Program>,
    ) -> Result<Self, Missing> {
        Self::start_at(kind, None, prepare)
    }

    /// The same with a given port for clients.
    pub(crate) fn start_at(
        kind: &'static Kind,
        port: Option<u16>,
        prepare: impl Fn(&Path, &[u16]) -> io::Result<Program>,
    ) -> Result<Self, Missing> {
        let mut attempt = 1;
        loop {
            let ports = (0..kind.ports)
                .map(|number| port.filter(|_| number == 0).map_or_else(ports::free, ports::given))
                .collect::<io::Result<Vec<_>>>()
                .map_err(Missing::machine(kind.name, "there is no free port"))?;
            let folder = Folder::create().map_err(Missing::machine(kind.name, "there is no place for its data"))?;
            let program =
                prepare(folder.path(), &ports).map_err(Missing::machine(kind.name, "its files cannot be written"))?;
            let address = format!("127.0.0.1:{}", ports[0]);
            let mut process = Self { kind, program, address, child: None, folder };
            match process.launch() {
                Err(Missing::NotReady { .. }) if attempt < ATTEMPTS && lost_a_port(&process.log()) => attempt += 1,
                Err(missing) => return Err(missing),
                Ok(()) => return Ok(process),
            }
        }
    }

    /// `host:port` for clients.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Asks the broker to stop and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.end(Signal::TERM, STOPPED);
    }

    /// Kills the broker with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.end(Signal::KILL, Duration::ZERO);
    }

    /// Suspends the broker by SIGSTOP and waits until it is: its connections stay open, and it does not answer.
    pub(crate) fn pause(&self) {
        self.signal_all(Signal::STOP);
        // A thread that runs on another processor stops a moment after the signal. `waitid` returns when all have stopped.
        if let Some(child) = &self.child {
            let suspended = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let _ = retry_on_intr(|| waitid(WaitId::Pid(Pid::from_child(child)), suspended));
        }
    }

    /// Lets a broker that is held go on.
    pub(crate) fn resume(&self) {
        self.signal_all(Signal::CONT);
    }

    /// To the broker and to what it has started itself.
    fn signal_all(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let _ = kill_process_group(Pid::from_child(child), signal);
        }
    }

    /// Starts the broker again where it was, after stopping it when it still runs.
    pub(crate) fn restart(&mut self) -> Result<(), Missing> {
        self.stop();
        self.launch()
    }

    fn launch(&mut self) -> Result<(), Missing> {
        let child = self.spawn().map_err(Missing::machine(self.kind.name, "its process cannot be created"))?;
        let child = self.child.insert(child);
        let deadline = Instant::now() + READY;
        while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
            if (self.kind.answers)(&self.address) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.kill();
        Err(Missing::NotReady { broker: self.kind.name, log: last_lines(&self.log()) })
    }

    fn spawn(&mut self) -> io::Result<Child> {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log"))?;
        let mut child = Command::new("/bin/sh")
            .args(["-c", GATE, "gate"])
            .args(&self.program.args)
            .envs(self.program.envs.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        // On an error the word is never said: the gate sees the end of its input and ends.
        let mut gate = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        self.folder.at_end(&format!("kill -s KILL -- -{} 2>/dev/null", child.id()))?;
        gate.write_all(b"go\n")?;
        Ok(child)
    }

    fn end(&mut self, signal: Signal, patience: Duration) {
        let Some(mut child) = self.child.take() else { return };
        // The number is the broker's own as long as it has not been waited for, also when it has ended.
        let leader = Pid::from_child(&child);
        let _ = kill_process(leader, signal);
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        // What the broker has started itself goes in any case, and is in its group.
        let _ = kill_process_group(leader, Signal::KILL);
        let _ = child.wait();
        let _ = self.folder.at_end("");
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("log")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Whether a broker gave up because another program was faster on one of its ports.
fn lost_a_port(log: &str) -> bool {
    let log = log.to_lowercase();
    ["already in use", "already_used", "eaddrinuse"].iter().any(|words| log.contains(words))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{cell::RefCell, net::TcpListener};

    use super::*;

    /// Starts a broker whose `taken`-th port is taken by somebody else after it was found free: it starts on others.
    pub(crate) fn starts_elsewhere(
        kind: &'static Kind,
        taken: usize,
        prepare: impl Fn(&Path, &[u16]) -> io::Result<Program>,
    ) {
        let thief = RefCell::new(None);
        let process = Process::start(kind, |folder, ports| {
            if thief.borrow().is_none() {
                *thief.borrow_mut() = Some(take(ports[taken]));
            }
            prepare(folder, ports)
        })
        .unwrap();
        assert!((kind.answers)(process.address()));
        let thief = thief.into_inner().unwrap().local_addr().unwrap();
        assert_ne!(process.address(), thief.to_string());
    }

    /// Takes a port that was found free. A program that another thread starts has a copy of what was listened on to find
    /// that out, until it runs.
    fn take(port: u16) -> TcpListener {
        let start = Instant::now();
        loop {
            match TcpListener::bind(("127.0.0.1", port)) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < STOPPED => {
                    thread::sleep(Duration::from_millis(10));
                }
                taken => return taken.unwrap(),
            }
        }
    }
}
