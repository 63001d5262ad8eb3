//! The folder of one broker, and the keeper that outlives us to clear up.
//!
//! Destructors do not run at Ctrl-C, at `process::exit` or at `kill -9`. So each folder has a keeper: a small shell in a process
//! group of its own whose standard input is a pipe that only this process holds. However this process ends, the pipe closes,
//! and the keeper kills the broker's process group and removes the folder.

use std::{
    fs::DirBuilder,
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

/// Each line on standard input is what has to be run at the end, instead of what was there before.
const KEEPER: &str = r#"
    trap '' HUP INT TERM
    PATH=$PATH:/usr/bin:/bin
    last=
    while read -r line; do last=$line; done
    eval "$last"
    for try in 1 2 3 4 5; do rm -rf "$1" && break; sleep 1; done
"#;

/// A private folder with its keeper. Dropping it removes the folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    keeper: Child,
    leash: Option<ChildStdin>,
}

impl Folder {
    pub(crate) fn create() -> io::Result<Self> {
        let name = format!("brokers-{:016x}", RandomState::new().hash_one(std::process::id()));
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        let mut keeper = Command::new("/bin/sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&path)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let leash = keeper.stdin.take();
        Ok(Self { path, keeper, leash })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the keeper has to run when this process is gone: one line of shell.
    pub(crate) fn at_end(&mut self, line: &str) -> io::Result<()> {
        self.leash.as_mut().map_or(Ok(()), |leash| leash.write_all(format!("{line}\n").as_bytes()))
    }
}

/// What the broker in this folder calls itself: as its folder, which no other broker has. So it can be told from one that was
/// given its port later.
pub(crate) fn node_name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.leash = None;
        let _ = self.keeper.wait();
    }
}
