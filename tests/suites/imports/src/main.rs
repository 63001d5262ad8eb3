//! Rewrites the picture of the imports in ARCHITECTURE.md.

use std::fs;

fn main() -> std::io::Result<()> {
    let path = imports::root().join("ARCHITECTURE.md");
    let mut text = fs::read_to_string(&path)?;
    let place = imports::between(&text, "imports");
    text.replace_range(place, &imports::picture(&imports::crates()));
    fs::write(path, text)
}
