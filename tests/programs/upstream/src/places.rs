//! Where things are.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Result;

#[derive(Debug)]
pub(crate) struct Places {
    /// Our workspace.
    pub(crate) workspace: PathBuf,
    /// What is generated: packages and logs. `UPSTREAM_HOME`, or else `target/upstream`.
    pub(crate) home: PathBuf,
    /// What is compiled: the folder that the workspace uses too, so that dependencies are compiled once.
    pub(crate) target: PathBuf,
}

impl Places {
    pub(crate) fn find() -> Result<Self> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").canonicalize()?;
        let at = |variable, default: &str| match env::var_os(variable) {
            Some(path) => env::current_dir().map(|here| here.join(path)),
            None => Ok(workspace.join(default)),
        };
        let home = at("UPSTREAM_HOME", "target/upstream")?;
        let target = at("CARGO_TARGET_DIR", "target")?;
        fs::create_dir_all(&home)?;
        Ok(Self { home: home.canonicalize()?, target, workspace })
    }

    /// For what a process says, emptied.
    pub(crate) fn log(&self, name: &str) -> Result<PathBuf> {
        let logs = self.home.join("logs");
        fs::create_dir_all(&logs)?;
        let log = logs.join(name);
        fs::write(&log, "")?;
        Ok(log)
    }

    /// A cargo as a shell would start it: what `cargo run` says about this package would make it compile again what depends
    /// on it.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        for (name, _) in env::vars_os() {
            let name_bytes = name.as_encoded_bytes();
            if [&b"CARGO_MANIFEST_"[..], b"CARGO_PKG_"].iter().any(|prefix| name_bytes.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        // What is compiled here never changes a little, and traces for the next time would fill gigabytes.
        command.env("CARGO_INCREMENTAL", "0").env("CARGO_TARGET_DIR", &self.target).current_dir(&self.home);
        command
    }
}
