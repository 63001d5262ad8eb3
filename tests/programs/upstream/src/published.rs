//! The packages as their authors published them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    io::Read,
    path::{Path, PathBuf},
    process::Stdio,
};

use flate2::read::GzDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    Result,
    client::{CLIENTS, Client},
    places::Places,
};

/// A client's package, in the source cache of `cargo`.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) client: &'static Client,
    pub(crate) version: String,
    /// Where `cargo` unpacked it.
    pub(crate) root: PathBuf,
    pub(crate) edition: String,
    pub(crate) features: BTreeMap<String, Vec<String>>,
    /// Those that our package does not have.
    pub(crate) missing_features: BTreeSet<String>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
    /// Of the archive, as our `Cargo.lock` has it.
    checksum: String,
}

/// A dependency that tests and examples can name.
#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    /// As the code names it.
    pub(crate) name: String,
    pub(crate) package: String,
    pub(crate) requirement: String,
    pub(crate) default_features: bool,
    pub(crate) features: Vec<String>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    Test,
    Example,
}

/// A published file of tests, or an example.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// Within the package.
    pub(crate) path: String,
    pub(crate) required_features: Vec<String>,
}

impl Published {
    /// Those of all clients, in the versions that our `Cargo.lock` names, fetched when they are not here yet.
    pub(crate) fn find(places: &Places) -> Result<Vec<Self>> {
        let manifest = places.workspace.join("Cargo.toml");
        let mut command = places.cargo();
        command.args(["metadata", "--format-version", "1", "--manifest-path"]).arg(manifest);
        let output = command.stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err("cargo metadata failed".into());
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        let lock = fs::read_to_string(places.workspace.join("Cargo.lock"))?;
        let find = |client| Self::find_one(client, list(&metadata["packages"]), &lock);
        CLIENTS.iter().map(find).collect()
    }

    fn find_one(client: &'static Client, packages: &[Value], lock: &str) -> Result<Self> {
        let package = packages
            .iter()
            .find(|package| package["name"] == client.name && !package["source"].is_null())
            .ok_or_else(|| format!("{} is not among our dependencies", client.name))?;
        let ours = packages
            .iter()
            .find(|package| package["name"] == client.ours)
            .ok_or_else(|| format!("{} is not in our workspace", client.ours))?;
        let features: BTreeMap<String, Vec<String>> = serde_json::from_value(package["features"].clone())?;
        let version = text(&package["version"]);
        let checksum = checksum(lock, client.name, &version)
            .ok_or_else(|| format!("Cargo.lock has no checksum for {} {version}", client.name))?;
        let manifest = PathBuf::from(text(&package["manifest_path"]));
        let root = manifest.parent().ok_or("a manifest without a folder")?.to_owned();
        Ok(Self {
            client,
            version,
            edition: text(&package["edition"]),
            missing_features: features.keys().filter(|&name| ours["features"][name].is_null()).cloned().collect(),
            features,
            dependencies: dependencies(list(&package["dependencies"])),
            targets: list(&package["targets"]).iter().filter_map(|target| Target::of(target, &root)).collect(),
            root,
            checksum,
        })
    }

    /// Compares every file with the archive that was published, and the archive with its checksum. How many files there are.
    pub(crate) fn verify(&self) -> Result<usize> {
        let archive = fs::read(self.archive()?)
            .map_err(|error| format!("the archive of {self} is not in the cache of cargo: {error}"))?;
        verify(&archive, &self.checksum, &self.root).map_err(|error| format!("{self}: {error}").into())
    }

    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.targets.iter().filter(|target| target.kind == kind).count()
    }

    /// `registry/cache/INDEX/NAME-VERSION.crate` for `registry/src/INDEX/NAME-VERSION`.
    fn archive(&self) -> Result<PathBuf> {
        let folder = self.root.file_name().ok_or("a package without a folder")?;
        let index = self.root.parent().ok_or("a package without an index")?;
        let registry = index.parent().and_then(Path::parent).ok_or("a package outside the registry's cache")?;
        let mut file = folder.to_owned();
        file.push(".crate");
        Ok(registry.join("cache").join(index.file_name().ok_or("an index without a name")?).join(file))
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.client.name, self.version)
    }
}

impl Target {
    fn of(target: &Value, root: &Path) -> Option<Self> {
        let kind = match list(&target["kind"]).first()?.as_str()? {
            "test" => Kind::Test,
            "example" => Kind::Example,
            _ => return None,
        };
        let path = PathBuf::from(text(&target["src_path"]));
        Some(Self {
            kind,
            name: text(&target["name"]),
            path: path.strip_prefix(root).ok()?.to_str()?.to_owned(),
            required_features: list(&target["required-features"]).iter().map(text).collect(),
        })
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Normal and development dependencies; tests see both. One that is both is one with the demands of both.
fn dependencies(listed: &[Value]) -> Vec<Dependency> {
    let mut merged: BTreeMap<String, Dependency> = BTreeMap::new();
    for dependency in listed.iter().filter(|dependency| dependency["kind"] != "build" && dependency["target"].is_null())
    {
        let package = text(&dependency["name"]);
        let name = dependency["rename"].as_str().map_or_else(|| package.clone(), str::to_owned);
        let requirement = text(&dependency["req"]);
        let default_features = dependency["uses_default_features"] == true;
        let features = list(&dependency["features"]).iter().map(text);
        match merged.get_mut(&name) {
            None => {
                let features = features.collect();
                merged.insert(name.clone(), Dependency { name, package, requirement, default_features, features });
            }
            Some(known) => {
                known.requirement = format!("{}, {requirement}", known.requirement);
                known.default_features |= default_features;
                known.features.extend(features);
                known.features.sort_unstable();
                known.features.dedup();
            }
        }
    }
    merged.into_values().collect()
}

/// In a `Cargo.lock`.
fn checksum(lock: &str, name: &str, version: &str) -> Option<String> {
    let start = format!("\nname = \"{name}\"\nversion = \"{version}\"\n");
    let (_, rest) = lock.split_once(&start)?;
    let package = rest.split("[[package]]").next()?;
    package.lines().find_map(|line| line.strip_prefix("checksum = \"")?.strip_suffix('"')).map(str::to_owned)
}

fn verify(archive: &[u8], checksum: &str, root: &Path) -> Result<usize> {
    let found: String = Sha256::digest(archive).iter().map(|byte| format!("{byte:02x}")).collect();
    if found != checksum {
        return Err(format!("the archive is not what was published: SHA-256 {found} instead of {checksum}").into());
    }
    let mut known = BTreeSet::new();
    let mut unpacked = tar::Archive::new(GzDecoder::new(archive));
    for entry in unpacked.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        // The first part is the folder's own name.
        let path: PathBuf = entry.path()?.components().skip(1).collect();
        let mut published = Vec::new();
        entry.read_to_end(&mut published)?;
        if fs::read(root.join(&path)).ok().as_ref() != Some(&published) {
            return Err(format!("{} differs from what was published", path.display()).into());
        }
        known.insert(path);
    }
    // A file beside them would be a module that nobody published.
    for folder in ["tests", "examples"] {
        for file in files(&root.join(folder))? {
            let path = file.strip_prefix(root)?;
            if !known.contains(path) {
                return Err(format!("{} was not published", path.display()).into());
            }
        }
    }
    Ok(known.len())
}

/// All files in a folder and below.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(self::files(&path)?) } else { files.push(path) }
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::env;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    /// Of a package of two files, which is then changed: how the one that is unpacked compares with its archive.
    fn verified(test: &str, change: impl FnOnce(&Path)) -> Result<usize> {
        let root = env::temp_dir().join(format!("upstream-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, content) in [("tests/a.rs", "fn a() {}"), ("examples/b.rs", "fn main() {}")] {
            let file = root.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, content).unwrap();
            archive.append_path_with_name(&file, Path::new("client-1.0.0").join(path)).unwrap();
        }
        let archive = archive.into_inner().unwrap().finish().unwrap();
        let checksum: String = Sha256::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
        change(&root);
        let verified = verify(&archive, &checksum, &root);
        fs::remove_dir_all(root).unwrap();
        verified
    }

    #[test]
    fn what_was_published_is_recognised() {
        assert_eq!(verified("same", |_| {}).unwrap(), 2);
    }

    #[test]
    fn a_changed_file_is_noticed() {
        let error = verified("changed", |root| fs::write(root.join("tests/a.rs"), "fn b() {}").unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "tests/a.rs differs from what was published");
    }

    #[test]
    fn a_missing_file_is_noticed() {
        let error = verified("missing", |root| fs::remove_file(root.join("examples/b.rs")).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "examples/b.rs differs from what was published");
    }

    #[test]
    fn an_added_file_is_noticed() {
        let error = verified("added", |root| fs::write(root.join("tests/c.rs"), "").unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "tests/c.rs was not published");
    }

    #[test]
    fn another_archive_is_noticed() {
        let error = verify(b"another", "00", Path::new("nowhere")).unwrap_err().to_string();
        assert!(error.starts_with("the archive is not what was published"), "{error}");
    }

    #[test]
    fn checksums_are_found_by_name_and_version() {
        let lock = "\
[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"11\"\n
[[package]]\nname = \"a\"\nversion = \"2.0.0\"\nchecksum = \"22\"\n
[[package]]\nname = \"b\"\nversion = \"1.0.0\"\n
[[package]]\nname = \"c\"\nversion = \"1.0.0\"\nchecksum = \"33\"\n";
        assert_eq!(checksum(lock, "a", "2.0.0").as_deref(), Some("22"));
        assert_eq!(checksum(lock, "b", "1.0.0"), None);
    }
}
