//! What this process takes of its machine, read from Linux's `/proc`.

use std::fs;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Resident memory in KiB.
    pub(crate) memory: u64,
    pub(crate) threads: u64,
    pub(crate) files: u64,
}

impl Usage {
    pub(crate) fn now() -> Result<Self, String> {
        let unreadable = |error| format!("what this process takes is read from Linux's /proc/self: {error}");
        let status = fs::read_to_string("/proc/self/status").map_err(unreadable)?;
        let files = fs::read_dir("/proc/self/fd").map_err(unreadable)?.count();
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|line| line.split_whitespace().next()).and_then(|value| value.parse().ok())
        };
        let (memory, threads) =
            value("VmRSS:").zip(value("Threads:")).ok_or("/proc/self/status lacks VmRSS or Threads")?;
        Ok(Self { memory, threads, files: files as u64 })
    }
}
