//! What each feature costs that is switched on, as a table in Markdown, as it stands in the README: on each path, ours with it
//! beside ours without it, and nothing else.
//!
//! `cargo bench -p bench --bench prices -- meter` prices those whose name contains a word.

use std::env;

use bench::{Failed, Feature, Path, Side, Subject, cpu_time::medians};

fn main() -> Result<(), Failed> {
    // Cargo says `--bench`.
    let words: Vec<_> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let asked = |feature: &Feature| words.is_empty() || words.iter().any(|word| feature.to_string().contains(word));
    let features: Vec<_> = Feature::ALL.into_iter().filter(asked).collect();

    let mut rows: Vec<_> = features.iter().map(|feature| format!("| {feature} |")).collect();
    let (mut head, mut line) = ("| switched on |".to_owned(), "|---|".to_owned());
    let mode = Feature::install();
    for path in Path::ALL {
        let on = |feature: &Feature| Subject::instrumented(path, Side::Ours, mode, feature.instrumentation());
        let concerned = features.iter().filter(|feature| feature.concerns(path)).map(on);
        let subjects = [Subject::new(path, Side::Ours, mode)].into_iter().chain(concerned).collect::<Result<_, _>>()?;
        let medians = medians(subjects)?;
        let (without, mut with) = (medians[0], medians[1..].iter());

        head += &format!(" {path} |");
        line += "--:|";
        for (feature, row) in features.iter().zip(&mut rows) {
            let with = if feature.concerns(path) { with.next() } else { None };
            *row += &with.map_or_else(|| " – |".to_owned(), |&with| price(without, with));
        }
    }
    println!("{head}\n{line}");
    rows.iter().for_each(|row| println!("{row}"));
    println!();
    println!(
        "Nanoseconds that one operation takes more than without it, and how many times what it takes then; recorded, by the"
    );
    println!(
        "global propagator. Messages that are received have a key, where there are keys, and one header to capture."
    );
    Ok(())
}

fn price(without: u128, with: u128) -> String {
    let (without, with) = (without as f64, with as f64);
    format!(" {:+.0} ({:.2}) |", with - without, with / without)
}
