//! Where the programs are.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The folder that `make brokers` fills: `BROKERS_HOME`, or else `target/brokers` of the workspace this was compiled in.
pub(crate) fn home() -> PathBuf {
    env::var_os("BROKERS_HOME")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target/brokers"), PathBuf::from)
}

/// A program on the `PATH`.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}
