//! The rules of imports and lengths, and the picture in ARCHITECTURE.md.

use std::{collections::BTreeSet, fs};

use imports::{CORE, Crate, between, crates, picture, root, storey};

fn architecture() -> String {
    fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md")
}

/// The crate and the files of a circle in ARCHITECTURE.md.
fn listed(entry: &str) -> (&str, BTreeSet<&str>) {
    match entry.split('`').collect::<Vec<_>>()[..] {
        [name, one, " and ", other, reason, ..] if reason.len() > 2 => {
            (name.trim_end_matches(": "), BTreeSet::from([one, other]))
        }
        _ => panic!("not of the form \"- crate: `a.rs` and `b.rs`: reason\": {entry}"),
    }
}

fn drawn(one: &Crate, circle: &BTreeSet<&str>) -> String {
    let inside =
        |file: &str| one.imports[file].iter().filter(|to| circle.contains(to.as_str())).cloned().collect::<Vec<_>>();
    let arrows = circle.iter().map(|file| format!("\n    {file} imports {}", inside(file).join(", ")));
    format!("{}: a circle of {} files:{}", one.name, circle.len(), arrows.collect::<String>())
}

#[test]
fn the_core_imports_nothing_of_a_higher_storey() {
    let crates = crates();
    let core = crates.iter().find(|one| one.name == CORE).expect("the core");
    let imports = core.imports.iter().flat_map(|(file, imports)| imports.iter().map(move |to| (file, to)));
    let upward: Vec<_> = imports.filter(|(file, to)| storey(to) > storey(file)).collect();
    assert!(core.imports.len() > 30 && upward.is_empty(), "imports of a storey above: {upward:#?}");
}

#[test]
fn circles_are_those_that_architecture_defends() {
    let (crates, text) = (crates(), architecture());
    let listed = text[between(&text, "circles")].lines().filter_map(|line| line.strip_prefix("- ")).map(listed);
    let (mut listed, mut errors) = (listed.collect::<BTreeSet<_>>(), Vec::new());
    for one in &crates {
        let mut circles = one.circles();
        circles.retain(|circle| !listed.remove(&(one.name.as_str(), circle.clone())));
        errors.extend(circles.iter().map(|circle| drawn(one, circle)));
    }
    errors.extend(listed.iter().map(|(name, circle)| format!("{name}: is listed and is no circle: {circle:?}")));
    assert!(crates.len() >= 4 && errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
fn no_file_has_more_than_400_lines() {
    let all = crates();
    let lines = all.iter().flat_map(|one| one.lines.iter().map(move |(file, lines)| (&one.name, file, lines)));
    let long: Vec<_> = lines.filter(|(.., lines)| **lines > 400).collect();
    assert!(long.is_empty(), "more than 400 lines outside `#[cfg(test)]` modules: {long:?}");
}

#[test]
fn the_picture_is_up_to_date() {
    let (text, picture) = (architecture(), picture(&crates()));
    assert!(text[between(&text, "imports")] == picture, "run `cargo run -p imports`; it has to be:\n{picture}");
}

#[test]
fn an_import_is_found_in_whatever_form_it_is_written() {
    let lib = "mod a; mod b; pub use crate::b::c::E; pub use other::F; pub mod inner { pub use crate::b::D; }";
    let read = |text: &str| {
        let files = [("lib.rs", lib), ("a.rs", text), ("b/mod.rs", "pub mod c; pub struct D;"), ("b/c.rs", "")];
        let one = Crate::from_files("made-up", files.map(|(path, text)| (path.to_owned(), text.to_owned())));
        (Vec::from_iter(one.imports["a.rs"].clone()).join(" "), one.lines["a.rs"])
    };
    for (text, expected) in [
        ("use crate::{b::{self, c::{X as Y, Z}}};", "b/c.rs b/mod.rs"),
        ("use super::b::c::*; use other::b::D;", "b/c.rs"),
        ("use crate::{E, F, inner::D};", "b/c.rs b/mod.rs lib.rs"),
        ("fn f() { crate::b::c::g::<super::b::D>() }", "b/c.rs b/mod.rs"),
        ("use crate::b; fn f() { b::c::g() }", "b/c.rs b/mod.rs"),
        ("mod inside { use super::super::b::D; }", "b/mod.rs"),
        ("macro_rules! m { () => { $crate::b::c::g(warn!(\"crate::b\", [super::b::D])) } }", "b/c.rs b/mod.rs"),
        ("//! crate::b::c\n/// [`D`](crate::b::D)\npub(in crate::b) fn f() {}", ""),
        ("#[cfg(test)] use crate::{b::D}; #[cfg(test)] fn f(a: A, b: B) { crate::b::c::g() } use crate::E;", "b/c.rs"),
        ("struct S; impl S { #[cfg(test)] #[inline] fn f(&self) -> crate::b::D { crate::b::D } }", ""),
    ] {
        assert_eq!(read(text).0, expected, "{text}");
    }
    let text = "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use crate::b::D;\n}\n#[cfg(test)]\nfn g() {}\n";
    assert_eq!(read(text), (String::new(), 4));
}
