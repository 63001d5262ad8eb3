//! `cargo run -p api`, as a test.

#[test]
fn the_adapters_have_the_clients_api() {
    let report = api::compare().unwrap();
    println!("{}", report.text);
    assert!(report.problems.is_empty(), "{}", report.problems.join("\n"));
}
