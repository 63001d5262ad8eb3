//! Which file of a crate imports which.
//!
//! An import is a `use` or a path in code or in a macro that leads to another file of the crate. Not counted: `#[cfg(test)]` items,
//! attributes and documentation, declarations of modules, and the re-exports of `lib.rs` and `mod.rs`. A path through such a
//! re-export is an import of the file that the re-export leads to.

mod picture;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use source::{Name, Source};

pub use picture::{CORE, STOREYS, between, picture, storey};

/// The files of one crate, each named by its path below `src`.
#[derive(Debug, Default)]
pub struct Crate {
    /// The crate's name.
    pub name: String,
    /// Which files each file imports.
    pub imports: BTreeMap<String, BTreeSet<String>>,
    /// How many lines each file has outside its `#[cfg(test)]` modules.
    pub lines: BTreeMap<String, usize>,
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect()
}

/// The crates in `crates/`, by name.
pub fn crates() -> Vec<Crate> {
    let mut crates: Vec<_> = entries(&root().join("crates")).iter().map(|folder| Crate::read(folder)).collect();
    crates.sort_by(|one, other| one.name.cmp(&other.name));
    crates
}

impl Crate {
    fn read(folder: &Path) -> Self {
        let (mut left, mut texts) = (entries(&folder.join("src")), Vec::new());
        while let Some(path) = left.pop() {
            let name = path.strip_prefix(folder.join("src")).expect("below it").to_string_lossy();
            if path.is_dir() {
                left.extend(entries(&path));
            } else if name.ends_with(".rs") {
                texts.push((name.into_owned(), fs::read_to_string(&path).expect("a text file")));
            }
        }
        Self::from_files(&folder.file_name().expect("a name").to_string_lossy(), texts)
    }

    /// A crate of these files: path below `src`, and text.
    pub fn from_files(name: &str, files: impl IntoIterator<Item = (String, String)>) -> Self {
        let sources = files.into_iter().map(|(path, text)| Source::read(path, &text));
        let modules: BTreeMap<Name, Source> = sources.map(|source| (source.module.clone(), source)).collect();
        let mut one = Self { name: name.to_owned(), ..Self::default() };
        for from in modules.values() {
            let imports = from.paths.iter().map(|path| resolve(&modules, &from.path, path, 0));
            one.imports.insert(from.path.clone(), imports.filter(|to| *to != from.path).map(str::to_owned).collect());
            one.lines.insert(from.path.clone(), from.lines);
        }
        one
    }

    fn reached<'a>(&'a self, from: &str) -> BTreeSet<&'a str> {
        let (mut reached, mut next) = (BTreeSet::new(), self.imports[from].iter().collect::<Vec<_>>());
        while let Some(file) = next.pop() {
            if reached.insert(file.as_str()) {
                next.extend(&self.imports[file]);
            }
        }
        reached
    }

    /// The circles: the largest sets of files of which each reaches each.
    pub fn circles(&self) -> BTreeSet<BTreeSet<&str>> {
        let circle = |from: &String| {
            self.reached(from).into_iter().filter(|to| self.reached(to).contains(from.as_str())).collect()
        };
        self.imports.keys().map(circle).filter(|circle: &BTreeSet<_>| !circle.is_empty()).collect()
    }
}

/// The file that a path leads to, which the file `from` contains: through its `use` items, and those of folders.
fn resolve<'a>(modules: &'a BTreeMap<Name, Source>, from: &str, path: &[String], depth: u8) -> &'a str {
    let module = (0..=path.len()).rev().find_map(|length| Some((length, modules.get(&path[..length])?)));
    let (length, file) = module.expect("lib.rs");
    let end = (length + 1..=path.len()).find(|end| file.uses.contains_key(&path[..*end]));
    match end.filter(|_| depth < 8 && (file.is_folder() || file.path == from)) {
        Some(end) => resolve(modules, &file.path, &[&file.uses[&path[..end]], &path[end..]].concat(), depth + 1),
        None => &file.path,
    }
}
