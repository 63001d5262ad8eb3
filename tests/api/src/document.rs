//! Documents the crates, as the toolchain at hand does it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{PAIRS, Result, rustdoc::Document, surface::Crates};

/// Versions of the format that were read and understood. Others are tried.
const KNOWN_FORMATS: std::ops::RangeInclusive<u32> = 57..=57;

/// The workspace as `cargo metadata` describes it.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) metadata: Value,
}

impl Workspace {
    pub(crate) fn find() -> Result<Self> {
        let output = cargo().args(["metadata", "--format-version", "1"]).output()?;
        if !output.status.success() {
            return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(Self { metadata: serde_json::from_slice(&output.stdout)? })
    }

    fn target_directory(&self) -> Result<PathBuf> {
        let directory = self.metadata["target_directory"].as_str();
        Ok(directory.ok_or("cargo metadata says no target_directory")?.into())
    }

    /// The documentation of all clients and adapters, from one build, so that both sides of a pair have the same features.
    pub(crate) fn document(&self) -> Result<Crates> {
        let mut command = cargo();
        command
            .args(["doc", "--quiet", "--no-deps"])
            .env("RUSTDOC", Path::new(env!("CARGO_MANIFEST_DIR")).join("rustdoc.sh"))
            .env("RUSTDOCFLAGS", "-Z unstable-options --output-format json --cap-lints allow");
        if let Some(rustdoc) = env::var_os("RUSTDOC") {
            command.env("API_RUSTDOC", rustdoc);
        }
        for pair in &PAIRS {
            command.args(["-p", pair.client, "-p", pair.adapter]);
            for feature in pair.features {
                command.arg("--features").arg(format!("{}/{feature}", pair.adapter));
            }
        }
        let output = command.output()?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            return Err(format!("rustdoc wrote no JSON:\n{error}").into());
        }

        let directory = self.target_directory()?.join("doc");
        let documents = PAIRS.iter().flat_map(|pair| [pair.client, pair.adapter]).map(|package| {
            let name = package.replace('-', "_");
            let document = read(&directory.join(format!("{name}.json")))?;
            Ok((name, document))
        });
        Ok(Crates::new(documents.collect::<Result<Vec<_>>>()?))
    }
}

fn read(path: &Path) -> Result<Document> {
    let text = fs::read(path).map_err(|error| format!("rustdoc wrote no {}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| {
        let format = serde_json::from_slice::<Value>(&text).map(|document| document["format_version"].to_string());
        format!(
            "{}: rustdoc's JSON format {} is not understood ({error}); known are {} to {}: see tests/api/src/rustdoc.rs",
            path.display(),
            format.as_deref().unwrap_or("without a version"),
            KNOWN_FORMATS.start(),
            KNOWN_FORMATS.end(),
        )
        .into()
    })
}

/// A cargo as a shell would start it: what `cargo test` says about this package would make it compile again what depends on
/// it.
fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let name_bytes = name.as_encoded_bytes();
        if [&b"CARGO_MANIFEST_"[..], b"CARGO_PKG_"].iter().any(|prefix| name_bytes.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    command
}
