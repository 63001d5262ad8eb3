//! Words that we gave up do not come back: `retired.txt`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{TokenStream, TokenTree};

/// What is looked through, from the root of the repository.
const FOLDERS: [&str; 5] = ["crates", "docs", "examples", "registry", "tests"];
const EXTENSIONS: [&str; 5] = ["md", "rs", "sh", "toml", "yaml"];

struct Retired {
    /// Only as a part of an identifier.
    is_name: bool,
    words: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

fn retired() -> Vec<Retired> {
    let list = include_str!("../retired.txt").lines().filter(|line| !line.starts_with('#'));
    list.map(|line| {
        let columns: Vec<_> = line.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
        let [place @ ("text" | "name"), term, _now] = columns[..] else { panic!("not three columns: {line}") };
        Retired { is_name: place == "name", words: words(term) }
    })
    .collect()
}

/// The words of a text, in small letters: what is between signs, or begins with a capital letter inside an identifier.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in text.chars() {
        if !letter.is_alphanumeric() || before.is_lowercase() && letter.is_uppercase() {
            words.push(String::new());
        }
        if letter.is_alphanumeric() {
            words.last_mut().expect("there is one").extend(letter.to_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

fn identifiers(code: TokenStream, found: &mut Vec<String>) {
    for token in code {
        match token {
            TokenTree::Ident(name) => found.push(name.to_string()),
            TokenTree::Group(group) => identifiers(group.stream(), found),
            TokenTree::Punct(_) | TokenTree::Literal(_) => (),
        }
    }
}

/// The retired terms in a file.
fn found(path: &Path, text: &str, retired: &[Retired]) -> Vec<String> {
    let is_in = |words: &[String], term: &Retired| words.windows(term.words.len()).any(|part| part == term.words);
    let all = words(text);
    let mut names = Vec::new();
    if path.extension().is_some_and(|extension| extension == "rs") {
        identifiers(text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display())), &mut names);
    }
    let names: Vec<_> = names.iter().map(|name| words(name)).collect();
    let used = retired
        .iter()
        .filter(|term| if term.is_name { names.iter().any(|name| is_in(name, term)) } else { is_in(&all, term) });
    used.map(|term| format!("{}: {}", path.display(), term.words.join(" "))).collect()
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry of it").path();
        let is_of_us = path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|ours| extension == *ours));
        if path.is_dir() {
            files(&path, into);
        } else if is_of_us && !path.ends_with("CHANGELOG.md") {
            into.push(path);
        }
    }
}

#[test]
fn no_retired_term_is_used() {
    let mut paths = Vec::new();
    FOLDERS.iter().for_each(|folder| files(&root().join(folder), &mut paths));
    paths.extend(["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "Makefile"].map(|name| root().join(name)));
    let retired = retired();
    assert!(paths.len() > 300 && retired.len() > 5, "{} files, {} terms", paths.len(), retired.len());
    let used: Vec<_> =
        paths.iter().flat_map(|path| found(path, &fs::read_to_string(path).expect("a text file"), &retired)).collect();
    assert!(used.is_empty(), "retired terms are used:\n{}", used.join("\n"));
}

#[test]
fn a_term_is_found_in_whatever_form_it_is_written() {
    let retired =
        [Retired { is_name: false, words: words("give away") }, Retired { is_name: true, words: words("shed") }];
    let found = |name: &str, text: &str| found(Path::new(name), text, &retired).len();
    for text in ["// We give\n    /// away", "fn give_away() {}", "struct GiveAway;", "let gives = \"Give-away\";"] {
        assert_eq!(found("file.rs", text), 1, "{text}");
    }
    for text in ["// We gave away, or give it away.", "fn give() {} fn away() {}", "// A shed.", "let it = \"shed\";"] {
        assert_eq!(found("file.rs", text), 0, "{text}");
    }
    for text in ["fn shed() {}", "let is_shed = 1;", "struct BigShed(u8);"] {
        assert_eq!(found("file.rs", text), 1, "{text}");
    }
    assert_eq!((found("page.md", "is_shed"), found("page.md", "`give_away`")), (0, 1));
}
