//! Documents the crates, as the toolchain at hand does it.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use support::cargo;

use crate::{PAIRS, Result, rustdoc::Document, surface::Crates};

/// Versions of the format that were read and understood. Others are tried.
const KNOWN_FORMATS: &str = "57";

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
            // With this one, dependencies have the features that they have in the rest of `make test`, and are there already.
            .args(["doc", "--quiet", "--no-deps", "-p", "demo"])
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
    parse(&text)
}

fn parse(text: &[u8]) -> Result<Document> {
    serde_json::from_slice(text).map_err(|error| {
        let format = serde_json::from_slice::<Value>(text).map(|document| document["format_version"].to_string());
        format!(
            "rustdoc's JSON format {} is not understood ({error}); {KNOWN_FORMATS} are: see tests/programs/api/src/rustdoc.rs",
            format.as_deref().unwrap_or("without a version"),
        )
        .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_format_is_named() {
        let error = parse(br#"{"format_version": 999, "root": 0, "index": []}"#).unwrap_err().to_string();
        assert!(error.starts_with("rustdoc's JSON format 999 is not understood"), "{error}");
    }
}
