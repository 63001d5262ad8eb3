//! The code in a document: in Markdown, or in the documentation of a Rust file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

pub(crate) struct Document {
    /// From the root of the repository.
    pub(crate) path: String,
    texts: Vec<String>,
}

impl Document {
    pub(crate) fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).expect("a document is a text file");
        let texts = if path.ends_with(".rs") { rustdoc(&text) } else { vec![text] };
        Self { path: path.to_owned(), texts }
    }

    /// The documents for users and contributors, and the documentation of the published crates.
    pub(crate) fn all() -> Vec<Self> {
        let mut paths = in_folder(Path::new("."), "md");
        paths.extend(["docs", "docs/decisions"].iter().flat_map(|folder| in_folder(Path::new(folder), "md")));
        for package in ["crates", "examples"].iter().flat_map(|group| folders(Path::new(group))) {
            paths.extend(in_folder(&package, "md"));
            if package.starts_with("crates") {
                rust_files(&package.join("src"), &mut paths);
            }
        }
        let name = |path: PathBuf| path.strip_prefix(".").unwrap_or(&path).to_str().expect("UTF-8").to_owned();
        paths.into_iter().map(|path| Self::read(&name(path))).collect()
    }

    /// The code in its text.
    pub(crate) fn spans(&self) -> Vec<String> {
        let code = |event| if let Event::Code(span) = event { Some(span.into_string()) } else { None };
        self.events().filter_map(code).collect()
    }

    /// The fenced blocks: what is behind the fence, and the code.
    pub(crate) fn blocks(&self) -> Vec<(String, String)> {
        let mut blocks = Vec::new();
        let mut within = false;
        for event in self.events() {
            match event {
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(fence))) => {
                    blocks.push((fence.into_string(), String::new()));
                    within = true;
                }
                Event::End(TagEnd::CodeBlock) => within = false,
                // A block's text comes in parts.
                Event::Text(code) if within => blocks.last_mut().expect("one has begun").1 += &code,
                _ => {}
            }
        }
        blocks
    }

    fn events(&self) -> impl Iterator<Item = Event<'_>> {
        self.texts.iter().flat_map(|text| Parser::new_ext(text, Options::ENABLE_TABLES))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).expect("the folder is there");
    let mut paths: Vec<_> = entries.map(|entry| folder.join(entry.expect("an entry").file_name())).collect();
    paths.sort();
    paths
}

fn in_folder(folder: &Path, extension: &str) -> Vec<PathBuf> {
    entries(folder).into_iter().filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    entries(folder).into_iter().filter(|path| root().join(path).is_dir()).collect()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    found.extend(in_folder(folder, "rs"));
    folders(folder).iter().for_each(|folder| rust_files(folder, found));
}

/// The documentation comments, each without its marks.
fn rustdoc(code: &str) -> Vec<String> {
    let mut texts = vec![String::new()];
    for line in code.lines().map(str::trim_start) {
        let comment = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        match (comment, texts.last_mut()) {
            (Some(comment), Some(text)) => *text += &format!("{}\n", comment.strip_prefix(' ').unwrap_or(comment)),
            _ => texts.push(String::new()),
        }
    }
    texts.retain(|text| !text.is_empty());
    texts
}

#[test]
fn code_is_found_in_tables_across_lines_and_in_comments_and_apart_from_blocks() {
    let of = |texts: Vec<String>| Document { path: String::new(), texts };
    let markdown =
        of(vec!["| `a.b()` |\n|---|\n| `a \\| b` |\n\ntext `c(\nd)`\n\n```rust\n`e(f)`\ng\n```\n".to_owned()]);
    assert_eq!(markdown.spans(), ["a.b()", "a | b", "c( d)"]);
    assert_eq!(markdown.blocks(), [("rust".to_owned(), "`e(f)`\ng\n".to_owned())]);
    let comments = of(rustdoc("    /// a `b\n    /// c`\nfn d() {} // `e`\n//! `f`\n"));
    assert_eq!(comments.spans(), ["b c", "f"]);
}
