//! Packages that hold nothing but the published files: for each client one on the raw client, one on ours under the client's
//! name, and one on ours with the SDK in the process. They form a workspace of their own.

use std::{
    fmt::{self, Write},
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::{
    Result,
    client::Client,
    places::Places,
    published::{Dependency, Kind, Published, files},
};

/// What stands behind the client's name.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Side {
    /// The client.
    Raw,
    /// Our crate.
    Renamed,
    /// Our crate, in a process with OpenTelemetry's SDK and W3C's propagator.
    WithSdk,
}

impl Side {
    pub(crate) fn package(self, client: &Client) -> String {
        let side = match self {
            Self::Raw => "raw",
            Self::Renamed => "renamed",
            Self::WithSdk => "with-sdk",
        };
        format!("{}-{side}", client.name)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Raw => "raw",
            Self::Renamed => "renamed",
            Self::WithSdk => "renamed, with SDK",
        })
    }
}

/// The generated workspace.
#[derive(Debug)]
pub(crate) struct Workspace<'a> {
    pub(crate) places: &'a Places,
}

impl<'a> Workspace<'a> {
    pub(crate) fn generate(places: &'a Places, published: &[Published]) -> Result<Self> {
        let workspace = Self { places };
        let mut members = Vec::new();
        for published in published {
            let client = published.client;
            for (side, behind) in [
                (Side::Raw, format!("version = \"={}\"", published.version)),
                (Side::Renamed, ours(places, client)),
                (Side::WithSdk, format!("package = \"{0}\", path = \"../{0}\"", linking(client))),
            ] {
                let package = side.package(client);
                let folder = workspace.folder(&package);
                write(&folder.join("Cargo.toml"), &manifest(published, side, &behind, places)?)?;
                write(&folder.join("src/lib.rs"), "")?;
                for published_folder in ["tests", "examples"] {
                    link(&published.root.join(published_folder), &folder.join(published_folder))?;
                }
                members.push(package);
            }
            // With nothing in the test's own code to name it, the SDK comes in behind the client.
            let package = linking(client);
            let folder = workspace.folder(&package);
            write(&folder.join("Cargo.toml"), &linking_manifest(published, &package, places))?;
            write(&folder.join("src/lib.rs"), "extern crate with_sdk;\npub use ours::*;\n")?;
            members.push(package);
        }
        let listed: String = members.iter().map(|member| format!("    \"packages/{member}\",\n")).collect();
        // Our workspace's profile, so that what both depend on is compiled once. Programs without what a debugger needs are
        // a third of the size, and there are hundreds.
        let mut text = format!(
            "[workspace]\nresolver = \"3\"\nmembers = [\n{listed}]\n\n[profile.dev]\ndebug = \"line-tables-only\"\n"
        );
        for member in &members {
            write!(text, "\n[profile.dev.package.{member}]\nstrip = \"debuginfo\"\n")?;
        }
        write(&places.home.join("Cargo.toml"), &text)?;
        workspace.take_versions()?;
        Ok(workspace)
    }

    /// The folder of a package.
    pub(crate) fn folder(&self, package: &str) -> PathBuf {
        folder(self.places, package)
    }

    /// The versions of our `Cargo.lock`, anew when it has changed. What it does not name comes at the newest version.
    fn take_versions(&self) -> Result<()> {
        let ours = fs::read_to_string(self.places.workspace.join("Cargo.lock"))?;
        let taken = self.places.home.join("taken.lock");
        if fs::read_to_string(&taken).ok().as_ref() != Some(&ours) {
            fs::write(self.places.home.join("Cargo.lock"), &ours)?;
            fs::write(taken, ours)?;
        }
        Ok(())
    }
}

/// The folder in which the tests of a package run, as `cargo test` runs them.
pub(crate) fn folder(places: &Places, package: &str) -> PathBuf {
    places.home.join("packages").join(package)
}

fn linking(client: &Client) -> String {
    format!("{}-linking-sdk", client.ours)
}

fn ours(places: &Places, client: &Client) -> String {
    let path = places.workspace.join("crates").join(client.ours);
    format!("package = {:?}, path = {:?}", client.ours, path)
}

fn manifest(published: &Published, side: Side, behind: &str, places: &Places) -> Result<String> {
    let client = published.client;
    let mut text = package_table(&side.package(client), &published.edition);
    text.push_str(&features(published, side, client.name));
    write!(text, "\n[dependencies]\n{} = {{ {behind}, default-features = false }}\n", client.name)?;
    text.push_str("\n[dev-dependencies]\n");
    let code = code(published)?;
    for dependency in published.dependencies.iter().filter(|dependency| names(&code, &dependency.name)) {
        text.push_str(&dependency_line(dependency));
    }
    if let Some(helper) = client.helper {
        writeln!(text, "{helper} = {{ path = {:?} }}", places.workspace.join("tests/programs/upstream").join(helper))?;
    }
    for target in &published.targets {
        let table = match target.kind {
            Kind::Test => "test",
            Kind::Example => "example",
        };
        writeln!(text, "\n[[{table}]]\nname = {:?}\npath = {:?}", target.name, target.path)?;
        writeln!(text, "required-features = {:?}", target.required_features)?;
    }
    Ok(text)
}

fn linking_manifest(published: &Published, package: &str, places: &Places) -> String {
    let mut text = package_table(package, "2024");
    text.push_str(&features(published, Side::WithSdk, "ours"));
    text.push_str(&format!(
        "\n[dependencies]\nours = {{ {}, default-features = false }}\nwith_sdk = {{ path = {:?} }}\n",
        ours(places, published.client),
        places.workspace.join("tests/programs/upstream/with_sdk"),
    ));
    text
}

fn package_table(name: &str, edition: &str) -> String {
    format!(
        "[package]\nname = {name:?}\nversion = \"0.0.0\"\nedition = {edition:?}\nrust-version = {:?}\npublish = false\n",
        env!("CARGO_PKG_RUST_VERSION")
    )
}

/// The client's features by their names, each switching on that of the dependency. One that ours lacks is told of where sides
/// are compared, and switches on nothing here.
fn features(published: &Published, side: Side, dependency: &str) -> String {
    let mut text = "\n[features]\n".to_owned();
    for (feature, parts) in &published.features {
        let parts = if feature == "default" {
            parts.clone()
        } else if side != Side::Raw && published.missing_features.contains(feature) {
            Vec::new()
        } else {
            vec![format!("{dependency}/{feature}")]
        };
        text.push_str(&format!("{feature:?} = {parts:?}\n"));
    }
    text
}

fn dependency_line(dependency: &Dependency) -> String {
    let Dependency { name, package, requirement, default_features, features } = dependency;
    format!(
        "{name} = {{ package = {package:?}, version = {requirement:?}, default-features = {default_features}, features = {features:?} }}\n"
    )
}

/// All of the published tests and examples, one after the other.
fn code(published: &Published) -> Result<String> {
    let mut code = String::new();
    for folder in ["tests", "examples"] {
        for file in files(&published.root.join(folder))? {
            if file.extension().is_some_and(|extension| extension == "rs") {
                code.push_str(&fs::read_to_string(file)?);
            }
        }
    }
    Ok(code)
}

/// Whether code names a crate: `name::` or `use name;`, and not as the end of another name or path.
fn names(code: &str, dependency: &str) -> bool {
    let name = dependency.replace('-', "_");
    code.match_indices(&name).any(|(start, _)| {
        let before = code[..start].chars().next_back();
        let after = &code[start + name.len()..];
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':')
            && (after.starts_with("::") || (after.starts_with(';') && code[..start].ends_with("use ")))
    })
}

/// Leaves a file alone that is as it should be, for `cargo` goes by the time of the last change.
fn write(file: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(file).ok().as_deref() != Some(text) {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, text)?;
    }
    Ok(())
}

fn link(published: &Path, here: &Path) -> Result<()> {
    if fs::read_link(here).ok().as_deref() != Some(published) {
        let _ = fs::remove_file(here);
        symlink(published, here)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_that_code_names() {
        let code =
            "use std::time;\nuse rand::Rng;\nuse ring;\n#[tokio::main]\nfn main() { base64::x(); a::rustls::y(); }";
        for used in ["std", "rand", "ring", "tokio", "base64"] {
            assert!(names(code, used), "{used}");
        }
        for unused in ["time", "rustls", "num", "ran", "main"] {
            assert!(!names(code, unused), "{unused}");
        }
    }
}
