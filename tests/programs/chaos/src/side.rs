//! The two sides of a comparison, each in a process of its own: memory is comparable, and a process that hangs is ended.

use std::{fmt, process::Stdio, time::Duration};

use otel_messaging::Instrumentation;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

use crate::{
    broker::Kind,
    chaos::Row,
    exporter::Exporter,
    soak::Minutes,
    spans::{Sdk, Spans},
};

/// On whose crates a service is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Side {
    Raw,
    Ours,
}

/// What a side's process reports to the process that started it, on the last line that it prints.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Chaos(Vec<Row>),
    Soak(Minutes),
}

/// What that line starts with.
const REPORT: &str = "report: ";

impl Side {
    /// With the raw client there is no OpenTelemetry.
    pub(crate) fn sdk(self, spans: Spans, exporter: Exporter) -> Sdk {
        match self {
            Self::Raw => Sdk::none(),
            Self::Ours => Sdk::new(spans, exporter),
        }
    }

    pub(crate) fn instrumentation(self, sdk: &Sdk) -> Option<Instrumentation> {
        (self == Self::Ours).then(|| sdk.instrumentation())
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Ours => "ours",
        })
    }
}

impl Report {
    pub(crate) fn print(&self) -> Result<(), String> {
        let report = serde_json::to_string(self).map_err(|error| format!("a report cannot be written: {error}"))?;
        println!("{REPORT}{report}");
        Ok(())
    }
}

/// Starts this program again for one side of one broker, passes on what it prints, and gives its report.
pub(crate) async fn in_own_process(
    command: &str,
    kind: Kind,
    side: Side,
    arguments: &[String],
    at_most: Duration,
) -> Result<Report, String> {
    let name = format!("{} {side}", kind.name());
    match timeout(at_most, process(command, kind, side, arguments)).await {
        Ok(report) => report.map_err(|error| format!("{name}: {error}")),
        Err(_) => Err(format!(
            "{name} did not end in {at_most:?}: a call never returned, or its brokers took too long to start"
        )),
    }
}

async fn process(command: &str, kind: Kind, side: Side, arguments: &[String]) -> Result<Report, String> {
    let own = std::env::current_exe().map_err(|error| format!("this program is not found: {error}"))?;
    let mut child = Command::new(own)
        .args([command, kind.name(), &side.to_string()])
        .args(arguments)
        // With an arena for each thread, glibc's allocator grows and shrinks by megabytes at the same work.
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("its process cannot be created: {error}"))?;
    let mut report = None;
    if let Some(output) = child.stdout.take() {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match line.strip_prefix(REPORT) {
                Some(json) => report = serde_json::from_str(json).ok(),
                None => println!("{line}"),
            }
        }
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    report.filter(|_| status.success()).ok_or_else(|| format!("it ended without a report: {status}"))
}
