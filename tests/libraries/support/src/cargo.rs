use std::{env, path::Path, process::Command};

/// A `cargo` in this workspace, as a shell would start it, with the same target directory: what the outer `cargo test` says
/// about a package would make it compile again what depends on that.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let name_bytes = name.as_encoded_bytes();
        if [&b"CARGO_MANIFEST_"[..], b"CARGO_PKG_"].iter().any(|prefix| name_bytes.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.."));
    command
}
