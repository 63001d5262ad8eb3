//! The README fits on a few screens.

#[test]
fn the_readme_has_at_most_200_lines() {
    let lines = include_str!("../../../../README.md").lines().count();
    assert!(lines <= 200, "README.md has {lines} lines");
}
