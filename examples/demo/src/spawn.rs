//! Services as processes of their own, held by the ends of their standard streams.

use std::{
    collections::HashSet,
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{
    Error,
    service::{STOP_AT_END_OF_INPUT, Said},
    telemetry::Spans,
};

/// How long a service may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service in a process of its own. It stops when this is dropped, or when this process ends, however that ends: either
/// closes its standard input.
pub(crate) struct Service {
    pub(crate) name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Service {
    /// Starts this very program as a service.
    pub(crate) fn start(
        name: &'static str,
        environment: &[(&'static str, String)],
        logs: &Path,
    ) -> Result<Self, Error> {
        let log = logs.join(name).with_extension("log");
        let mut child = Command::new(env::current_exe()?)
            .arg(name)
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .env(STOP_AT_END_OF_INPUT, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or("a piped stream is there")?;
        Ok(Self { name, child, input, lines: BufReader::new(output).lines(), log })
    }

    /// What it says next; `None` when it has ended.
    pub(crate) async fn said(&mut self) -> Result<Option<Said>, Error> {
        self.lines.next_line().await?.map(|line| line.parse()).transpose()
    }

    /// Waits until it works, and gives its address if it has one.
    pub(crate) async fn ready(&mut self) -> Result<Option<String>, Error> {
        match timeout(PATIENCE, self.said()).await {
            Ok(Ok(Some(Said::Ready(address)))) => Ok(address),
            Ok(Err(error)) => Err(error),
            Ok(_) => Err(self.failed("ended before it was ready")),
            Err(_) => Err(self.failed("is not ready after a minute")),
        }
    }

    /// Done when it has ended although nobody told it to.
    pub(crate) async fn gone(&mut self) -> Error {
        match self.said().await {
            Err(error) => error,
            Ok(Some(said)) => self.failed(&format!("says what nobody asked: {said:?}")),
            Ok(None) => self.failed("ended before its time"),
        }
    }

    /// Waits until it has told the customers of so many orders.
    pub(crate) async fn recorded(&mut self, orders: usize) -> Result<(), Error> {
        let mut recorded = HashSet::new();
        while recorded.len() < orders {
            match self.said().await? {
                Some(Said::Notified { id }) => recorded.insert(id),
                Some(said) => return Err(self.failed(&format!("says what nobody asked: {said:?}"))),
                None => return Err(self.failed("ended before its time")),
            };
        }
        Ok(())
    }

    /// Tells it to stop, waits for it, and gives what it counted.
    pub(crate) async fn stop(mut self) -> Result<Spans, Error> {
        drop(self.input.take());
        let stopped = timeout(PATIENCE, async {
            let mut counted = None;
            while let Some(said) = self.said().await? {
                if let Said::Spans(spans) = said {
                    counted = Some(spans);
                }
            }
            Ok::<_, Error>((counted, self.child.wait().await?))
        });
        match stopped.await {
            Ok(Ok((Some(spans), status))) if status.success() => Ok(spans),
            Ok(Ok((_, status))) => Err(self.failed(&format!("stopped with {status}"))),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.failed("does not stop")),
        }
    }

    /// The lines of its log that have this in them.
    pub(crate) fn log_lines(log: &Path, with: &str) -> Vec<String> {
        let log = fs::read_to_string(log).unwrap_or_default();
        log.lines().filter(|line| line.contains(with)).map(str::to_owned).collect()
    }

    fn failed(&self, what: &str) -> Error {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(10)..].join("\n  ");
        format!("{} {what}; its log ({}) ends with\n  {last}", self.name, self.log.display()).into()
    }
}
