//! The picture of the imports in ARCHITECTURE.md.

use std::{cmp::Reverse, collections::BTreeSet, ops::Range};

use crate::Crate;

/// The crate whose folders are storeys.
pub const CORE: &str = "otel-messaging";
/// The storeys of the core from below: a file imports nothing of a storey above its own.
pub const STOREYS: [&str; 7] =
    ["catch_panic.rs", "description", "propagation", "recording", "spans", "handling", "the root"];
const WIDTH: usize = 120;

/// The storey of a file of the core.
pub fn storey(file: &str) -> usize {
    let name = file.split('/').next().filter(|name| !name.ends_with(".rs") || STOREYS.contains(name));
    let found = STOREYS.iter().position(|storey| *storey == name.unwrap_or("the root"));
    found.unwrap_or_else(|| panic!("{file}: its folder is none of {STOREYS:?}"))
}

/// The place of the lines between `<!-- name -->` and `<!-- /name -->`.
pub fn between(text: &str, name: &str) -> Range<usize> {
    let (start, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
    let place = text.find(&start).map(|at| at + start.len()).zip(text.find(&end));
    place.map(|(start, end)| start..end).unwrap_or_else(|| panic!("no lines {start}{end}"))
}

/// What ARCHITECTURE.md has between the lines of `imports`.
pub fn picture(crates: &[Crate]) -> String {
    let mut text = String::from(
        "\n## Imports\n\nEach entry imports only entries after it, except in a circle. `cargo run -p imports` rewrites this list, and \
         `cargo test -p imports`\nfails where it is out of date.\n\n```text\n",
    );
    for core in crates.iter().filter(|one| one.name == CORE) {
        text += &format!("{CORE}: a storey, its files, and how many imports lead to each storey below\n");
        text.extend((0..STOREYS.len()).rev().map(|level| storey_row(core, level)));
    }
    for adapter in crates.iter().filter(|one| one.name != CORE) {
        text += &format!("\n{}: a file or a folder, and what it imports\n{}", adapter.name, adapter_rows(adapter));
    }
    text + "```\n\n"
}

fn storey_row(core: &Crate, level: usize) -> String {
    let files = || core.imports.iter().filter(|(file, _)| storey(file) == level);
    let names = files().map(|(file, _)| file.trim_end_matches(".rs").rsplit('/').next().unwrap_or(file));
    let row = wrapped(STOREYS[level], names.filter(|name| !["lib", "mod"].contains(name)), 14);
    let count = |to: usize| files().flat_map(|(_, imports)| imports).filter(|file| storey(file) == to).count();
    let arrows = (0..level).rev().filter(|to| count(*to) > 0).map(|to| format!("{} {}", STOREYS[to], count(to)));
    let arrows = arrows.collect::<Vec<_>>().join(", ");
    if arrows.is_empty() { row } else { format!("{row}{:17}-> {arrows}\n", "") }
}

fn adapter_rows(adapter: &Crate) -> String {
    let mut folded = Crate::default();
    for (file, imports) in &adapter.imports {
        let fold = |file: &String| file.split_inclusive('/').next().unwrap_or(file).trim_end_matches(".rs").to_owned();
        let imports = imports.iter().map(fold).filter(|to| *to != fold(file) && to != "lib");
        folded.imports.entry(fold(file)).or_default().extend(imports);
    }
    let (lowest, mut rows): (Vec<_>, Vec<_>) = folded.imports.iter().partition(|(_, imports)| imports.is_empty());
    // A file reaches more files than any that it imports, except in a circle.
    rows.sort_by_key(|(file, _)| Reverse(folded.reached(file).len()));
    let width = rows.iter().map(|(file, _)| file.len()).max().unwrap_or(0);
    let mut lines: Vec<String> = Vec::new();
    for row in rows.iter().map(|(file, imports)| wrapped(file, imports.iter().map(String::as_str), width)) {
        match lines.last_mut() {
            Some(left) if left.len().max(row.len()) <= WIDTH / 2 => {
                *left = format!("{:half$}{row}", left.trim_end(), half = WIDTH / 2);
            }
            _ => lines.push(row),
        }
    }
    let imported: BTreeSet<_> = folded.imports.values().flatten().collect();
    let lowest = lowest.iter().filter(|(file, _)| imported.contains(file)).map(|(file, _)| file.as_str());
    lines.concat() + &wrapped("without imports:", lowest, 0)
}

fn wrapped<'a>(head: &str, names: impl Iterator<Item = &'a str>, width: usize) -> String {
    let (mut text, mut column) = (format!("  {head:width$} "), width + 3);
    for name in names {
        if column + 1 + name.len() > WIDTH {
            text += &format!("\n  {:width$} ", "");
            column = width + 3;
        }
        text += &format!(" {name}");
        column += 1 + name.len();
    }
    text + "\n"
}
